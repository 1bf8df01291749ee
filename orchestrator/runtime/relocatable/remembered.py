"""A digest of all inputs costs half a second of reading and parsing; looking whether any of them changed
costs some milliseconds. So a digest is kept, beside the look of the inputs it was made from.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

from orchestrator.errors import GridError
from orchestrator.runtime.files import read_json, write_json
from orchestrator.runtime.relocatable.build import native_inputs

_PACKAGE = Path(__file__).resolve().parent.parent.parent


def remembered(file: Path, make: Callable[[], str]) -> str:
    """What ``make`` gave when the inputs last looked otherwise than now; kept in ``file``."""
    look = _look()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = read_json(file)
        if kept["look"] == look:
            return str(kept["digest"])
    digest = make()
    with contextlib.suppress(OSError, GridError):  # a cache that cannot be written only costs time
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {"look": look, "digest": digest})
    return digest


def _look() -> str:
    """Of our own files, the interpreter's, and the folders of packages: installing, removing or upgrading one
    renames its ``.dist-info`` there, which changes the folder."""
    state = hashlib.sha256(sys.version.encode())
    own = (path for path in sorted(_PACKAGE.rglob("*")) if path.is_file() and path.suffix != ".pyc")
    packages = (path for path in map(Path, sys.path) if next(path.glob("*.dist-info"), None))
    for path in (*own, *native_inputs(), *packages):
        with contextlib.suppress(FileNotFoundError):  # an editor's, gone meanwhile
            facts = path.stat()
            state.update(f"{path} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return state.hexdigest()
