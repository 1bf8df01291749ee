"""OpenSSH to one host: one multiplexed connection, scripts on standard input, nothing secret in arguments."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import PermanentError, TemporaryError
from orchestrator.site.schema import SshHost

CONNECT_SECONDS = 8
_EXIT_SECONDS = 5.0  # until a connection that was told to end has ended
_SCRIPTS = Path(__file__).parent / "remote"


class Unreachable(TemporaryError):
    """The host could not be asked. That does not mean it is dead."""


def control_path(state_dir: Path) -> Path:
    """Where connections are shared: in the state directory, or in /tmp when that path is too long
    (a UNIX socket has 107 bytes, of which OpenSSH uses up to 60 for the name) or has letters that mean
    something to OpenSSH."""
    usual = state_dir / "ssh/c"
    if len(os.fsencode(usual)) <= 45 and not re.search(r"[^\w/.-]", str(usual), re.ASCII):
        return usual
    digest = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:16]
    return Path("/tmp") / f"orchestrate-{digest}-ssh"  # noqa: S108


def leave(state_dir: Path) -> None:
    """No connection of the site is open, and their folder is gone."""
    folder = control_path(state_dir)
    ending = []
    for shared in folder.glob("*"):
        command = ["ssh", "-o", f"ControlPath={shared}", "-O", "exit", "any"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            told = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=10)
            if told.returncode == 0:
                ending.append(shared)
            else:  # nobody listens there: its process was killed
                shared.unlink(missing_ok=True)
    # Who is told to exit says so at once, and takes its socket away a moment later.
    until = time.monotonic() + _EXIT_SECONDS
    while any(map(Path.exists, ending)) and time.monotonic() < until:
        time.sleep(0.01)
    with contextlib.suppress(OSError):  # one that hangs ends by itself (ControlPersist)
        folder.rmdir()


def control_directory(state_dir: Path) -> Path:
    """``control_path``, made if it is not there. PermanentError when it is somebody else's."""
    usual = control_path(state_dir)
    usual.mkdir(mode=0o700, parents=True, exist_ok=True)
    if usual.lstat().st_uid != os.geteuid():
        raise PermanentError(f"{usual} belongs to somebody else; remove it", path=str(usual))
    return usual


@dataclass(frozen=True)
class Connection:
    """How to reach one host of the inventory."""

    host: SshHost
    state_dir: Path

    def options(self) -> list[str]:
        """The options for ssh, also for Ansible's ssh."""
        known = self.state_dir / "ssh/known_hosts"
        settings = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": _quoted(str(known)),
            "GlobalKnownHostsFile": "/dev/null",
            "ConnectTimeout": str(CONNECT_SECONDS),
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
            "ControlMaster": "auto",
            "ControlPath": f"{control_directory(self.state_dir)}/%C",
            "ControlPersist": "30",
            "LogLevel": "ERROR",
        }
        pairs = [argument for key, value in settings.items() for argument in ("-o", f"{key}={value}")]
        if self.host.key is not None:
            key = os.path.expanduser(self.host.key).replace("%", "%%")
            pairs += ["-o", "IdentitiesOnly=yes", "-i", key]
        return pairs

    def command(self, *remote: str) -> list[str]:
        """The argument vector that runs ``remote`` on the host."""
        host = self.host
        return ["ssh", *self.options(), "-p", str(host.port), f"{host.user}@{host.address}", *remote]

    def run(self, *scripts: str, variables: Mapping[str, str], seconds: float = 60.0) -> str:
        """What these shipped scripts, one after the other, printed on the host. Unreachable; PermanentError when
        they failed."""
        (self.state_dir / "ssh").mkdir(mode=0o700, parents=True, exist_ok=True)
        assignments = "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
        text = assignments + "".join((_SCRIPTS / f"{script}.sh").read_text() for script in scripts)
        try:
            done = subprocess.run(
                self.command("sh", "-s"), input=text, capture_output=True, text=True, timeout=seconds
            )
        except subprocess.TimeoutExpired as error:
            raise self._unreachable(f"no answer within {seconds:.0f} s") from error
        except FileNotFoundError as error:
            raise PermanentError("ssh is missing on this host; install the OpenSSH client") from error
        if done.returncode == 255:  # ssh(1): an error occurred
            raise self._unreachable(
                done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "ssh failed"
            )
        if done.returncode != 0:
            said = done.stderr.strip()[-500:]
            raise PermanentError(f"{self.host.name}: {scripts[0]} failed: {said}", host=self.host.name)
        return done.stdout

    def close(self) -> None:
        """The shared connection is closed, if there is one."""
        subprocess.run(self.command("-O", "exit"), capture_output=True, timeout=10)

    def _unreachable(self, why: str) -> Unreachable:
        host = self.host
        return Unreachable(
            f"host {host.name} ({host.address}:{host.port}) cannot be asked: {why}",
            retry_in=10.0,
            host=host.name,
        )


def _quoted(path: str) -> str:
    """``path`` as ssh_config(5) wants it: several may be given, with spaces between, and % begins a token."""
    plain = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{plain}"'
