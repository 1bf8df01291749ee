"""Real ssh hosts on this machine, without a container runtime: one set of namespaces each.

A host has its own network, mount, pid, uts and ipc namespaces, this machine's root file system as the
read-only lower layer of an overlay, empty /opt, /run and /etc/ssh, and a real sshd as process 1; or
(``systemd``) a control group of its own and a real systemd as process 1, which starts the sshd. A ``bare``
host has no Python and nothing of this project. All hosts share a bridge in a subnet that nobody here uses. Root is needed.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_INIT = """
set -e
mount -t tmpfs -o size=2g none "$BASE"
mkdir "$BASE/upper" "$BASE/work" "$BASE/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$BASE/upper,workdir=$BASE/work" "$BASE/root"
cd "$BASE/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t sysfs -o ro sysfs sys
for folder in run opt etc/ssh $EMPTY; do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
mkdir -p run/sshd
rm -rf root/.bashrc root/.profile root/.bash_profile root/.ssh root/.ansible  # the admin's own settings
cp "$KEYS/authorized_keys" "$KEYS/host_key" "$KEYS/host_key.pub" etc/ssh/
chmod 600 etc/ssh/host_key etc/ssh/authorized_keys
[ -z "$BARE" ] || rm -f usr/bin/python* usr/local/bin/python* usr/bin/perl bin/python*
cat >etc/ssh/sshd_config <<END
HostKey /etc/ssh/host_key
AuthorizedKeysFile /etc/ssh/authorized_keys
PermitRootLogin yes
PasswordAuthentication no
UsePAM no
PidFile none
MaxStartups 100
END
[ -n "$BARE" ] || echo Subsystem sftp internal-sftp >>etc/ssh/sshd_config
SSHD="/usr/sbin/sshd -D -e"
hostname "$NAME"
mkdir -p mnt
if [ -n "$SYSTEMD" ]; then
  mount -t cgroup2 cgroup2 sys/fs/cgroup
  mount -t tmpfs -o mode=755 tmpfs etc/systemd/system
  : >etc/machine-id
  mkdir etc/systemd/system/multi-user.target.wants
  for unit in getty.target console-getty.service systemd-logind.service systemd-networkd.service e2scrub_reap.service; do
    ln -s /dev/null "etc/systemd/system/$unit"
  done
  printf '[Service]\nExecStart=%s\nKillMode=process\n' "$SSHD" >etc/systemd/system/lab-sshd.service
  ln -s ../lab-sshd.service etc/systemd/system/multi-user.target.wants/
fi
pivot_root . mnt
umount -l /mnt
[ -z "$SYSTEMD" ] || exec env -i container=lab PATH="$PATH" /lib/systemd/systemd --system --unit=multi-user.target \
  --log-target=console --show-status=no --log-level=warning
