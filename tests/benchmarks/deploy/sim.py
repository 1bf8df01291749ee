"""Whole sites on the simulated cloud: what 1,000 and 10,000 machines cost the orchestrator.

Each size is a process of its own (`orchestrate rehearse --json`), with 5 % faults and a virtual clock that
jumps all waits; the goals are those of the deployment core. Prints one `figure` line for each; exits with
1 when a goal is missed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from peers.figures import Figures

SITE = {
    "vo": "bench",
    "providers": {"cloud": {"kind": "sim", "offerings": {"small": {"cores": 2, "price": 0.05}}}},
    "groups": {
        "central": {"role": "central", "provider": "cloud"},
        "vobox": {"role": "vobox", "provider": "cloud", "needs": ["central"]},
        "workers": {
            "role": "worker",
            "provider": "cloud",
            "count": 98,
            "offering": "small",
            "needs": ["vobox"],
        },
    },
}
MEGA = 1e6


def rehearse(machines: int, faults: str) -> dict[str, Any]:
    """What ``orchestrate rehearse`` says of that many machines."""
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "site.yaml"
        spec.write_text(json.dumps(SITE))
        command = [sys.executable, "-m", "orchestrator.cli.main", "rehearse", str(spec), "--json"]
        command += ["--machines", str(machines), "--faults", faults]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        sys.exit(f"rehearse {machines}: {done.stderr}")
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def main() -> int:
    """0 when all goals are met."""
    figure = Figures()
    runs = {}
    for machines, seconds, memory, again in ((1000, 10, 250, 2), (10000, 100, 800, 10)):
        seen = runs[machines] = rehearse(machines, "5%")
        figure(f"sim_{machines}_not_ready", seen["wanted"] - seen["ready"], "machines", 0)
        figure(f"sim_{machines}_left_after_down", seen["left"], "machines", 0)
        figure(f"sim_{machines}_up_wall", seen["up"]["wall"], "s", seconds)
        figure(f"sim_{machines}_up_cpu", seen["up"]["cpu"], "s", seconds)
        figure(f"sim_{machines}_memory", seen["memory"] / MEGA, "MB", memory)
        figure(f"sim_{machines}_no_op_up_wall", seen["again"]["wall"], "s", again)
        figure(f"sim_{machines}_down_wall", seen["down"]["wall"], "s")
        figure(f"sim_{machines}_ready_p50_virtual", seen["p50"], "s")
        figure(f"sim_{machines}_ready_p99_virtual", seen["p99"], "s")
        figure(f"sim_{machines}_ups", seen["ups"], "runs")
    for kind in ("wall", "cpu"):
        per = {machines: seen["up"][kind] / machines for machines, seen in runs.items()}
        figure(f"sim_cost_per_machine_10000_to_1000_{kind}", per[10000] / per[1000], "ratio", 1.3)
    calm = rehearse(10000, "0%")
    figure("sim_10000_without_faults_up_wall", calm["up"]["wall"], "s")
    figure("sim_10000_one_more_calls", calm["one_more_calls"], "calls", 1)
    figure("sim_10000_one_more_wall", calm["one_more"]["wall"], "s")
    return figure.end()


if __name__ == "__main__":
    sys.exit(main())
