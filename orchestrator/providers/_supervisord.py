"""The supervisor of a local machine: its configuration, start and stop."""

from __future__ import annotations

import hashlib
import os
import pwd
import socket as socketlib
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import jinja2

from orchestrator.errors import PermanentError
from orchestrator.providers import _processes
from orchestrator.runtime.files import shipped, write_atomic

_LONGEST = 90  # a UNIX socket's path has at most 107 bytes, and supervisord adds its pid to it
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH")


def socket_path(root: Path) -> Path:
    """ROOT/run/supervisor.sock, or a private directory in /tmp when that path is too long."""
    usual = root / "run/supervisor.sock"
    if len(os.fsencode(usual)) <= _LONGEST:
        return usual
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    return Path("/tmp") / f"orchestrate-{digest}-sv" / "supervisor.sock"  # noqa: S108


def command(root: Path, *, control: bool = False) -> list[str]:
    """The argument vector of the machine's supervisord (or supervisorctl)."""
    module = "supervisor.supervisorctl" if control else "supervisor.supervisord"
    return [sys.executable, "-m", module, "-c", str(root / "etc/supervisord.conf")]


def pid(root: Path) -> int | None:
    """Process id of the machine's living supervisord; None when it does not run."""
    try:
        number = int((root / "run/supervisord.pid").read_text())
    except (OSError, ValueError):
        return None
    return number if _processes.belongs(number, str(root)) else None


def environment(root: Path, address: str) -> dict[str, str]:
    """What every process of the machine gets: little of the caller's, and the machine's mark."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {
        **kept,
        "LC_ALL": "C.UTF-8",
        _processes.MARK: str(root),
        "ORCHESTRATE_ROOT": str(root),
        "ORCHESTRATE_ADDRESS": address,
        "ORCHESTRATE_PYTHON": sys.executable,
    }


def _render(template: str, **values: object) -> str:
    text = (shipped("templates") / "supervisor" / template).read_text()
    return jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False).from_string(text).render(**values)  # noqa: S701  # fmt: skip


def write_configuration(root: Path, *, context: bool) -> None:
    """etc/supervisord.conf and, for a machine with user data, the program that runs it once."""
    user = pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() == 0 else ""
    socket = socket_path(root)
    named = f"%(ENV_ORCHESTRATE_ROOT)s/run/{socket.name}" if socket.parent == root / "run" else str(socket)
    text = _render("supervisord.conf.j2", socket=named, user=user)
    write_atomic(root / "etc/supervisord.conf", text)
    if context:
        write_atomic(root / "etc/supervisor.d/context.conf", _render("context.conf.j2"))


def start(root: Path, address: str, *, seconds: float = 20.0) -> None:
    """The supervisor runs; processes that a dead one left behind are ended first, so ports are free."""
    _processes.end_all(str(root), grace=3.0)
    socket = socket_path(root)
    socket.parent.mkdir(mode=0o700, exist_ok=True)
    if socket.parent.lstat().st_uid != os.geteuid():
        raise PermanentError(f"{socket.parent} belongs to somebody else; remove it", path=str(socket.parent))
    socket.unlink(missing_ok=True)
    (root / "run/supervisord.pid").unlink(missing_ok=True)
    log = root / "log/supervisord.start"
    with log.open("wb") as out:
        begun = subprocess.Popen(
            command(root),
            cwd=root,
            env=environment(root, address),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    deadline = time.monotonic() + seconds
    while pid(root) is None or not socket.exists():
        if begun.poll() not in (None, 0) or time.monotonic() > deadline:
            said = log.read_text(errors="replace").strip()[-500:]
            raise PermanentError(f"the supervisor of {root.name} did not start: {said}", machine=root.name)
        time.sleep(0.02)
    _wake(socket)
    begun.wait()  # it has become a daemon; its first process is done


def _wake(path: Path) -> None:
    """supervisord looks at signals and children once a second, or when somebody knocks."""
    with socketlib.socket(socketlib.AF_UNIX) as knock, suppress(OSError):
        knock.connect(str(path))


def stop(root: Path) -> None:
    """No process of the machine is left.

    The supervisor goes first and at once: it would start again what ends, and it stops its programs
    one after the other. They get SIGTERM all together, and SIGKILL when that takes too long.
    """
    number = pid(root)
    if number is not None:
        _processes.kill(process for process in _processes.of_machine(str(root)) if process.pid == number)
    _processes.end_all(str(root))
    socket = socket_path(root)
    if socket.parent != root / "run":
        socket.unlink(missing_ok=True)
        if socket.parent.is_dir():
            socket.parent.rmdir()
