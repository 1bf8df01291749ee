"""One suite for every provider: what the port's docstring promises, on real machines."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.errors import GridError, PermanentError
from orchestrator.providers import local, ssh
from orchestrator.providers.base import HasConsole, HasShell, Machine, MachineSpec, MachineState, Provider
from orchestrator.site.schema import Site
from tests.lab.hosts import Lab, hosts

_SITE = {"vo": "alice", "site": "try", "groups": {"central": {"role": "central"}, "w": {"role": "worker"}}}


@dataclass
class Case:
    """A provider, another instance of it (a later run), and a way to run a script on a machine."""

    provider: Provider
    again: Callable[[], Provider]
    run: Callable[[Machine, str], str]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with hosts(3, tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture(params=["local", "ssh"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    state = tmp_path / "state"
    if request.param == "local":
        site = Site.model_validate(_SITE | {"providers": {"p": {"kind": "local"}}})
        made = Case(
            local.make("p", site.providers["p"], site, state),
            lambda: local.make("p", site.providers["p"], site, state),
            lambda machine, script: os.popen(f"ORCHESTRATE_ROOT={machine.root}; {script}").read(),
        )
    else:
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
    yield made
    for machine in made.again().list():
        made.again().destroy(machine.name)


def _spec(number: int = 1, **more: str) -> MachineSpec:
    return MachineSpec(f"try-w-{number}", "w", "worker", tags={"orchestrate-site": "try"}, **more)


def _until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)


def _state(provider: Provider, name: str) -> MachineState | None:
    return next((machine.state for machine in provider.list() if machine.name == name), None)


def test_nothing_exists_at_first(case: Case) -> None:
    assert list(case.provider.list()) == []


def test_created_machine_is_listed_with_what_was_asked(case: Case) -> None:
    made = case.provider.create(_spec())
    (seen,) = case.again().list()
    assert (seen.name, seen.group, seen.role, seen.provider) == ("try-w-1", "w", "worker", "p")
    assert seen.tags["orchestrate-site"] == "try"
    assert seen.state is MachineState.RUNNING
    assert (seen.address, seen.root) == (made.address, made.root)
    assert seen.address
    record = json.loads(case.run(seen, f"cat {seen.root}/machine.json"))
    assert record["name"] == "try-w-1"
    assert record["address"] == seen.address


def test_create_is_idempotent_by_name(case: Case) -> None:
    first = case.provider.create(_spec())
    second = case.again().create(_spec())
    assert (first.address, first.root) == (second.address, second.root)
    assert len(case.provider.list()) == 1


def test_name_of_another_role_is_refused(case: Case) -> None:
    case.provider.create(_spec())
    with pytest.raises(PermanentError, match="try-w-1"):
        case.provider.create(MachineSpec("try-w-1", "central", "central"))


def test_machines_made_at_the_same_time_are_distinct(case: Case) -> None:
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(case.provider.create, [_spec(number) for number in (1, 2, 3)]))
    assert len({machine.address for machine in made}) == 3
    assert {machine.name for machine in case.again().list()} == {"try-w-1", "try-w-2", "try-w-3"}


def test_user_data_runs_once_and_is_deleted(case: Case) -> None:
    script = 'echo "$ORCHESTRATE_ADDRESS" >>"$ORCHESTRATE_ROOT/data/ran"\necho secret >/dev/null\n'
    machine = case.provider.create(_spec(user_data=script))
    _until(lambda: _state(case.provider, "try-w-1") is MachineState.RUNNING)
    case.again().create(_spec(user_data=script))
    assert _state(case.provider, "try-w-1") is MachineState.RUNNING
    assert case.run(machine, f"cat {machine.root}/data/ran") == f"{machine.address}\n"
    assert case.run(machine, f"grep -rl secret {machine.root} || true") == ""


def test_failing_user_data_is_tried_again_and_shown(case: Case) -> None:
    script = 'echo trouble ahead; [ -f "$ORCHESTRATE_ROOT/data/mended" ]\n'
    machine = case.provider.create(_spec(user_data=script))
    assert isinstance(case.provider, HasConsole)
    console = case.provider.console
    _until(lambda: "trouble ahead" in console("try-w-1"))
    assert _state(case.provider, "try-w-1") is MachineState.BOOTING
    mode = case.run(machine, f"stat -c %a {machine.root}/etc/context").strip()
    assert mode == "600"
    case.run(machine, f"touch {machine.root}/data/mended")
    _until(lambda: _state(case.provider, "try-w-1") is MachineState.RUNNING)


def test_drift_of_managed_files_is_seen(case: Case) -> None:
    machine = case.provider.create(_spec())
    assert machine.applied == ""
    assert machine.drift == ()
    case.run(
        machine,
        f"cd {machine.root} && echo a >etc/one && echo b >etc/two && "
        'printf \'{"digest": "d1", "files": {"etc/one": "%s", "etc/two": "%s"}}\' '
        "$(sha256sum <etc/one | cut -c1-64) $(sha256sum <etc/two | cut -c1-64) >etc/applied.json",
    )
    (seen,) = case.provider.list()
    assert (seen.applied, tuple(seen.drift)) == ("d1", ())
    case.run(machine, f"cd {machine.root} && echo edited >etc/one && rm etc/two")
    (seen,) = case.provider.list()
    assert (seen.applied, tuple(seen.drift)) == ("", ("etc/one", "etc/two"))


def test_destroy_leaves_nothing(case: Case) -> None:
    script = "ORCHESTRATE_LEFT=1 setsid sleep 1000 >/dev/null 2>&1 </dev/null &\n"
    machine = case.provider.create(_spec(user_data=script))
    _until(lambda: _state(case.provider, "try-w-1") is MachineState.RUNNING)
    marked = f"grep -laz 'ORCHESTRATE_MACHINE={machine.root}' /proc/[0-9]*/environ 2>/dev/null | wc -l"
    assert int(case.run(machine, marked)) > 0
    case.provider.destroy("try-w-1")
    assert list(case.again().list()) == []
    assert int(case.run(machine, marked)) == 0
    assert case.run(machine, f"ls -d {machine.root} 2>/dev/null || echo none").strip() == "none"


def test_destroy_of_what_is_gone_is_silent(case: Case) -> None:
    case.provider.create(_spec())
    case.provider.destroy("try-w-1")
    case.provider.destroy("try-w-1")
    case.again().destroy("try-never-1")
    assert list(case.provider.list()) == []


def test_data_is_kept_when_asked_and_found_again(case: Case) -> None:
    machine = case.provider.create(_spec())
    case.run(machine, f"echo kept >{machine.root}/data/file; echo x >{machine.root}/log/file")
    case.provider.destroy("try-w-1", keep_data=True)
    assert list(case.provider.list()) == []
    assert case.run(machine, f"ls {machine.root}").split() == ["data"]
    machine = case.provider.create(_spec())
    assert case.run(machine, f"cat {machine.root}/data/file") == "kept\n"


def test_shell_enters_the_machine(case: Case) -> None:
    machine = case.provider.create(_spec())
    assert isinstance(case.provider, HasShell)
    command = case.provider.shell("try-w-1", ["sh", "-c", "pwd; echo $0 'a b'"])
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [machine.root, "sh a b"]


def test_no_room_is_an_error_of_our_tree(case: Case) -> None:
    """A host too many (ssh); a port that a server on 0.0.0.0 holds (local)."""
    errors = []
    with socket.create_server(("0.0.0.0", 6881)):
        for number in range(1, 5):
            try:
                case.provider.create(_spec(number))
            except GridError as error:
                errors.append(error.message)
    assert errors
    assert all("6881" in message or "free host" in message for message in errors)
