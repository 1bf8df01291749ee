"""Real hypervisors on this machine: a libvirtd and a virtlogd each, started by hand, with real QEMU.

Each has a mount namespace of its own in which all that libvirt keeps (/etc, /run, /var/…/libvirt) is a folder
of the test's; its socket is reached from outside. Unless told otherwise it has a network of its own too, with
nothing but the bridge ``lab0``. Root is needed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_KEPT = ("/etc/libvirt", "/run/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt")
_INIT = """
set -e
cd "$BASE"
for path in $KEPT; do
  mkdir -p ".$path" "$path"
  mount --bind ".$path" "$path"
done
[ -z "$ALONE" ] || { ip link add lab0 type bridge; ip link set lab0 up; }
for file in passwd group; do  # the user that Debian's package would make; libvirtd looks for it in any case
  cp "/etc/$file" "$BASE/$file"
  mount --bind "$BASE/$file" "/etc/$file"
done
echo libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin >>/etc/passwd
echo libvirt-qemu:x:64055: >>/etc/group
cat >/etc/libvirt/qemu.conf <<END
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
END
printf 'auth_unix_rw = "none"\\nunix_sock_rw_perms = "0700"\\n' >/etc/libvirt/libvirtd.conf
: >/etc/libvirt/virtlogd.conf
/usr/sbin/virtlogd --config /etc/libvirt/virtlogd.conf --pid-file "$BASE/virtlogd.pid" &
exec /usr/sbin/libvirtd --config /etc/libvirt/libvirtd.conf --pid-file "$BASE/libvirtd.pid"
"""
_POOL = "<pool type='dir'><name>default</name><target><path>{path}</path></target></pool>"


@dataclass
class Host:
    """One hypervisor; ``pool`` is the folder of its storage pool ``default``."""

    name: str
    uri: str
    pool: Path
    base: Path
    daemon: subprocess.Popen[bytes]

    def connection(self) -> Any:
        """A connection (libvirt's) of the test's own."""
        import libvirt  # where it is not installed, the tests are skipped

        libvirt.registerErrorHandler(lambda *_: None, None)  # else it prints each error
        return libvirt.open(self.uri)

    def kill(self) -> None:
        """Its daemon is gone, as after a crash; its machines run on."""
        self.daemon.kill()
        self.daemon.wait()


@contextlib.contextmanager
def hypervisors(count: int, *, alone: bool = True) -> Iterator[list[Host]]:
    """``count`` hypervisors that answer; afterwards no process, mount or file of them is left."""
    made: list[Host] = []
    with tempfile.TemporaryDirectory(prefix="hv") as folder:  # short: a socket's path has 107 letters
        try:
            for number in range(1, count + 1):
                made.append(_host(f"hv{number}", Path(folder, str(number)), alone))
            for host in made:
                _ready(host)
            yield made
        finally:
            for host in made:
                _end(host)


def marked(base: Path) -> dict[int, str]:
    """Process id → command line, of every process of the hypervisor in ``base`` (its machines too)."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            told = Path("/proc", name, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if int(name) != os.getpid() and (str(base) in told or _lives_in(name, base)):
                found[int(name)] = told
    return found


def _lives_in(pid: str, base: Path) -> bool:
    return f" {base}/run/libvirt /run/libvirt " in "".join(
        f" {line.split()[3]} {line.split()[4]} " for line in Path("/proc", pid, "mountinfo").read_text().splitlines()
    )  # fmt: skip


def _host(name: str, base: Path, alone: bool) -> Host:
    pool = base / "pool"
    pool.mkdir(parents=True)
    spaces = ["--mount", "--propagation", "private", *(["--net"] if alone else [])]
    command = ["unshare", *spaces, "sh", "-c", _INIT]
    environment = {
        "PATH": os.environ["PATH"],
        "BASE": str(base),
        "KEPT": " ".join(_KEPT),
        "ALONE": "yes" * alone,
    }
    with (base / "log").open("wb") as log:
        daemon = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    return Host(name, f"qemu:///system?socket={base}/run/libvirt/libvirt-sock", pool, base, daemon)


def _ready(host: Host, seconds: float = 20.0) -> None:
    import libvirt

    deadline = time.monotonic() + seconds
    while True:
        try:
            connection = host.connection()
            break
        except libvirt.libvirtError:
            if time.monotonic() > deadline or host.daemon.poll() is not None:
                log = (host.base / "log").read_text(errors="replace")
                raise RuntimeError(f"{host.name} did not start:\n{log[-2000:]}") from None
            time.sleep(0.05)
    pool = connection.storagePoolDefineXML(_POOL.format(path=host.pool))
    pool.create()
    connection.close()


def _end(host: Host, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while left := marked(host.base):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if host.daemon.poll() is None:
            host.daemon.kill()
        host.daemon.wait(timeout=seconds)
        assert time.monotonic() < deadline, f"processes are left of {host.name}: {left}"
        time.sleep(0.05)
    shutil.rmtree(host.base)
