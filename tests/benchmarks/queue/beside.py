"""Claims beside what others would pick: procrastinate and pgqueuer (claims alone, no matching), and a scan with ClassAds.

    python tests/benchmarks/queue/beside.py [--seconds 4]

All in one run on one server, eight clients each, all commits durable. What ours does more: two-sided matching, counts
of classes, events, tokens.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import uvloop

sys.path.insert(0, str(Path(__file__).parent / "lab"))
sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))
import claims
import world
from peers.figures import Figures
from peers.run import cache, environment

from orchestrator.classads import matches
from orchestrator.jobs.requirements import task_ad
from orchestrator.tasks.matching import resource_ad

PINNED = ("procrastinate==3.10.0", "pgqueuer[psycopg]==1.6.0")
JOBS, SCANNED = 60_000, 20_000


def peer(url: str, python: Path, name: str, *arguments: int) -> float:
    """What its script prints, in a database of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name}")
        connection.execute(f"CREATE DATABASE {name}")
    own = url.replace("/grid?", f"/{name}?")
    command = [str(python), str(Path(__file__).parent / f"lab/{name}_claims.py"), own, *map(str, arguments)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)


def scan() -> float:
    """Microseconds an ad when a resource is matched against each waiting job, as a negotiator without classes would."""
    ads = [task_ad(world.jdl(number), "ada", "") for number in range(SCANNED)]
    resource = resource_ad(world.ad(1), world.SITE)
    begin = time.perf_counter()
    found = sum(matches(each, resource) for each in ads)
    assert 0 < found < SCANNED
    return (time.perf_counter() - begin) / SCANNED * 1e6


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    seconds = parser.parse_args().seconds
    figure, python = Figures(), environment(cache(), "queue-peers", PINNED) / "python"
    with world.server() as url:
        uvloop.run(world.tables(url))
        world.fill(url, 100_000, claims.CLASSES)
        ours = uvloop.run(claims.in_process(url, seconds))
        figure("claims_ours", ours, "tasks/s")
        world.fill(url, 1_000_000, claims.CLASSES)
        bulk = uvloop.run(claims.in_process(url, seconds, 64))
        figure("claims_ours_by_64", bulk, "tasks/s")
        others = {
            "procrastinate": peer(url, python, "procrastinate", seconds, claims.CLIENTS, JOBS),
            "pgqueuer": peer(url, python, "pgqueuer", seconds, claims.CLIENTS, JOBS, 1),
        }
        batched = peer(url, python, "pgqueuer", seconds, claims.CLIENTS, 10 * JOBS, 100)
        for name, rate in others.items():
            figure(f"claims_{name}", rate, "tasks/s")
            figure(f"claims_ours_to_{name}", ours / rate, "ratio")
        figure("claims_pgqueuer_by_100", batched, "tasks/s")
        figure("claims_ours_by_64_to_pgqueuer_by_100", bulk / batched, "ratio")
        cost = scan()
        figure("scan_with_classads", cost, "us an ad")
        figure(
            "claims_ours_to_scan_of_100000", ours * cost * 0.1, "ratio"
        )  # 10⁵ ads of ``cost`` µs take 0.1 cost s
    return figure.end()


if __name__ == "__main__":
    sys.exit(main())
