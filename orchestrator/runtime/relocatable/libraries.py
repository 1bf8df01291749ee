"""Which shared libraries a set of ELF files needs, as the running system's own loader resolves them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import PermanentError

# "libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x…)", or "… => not found"
_LINE = re.compile(r"^\s*(\S+) => (?:(not found)|(\S+) \(0x[0-9a-f]+\))", re.MULTILINE)
# Opened by name at run time, so no ELF header tells: name service (inside libc since glibc 2.34) and
# the unwinder that cancelling a thread needs.
_BY_NAME = ("libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2", "libgcc_s.so.1")


@dataclass(frozen=True, slots=True)
class Needs:
    """Libraries by the name that programs ask for, and the names that the loader did not find."""

    found: dict[str, Path]
    missing: tuple[str, ...]


def needs(loader: Path, binary: Path) -> Needs:
    """Everything that ``binary`` loads, transitively, by the rules of ``loader`` (which is not run on it).

    The libraries that a wheel brings in its folder NAME.libs need not say where they find each other: the
    modules that load them do. So that folder is searched too.
    """
    beside = ["--library-path", str(binary.parent)] if binary.parent.name.endswith(".libs") else []
    done = subprocess.run(
        [loader, *beside, "--list", binary], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode not in (0, 1):
        raise PermanentError(f"{loader} cannot list {binary}: {done.stderr.strip()}", path=str(binary))
    found: dict[str, Path] = {}
    missing = []
    for name, absent, path in _LINE.findall(done.stdout):
        if absent:
            missing.append(name)
        elif "/" not in name:
            found[name] = Path(path)
    return Needs(found, tuple(sorted(missing)))


def collect(loader: Path, binaries: Collection[Path]) -> dict[str, Path]:
    """Libraries of all ``binaries``, by name, but those that are binaries of the same call themselves
    (a wheel's own libraries travel in their place beside it).

    PermanentError when one is missing, or when two libraries share a name.
    """
    result: dict[str, Path] = {}
    known = {binary.resolve() for binary in binaries}
    for binary in binaries:
        needed = needs(loader, binary)
        if needed.missing:
            raise PermanentError(
                f"{binary} needs {', '.join(needed.missing)}, which this host lacks; install it",
                path=str(binary),
                missing=list(needed.missing),
            )
        for name, path in needed.found.items():
            if path.resolve() not in known:
                _add(result, name, path)
    if libc := result.get("libc.so.6"):
        for name in _BY_NAME:
            if (beside := libc.with_name(name)).exists():
                result.setdefault(name, beside)
    return result


def _add(result: dict[str, Path], name: str, path: Path) -> None:
    known = result.setdefault(name, path)
    if known.resolve() != path.resolve() and known.read_bytes() != path.read_bytes():
        raise PermanentError(
            f"two different libraries are called {name}: {known} and {path}; one tree can hold only one",
            name=name,
            paths=[str(known), str(path)],
        )
