"""What only the local provider promises: addresses, supervisors, orphans."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.providers import _processes, _supervisord, local
from orchestrator.providers.base import MachineSpec, MachineState
from orchestrator.providers.local import LocalProvider
from orchestrator.site.schema import Site

_SITE = Site.model_validate(
    {
        "vo": "alice",
        "site": "try",
        "providers": {"local": {"kind": "local"}},
        "groups": {"c": {"role": "central"}},
    }
)
_SPEC = MachineSpec("try-c-1", "c", "central")


@pytest.fixture(params=["state", "a-very-long-name-" * 5 + "state"])
def provider(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalProvider]:
    made = local.make("local", _SITE.providers["local"], _SITE, tmp_path / request.param)
    yield made
    for machine in made.list():
        made.destroy(machine.name)


def test_killed_supervisor_is_seen_and_started_again(provider: LocalProvider) -> None:
    spec = MachineSpec("try-c-1", "c", "central", user_data="setsid sleep 1000 >/dev/null 2>&1 &\n")
    machine = provider.create(spec)
    root = Path(machine.root)
    deadline = time.monotonic() + 10
    while provider.list()[0].state is not MachineState.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pid = _supervisord.pid(root)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while _supervisord.pid(root) is not None:
        time.sleep(0.01)
    (seen,) = provider.list()
    assert seen.state is MachineState.STOPPED
    orphans = _processes.of_machine(machine.root)
    assert orphans
    again = provider.create(spec)
    assert (again.state, again.address) == (MachineState.RUNNING, machine.address)
    assert not orphans & _processes.of_machine(machine.root)


def test_two_state_directories_do_not_meet(tmp_path: Path) -> None:
    one = local.make("local", _SITE.providers["local"], _SITE, tmp_path / "one")
    two = local.make("local", _SITE.providers["local"], _SITE, tmp_path / "two")
    try:
        first, second = one.create(_SPEC), two.create(_SPEC)
        assert first.address != second.address
        two.destroy("try-c-1")
        assert one.list()[0].state is MachineState.RUNNING
    finally:
        one.destroy("try-c-1")
        two.destroy("try-c-1")


def test_address_where_somebody_listens_is_not_taken(provider: LocalProvider) -> None:
    first = provider.create(_SPEC).address
    provider.destroy("try-c-1")
    with socket.create_server((first, 8443)):
        assert provider.create(_SPEC).address != first


def test_state_directory_is_empty_after_destroy(provider: LocalProvider, tmp_path: Path) -> None:
    root = Path(provider.create(_SPEC).root)
    sealed = root / "data/sealed/inner"
    sealed.mkdir(parents=True)
    sealed.chmod(0)
    sealed.parent.chmod(0)
    provider.destroy("try-c-1")
    assert not root.parent.exists()
    assert not _supervisord.socket_path(root).exists()


def test_destroy_spares_a_shell_of_the_admin(provider: LocalProvider) -> None:
    """Whoever looks around in a machine's directory is not of the machine."""
    import subprocess

    root = provider.create(_SPEC).root
    with subprocess.Popen(["sleep", "100"], cwd=root) as visitor:
        provider.destroy("try-c-1")
        assert visitor.poll() is None
        visitor.kill()


def test_list_is_cheap(provider: LocalProvider) -> None:
    for number in range(1, 4):
        provider.create(MachineSpec(f"try-c-{number}", "c", "central"))
    begun = time.perf_counter()
    for _ in range(20):
        assert len(provider.list()) == 3
    assert (time.perf_counter() - begun) / 60 < 0.005  # 1 ms on a quiet machine
