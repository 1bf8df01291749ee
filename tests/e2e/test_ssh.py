"""A site on hosts that have an ssh server and a shell, and nothing else: no Python, and nothing of ours.

Half of the hosts have a real systemd, half have none, so that our own supervisor is used there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.providers._ssh_connection import control_path
from tests.e2e.grid import Grid, leaving_nothing, wait_for
from tests.lab.hosts import Host, has_systemd, hosts

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_apt("ip", "sshd", "ssh", "ssh-keygen", "unshare"),
    pytest.mark.skipif(not has_systemd(), reason="needs systemd and control groups of version 2"),
]
_ROOT = "/opt/orchestrate/farm"
_SPEC = """vo: alice
site: farm
providers:
  modern: {kind: ssh, hosts: [%s]}
  plain: {kind: ssh, hosts: [%s]}
groups:
  central: {role: central, provider: modern}
  vobox: {role: vobox, provider: plain, needs: [central]}
  workers: {role: worker, provider: modern, needs: [vobox]}
  old: {role: worker, provider: plain, needs: [vobox]}
storage_elements:
  disk: {vobox: vobox, capacity: 1 GB}
"""
_LEFT = "ls -A /opt; ls -A /root | grep ansible; ls /etc/systemd/system | grep orchestrate; grep -als ORCHESTRATE_MACHINE /proc/[0-9]*/environ; true"


@pytest.fixture
def farm(tmp_path: Path, cache: Path) -> Iterator[tuple[Grid, list[Host]]]:
    """Nothing is up. Hosts 1 and 2 have systemd. The site's directory has a name with letters that mean something."""
    with hosts(4, tmp_path / "lab", systemd=(1, 2), bare=True) as lab:
        told = [
            json.dumps({"name": host.name, "address": host.address, "user": "root", "key": str(lab.key)})
            for host in lab.hosts
        ]
        spec = _SPEC % (", ".join(told[:2]), ", ".join(told[2:]))
        with leaving_nothing(Grid.of(tmp_path / "the farm's #1", spec, cache)) as grid:
            yield grid, lab.hosts


def test_a_site_on_bare_hosts(farm: tuple[Grid, list[Host]]) -> None:
    """One story: bringing it up costs most of the time."""
    grid, lab = farm
    assert [host.run("command -v python3 perl; true") for host in lab] == [""] * 4
    clean = [host.run(_LEFT) for host in lab]
    begun = time.monotonic()
    print(grid.run("up"), f"\nfigure ssh_up {time.monotonic() - begun:.1f} s")
    inside = {host.address: host for host in lab}
    where = {each.name: inside[each.address] for each in grid.machines()}
    assert set(where) == {"farm-central-1", "farm-vobox-1", "farm-workers-1", "farm-old-1"}
    central, vobox = where["farm-central-1"], where["farm-vobox-1"]
    assert central.run("systemctl list-units --failed --no-legend") == ""
    assert central.run(f"ls {_ROOT}/etc/supervisord.conf 2>/dev/null; true") == ""
    grid.hello("far away")

    # Central's data comes and goes through ssh, by what was delivered there.
    assert "1 tasks" in grid.run("central", "backup", "far.backup")
    grid.run("central", "restore", "far.backup", "--yes")
    grid.hello("as it was")

    begun = time.monotonic()
    assert grid.run("up").strip().endswith("nothing to do")
    print(f"figure ssh_second_up {time.monotonic() - begun:.1f} s")

    # A program that was killed comes back by its supervisor, whichever it is.
    central.run("systemctl kill -s KILL orchestrate-farm-broker")
    vobox.run(
        "for p in /proc/[0-9]*; do "
        "tr '\\0' ' ' <$p/cmdline | grep -q '[c]lustermonitor --root' && kill -9 ${p#/proc/}; done; true"
    )
    grid.hello("once more")

    # Files edited by hand are seen and mended.
    central.run("sed -i s/Restart=always/Restart=no/ /etc/systemd/system/orchestrate-farm-broker.service")
    vobox.run(f"echo >>{_ROOT}/etc/vobox.json")
    told = grid.run("plan")
    assert "etc/vobox.json" in told
    assert "orchestrate-farm-broker.service" in told
    # Agents that were stopped for good: their machines are made anew.
    where["farm-workers-1"].run("systemctl stop orchestrate-farm-agent")
    where["farm-old-1"].run(f"kill -9 $(cat {_ROOT}/run/agent-loop.pid)")
    assert grid.run("plan").count("it is stopped") == 2
    print(grid.run("up"))
    assert "nothing to do" in grid.run("plan")
    assert "Restart=always" in central.run("systemctl cat orchestrate-farm-broker")
    grid.hello("again")

    grid.run("down", "--yes")
    for host, before in zip(lab, clean, strict=True):
        wait_for(f"nothing of ours on {host.name}", 5, lambda h=host, was=before: h.run(_LEFT) == was)
    state = grid.file.parent / ".orchestrate/farm"
    assert not control_path(state.resolve()).exists(), "a folder of shared connections is left"
