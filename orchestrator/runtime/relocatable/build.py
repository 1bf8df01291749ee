"""Copy the running interpreter, packages and libraries into one folder that works wherever it is put.

    TREE/bin/python3              launcher (/bin/sh): the only thing to start
    TREE/libexec/python           the interpreter
    TREE/lib/ld-linux-…, *.so.*   the C library's loader, and every shared library
    TREE/lib/python311.zip        modules of the standard library and of packages that are modules alone
    TREE/lib/python3.11/          lib-dynload, site-packages with all others

A program that a wheel brings (an ELF executable) becomes NAME.elf beside a /bin/sh script NAME that starts
it by the tree's loader, so it too needs no C library of its host, whatever that one's version.

Nothing of the host is used at run time but its kernel and a /bin/sh. Sources are replaced by code
files (no compilation at start, also on read-only media): tracebacks name file and line, without the text.
"""

from __future__ import annotations

import _ssl
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from orchestrator.errors import PermanentError, UserError
from orchestrator.runtime.relocatable import compiler, elf, launcher, libraries, packages, stdlib
from orchestrator.runtime.relocatable.launcher import Launcher

LIB = "lib"  # the shared libraries' folder
# A higher preset takes long for little.
PACKING = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 2}]
EXTENSION = re.compile(r"(\.cpython-[^/]*|\.abi3)?\.so$")


@dataclass(frozen=True, slots=True)
class Tree:
    """A built tree: where it is, how many files it has, and their bytes together."""

    path: Path
    files: int
    size: int


def build(
    tree: Path,
    *,
    packages: Sequence[str] = (),
    extra_sources: Mapping[str, Path] | None = None,
    extra_files: Mapping[str, Path] | None = None,
    stdlib_exclude: Collection[str] = stdlib.EXCLUDE,
    exclude: Collection[str] = (),
    launchers: Mapping[str, Launcher] | None = None,
    folded: Collection[str] = (),
    entry: str = "",
) -> Tree:
    """Make the folder ``tree``: it is there in whole after the call, or (on any error) not at all.

    ``packages`` are import or distribution names of the running environment, copied without what they
    require (see ``requirements``). ``extra_sources`` gives files to put into site-packages, by their
    path there; ``extra_files`` others, by their path in ``tree``. ``exclude`` are patterns (fnmatch) of
    paths in site-packages that are left out of the packages. The first of ``launchers`` (bin/NAME
    each) becomes ``sys.executable``. The extension modules of packages in ``folded`` stay packed until they are
    first imported: a start without them costs neither their unpacking nor its disk. Modules are compressed, but
    for those that the module ``entry`` needs at once.
    The same inputs give the same bytes. UserError: a package is not installed, or ``tree`` exists.
    """
    if tree.exists():
        raise UserError(f"{tree} exists already; remove it or choose another folder", path=str(tree))
    tree.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{tree.name}.", dir=tree.parent) as scratch:
        work = Path(scratch, "tree")
        builder = _Builder(work, tuple(exclude), folded)
        for relative, path in sorted((extra_files or {}).items()):
            builder.copy(relative, path)
        builder.build(
            packages, extra_sources or {}, stdlib_exclude, launchers or {"python3": Launcher()}, entry
        )
        sizes = [_settle(path) for path in (work, *work.rglob("*"))]
        work.rename(tree)
    return Tree(tree, sum(size is not None for size in sizes), sum(size or 0 for size in sizes))


def native_inputs() -> list[Path]:
    """The interpreter, its loader, and the libraries it and its TLS module use: when one of them
    changes, a tree built from them does too.
    """
    python = _python()
    loader = elf.interpreter(python)
    files = {python, loader}
    for binary in (python, Path(_ssl.__file__)):
        files.update(libraries.needs(loader, binary).found.values())
    return sorted(files)


def _python() -> Path:
    return Path(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))


