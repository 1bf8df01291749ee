"""How long a person waits: the site's start, a small job, a production. Figures of issue 2.

    python tests/benchmarks/turnaround.py

Works in a temporary directory; nothing is left of it. The exit code is 1 when a goal is missed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.e2e.grid import PRODUCTION, Grid, echo_turnarounds, leaving_nothing  # noqa: E402

EVENTS, PARTS = 500, 4  # as production.jdl has them


def timed(act: Callable[[], object]) -> float:
    """Seconds that ``act`` takes."""
    begun = time.monotonic()
    act()
    return time.monotonic() - begun


def figure(name: str, value: float, unit: str, limit: float) -> bool:
    """Print a figure; whether it is within its limit."""
    print(f"figure {name} {value:.3g} {unit} goal <= {limit:g}", flush=True)
    return value <= limit


def publish(grid: Grid) -> None:
    """PYTHIA is packed and published, its scripts are in the catalogue."""
    release = grid.cache / "PYTHIA-8.317"
    command = [sys.executable, str(PRODUCTION / "build_release.py"), str(release)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    grid.run("software", "publish", "alice.example.org", "PYTHIA", "8.317", release)
    grid.put_production()


def produce(grid: Grid) -> None:
    """The shipped production, to its end."""
    done = grid.finished(grid.produce(1, PARTS, EVENTS), 600)
    if done["state"] != "DONE":
        raise SystemExit(f"the production is {done['state']}: {done['reason']}")


def main() -> int:
    """Measure all on one site; its start includes making the agent file."""
    good = []
    with tempfile.TemporaryDirectory(prefix="turnaround.") as folder:
        grid = Grid.of(Path(folder) / "site", Path("one-box.yaml"), Path(folder) / "cache")
        with leaving_nothing(grid):
            good.append(figure("up_from_nothing", timed(lambda: grid.run("up")), "s", 60))
            again = [timed(lambda: grid.run("up")) for _ in range(3)]
            good.append(figure("up_with_nothing_to_do", statistics.median(again), "s", 2))
            grid.hello()
            echoes = echo_turnarounds(grid, 20)
            good.append(figure("echo_turnaround_median", statistics.median(echoes), "s", 0.5))
            good.append(figure("echo_turnaround_slowest", max(echoes), "s", 2))
            good.append(figure("publish_pythia", timed(lambda: publish(grid)), "s", 30))
            good.append(figure("production", timed(lambda: produce(grid)), "s", 120))
            (agent,) = (grid.machine("vobox").root / "data/www/agent").iterdir()
            good.append(figure("agent_file", agent.stat().st_size / 1e6, "MB", 30))
            good.append(figure("down", timed(grid.down), "s", 10))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
