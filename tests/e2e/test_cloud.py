"""A site whose workers are in a cloud: real but for the hypervisor, which a test of ours stands in for.

The EC2 API is a moto server; each of its instances really runs its user data (tests/support/hypervisor.py).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.grid import Grid, leaving_nothing, wait_for
from tests.support import ec2
from tests.support.ec2 import Cloud
from tests.support.hypervisor import Hypervisor, hypervisor

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_apt("unshare")]
_SPEC = """vo: alice
site: sky
providers:
  cloud: {kind: ec2, region: eu-central-1, endpoint: %s}
groups:
  central: {role: central}
  vobox: {role: vobox, needs: [central]}
  workers: {role: worker, provider: cloud, image: ami-12c6146b, offering: m5.large, count: 1, needs: [vobox]}
storage_elements:
  disk: {vobox: vobox, capacity: 1 GB}
"""
_SECRET = "its-secret-access-key"


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "its-access-key-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", _SECRET)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    with ec2.cloud(tmp_path) as running:
        running.region = "eu-central-1"
        yield running


@pytest.fixture
def machines(cloud: Cloud, tmp_path: Path) -> Iterator[Hypervisor]:
    with hypervisor(cloud, tmp_path / "machines") as running:
        yield running


def test_workers_in_a_cloud(cloud: Cloud, machines: Hypervisor, tmp_path: Path, cache: Path) -> None:
    """One story: bringing it up costs most of the time."""
    with leaving_nothing(Grid.of(tmp_path / "site", _SPEC % cloud.url, cache)) as grid:
        begun = time.monotonic()
        print(grid.run("up"), f"\nfigure ec2_up {time.monotonic() - begun:.1f} s")
        (first,) = cloud.instances()
        assert first["Name"] == "sky-workers-1"
        assert grid.hello("cloud")["state"] == "DONE"
        assert "nothing to do" in grid.run("up")
        print(grid.run("gc", "--prove"))

        cloud.lose.update(RunInstances=1)
        cloud.lag = 3.0
        killed = grid.start("scale", "workers", "2")
        wait_for("a second instance is asked for", 30, lambda: cloud.counted("RunInstances") == 2)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate(timeout=30)
        print(grid.run("up"))
        cloud.lag = 0.0
        assert sorted(each["Name"] for each in cloud.instances()) == ["sky-workers-1", "sky-workers-2"]
        assert len(machines.machines) == 2  # the killed run's instance, and no other

        tags = {key: first[key] for key in ("orchestrate-vo", "orchestrate-site", "orchestrate-provider")}
        orphan = _forgotten(cloud, {**tags, "orchestrate-machine": "sky-workers-7", "orchestrate-group": "workers", "orchestrate-role": "worker"})  # fmt: skip
        assert "sky-workers-7" in grid.run("gc", "--prove", code=4)
        grid.run("gc", "--yes")
        assert orphan not in {each[":id"] for each in cloud.instances()}

        grid.run("scale", "workers", "1")
        assert [each["Name"] for each in cloud.instances()] == ["sky-workers-1"]
        wait_for("its machine ends", 10, lambda: len(machines.machines) == 1)
        assert grid.hello("again")["state"] == "DONE"
        assert not _said(grid.directory, _SECRET)
    assert cloud.instances() == []
    assert cloud.left() == []
    wait_for("all machines end", 10, lambda: not machines.machines)


def _forgotten(cloud: Cloud, tags: dict[str, str]) -> str:
    """An instance with our tags that the ledger knows nothing of."""
    asked = {"Action": "RunInstances", "ImageId": "ami-12c6146b", "MinCount": "1", "MaxCount": "1"}
    asked["TagSpecification.1.ResourceType"] = "instance"
    for n, (key, value) in enumerate(tags.items(), 1):
        asked |= {f"TagSpecification.1.Tag.{n}.Key": key, f"TagSpecification.1.Tag.{n}.Value": value}
    return cloud.direct(**asked).findtext(".//{*}instanceId", "")


def _said(directory: Path, secret: str) -> list[Path]:
    """Files of the site in which the secret stands."""
    files = (each for each in directory.rglob("*") if each.is_file() and not each.is_symlink())
    return [each for each in files if secret.encode() in each.read_bytes()]
