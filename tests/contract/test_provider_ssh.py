"""What only the ssh provider promises: unreachable is not dead, and hosts are not taken twice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestrator.errors import TemporaryError
from orchestrator.providers import _ssh_connection, ssh
from orchestrator.providers.base import MachineSpec, MachineState
from orchestrator.providers.ssh import SshProvider
from orchestrator.site.schema import Site
from tests.lab.hosts import Lab, hosts


def _spec(number: int) -> MachineSpec:
    return MachineSpec(f"try-w-{number}", "w", "worker")


def _provider(lab: Lab, state: Path, vo: str = "alice") -> SshProvider:
    inventory = [{"name": host.name, "address": host.address, "key": str(lab.key)} for host in lab.hosts]
    site = Site.model_validate(
        {
            "vo": vo,
            "site": "try",
            "providers": {"p": {"kind": "ssh", "hosts": inventory}},
            "groups": {"w": {"role": "worker"}},
        }
    )
    return ssh.make("p", site.providers["p"], site, state)


def test_hosts_over_their_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ssh_connection, "CONNECT_SECONDS", 1)
    with hosts(2, tmp_path / "lab") as lab:
        provider = _provider(lab, tmp_path / "state")
        one, two = provider.create(_spec(1)), provider.create(_spec(2))
        assert (one.address, two.address) == (lab.hosts[0].address, lab.hosts[1].address)

        # Another orchestrator that knows nothing of us finds no free host.
        other = _provider(lab, tmp_path / "other", vo="bob")
        assert list(other.list()) == []
        with pytest.raises(TemporaryError, match="no free host"):
            other.create(_spec(1))

        # A lost state directory is no loss: the hosts know what they are.
        fresh = _provider(lab, tmp_path / "fresh")
        assert [machine.name for machine in fresh.list()] == ["try-w-1", "try-w-2"]
        assert [*fresh.some(["try-w-2", "try-w-3"])] == [fresh.list()[1]]

        # A host that cannot be asked is still a machine; it is neither destroyed nor made twice.
        two_connection = provider._connection(provider._hosts[lab.hosts[1].name])
        two_connection.close()
        lab.hosts[1].cut()
        later = _provider(lab, tmp_path / "state")
        states = {machine.name: machine.state for machine in later.list()}
        assert states == {"try-w-1": MachineState.RUNNING, "try-w-2": MachineState.UNREACHABLE}
        assert [machine.state for machine in later.some(["try-w-2"])] == [MachineState.UNREACHABLE]
        with pytest.raises(TemporaryError, match="host2"):
            later.destroy("try-w-2")
        with pytest.raises(TemporaryError, match="host2"):
            later.create(_spec(2))
        lab.hosts[1].mend()
        deadline = time.monotonic() + 15
        while {machine.state for machine in later.list()} != {MachineState.RUNNING}:
            assert time.monotonic() < deadline, "the mended host does not answer"

        # What is not ours on the host stays.
        lab.hosts[0].run(
            "mkdir -p /opt/orchestrate/other /opt/theirs && echo '{}' >/opt/orchestrate/other/machine.json"
        )
        later.destroy("try-w-1")
        assert later.some(["try-w-1"]) == []
        assert len(provider.some(["try-w-2"])) == 1
        later.destroy("try-w-2")
        assert provider.some(["try-w-2"]) == []  # it remembers the host, which is no machine any more
        assert lab.hosts[0].run("find /opt -type f").split() == ["/opt/orchestrate/other/machine.json"]
        assert lab.hosts[1].run("ls -A /opt").strip() == ""
        for each in (provider, later, fresh, other):
            each.leave()
            assert not _ssh_connection.control_path(each._state).exists()
