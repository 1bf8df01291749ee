"""Run the same seeds here, without a grid, and merge them: what the grid's result must equal to the last digit.

    python direct.py EVENTS OUT.json SEED [SEED ...]

Each seed in a process of its own, as many at once as there are cores; the Python must have pythia8mc.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main(arguments: list[str]) -> int:
    """Write the merged histograms; the exit code of the first program that failed, else 0."""
    if len(arguments) < 3:
        print("usage: direct.py EVENTS OUT.json SEED [SEED ...]", file=sys.stderr)
        return 2
    events, out, *seeds = arguments
    with tempfile.TemporaryDirectory(prefix="direct.") as scratch, ThreadPoolExecutor(os.cpu_count()) as pool:

        def run(program: str, *words: str) -> int:
            return subprocess.run([sys.executable, str(HERE / program), *words], check=False).returncode

        parts = [str(Path(scratch, f"{index}.json")) for index, _ in enumerate(seeds)]
        codes = list(pool.map(lambda seed, part: run("generate.py", events, seed, part), seeds, parts))
        return next(filter(None, codes), 0) or run("merge.py", out, *parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
