"""Atomic files, and the folders that ship with the program (playbooks, templates, images, cvmfs)."""

from __future__ import annotations

import json
import os
import secrets
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


def write_json(path: Path, value: Any, mode: int = 0o644) -> None:
    """``write_atomic`` of sorted, indented JSON."""
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True) + "\n", mode)


def read_json(path: Path) -> Any:
    """The JSON value in ``path``."""
    return json.loads(path.read_text())