exec $SSHD
"""
_PROJECT = Path(__file__).resolve().parents[2]
_CGROUP2 = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))


def _ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True)


def free_subnet() -> str:
    """The first 10.x.y of which this machine has no address."""
    used = {
        info["local"].rsplit(".", 1)[0]
        for link in json.loads(
            subprocess.run(["ip", "-j", "-4", "addr"], capture_output=True, check=True).stdout
        )
        for info in link["addr_info"]
    }
    while True:
        subnet = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(250)}"
        if subnet not in used:
            return subnet


@dataclass
class Host:
    """One host that answers on ``address``:22."""

    name: str
    address: str
    netns: str
    link: str
    init: subprocess.Popen[bytes]

    def cut(self) -> None:
        """Unplug its cable."""
        _ip("link", "set", self.link, "down")

    def mend(self) -> None:
        """Plug it in again."""
        _ip("link", "set", self.link, "up")

    def run(self, script: str) -> str:
        """What a shell prints inside the host (not through ssh)."""
        child = Path(f"/proc/{self.init.pid}/task/{self.init.pid}/children").read_text().split()[0]
        command = ["nsenter", "-t", child, "-m", "-n", "-p", "-u", "-i", "-r", "-w", "sh", "-c", script]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@dataclass
class Lab:
    """Some hosts and the private key that opens them."""

    hosts: list[Host]
    key: Path


def has_systemd() -> bool:
    """Whether hosts with a systemd can be made here: its program and a control group hierarchy (v2)."""
    return Path("/lib/systemd/systemd").exists() and _cgroup2() is not None


def _hidden() -> str:
    """This project and every Python outside /usr, as folders below the root directory."""
    paths = (folder for folder in os.environ["PATH"].split(":") if (Path(folder) / "python3").exists())
    folders = {folder for folder in (sys.base_prefix, *paths) if not folder.startswith(("/usr", "/bin"))}
    folders = {str(_PROJECT), *(folder for folder in folders if not Path(folder).is_relative_to(_PROJECT))}
    return " ".join(sorted(folder.lstrip("/") for folder in folders))


def _cgroup2() -> Path | None:
    return next((path for path in _CGROUP2 if (path / "cgroup.procs").exists()), None)


@contextlib.contextmanager
def hosts(count: int, folder: Path, *, systemd: Collection[int] = (), bare: bool = False) -> Iterator[Lab]:
    """``count`` hosts (from 1 on; those in ``systemd`` have one) that accept ssh; afterwards no process, link, mount or namespace of them is left."""
    token = secrets.token_hex(2)
    subnet = free_subnet()
    bridge = f"ob{token}"
    keys = folder / "keys"
    keys.mkdir(parents=True)
    for name in ("user_key", "host_key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)]
        subprocess.run(command, check=True)
    shutil.copy(keys / "user_key.pub", keys / "authorized_keys")
    made: list[Host] = []
    try:
        _ip("link", "add", bridge, "type", "bridge")
        _ip("addr", "add", f"{subnet}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for number in range(1, count + 1):
            made.append(
                _host(number, token, subnet, bridge, folder, keys, systemd=number in systemd, bare=bare)
            )
        for host in made:
            _wait_for_ssh(host)
        yield Lab(made, keys / "user_key")
    finally:
        for host in made:
            _end(host)
        for number in range(1, count + 1):
            _ip("netns", "del", f"oh{token}-{number}", check=False)
            _ip("link", "del", f"ov{token}-{number}", check=False)
            _remove_group(f"oh{token}-{number}")
        _ip("link", "del", bridge, check=False)


def _host(
    number: int, token: str, subnet: str, bridge: str, folder: Path, keys: Path, *, systemd: bool, bare: bool
) -> Host:
    netns, link, address = f"oh{token}-{number}", f"ov{token}-{number}", f"{subnet}.{10 + number}"
    base = folder / f"host{number}"
    base.mkdir()
    _ip("netns", "add", netns)
    _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", netns)
    _ip("link", "set", link, "master", bridge, "up")
    _ip("-n", netns, "addr", "add", f"{address}/24", "dev", "eth0")
    _ip("-n", netns, "link", "set", "eth0", "up")
    _ip("-n", netns, "link", "set", "lo", "up")
    environment = {"PATH": os.environ["PATH"], "BASE": str(base), "KEYS": str(keys), "NAME": f"host{number}"}
    environment |= {
        "SYSTEMD": "yes" if systemd else "",
        "BARE": "yes" if bare else "",
        "EMPTY": _hidden() if bare else "",
    }
    spaces = ["--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    enter: list[str] = []
    if systemd:
        group = _cgroup2()
        assert group is not None, "no control group hierarchy of version 2 here"
        (group / netns).mkdir()
        enter = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(group / netns / "cgroup.procs")]
        spaces.append("--cgroup")
    with (folder / f"host{number}.log").open("wb") as log:
        command = [*enter, "ip", "netns", "exec", netns, "unshare", *spaces, "sh", "-c", _INIT]
        init = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    return Host(f"host{number}", address, netns, link, init)


def _remove_group(name: str, seconds: float = 5.0) -> None:
    """The host's control group and those its systemd made are gone, once its processes are."""
    base = _cgroup2()
    top = base / name if base is not None else None
    deadline = time.monotonic() + seconds
    while top is not None and top.is_dir():
        for group in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
            with contextlib.suppress(OSError):
                group.rmdir()
        with contextlib.suppress(OSError):
            top.rmdir()
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes are left in {top}")
        time.sleep(0.02)


def _wait_for_ssh(host: Host, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), socket.create_connection((host.address, 22), 1) as answer:
            if answer.recv(4) == b"SSH-":
                return
        if time.monotonic() > deadline or host.init.poll() is not None:
            raise RuntimeError(f"{host.name} did not start its sshd")
        time.sleep(0.05)


def _end(host: Host) -> None:
    """Ends process 1 of the host, and with it all of them."""
    with contextlib.suppress(OSError, IndexError):
        child = Path(f"/proc/{host.init.pid}/task/{host.init.pid}/children").read_text().split()[0]
        os.kill(int(child), signal.SIGKILL)
    host.init.kill()
    host.init.wait()
