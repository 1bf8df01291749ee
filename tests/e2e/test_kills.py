"""SIGKILL to every process of the grid while it works: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.e2e import traces
from tests.e2e.conftest import EVENTS
from tests.e2e.grid import Grid, wait_for

PARTS = 8
CENTRAL = ("central", "broker", "optimizer")
VOBOX = ("clustermonitor", "ce", "packman", "se", "web", "seeder")
# What is in the command line of each program's process, and of no other.
PROGRAMS = {
    **{name: f"orchestrator.wiring.central {name} --root" for name in CENTRAL},
    **{name: f"orchestrator.wiring.vobox {name} --" for name in VOBOX},
    "postgres": "/bin/postgres -D",
}


class Victims:
    """The processes of one site, found anew at each look."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def pids(self, text: str) -> set[int]:
        """Processes with that text in their command line."""
        return {pid for pid, command in traces.processes(self.grid.directory).items() if text in command}

    def chain(self) -> list[int]:
        """A payload that runs, and the processes above it that belong to its agent; empty when none runs."""
        commands = traces.processes(self.grid.directory)
        for pid, command in commands.items():
            found = [pid]
            while "generate.py" in command and traces.parent(found[-1]) in commands:
                found.append(traces.parent(found[-1]))
            # payload, guard, agent (the guard is its fork, with the same command line), its slot
            if len(found) >= 3 and "agent.json" in commands[found[1]] and "agent.json" in commands[found[2]]:
                return found
        return []

    def kill(self, name: str) -> None:
        """SIGKILL to a program; it has come back under its supervisor."""
        (old,) = self.pids(PROGRAMS[name])
        os.kill(old, signal.SIGKILL)
        wait_for(f"{name} runs again", 20, lambda: self.pids(PROGRAMS[name]) - {old})

    def kill_supervisor(self, group: str, child: str) -> None:
        """SIGKILL to a machine's supervisor; a program of the machine lives on."""
        root = self.grid.machine(group).root
        (old,) = self.pids(f"supervisor.supervisord -c {root}/")
        before = self.pids(PROGRAMS[child])
        os.kill(old, signal.SIGKILL)
        wait_for("the supervisor is gone", 5, lambda: not self.pids(f"supervisor.supervisord -c {root}/"))
        assert self.pids(PROGRAMS[child]) == before != set()


def test_a_production_survives_the_death_of_every_process(
    pythia: Grid, direct: Callable[[int], bytes]
) -> None:
    victims, begun = Victims(pythia), time.monotonic()
    master = pythia.produce(201, PARTS, EVENTS)
    _, _, agent, *_ = wait_for("a part runs", 60, victims.chain)
    os.kill(agent, signal.SIGKILL)
    killed = ["agent"]
    for name in ("central", "broker", "optimizer", "postgres", "clustermonitor", "ce", "seeder"):
        victims.kill(name)
        killed.append(name)
    _, guard, *_ = wait_for("a part runs", 60, victims.chain)
    os.kill(guard, signal.SIGKILL)
    for name in ("packman", "web", "se"):
        victims.kill(name)
        killed.append(name)
    victims.kill_supervisor("vobox", "clustermonitor")
    victims.kill_supervisor("central", "postgres")
    assert pythia.job(master)["state"] == "SPLIT", "the production was over before all were killed"
    print(f"killed {', '.join(killed)}, a guard and two supervisors in {time.monotonic() - begun:.1f} s")

    done = pythia.finished(master, 180)
    print(f"the production was over after {time.monotonic() - begun:.1f} s")
    assert done["state"] == "DONE", done["reason"]
    parts = pythia.parts(master)
    assert [part["state"] for part in parts] == ["DONE"] * (PARTS + 1)  # with the merge job
    assert max(part["attempt"] for part in parts) > 1
    folders = [*(f"{number:03}" for number in range(1, PARTS + 1)), "merged"]
    names = {folder: {"stdout", "stderr", "histograms.json"} for folder in folders}
    names["merged"] = {"merged.json"}
    listed = pythia.run("file", "find", "/alice/sim/pythia/run201").split()
    assert sorted(listed) == sorted(
        f"/alice/sim/pythia/run201/{folder}/{name}" for folder in folders for name in names[folder]
    )
    assert pythia.merged(201) == direct(PARTS)

    said = pythia.run("up")  # the supervisors are found dead, and everything stands again
    print(said)
    assert "nothing to do" not in said
    assert "nothing to do" in pythia.run("up")
    for name, text in PROGRAMS.items():
        assert len(victims.pids(text)) == 1, name
    assert len(victims.pids("supervisor.supervisord")) == 2
    pythia.hello("again")


def test_a_killed_agents_job_waits_again_and_ends_on_its_second_attempt(one_box: Grid) -> None:
    number = one_box.submit('Executable = "/bin/sleep";\nArguments = "6.54321";\n')
    payload = wait_for("it runs", 30, lambda: _sleeping(one_box))
    guard = traces.parent(payload)
    os.kill(traces.parent(guard), signal.SIGKILL)
    wait_for("nothing of the payload is left", 5, lambda: _sleeping(one_box) != payload)
    done = one_box.finished(number, 90)
    assert (done["state"], done["attempt"]) == ("DONE", 2), done["reason"]
    states = [event["new"] for event in done["events"]]
    for state in ("ZOMBIE", "EXPIRED"):
        assert states.count(state) == 1
    assert states.count("WAITING") == 2


def _sleeping(grid: Grid) -> int:
    found = [
        pid for pid, text in traces.processes(grid.directory).items() if text.strip() == "/bin/sleep 6.54321"
    ]
    return found[0] if found else 0


@pytest.mark.parametrize("group", ["central", "vobox"])
def test_up_mends_a_machine_whose_every_process_was_killed(one_box: Grid, group: str) -> None:
    machine = one_box.machine(group)
    for pid in traces.processes(machine.root):
        os.kill(pid, signal.SIGKILL)
    wait_for("all are gone", 5, lambda: not traces.processes(machine.root))
    said = one_box.run("up")
    assert machine.name in said
    assert "nothing to do" in one_box.run("up")
    one_box.hello(group)
