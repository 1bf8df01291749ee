"""A site whose worker is a whole virtual machine: real libvirt and QEMU (emulated), booted from images/worker.

Central services and VO box are machines of provider ``local`` on addresses of a bridge, which the virtual
machine reaches. Its agent comes by its context, as on any cloud.
"""

from __future__ import annotations

import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.grid import ECHO, Grid, leaving_nothing
from tests.lab.hosts import free_subnet
from tests.lab.hypervisor import Host, hypervisors, marked

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_apt(
        "ip", "unshare", "libvirtd", "virtlogd", "qemu-system-x86_64", "qemu-img",
        "mmdebstrap", "syslinux", "/usr/lib/syslinux/mbr/mbr.bin", "mcopy", "mkfs.vfat", "sfdisk",
    ),
]  # fmt: skip
_RECIPE = Path(__file__).parents[2] / "images/worker/build.sh"
_SPEC = """vo: alice
site: rack
providers:
  local: {{kind: local, addresses: {subnet}.2-{subnet}.9}}
  farm:
    kind: libvirt
    type: qemu
    hypervisors: [{{name: hv1, uri: "{uri}", cores: 1}}]
    network: {{bridge: {bridge}, addresses: {subnet}.20-{subnet}.29}}
    offerings: {{small: {{disk: 12 GB}}}}
groups:
  central: {{role: central}}
  vobox: {{role: vobox, needs: [central]}}
  workers: {{role: worker, provider: farm, image: worker.qcow2, offering: small, needs: [vobox]}}
"""


@dataclass
class Rack:
    """A site that is not up yet, and the hypervisor that its worker will be on."""

    grid: Grid
    hypervisor: Host

    def orchestrate(self, *words: str, seconds: float) -> str:
        """What the verb printed; an emulated machine takes its time."""
        begun = self.grid.start(*words)
        try:
            said, _ = begun.communicate(timeout=seconds)
        finally:
            begun.kill()
        assert begun.returncode == 0, f"{said}\n{self.serial()[-6000:]}"
        return said

    def serial(self) -> str:
        """What the virtual machine printed so far."""
        return "".join(log.read_text(errors="replace") for log in self.hypervisor.pool.glob("*.log"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("image") / "worker.qcow2"
    begun = time.monotonic()
    done = subprocess.run(["sh", str(_RECIPE), str(made)], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"{done.stdout.strip()}\nfigure image_build {time.monotonic() - begun:.0f} s")
    return made


@pytest.fixture
def rack(tmp_path: Path, image: Path) -> Iterator[Rack]:
    bridge, subnet = f"ob{secrets.token_hex(3)}", free_subnet()
    with hypervisors(1, alone=False) as (host,):
        shutil.copy(image, host.pool / "worker.qcow2")
        subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], check=True, timeout=10)
        try:
            for last in range(1, 10):
                subprocess.run(
                    ["ip", "addr", "add", f"{subnet}.{last}/24", "dev", bridge], check=True, timeout=10
                )
            subprocess.run(["ip", "link", "set", bridge, "up"], check=True, timeout=10)
            spec = _SPEC.format(subnet=subnet, bridge=bridge, uri=host.uri)
            with leaving_nothing(Grid.of(tmp_path / "rack", spec, tmp_path / "cache")) as grid:
                yield Rack(grid, host)
        finally:
            subprocess.run(["ip", "link", "del", bridge], check=True, timeout=10)


def test_a_worker_boots_runs_a_job_and_is_gone(rack: Rack) -> None:
    begun = time.monotonic()
    print(rack.orchestrate("up", seconds=900), f"\nfigure vm_up {time.monotonic() - begun:.0f} s")
    booted = re.search(r"context: done after ([0-9.]+) s", rack.serial())
    assert booted, rack.serial()[-3000:]
    print(f"figure vm_boot_to_agent {float(booted[1]):.0f} s")
    (worker,) = (each for each in rack.grid.machines() if "-workers-" in each.name)
    assert worker.address.endswith(".20")

    begun = time.monotonic()
    done = rack.grid.finished(rack.grid.submit(ECHO, "from a virtual machine"), 180)
    print(f"figure vm_job {time.monotonic() - begun:.1f} s")
    assert done["state"] == "DONE", done
    assert rack.grid.run("job", "output", str(done["id"])) == "hello from a virtual machine\n"
    assert "rack-workers-1" in str(done), done

    # The token that it enrolled with is not on the hypervisor any more.
    (seed,) = rack.hypervisor.pool.glob("*.seed")
    left = seed.read_bytes()
    assert b"local-hostname: rack-workers-1" in left
    assert b"ORCHESTRATE_ROOT" not in left
    assert b"token" not in left

    again = rack.orchestrate("up", seconds=120).strip()
    assert again.endswith("nothing to do"), again
    proof = rack.orchestrate("gc", "--prove", seconds=120)
    assert ".rack-workers-1.disk" in proof, proof
    begun = time.monotonic()
    rack.grid.down()
    print(f"figure vm_down {time.monotonic() - begun:.1f} s")
    assert [path.name for path in rack.hypervisor.pool.iterdir()] == ["worker.qcow2"]
    connection = rack.hypervisor.connection()
    assert connection.listAllDomains() == []
    connection.close()
    assert not any("rack-workers-1" in told for told in marked(rack.hypervisor.base).values())
