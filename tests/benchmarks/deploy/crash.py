"""The whole crash sweep of issue 3: a site of every role on a simulated cloud and on this host, its orchestrator
killed (SIGKILL) before and after every single ledger write of up, scale, a rolling update and down.

    python tests/benchmarks/deploy/crash.py [sim] [local]

Works in a temporary directory; nothing is left of it. The exit code is 1 when a goal is missed.
`local` starts its real services anew for each write of `up` and `down`: it takes about an hour.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from tests.support.crash import Moment  # noqa: E402
from tests.support.crash_sites import LocalSite, SimSite, life  # noqa: E402
from tests.support.crash_sweep import Found, every_write  # noqa: E402

WORKERS = 2
MOMENTS: tuple[Moment, ...] = ("before", "after")
SITES: dict[str, Callable[[Path], SimSite | LocalSite]] = {
    "sim": lambda folder: SimSite(folder / "site", WORKERS),
    "local": lambda folder: LocalSite(folder / "site", WORKERS, folder / "cache", pets=True),
}


def swept(name: str) -> tuple[Found, float]:
    """What every write showed, and the seconds it took."""
    all_of_it, begun = Found(), time.monotonic()
    for moment in MOMENTS:
        with tempfile.TemporaryDirectory() as folder:
            site = SITES[name](Path(folder))
            try:
                found = every_write(site, life(WORKERS, WORKERS + 1), moment)
            finally:
                site.close()
        all_of_it.points += found.points
        all_of_it.troubles += found.troubles
        print(f"{name}, {moment} the commit: {found}", flush=True)
        print("".join(f"  {trouble}\n" for trouble in found.troubles), end="", flush=True)
    return all_of_it, time.monotonic() - begun


def main(names: list[str]) -> int:
    """0 when all goals are met."""
    missed = []
    for name in names:
        found, seconds = swept(name)
        print(f"figure crash_points_{name} {found.points.total()} kills")
        for verb, many in found.points.items():
            print(f"figure crash_points_{name}_{verb} {many} kills")
        print(f"figure crash_sweep_{name} {seconds:.0f} s")
        kinds = Counter(trouble.partition(":")[0] for trouble in found.troubles)
        for kind in ("leaked", "doubled", "unconverged"):
            print(f"figure crash_{name}_{kind} {kinds[kind]} times goal <= 0", flush=True)
            missed += [f"crash_{name}_{kind}"] if kinds[kind] else []
    print("\n".join(f"missed: {name}" for name in missed) or "all goals are met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(SITES)))
