"""The suite of the provider port: what its docstring promises, for every provider.

A provider joins with one class in a file of its own tier: a subclass with the fixture ``case`` (or ``real``,
where scripts can be run on machines) that yields ``cleared(Case(…))``.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from orchestrator.errors import GridError, PermanentError
from orchestrator.providers.base import (
    HasConsole,
    HasObjects,
    HasShell,
    Machine,
    MachineSpec,
    MachineState,
    Provider,
    bare,
)
from orchestrator.runtime.clock import SystemClock, Timeline, each
from orchestrator.runtime.virtual import VirtualClock
from orchestrator.site.schema import Site

_SITE = {"vo": "alice", "site": "try", "groups": {"central": {"role": "central"}, "w": {"role": "worker"}}}

_WANTED = MachineSpec("", "w", "worker", tags={"orchestrate-site": "try"})


def site_with(kind: str, **settings: Any) -> Site:
    """The site ``try`` of the VO ``alice``, whose provider ``p`` is of that kind."""
    return Site.model_validate(_SITE | {"providers": {"p": {"kind": kind, **settings}}})


def _nowhere(machine: Machine, script: str) -> str:
    raise AssertionError("no script can be run on these machines")


@dataclass
class Case:
    """A provider, another instance of it (a later run), a way to run a script on a machine, and its time."""

    provider: Provider
    again: Callable[[], Provider]
    full: str  # part of the message of the error that there is no room for a fourth machine
    run: Callable[[Machine, str], str] = _nowhere
    clock: Timeline = field(default_factory=SystemClock)
    crowded: Callable[[], AbstractContextManager[object]] = nullcontext  # inside there is no room at all
    wanted: MachineSpec = _WANTED  # every machine, but for its name

    def spec(self, number: int = 1, **more: str) -> MachineSpec:
        """What is asked for by the name ``try-w-<number>``."""
        return replace(self.wanted, name=f"try-w-{number}", **more)

    def state(self, name: str) -> MachineState | None:
        """As it is listed; None when it is not."""
        return next((machine.state for machine in self.provider.list() if machine.name == name), None)

    def until(self, condition: Callable[[], bool], seconds: float = 20.0, pause: float = 0.05) -> None:
        """The condition is true; AssertionError after so many seconds."""
        deadline = self.clock.monotonic() + seconds
        while not condition():
            assert self.clock.monotonic() < deadline, "the condition did not come true"
            self.clock.sleep(pause)

    def runs(self, name: str) -> None:
        """The machine runs, and is listed so (an hour of a simulated cloud costs nothing)."""
        patience, pause = (3600.0, 5.0) if isinstance(self.clock, VirtualClock) else (20.0, 0.05)
        self.until(lambda: self.state(name) is MachineState.RUNNING, patience, pause)

    def empty(self) -> bool:
        """Nothing is listed, by now or within the minute that a cloud's list may lag behind; and nothing
        that was made for a machine is left."""
        if isinstance(self.clock, VirtualClock):
            self.clock.sleep(60)
        adapter = bare(self.again())
        left = adapter.objects() if isinstance(adapter, HasObjects) else ()
        return list(self.again().list()) == [] and not any(thing.machine for thing in left)


def cleared(made: Case) -> Iterator[Case]:
    """For a fixture: the case, and afterwards no machine is left."""
    try:
        yield made
    finally:
        made.empty()  # by now everything is listed
        for machine in made.again().list():
            made.again().destroy(machine.name)
    assert made.empty()


def _said(shown: HasConsole, name: str) -> str:
    try:
        return shown.console(name)
    except GridError:
        return ""


class AnyProvider:
    """What holds for every provider; wants the fixture ``case``."""

    def test_nothing_exists_at_first(self, case: Case) -> None:
        assert list(case.provider.list()) == []

    def test_created_machine_is_listed_with_what_was_asked(self, case: Case) -> None:
        made = case.provider.create(case.spec())
        case.runs("try-w-1")
        (seen,) = case.again().list()
        assert (seen.name, seen.group, seen.role, seen.provider) == ("try-w-1", "w", "worker", "p")
        assert seen.tags["orchestrate-site"] == "try"
        assert (seen.address, seen.root) == (made.address or seen.address, made.root)
        assert seen.address

    def test_create_is_idempotent_by_name(self, case: Case) -> None:
        first = case.provider.create(case.spec())
        second = case.again().create(case.spec())
        assert (first.address, first.root) == (second.address, second.root)
        case.runs("try-w-1")
        assert len(case.provider.list()) == 1

    def test_name_of_another_role_is_refused(self, case: Case) -> None:
        case.provider.create(case.spec())
        with pytest.raises(PermanentError, match="try-w-1"):
            case.provider.create(case.spec(group="central", role="central"))

    def test_machines_made_at_the_same_time_are_distinct(self, case: Case) -> None:
        made = each(case.clock, [case.spec(number) for number in (1, 2, 3)], case.provider.create, 3)
        for machine in made:
            case.runs(machine.name)
        seen = case.again().list()
        assert {machine.name for machine in seen} == {"try-w-1", "try-w-2", "try-w-3"}
        assert len({machine.address for machine in seen}) == 3

    def test_destroy_of_what_is_gone_is_silent(self, case: Case) -> None:
        case.provider.create(case.spec())
        case.provider.destroy("try-w-1")
        case.provider.destroy("try-w-1")
        case.again().destroy("try-never-1")
        assert case.empty()

    def test_a_destroyed_name_can_be_used_again(self, case: Case) -> None:
        case.provider.create(case.spec())
        case.runs("try-w-1")
        case.provider.destroy("try-w-1")
        case.provider.create(case.spec(group="central", role="central"))
        case.runs("try-w-1")
        assert [machine.role for machine in case.provider.list()] == ["central"]

    def test_what_a_machine_printed_can_be_seen(self, case: Case) -> None:
        case.provider.create(case.spec())
        case.runs("try-w-1")
        shown = getattr(case.provider, "inner", case.provider)
        assert isinstance(shown, HasConsole)
        case.until(lambda: _said(shown, "try-w-1") != "", 60.0)

    def test_no_room_is_an_error_of_our_tree(self, case: Case) -> None:
        """``case`` has room for three machines, or none where ``crowded``."""
        errors = []
        with case.crowded():
            for number in range(1, 5):
                try:
                    case.provider.create(case.spec(number))
                except GridError as error:
                    errors.append(error.message)
        assert errors
        assert all(case.full in text for text in errors)


class MachinesWithShell:
    """What holds where a script can be run on a machine; wants the fixture ``real``."""

    def test_machine_knows_who_it_is(self, real: Case) -> None:
        made = real.provider.create(real.spec())
        record = json.loads(real.run(made, f"cat {made.root}/machine.json"))
        assert (record["name"], record["address"]) == ("try-w-1", made.address)

    def test_user_data_runs_once_and_is_deleted(self, real: Case) -> None:
        script = 'echo "$ORCHESTRATE_ADDRESS" >>"$ORCHESTRATE_ROOT/data/ran"\necho secret >/dev/null\n'
        machine = real.provider.create(real.spec(user_data=script))
        real.until(lambda: real.state("try-w-1") is MachineState.RUNNING)
        real.again().create(real.spec(user_data=script))
        assert real.state("try-w-1") is MachineState.RUNNING
        assert real.run(machine, f"cat {machine.root}/data/ran") == f"{machine.address}\n"
        assert real.run(machine, f"grep -rl secret {machine.root} || true") == ""

    def test_failing_user_data_is_tried_again_and_shown(self, real: Case) -> None:
        script = 'echo trouble ahead; [ -f "$ORCHESTRATE_ROOT/data/mended" ]\n'
        machine = real.provider.create(real.spec(user_data=script))
        assert isinstance(real.provider, HasConsole)
        console = real.provider.console
        real.until(lambda: "trouble ahead" in console("try-w-1"))
        assert real.state("try-w-1") is MachineState.BOOTING
        mode = real.run(machine, f"stat -c %a {machine.root}/etc/context").strip()
        assert mode == "600"
        real.run(machine, f"touch {machine.root}/data/mended")
        real.until(lambda: real.state("try-w-1") is MachineState.RUNNING)

    def test_drift_of_managed_files_is_seen(self, real: Case) -> None:
        machine = real.provider.create(real.spec())
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

    def test_destroy_leaves_nothing(self, real: Case) -> None:
        script = "ORCHESTRATE_LEFT=1 setsid sleep 1000 >/dev/null 2>&1 </dev/null &\n"
        machine = real.provider.create(real.spec(user_data=script))
        real.until(lambda: real.state("try-w-1") is MachineState.RUNNING)
        marked = f"grep -laz 'ORCHESTRATE_MACHINE={machine.root}' /proc/[0-9]*/environ 2>/dev/null | wc -l"
        assert int(real.run(machine, marked)) > 0
        real.provider.destroy("try-w-1")
        assert list(real.again().list()) == []
        assert int(real.run(machine, marked)) == 0
        assert real.run(machine, f"ls -d {machine.root} 2>/dev/null || echo none").strip() == "none"

    def test_data_is_kept_when_asked_and_found_again(self, real: Case) -> None:
        machine = real.provider.create(real.spec())
        real.run(machine, f"echo kept >{machine.root}/data/file; echo x >{machine.root}/log/file")
        real.provider.destroy("try-w-1", keep_data=True)
        assert list(real.provider.list()) == []
        assert real.run(machine, f"ls {machine.root}").split() == ["data"]
        machine = real.provider.create(real.spec())
        assert real.run(machine, f"cat {machine.root}/data/file") == "kept\n"

    def test_shell_enters_the_machine(self, real: Case) -> None:
        machine = real.provider.create(real.spec())
        assert isinstance(real.provider, HasShell)
        command = real.provider.shell("try-w-1", ["sh", "-c", "pwd; echo $0 'a b'"])
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert said.splitlines() == [machine.root, "sh a b"]
