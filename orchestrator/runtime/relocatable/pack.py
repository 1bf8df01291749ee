"""What a relocatable tree is made of, as a digest, and the tree as one reproducible archive."""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata as metadata
import os
import platform
import sys
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from orchestrator.runtime.relocatable.build import native_inputs

_STAMP = 1577836800  # 2020-01-01: the same bytes whenever it is built
_HERE = Path(__file__).resolve().parent


def digest_of(
    files: Mapping[str, Path], packages: Iterable[str], builders: Iterable[Path], more: str = ""
) -> str:
    """Hex SHA-256 of all inputs: sources, their builders, packages' versions, interpreter and C library."""
    state = hashlib.sha256()
    made_by = sorted((path.name, path) for path in (*_HERE.glob("*.py"), *builders))
    for name, path in [*sorted(files.items()), *made_by]:
        state.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    for package in packages:
        state.update(f"{package} {metadata.version(package)}\n".encode())
    state.update(f"{more} {sys.version} {platform.machine()} {platform.libc_ver()}\n".encode())
    for path in native_inputs():
        facts = path.stat()
        state.update(f"{path} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return state.hexdigest()


def pack(tree: Path, out: Path, level: int, last: str = "") -> None:
    """``out`` is a tar of ``tree``, gzip'ed with ``level`` and on disk; the same tree gives the same bytes.

    The member ``last`` stands at the end: who finds it unpacked knows that all is.
    """
    members = sorted(path for path in tree.rglob("*") if path != tree / last)
    with out.open("wb") as raw, gzip.GzipFile("", "wb", level, raw, mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for path in [*members, *([tree / last] if last else [])]:
                entry = archive.gettarinfo(path, path.relative_to(tree).as_posix())
                entry.uid = entry.gid = 0
                entry.uname = entry.gname = ""
                entry.mtime = _STAMP
                if entry.isreg():
                    with path.open("rb") as content:
                        archive.addfile(entry, content)
                else:
                    archive.addfile(entry)
        packed.close()
        raw.flush()
        os.fsync(raw.fileno())