class _Builder:
    def __init__(self, root: Path, exclude: tuple[str, ...], folded: Collection[str]) -> None:
        self.root = root
        self.exclude = exclude
        self.folded = folded
        self.stdlib = f"{sys.platlibdir}/python{sys.version_info.major}.{sys.version_info.minor}"
        self.sources: list[tuple[str, str, str]] = []
        self.written: list[Path] = []
        self.binaries: list[Path] = []
        self.loader = elf.interpreter(_python())

    def build(
        self,
        names: Sequence[str],
        extra: Mapping[str, Path],
        exclude: Collection[str],
        launchers: Mapping[str, Launcher],
        entry: str,
    ) -> None:
        python, loader = _python(), self.loader
        here = Path(os.__file__).parent
        site = f"{self.stdlib}/site-packages"
        for path in stdlib.files(here, exclude):
            # Parts whose libraries this host lacks (a Python built with more) cannot be used here either.
            if path.suffix != ".so" or not libraries.needs(loader, path).missing:
                self.add(f"{self.stdlib}/{path.relative_to(here).as_posix()}", path)
        if (licence := here / "LICENSE.txt").exists():
            self.copy(f"{self.stdlib}/LICENSE.txt", licence)
        folded: dict[str, Path] = {}
        for name in names:
            for relative, path in packages.files(name):
                if any(fnmatchcase(relative, pattern) for pattern in self.exclude):
                    continue
                if name in self.folded and EXTENSION.search(path.name) and elf.is_elf(path):
                    folded[f"{site}/{relative}"] = path
                else:
                    self.add(f"{site}/{relative}", path, wrap=True)
        for relative, path in sorted(extra.items()):
            self.add(f"{site}/{relative}", path)
        self.write(
            f"{self.stdlib}/sitecustomize.py", launcher.sitecustomize(self.stdlib, next(iter(launchers)))
        )
        for name, how in launchers.items():
            program = self.place(f"bin/{name}")
            program.write_text(launcher.script(how, loader.name))
            program.chmod(0o755)
        self.add("libexec/python", python)
        for name, path in libraries.collect(loader, self.binaries).items():
            self.copy_binary(f"{LIB}/{name}", path)
        self.copy_binary(f"{LIB}/{loader.name}", loader)
        self.fold(folded)
        (self.root / self.stdlib / "lib-dynload").mkdir(exist_ok=True)  # a landmark Python looks for
        self.compile()
        stdlib.zip_together(self.root / self.stdlib, self.needed_at_once(entry) if entry else None)

    def add(self, relative: str, source: Path, *, wrap: bool = False) -> None:
        """Copy one file: what is to be a Python module is compiled, ELF files cut down (with ``wrap`` programs get their
        launcher), all else taken as it is."""
        target = self.place(relative)
        if target.suffix == ".py":
            self.sources.append((str(source), f"{target}c", relative))
        elif elf.is_elf(source):
            self.binaries.append(source)
            if wrap and ".so" not in source.name and elf.is_program(source):
                wrapper = self.place(relative)
                wrapper.write_text(launcher.wrapper(relative, self.loader.name))
                wrapper.chmod(0o755)
                relative += ".elf"
            self.copy_binary(relative, source)
        else:
            self.copy(relative, source)

    def fold(self, folded: Mapping[str, Path]) -> None:
        """Extension modules, packed, and in place of each a module that unpacks and loads it; so are the libraries
        that they alone need."""
        common = libraries.collect(self.loader, self.binaries)
        alone = libraries.collect(self.loader, folded.values()).items() - common.items()
        # Each after those it needs itself: it has more of them, and is loaded as soon as it is unpacked.
        own = sorted(alone, key=lambda item: (len(libraries.needs(self.loader, item[1]).found), item[0]))
        for name, path in own:
            self.pack(f"{LIB}/{name}.xz", path)
        for relative, source in folded.items():
            packed = self.pack(f"{relative}.xz", source)
            needed = libraries.needs(self.loader, source).found
            names = [f"{name}.xz" for name, _ in own if name in needed]
            self.write(EXTENSION.sub(".py", relative), launcher.unfolding(packed.name, names))

    def pack(self, relative: str, source: Path) -> Path:
        packed = self.place(relative)
        packed.write_bytes(lzma.compress(elf.slim(source.read_bytes(), source), filters=PACKING))
        return packed

    def write(self, relative: str, text: str) -> None:
        """A source of our making, to be compiled."""
        source = self.place(relative)
        source.write_text(text)
        self.sources.append((str(source), f"{source}c", relative))
        self.written.append(source)

    def copy(self, relative: str, source: Path) -> None:
        shutil.copyfile(source, self.place(relative))

    def copy_binary(self, relative: str, source: Path) -> None:
        target = self.place(relative)
        target.write_bytes(elf.slim(source.read_bytes(), source))
        target.chmod(0o755)

    def place(self, relative: str) -> Path:
        target = self.root / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def needed_at_once(self, entry: str) -> set[Path]:
        """The files of modules that importing ``entry`` loads."""
        program = f"import sys, {entry}; print(*(getattr(m, '__file__', None) for m in sys.modules.values()), sep='\\n')"
        python = next((self.root / "bin").iterdir())
        done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
        if done.returncode:
            raise PermanentError(f"{entry} cannot be imported: {done.stderr.strip()[-2000:]}")
        return {Path(line) for line in done.stdout.splitlines()}

    def compile(self) -> None:
        done = subprocess.run(
            [sys.executable, "-S", "-s", "-P", "-B", compiler.__file__],
            input=json.dumps(self.sources),
            env={"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise PermanentError(f"a source does not compile: {done.stderr.strip()[-2000:]}")
        for source in self.written:
            source.unlink()


def _settle(path: Path) -> int | None:
    """Give ``path`` the mode it has on every host; the size of a file, None for a folder."""
    if path.is_dir():
        path.chmod(0o755)
        return None
    path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    return path.stat().st_size
