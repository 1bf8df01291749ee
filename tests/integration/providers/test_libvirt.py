"""The provider suite on real libvirt daemons and QEMU, and what only this provider promises. No guest boots:
the disk is empty, and the BIOS says so on the serial line."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import PermanentError, TemporaryError
from orchestrator.providers import libvirt
from orchestrator.providers.base import HasConsole, HasObjects, MachineState, Object, Provider, QuotaExceeded
from tests.lab.hypervisor import Host, hypervisors, marked
from tests.support.provider_suite import AnyProvider, Case, cleared, site_with

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_apt("libvirtd", "virtlogd", "qemu-system-x86_64", "qemu-img", "unshare"),
]


@pytest.fixture(scope="module")
def pool() -> Iterator[list[Host]]:
    """Two hypervisors with an empty image."""
    with hypervisors(2) as made:
        for host in made:
            _put_image(host)
        yield made


def _put_image(host: Host) -> None:
    command = ["qemu-img", "create", "-q", "-f", "qcow2", str(host.pool / "empty.qcow2"), "64M"]
    subprocess.run(command, check=True, timeout=30)


def _case(hosts: list[Host], state: Path, **more: Any) -> Case:
    """Room for three machines: two on the first hypervisor, one on the second."""
    settings: dict[str, Any] = {
        "type": "qemu",
        "network": {"bridge": "lab0", "addresses": "10.1.0.10-10.1.0.19", "gateway": "10.1.0.1"},
        "hypervisors": [
            {"name": host.name, "uri": host.uri, "cores": cores, "memory": "1 GiB"}
            for host, cores in zip(hosts, (2, 1), strict=True)
        ],
        "offerings": {"small": {"memory": "64 MiB"}, "fat": {"memory": "800 MiB"}, "wide": {"cores": 2, "memory": "64 MiB"}},
    }  # fmt: skip
    site = site_with("libvirt", **settings | more)

    def make() -> Provider:
        return libvirt.make("p", site.providers["p"], site, state)

    made = Case(make(), make, full="no hypervisor has room")
    return dataclasses.replace(
        made, wanted=dataclasses.replace(made.wanted, image="empty.qcow2", offering="small")
    )


@pytest.fixture
def case(pool: list[Host], tmp_path: Path) -> Iterator[Case]:
    yield from cleared(_case(pool, tmp_path / "state"))


class TestEvery(AnyProvider):
    """The fixture ``case`` is this module's."""


def test_machines_go_where_room_is(case: Case) -> None:
    """By cores and by memory; a place to avoid is taken only if there is no other."""
    first = case.provider.create(case.spec(1))
    assert first.place == "hv1"
    second = case.provider.create(dataclasses.replace(case.spec(2), avoid=("hv1",)))
    assert second.place == "hv2"
    third = case.provider.create(dataclasses.replace(case.spec(3), avoid=("hv1",)))
    assert third.place == "hv1"
    for name in ("try-w-1", "try-w-3"):
        case.provider.destroy(name)
    assert case.provider.create(case.spec(4, offering="fat")).place == "hv1"
    with pytest.raises(QuotaExceeded, match="800 MiB"):
        case.provider.create(case.spec(5, offering="fat"))
    with pytest.raises(QuotaExceeded, match="2 cores"):
        case.again().create(case.spec(6, offering="wide"))


def test_every_part_of_a_machine_is_listed_and_goes_with_it(case: Case, pool: list[Host]) -> None:
    provider = case.provider
    assert isinstance(provider, HasObjects)
    assert isinstance(provider, HasConsole)
    provider.create(case.spec())
    case.until(lambda: "boot" in provider.console("try-w-1").lower())
    assert {(thing.kind, thing.machine) for thing in provider.objects()} == {
        (kind, "try-w-1") for kind in ("disk", "seed", "log")
    }
    assert any("try-w-1" in told for told in marked(pool[0].base).values())
    provider.destroy("try-w-1")
    assert [path.name for host in pool for path in host.pool.iterdir()] == ["empty.qcow2"] * 2
    assert not any("try-w-1" in told for host in pool for told in marked(host.base).values())


