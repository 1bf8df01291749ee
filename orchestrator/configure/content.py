"""What the playbooks, templates and the code are, as digests; read once per process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from orchestrator.runtime.files import shipped

_CODE = frozenset({".py", ".sql", ".html", ".json", ".sh"})
_SHARED = ("base", "programs")
_PACKAGE = Path(__file__).resolve().parent.parent


@cache
def roles_digest(role: str) -> str:
    """Of every playbook, program and template that has a part in configuring a machine of ``role``."""
    playbooks, templates = shipped("playbooks"), shipped("templates")
    folders = [playbooks / "host", playbooks / "action", templates / "supervisor", templates / "systemd"]
    files = [playbooks / "site.yml", *(playbooks / "roles" / f"{name}.yml" for name in (*_SHARED, role))]
    files += [file for folder in folders for file in folder.rglob("*")]
    return _digest(file for file in files if file.is_file() and "__pycache__" not in file.parts)


@cache
def code_digest() -> str:
    """Of the installed code: services on this host run it, so they restart when it changes."""
    files = (file for file in _PACKAGE.rglob("*") if file.suffix in _CODE)
    return _digest(
        file for file in files if not any(part.startswith(".") for part in file.relative_to(_PACKAGE).parts)
    )


def _digest(files: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for file in sorted(files):
        total.update(f"{file.parent.name}/{file.name}\0".encode())
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()
