"""20 ssh hosts brought up by `orchestrate up`, by raw `ansible-playbook` and by pyinfra, on the same work.

    python tests/benchmarks/deploy/hosts.py [workers] [pets]

A host is a set of namespaces with an overlay root and a real sshd (tests/lab/hosts.py). Each tool gets fresh
ones of its own, one tool after the other, and one extra host with the central services, which are up before
the clock starts and count for nobody. Of the 20 hosts one becomes the site's VO box, 19 become workers.

The same state, compared on every host after each tool's first run (``same``):

- VO box: the runtime (one archive of 30 MB) unpacked, certificates and keys, configuration, the supervisor and
  its programs' files, the agent file in the public web folder; its services run and answer.
- worker: the folders, the VO's CA, its record, the agent file (18 MB, fetched from the VO box, checked by its
  SHA-256), its configuration with a token of its own; its agent's loop runs, and it asked central for work.

What is rendered, signed or built is handed to the peers ready-made (peers/handed.py): they only deliver. Our own
book-keeping (applied.json, context.done) is asked of no peer, and the peers' script that starts the agent not
of us. A first run ends when central has heard of 19 workers' agents: `up` waits for that by itself. A second
run has nothing to do; connections that a tool keeps by itself are warm then, the figures `cold` are without
them. Then one host more. Last, 20 hosts become VO boxes: our Ansible run beside the raw playbook.

Everything is in a temporary directory (in memory where that has room) but the peers' programs, which stay in the cache (ORCHESTRATE_CACHE, else
~/.cache/orchestrate-bench). The exit code is 1 when a goal is missed.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from peers import run  # noqa: E402
from peers.farm import Farm, farm  # noqa: E402
from peers.figures import Figures  # noqa: E402
from peers.handed import handed  # noqa: E402
from peers.same import State, compare, state_of  # noqa: E402

from tests.e2e.grid import wait_for  # noqa: E402

HOSTS = 20
ROOM = 12 * 2**30  # bytes that the hosts' files take at most, with what the tools keep
PATIENCE = 180.0  # seconds until all hosts do their work
PEERS: Mapping[str, Callable[..., None]] = {"ansible": run.ansible, "pyinfra": run.pyinfra}
Seconds = dict[str, float]


def disk() -> str | None:
    """Where the hosts' roots are: in memory where that has room, since hosts that share one disk wait for each other
    at it, which real ones do not."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > ROOM else None


def timed(figure: Figures, name: str, act: Callable[[], object]) -> float:
    """Seconds that ``act`` took, told with the load of this machine at its end."""
    begun = time.monotonic()
    act()
    seconds = time.monotonic() - begun
    figure(name, seconds, "s")
    print(f"# load {os.getloadavg()[0]:.1f}", flush=True)
    return seconds


def tool_of(name: str, lab: Farm, voboxes: int, workers: int) -> Callable[[], object]:
    """The run of that tool over the hosts of ``lab``; whatever is handed to it is made now."""
    lab.site(voboxes, workers)
    if name == "ours":
        return lab.up
    groups = handed(lab, lab.folder / "handed", voboxes, workers)
    folder = lab.folder / "work"
    folder.mkdir()
    return lambda: PEERS[name](run.programs(), folder, lab.key, groups)


def workers(figure: Figures, name: str) -> tuple[Seconds, list[State]]:
    """One VO box and 19 workers by that tool: its seconds, and what it left on each host."""
    with (
        tempfile.TemporaryDirectory(prefix="hosts.", dir=disk()) as folder,
        farm(Path(folder), run.cache(), 21) as lab,
    ):
        act = tool_of(name, lab, 1, HOSTS - 1)
        with lab.line() as agents:
            agents()

            def first() -> None:
                act()
                wait_for("all workers", PATIENCE, lambda: agents() >= HOSTS - 1)

            found = {"first": timed(figure, f"hosts_first_{name}", first)}
        left = [state_of(lab.hosts[number]) for number in range(1, HOSTS + 1)]
        found["no_op"] = timed(figure, f"hosts_no_op_{name}", act)
        lab.forget_connections()
        found["cold"] = timed(figure, f"hosts_no_op_cold_{name}", act)
        if name == "ours":
            lab.site(1, HOSTS)
            found["one_more"] = timed(figure, "hosts_one_more_ours", act)
            with lab.line() as agents:
                figure("hosts_one_more_missing", HOSTS - agents(), "hosts", 0)
        return found, left


def pets(figure: Figures, name: str) -> tuple[Seconds, list[State]]:
    """20 VO boxes by that tool."""
    with (
        tempfile.TemporaryDirectory(prefix="hosts.", dir=disk()) as folder,
        farm(Path(folder), run.cache(), 20) as lab,
    ):
        act = tool_of(name, lab, HOSTS, 0)
        found = {"first": timed(figure, f"pets_first_{name}", act)}
        left = [state_of(lab.hosts[number]) for number in range(1, HOSTS + 1)]
        return found, left


def main() -> int:
    """0 when all goals are met."""
    figure, parts = Figures(), sys.argv[1:] or ["workers", "pets"]
    run.prepare()
    if "workers" in parts:
        told = {name: workers(figure, name) for name in ("ours", *PEERS)}
        seconds = {name: each for name, (each, _) in told.items()}
        for name in PEERS:
            figure(f"hosts_state_differs_{name}", compare(told["ours"][1], told[name][1]), "hosts", 0)
        mine, ansible, pyinfra = (seconds[name] for name in ("ours", "ansible", "pyinfra"))
        figure("hosts_first_to_ansible", mine["first"] / ansible["first"], "ratio", 0.15)
        figure("hosts_first_to_pyinfra", mine["first"] / pyinfra["first"], "ratio", 1.2)
        figure("hosts_no_op_to_pyinfra", mine["no_op"] / pyinfra["no_op"], "ratio", 0.25)
        figure("hosts_no_op_cold_to_pyinfra", mine["cold"] / pyinfra["cold"], "ratio")
        figure("hosts_one_more_to_pyinfra_no_op", mine["one_more"] / pyinfra["no_op"], "ratio", 0.3)
    if "pets" in parts:
        (mine, mine_left), (raw, raw_left) = (pets(figure, name) for name in ("ours", "ansible"))
        figure("pets_state_differs", compare(mine_left, raw_left), "hosts", 0)
        figure("pets_first_to_ansible", mine["first"] / raw["first"], "ratio", 1.1)
    return figure.end()


if __name__ == "__main__":
    sys.exit(main())
