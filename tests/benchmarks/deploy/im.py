"""Infrastructure Manager with its Dummy connector beside `orchestrate rehearse` on our simulated cloud.

    python tests/benchmarks/deploy/im.py

Both keep their state on disk, neither has faults: so many machines from nothing, one more, all gone. Ours also
decides, plans, orders, writes an intent before each call and asks for each machine's health; its cloud is a
process of its own whose waits are jumped. IM's connector answers at once, in IM's own process. IM is measured
with 100 and 500 machines, ours with these and with 1,000. It starts no process anew for one more or destroy, and
ours does not either (`rehearse` is one process). The exit code is 1 when a goal is missed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from peers import run  # noqa: E402
from peers.figures import Figures  # noqa: E402
from sim import rehearse  # noqa: E402

COUNTS = (100, 500)
LARGEST = 1000
Seconds = dict[str, float]


def manager(machines: int) -> Seconds:
    """Infrastructure Manager's seconds."""
    python = run.programs() / "python"
    with tempfile.TemporaryDirectory(prefix="im.") as folder:
        command = [str(python), str(Path(run.__file__).with_name("im_manager.py")), str(machines)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)
    if done.returncode != 0:
        raise SystemExit(f"IM with {machines} machines: {(done.stdout + done.stderr)[-2000:]}")
    found: Seconds = json.loads(done.stdout.splitlines()[-1])
    return found


def ours(machines: int) -> Seconds:
    """The seconds of the same on our simulated cloud."""
    seen = rehearse(machines, "0%")
    if seen["ready"] != seen["wanted"] or seen["left"]:
        raise SystemExit(f"rehearse: {seen['ready']} of {seen['wanted']} ready, {seen['left']} left")
    told = {"create": "up", "one_more": "one_more", "destroy": "down"}
    return {name: seen[each]["wall"] for name, each in told.items()}


def main() -> int:
    """0 when all goals are met."""
    figure = Figures()
    for count in (*COUNTS, LARGEST):
        mine = ours(count)
        for name, seconds in mine.items():
            figure(f"im_{count}_{name}_ours", seconds, "s")
        if count in COUNTS:
            other = manager(count)
            for name, seconds in other.items():
                figure(f"im_{count}_{name}_im", seconds, "s")
                figure(f"im_{count}_{name}_ours_to_im", mine[name] / seconds, "ratio")
    # Twice the machines, with all that IM's Dummy leaves out, in no more time.
    figure(f"im_{LARGEST}_create_ours_to_im_{COUNTS[-1]}", mine["create"] / other["create"], "ratio", 1.0)
    return figure.end()


if __name__ == "__main__":
    sys.exit(main())