def test_what_a_killed_run_left_is_seen_and_replaced(case: Case, pool: list[Host]) -> None:
    """A disk without a domain, a domain that was never started."""
    stray = pool[0].pool / "orchestrate.alice.try.p.try-w-1.disk"
    stray.write_bytes(b"half")
    provider = case.again()
    assert isinstance(provider, HasObjects)
    assert provider.objects() == [Object("disk", f"hv1/{stray.name}", "try-w-1")]
    provider.create(case.spec())
    connection = pool[0].connection()
    connection.lookupByName("try-w-1").destroy()  # cut off
    connection.close()
    assert case.state("try-w-1") is MachineState.STOPPED
    assert case.again().create(case.spec()).state is MachineState.RUNNING
    assert case.state("try-w-1") is MachineState.RUNNING


def test_an_unreachable_hypervisor_is_not_dead(pool: list[Host], tmp_path: Path) -> None:
    with hypervisors(1) as (lone,):
        _put_image(lone)
        case = _case([lone, pool[1]], tmp_path / "state")
        case.provider.create(case.spec(1))
        lone.kill()
        for provider in (case.provider, case.again()):
            (seen,) = provider.list()
            assert (seen.name, seen.state, seen.place) == ("try-w-1", MachineState.UNREACHABLE, "hv1")
            with pytest.raises(TemporaryError, match="hv1"):
                provider.create(case.spec(1))
            with pytest.raises(TemporaryError, match="hv1"):
                provider.destroy("try-w-1")
        made = case.provider.create(case.spec(2))
        assert made.place == "hv2"
        case.provider.destroy("try-w-2")


def test_vendor_errors_are_ours_and_name_what_is_wrong(pool: list[Host], tmp_path: Path) -> None:
    case = _case(pool, tmp_path / "state")
    with pytest.raises(PermanentError, match="has no image other"):
        case.provider.create(case.spec(image="other.qcow2"))
    assert case.empty()
    odd = _case(pool, tmp_path / "odd", pool="absent")
    with pytest.raises(PermanentError, match=r"hypervisor hv1: Storage pool not found.*absent"):
        odd.provider.create(odd.spec())
    lost = _case(pool, tmp_path / "lost", network={"libvirt": "absent"})
    with pytest.raises(PermanentError, match="hypervisor hv1: Network not found"):
        lost.provider.create(lost.spec())
    assert case.empty()


def test_a_foreign_domain_of_that_name_is_left_alone(case: Case, pool: list[Host]) -> None:
    connection = pool[0].connection()
    foreign = connection.defineXML(
        "<domain type='qemu'><name>try-w-1</name><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>"
    )
    try:
        assert list(case.provider.list()) == []
        with pytest.raises(PermanentError, match="not ours"):
            case.provider.create(case.spec())
        for provider in (case.provider, case.again()):
            provider.destroy("try-w-1")
        assert connection.lookupByName("try-w-1").name() == "try-w-1"
    finally:
        foreign.undefine()
        connection.close()


def test_a_machine_boots_until_its_context_has_wiped_the_seed(case: Case, pool: list[Host]) -> None:
    assert case.provider.create(case.spec(user_data="echo secret\n")).state is MachineState.BOOTING
    assert case.state("try-w-1") is MachineState.BOOTING
    seed = pool[0].pool / "orchestrate.alice.try.p.try-w-1.seed"
    content = seed.read_bytes()
    assert b"echo secret" in content
    assert seed.stat().st_mode & 0o077 == 0
    wiped = content.index(b"#!/bin/sh")
    with seed.open("r+b") as disk:
        disk.seek(wiped)
        disk.write(b"\n" * (len(content) - wiped))
    assert case.state("try-w-1") is MachineState.RUNNING
    assert case.again().create(case.spec(user_data="echo secret\n")).state is MachineState.RUNNING
    assert b"echo secret" not in seed.read_bytes()
