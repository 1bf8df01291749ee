"""Claims beside what others would pick: procrastinate and pgqueuer (claims alone, no matching), a scan with ClassAds,
and DIRAC's TaskQueueDB, which matches too, on MariaDB.

    python tests/benchmarks/queue/beside.py [--seconds 4]

All in one run on one host, all commits durable; eight clients each on one PostgreSQL, DIRAC by one process and by four.
What ours does more than the first two: two-sided matching, counts of classes, events, tokens. DIRAC has a queue for each
of our classes, the same numbers of jobs, and is called as ours is, without a service around it; it installs MariaDB.
The token of a job, half of what a broker does in bulk, stands beside the library that verifies it and OpenSSL.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import uvloop
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.jwk import ECKey

sys.path.insert(0, str(Path(__file__).parent / "lab"))
sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))
sys.path.insert(0, str(Path(__file__).parents[3]))
import claims
import mariadb
import world
from peers.figures import Figures
from peers.run import cache, environment

from orchestrator.auth.model import job_claims
from orchestrator.classads import matches
from orchestrator.jobs.requirements import task_ad
from orchestrator.runtime.security import new_token_key
from orchestrator.runtime.signing import TokenSigner
from orchestrator.tasks.matching import resource_ad

PINNED = ("procrastinate==3.10.0", "pgqueuer[psycopg]==1.6.0")
DIRAC = Path(__file__).parent / "lab/dirac.txt"
JOBS, SCANNED, SIGNED = 60_000, 20_000, 2_000
WAITING = (10_000, 1_000_000)  # beside DIRAC


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


def tokens(figure: Figures) -> None:
    """Microseconds of a job's token, in turn: ours, the one that joserfc makes, and the bare signature of OpenSSL."""
    key, told = new_token_key(), job_claims(1, 1, "ada", world.SITE)
    signer, loaded = TokenSigner(world.VO, key), ECKey.import_key(key)
    private = ec.generate_private_key(ec.SECP256R1())
    ways: dict[str, Callable[[], object]] = {
        "token_ours": lambda: signer.sign(told, 1e9, 3600),
        "token_by_joserfc": lambda: jwt.encode({"alg": "ES256"}, told, loaded),
        "signature_by_openssl": lambda: private.sign(bytes(300), ec.ECDSA(hashes.SHA256())),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(claims.LAPS):
        for name, way in ways.items():
            begin = time.perf_counter()
            for _ in range(SIGNED):
                way()
            took[name].append((time.perf_counter() - begin) / SIGNED * 1e6)
    for name, each in took.items():
        figure(name, statistics.median(each), "us")
    for name in [*ways][1:]:
        ratio = statistics.median(b / a for a, b in zip(took["token_ours"], took[name], strict=True))
        figure(f"{name}_to_ours", ratio, "ratio")


def dirac(python: Path, server: Path, *numbers: int) -> float:
    """Matches per second of DIRAC's TaskQueueDB for (seconds, processes, queues to make, jobs that wait)."""
    script = Path(__file__).parent / "lab/dirac_claims.py"
    command = [str(python), str(script), str(server), *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise SystemExit(f"DIRAC: {(done.stdout + done.stderr)[-2000:]}")
    return float(done.stdout.splitlines()[-1])


def queues(url: str, python: Path, seconds: int, figure: Figures) -> None:
    """One by one and in bulk beside the two job queues on PostgreSQL."""
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
    # 10⁵ ads of ``cost`` µs take 0.1 cost s
    figure("claims_ours_to_scan_of_100000", ours * cost * 0.1, "ratio")


def matchers(url: str, seconds: int, figure: Figures) -> None:
    """One by one beside DIRAC, which matches as ours does: in turn, since the machine's speed changes."""
    mariadb.install()
    pinned = [line for line in DIRAC.read_text().splitlines() if not line.startswith("#")]
    python = environment(cache(), "queue-dirac", ("--no-deps", *pinned)) / "python"
    with mariadb.server("TaskQueueDB", "dirac") as server:
        for jobs in WAITING:
            ours, theirs = [], {}
            for processes, made in ((1, claims.CLASSES), (4, 0)):  # the second time its queues are there
                theirs[processes] = dirac(python, server, seconds, processes, made, jobs)
                world.fill(url, jobs, claims.CLASSES)
                ours.append(uvloop.run(claims.in_process(url, seconds, most=claims.LAP)))
                figure(f"claims_dirac_at_{jobs:.0e}_by_{processes}", theirs[processes], "tasks/s")
            figure(f"claims_ours_at_{jobs:.0e}", statistics.mean(ours), "tasks/s")
            figure(
                f"claims_ours_to_dirac_at_{jobs:.0e}", statistics.mean(ours) / max(theirs.values()), "ratio"
            )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("--only", choices=("queues", "matchers"), help="one half of it")
    chosen = parser.parse_args()
    figure = Figures()
    with world.server() as url:
        uvloop.run(world.tables(url))
        if chosen.only != "matchers":
            tokens(figure)
            queues(url, environment(cache(), "queue-peers", PINNED) / "python", chosen.seconds, figure)
        if chosen.only != "queues":
            matchers(url, chosen.seconds, figure)
    return figure.end()


if __name__ == "__main__":
    sys.exit(main())
