"""The files of installed distributions, by their own records (PEP 376)."""

from __future__ import annotations

import importlib.metadata as metadata
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from orchestrator.errors import UserError

# Wanted by editors and compilers only.
_LEFT_OUT = (".pyi", ".pyx", ".pxd", ".pth", ".c", ".h", ".pyc", "py.typed")
_METADATA = ("METADATA", "LICENSE", "LICENCE", "COPYING", "NOTICE")


def find(name: str) -> metadata.Distribution:
    """The installed distribution, or the one that provides the import name, ``name``; UserError if none."""
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        providers = metadata.packages_distributions().get(name)
        if not providers:
            raise UserError(f"{name} is not installed in this environment; install it", name=name) from None
        return metadata.distribution(providers[0])


def requirements(names: Iterable[str]) -> list[str]:
    """The distributions ``names`` and all that they require here, extras aside, sorted."""
    done: set[str] = set()
    todo = list(names)
    while todo:
        found = find(todo.pop())
        name = canonicalize_name(found.name)
        if name in done:
            continue
        done.add(name)
        for text in found.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)
    return sorted(done)


def files(name: str) -> Iterator[tuple[str, Path]]:
    """(path relative to site-packages, where it is now) of what a run of distribution ``name`` needs.

    Its licence and metadata travel with it; scripts and data outside site-packages do not.
    """
    found = find(name)
    if found.files is None:
        raise UserError(f"{name} has no record of its files; reinstall it with pip", name=name)
    for file in sorted(found.files, key=str):
        parts = file.parts
        if parts[0] == ".." or "__pycache__" in parts or file.name.endswith(_LEFT_OUT):
            continue
        if parts[0].endswith(".dist-info") and not file.name.upper().startswith(_METADATA):
            continue
        yield file.as_posix(), Path(str(found.locate_file(file)))


def outside(name: str) -> list[Path]:
    """The existing files of distribution ``name`` that it keeps outside site-packages: scripts and data."""
    found = find(name)
    paths = (Path(str(found.locate_file(f))) for f in found.files or () if f.parts[0] == "..")
    return sorted(path.resolve() for path in paths if path.is_file())
