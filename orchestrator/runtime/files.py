"""Atomic files, trees removed whatever is in them, and the folders that ship with the program (playbooks, templates, images, cvmfs)."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped(name: str) -> Path:
    """The folder ``name`` (playbooks, templates, images, cvmfs) of this installation or checkout."""
    for base in (_PACKAGE / "shipped", _PACKAGE.parent):
        if (base / name).is_dir():
            return base / name
    raise FileNotFoundError(f"{name}/ is missing from this installation of orchestrator")


def write_atomic(path: Path, content: bytes | str, mode: int = 0o644) -> None:
    """Replace ``path`` in one step; readers see the old content or the new, never a part of it.

    The file has ``mode`` from its first byte on, so a secret (0600) is never readable by others.
    """
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def remove_tree(path: Path) -> None:
    """``path`` and all below it are gone as far as they may be removed; no link is followed.

    Also what a hostile job made: folders deeper than a path may be long, or closed to their owner.
    """
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        return
    try:
        # Folders are moved up as they are found, so none is ever more than one level deep.
        for entry in _drained(top):
            with contextlib.suppress(OSError):
                _flatten(top, entry)
    finally:
        os.close(top)
    shutil.rmtree(path, ignore_errors=True)  # what is left is flat


def _drained(top: int) -> Iterator[str]:
    """Folders in ``top`` until there is none, or none that goes away."""
    seen: set[str] = set()
    while True:
        with os.scandir(top) as entries:
            new = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        new = [name for name in new if name not in seen]
        if not new:
            return
        seen.update(new)
        yield from new


def _flatten(top: int, name: str) -> None:
    """The folder ``name`` of ``top`` is gone; its folders are in ``top``, its files gone."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        folder = os.open(name, flags, dir_fd=top)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=top)
        folder = os.open(name, flags, dir_fd=top)
    try:
        os.fchmod(folder, 0o700)
        with os.scandir(folder) as entries:
            for entry in list(entries):
                if entry.is_dir(follow_symlinks=False):
                    os.rename(entry.name, secrets.token_hex(12), src_dir_fd=folder, dst_dir_fd=top)
                else:
                    os.unlink(entry.name, dir_fd=folder)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)


def write_json(path: Path, value: Any, mode: int = 0o644) -> None:
    """``write_atomic`` of sorted, indented JSON."""
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True) + "\n", mode)


def read_json(path: Path) -> Any:
    """The JSON value in ``path``."""
    return json.loads(path.read_text())
