"""One suite for every provider: what the port's docstring promises, on real machines and simulated ones.

``sim-faulty`` is the simulated cloud with every fault switched on, seen through the guard as deploy sees it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import GridError, PermanentError
from orchestrator.providers import local, sim, ssh
from orchestrator.providers._addresses import candidates
from orchestrator.providers.base import (
    HasConsole,
    HasShell,
    Machine,
    MachineSpec,
    MachineState,
    Provider,
)
from orchestrator.providers.guard import Allowance, Guarded
from orchestrator.runtime.clock import SystemClock, Timeline, each
from orchestrator.runtime.virtual import VirtualClock
from orchestrator.site.schema import Site
from tests.lab.hosts import Lab, hosts

_SITE = {"vo": "alice", "site": "try", "groups": {"central": {"role": "central"}, "w": {"role": "worker"}}}


_FAULTS: dict[str, Any] = {
    "api_errors": "20 %", "lost_replies": "20 %", "duplicate_listing": "30 %", "eventual_list": "20 s",
    "slow_boot": "20 %", "network_cut": "20 %", "ip_reuse": True, "throttle": {"rate": 5, "burst": 5},
    "zones": {"a": 2, "b": 2}, "quota": {"machines": 3},
}  # fmt: skip


def _nowhere(machine: Machine, script: str) -> str:
    raise AssertionError("simulated machines run no scripts")


@dataclass
class Case:
    """A provider, another instance of it (a later run), a way to run a script on a machine, and its time."""

    provider: Provider
    again: Callable[[], Provider]
    run: Callable[[Machine, str], str] = _nowhere
    clock: Timeline = field(default_factory=SystemClock)
    state: Path | None = None  # of provider local

    def until(self, condition: Callable[[], bool], seconds: float = 20.0, pause: float = 0.05) -> None:
        deadline = self.clock.monotonic() + seconds
        while not condition():
            assert self.clock.monotonic() < deadline, "the condition did not come true"
            self.clock.sleep(pause)

    def runs(self, name: str) -> None:
        """The machine runs, and is listed so (an hour of a simulated cloud costs nothing)."""
        patience, pause = (3600.0, 5.0) if isinstance(self.clock, VirtualClock) else (20.0, 0.05)
        self.until(lambda: _state(self.provider, name) is MachineState.RUNNING, patience, pause)

    def empty(self) -> bool:
        """Nothing is listed, by now or within the minute that a cloud's list may lag behind."""
        if isinstance(self.clock, VirtualClock):
            self.clock.sleep(60)
        return list(self.again().list()) == []


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with hosts(3, tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture(params=["local", "ssh", "sim", "sim-faulty"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    yield from _made(request, tmp_path / "state")


@pytest.fixture(params=["local", "ssh"])
def real(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """Machines on which a script can be run."""
    yield from _made(request, tmp_path / "state")


def _made(request: pytest.FixtureRequest, state: Path) -> Iterator[Case]:
    if request.param == "local":
        site = Site.model_validate(_SITE | {"providers": {"p": {"kind": "local"}}})
        made = Case(
            local.make("p", site.providers["p"], site, state),
            lambda: local.make("p", site.providers["p"], site, state),
            lambda machine, script: os.popen(f"ORCHESTRATE_ROOT={machine.root}; {script}").read(),
            state=state,
        )
    elif request.param == "ssh":
        running: Lab = request.getfixturevalue("lab")
        inventory = [
            {"name": host.name, "address": host.address, "key": str(running.key)} for host in running.hosts
        ]
        site = Site.model_validate(_SITE | {"providers": {"p": {"kind": "ssh", "hosts": inventory}}})
        inside = {host.address: host for host in running.hosts}
        made = Case(
            ssh.make("p", site.providers["p"], site, state),
            lambda: ssh.make("p", site.providers["p"], site, state),
            lambda machine, script: inside[machine.address].run(f"ORCHESTRATE_ROOT={machine.root}; {script}"),
        )
    else:
        faults = _FAULTS if request.param == "sim-faulty" else {"quota": {"machines": 3}}
        made = _simulated(state, faults)
    yield made
    made.empty()  # by now everything is listed
    for machine in made.again().list():
        made.again().destroy(machine.name)
    assert made.empty()


def _simulated(state: Path, settings: dict[str, Any]) -> Case:
    site = Site.model_validate(_SITE | {"providers": {"p": {"kind": "sim", **settings}}})
    clock = VirtualClock(1.0e9)

    def make() -> Provider:
        cloud = sim.make("p", site.providers["p"], site, state)
        cloud.clock = clock
        return Guarded(cloud, clock, threading.Event(), Allowance(tries=30))

    return Case(make(), make, clock=clock)


def _spec(number: int = 1, **more: str) -> MachineSpec:
    return MachineSpec(f"try-w-{number}", "w", "worker", tags={"orchestrate-site": "try"}, **more)


def _state(provider: Provider, name: str) -> MachineState | None:
    return next((machine.state for machine in provider.list() if machine.name == name), None)


def test_nothing_exists_at_first(case: Case) -> None:
    assert list(case.provider.list()) == []


def test_created_machine_is_listed_with_what_was_asked(case: Case) -> None:
    made = case.provider.create(_spec())
    case.runs("try-w-1")
    (seen,) = case.again().list()
    assert (seen.name, seen.group, seen.role, seen.provider) == ("try-w-1", "w", "worker", "p")
    assert seen.tags["orchestrate-site"] == "try"
    assert (seen.address, seen.root) == (made.address, made.root)
    assert seen.address


def test_machine_knows_who_it_is(real: Case) -> None:
    made = real.provider.create(_spec())
    record = json.loads(real.run(made, f"cat {made.root}/machine.json"))
    assert (record["name"], record["address"]) == ("try-w-1", made.address)


def test_create_is_idempotent_by_name(case: Case) -> None:
    first = case.provider.create(_spec())
    second = case.again().create(_spec())
    assert (first.address, first.root) == (second.address, second.root)
    case.runs("try-w-1")
    assert len(case.provider.list()) == 1


def test_name_of_another_role_is_refused(case: Case) -> None:
    case.provider.create(_spec())
    with pytest.raises(PermanentError, match="try-w-1"):
        case.provider.create(MachineSpec("try-w-1", "central", "central"))


def test_machines_made_at_the_same_time_are_distinct(case: Case) -> None:
    made = each(case.clock, [_spec(number) for number in (1, 2, 3)], case.provider.create, 3)
    assert len({machine.address for machine in made}) == 3
    for machine in made:
        case.runs(machine.name)
    assert {machine.name for machine in case.again().list()} == {"try-w-1", "try-w-2", "try-w-3"}


def test_user_data_runs_once_and_is_deleted(real: Case) -> None:
    script = 'echo "$ORCHESTRATE_ADDRESS" >>"$ORCHESTRATE_ROOT/data/ran"\necho secret >/dev/null\n'
    machine = real.provider.create(_spec(user_data=script))
    real.until(lambda: _state(real.provider, "try-w-1") is MachineState.RUNNING)
    real.again().create(_spec(user_data=script))
    assert _state(real.provider, "try-w-1") is MachineState.RUNNING
    assert real.run(machine, f"cat {machine.root}/data/ran") == f"{machine.address}\n"
    assert real.run(machine, f"grep -rl secret {machine.root} || true") == ""


def test_failing_user_data_is_tried_again_and_shown(real: Case) -> None:
    script = 'echo trouble ahead; [ -f "$ORCHESTRATE_ROOT/data/mended" ]\n'
    machine = real.provider.create(_spec(user_data=script))
    assert isinstance(real.provider, HasConsole)
    console = real.provider.console
    real.until(lambda: "trouble ahead" in console("try-w-1"))
    assert _state(real.provider, "try-w-1") is MachineState.BOOTING
    mode = real.run(machine, f"stat -c %a {machine.root}/etc/context").strip()
    assert mode == "600"
    real.run(machine, f"touch {machine.root}/data/mended")
    real.until(lambda: _state(real.provider, "try-w-1") is MachineState.RUNNING)


def test_drift_of_managed_files_is_seen(real: Case) -> None:
    machine = real.provider.create(_spec())
    assert machine.applied == ""
    assert machine.drift == ()
    real.run(
        machine,
        f"cd {machine.root} && echo a >etc/one && echo b >etc/two && "
        'printf \'{"digest": "d1", "files": {"etc/one": "%s", "etc/two": "%s"}}\' '
        "$(sha256sum <etc/one | cut -c1-64) $(sha256sum <etc/two | cut -c1-64) >etc/applied.json",
    )
    (seen,) = real.provider.list()
    assert (seen.applied, tuple(seen.drift)) == ("d1", ())
    real.run(machine, f"cd {machine.root} && echo edited >etc/one && rm etc/two")
    (seen,) = real.provider.list()
    assert (seen.applied, tuple(seen.drift)) == ("", ("etc/one", "etc/two"))


def test_destroy_leaves_nothing(real: Case) -> None:
    script = "ORCHESTRATE_LEFT=1 setsid sleep 1000 >/dev/null 2>&1 </dev/null &\n"
    machine = real.provider.create(_spec(user_data=script))
    real.until(lambda: _state(real.provider, "try-w-1") is MachineState.RUNNING)
    marked = f"grep -laz 'ORCHESTRATE_MACHINE={machine.root}' /proc/[0-9]*/environ 2>/dev/null | wc -l"
    assert int(real.run(machine, marked)) > 0
    real.provider.destroy("try-w-1")
    assert list(real.again().list()) == []
    assert int(real.run(machine, marked)) == 0
    assert real.run(machine, f"ls -d {machine.root} 2>/dev/null || echo none").strip() == "none"


def test_destroy_of_what_is_gone_is_silent(case: Case) -> None:
    case.provider.create(_spec())
    case.provider.destroy("try-w-1")
    case.provider.destroy("try-w-1")
    case.again().destroy("try-never-1")
    assert case.empty()


def test_a_destroyed_name_can_be_used_again(case: Case) -> None:
    case.provider.create(_spec())
    case.runs("try-w-1")
    case.provider.destroy("try-w-1")
    case.provider.create(MachineSpec("try-w-1", "central", "central"))
    case.runs("try-w-1")
    assert [machine.role for machine in case.provider.list()] == ["central"]


def test_what_a_machine_printed_can_be_seen(case: Case) -> None:
    case.provider.create(_spec())
    case.runs("try-w-1")
    shown = getattr(case.provider, "inner", case.provider)
    assert isinstance(shown, HasConsole)
    case.until(lambda: _said(shown, "try-w-1") != "", 60.0)


def _said(shown: HasConsole, name: str) -> str:
    try:
        return shown.console(name)
    except GridError:
        return ""


def test_data_is_kept_when_asked_and_found_again(real: Case) -> None:
    machine = real.provider.create(_spec())
    real.run(machine, f"echo kept >{machine.root}/data/file; echo x >{machine.root}/log/file")
    real.provider.destroy("try-w-1", keep_data=True)
    assert list(real.provider.list()) == []
    assert real.run(machine, f"ls {machine.root}").split() == ["data"]
    machine = real.provider.create(_spec())
    assert real.run(machine, f"cat {machine.root}/data/file") == "kept\n"


def test_shell_enters_the_machine(real: Case) -> None:
    machine = real.provider.create(_spec())
    assert isinstance(real.provider, HasShell)
    command = real.provider.shell("try-w-1", ["sh", "-c", "pwd; echo $0 'a b'"])
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [machine.root, "sh a b"]


def test_no_room_is_an_error_of_our_tree(case: Case) -> None:
    """A host too many (ssh), a machine too many (sim), a port that is taken at every address tried (local)."""
    errors = []
    with ExitStack() as held:
        for address in islice(candidates(case.state), 40) if case.state else ():
            with suppress(OSError):  # another site on this host has it
                held.enter_context(socket.create_server((address, 6881)))
        for number in range(1, 5):
            try:
                case.provider.create(_spec(number))
            except GridError as error:
                errors.append(error.message)
    assert errors
    assert all("6881" in text or "free host" in text or "quota of 3 machines" in text for text in errors)
