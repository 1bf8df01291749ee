"""Makes the instances of the test's EC2 API real: each is a machine that runs its user data as cloud-init does.

A machine is a pid and mount namespace with empty /opt and /run; it shares this host's network. When its
instance is terminated or stopped it is killed with all that runs in it. Root is needed.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.ec2 import Cloud

_LOOK = 0.25  # seconds between looks at the cloud
_INIT = """
mount -t tmpfs -o mode=755 tmpfs /opt
mount -t tmpfs -o mode=755 tmpfs /run
sh "$1" >"$2" 2>&1 </dev/null
echo "user data ended with $?" >>"$2"
exec sleep infinity
"""


@dataclass
class Hypervisor:
    """The machines that run now, by their instance."""

    cloud: Cloud
    directory: Path
    machines: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def console(self, instance: str) -> str:
        """What its user data printed."""
        return (self.directory / instance / "console").read_text()

    def look(self) -> None:
        """Machines begin and end as the cloud says."""
        wanted = {each[":id"] for each in self.cloud.instances() if each[":state"] in ("pending", "running")}
        for instance in wanted - self.machines.keys():
            self.machines[instance] = self._boot(instance)
        for instance in self.machines.keys() - wanted:
            self._kill(instance)

    def end(self) -> None:
        """No machine runs."""
        for instance in list(self.machines):
            self._kill(instance)

    def _boot(self, instance: str) -> subprocess.Popen[bytes]:
        folder = self.directory / instance
        folder.mkdir(mode=0o700, parents=True)
        data = base64.b64decode(self.cloud.user_data(instance))
        script = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        (folder / "user-data").write_bytes(script)
        return subprocess.Popen(
            [
                "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
                "sh", "-c", _INIT, instance, str(folder / "user-data"), str(folder / "console"),
            ],
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    def _kill(self, instance: str) -> None:
        machine = self.machines.pop(instance)
        machine.kill()  # its process 1 goes with it, and the kernel kills the rest
        machine.wait(10)


@contextlib.contextmanager
def hypervisor(cloud: Cloud, directory: Path) -> Iterator[Hypervisor]:
    """The cloud's instances are machines inside; none runs after."""
    made, stop, failed = Hypervisor(cloud, directory), threading.Event(), list[Exception]()

    def watch() -> None:
        try:
            while not stop.wait(_LOOK):
                made.look()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join(30)
        made.end()
    assert not failed, failed
