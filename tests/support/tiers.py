"""`make test`: lint, then the tiers in order, one timed line for each, one closing line.

    python -m tests.support.tiers [lint] [unit] [contract] [integration] [e2e] [lab]

Every tier runs even if one before it failed. The exit code is 0 only if all passed and each had tests.
Where real processes race on a busy machine, up to three failed tests are tried once more, one by one; what
passes then is counted and named as ``flaky``: it is a fault to mend, not a pass to forget.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support import apt

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Tier:
    """Folders of tests that run together, and how."""

    name: str
    folders: tuple[str, ...]
    minutes: float  # a tier that takes longer hangs: it is ended, and shows where its processes stood
    options: tuple[str, ...] = ()
    second_try: bool = False


PARALLEL = ("-n", "2", "--dist", "worksteal")
BY_FILE = ("-n", "2", "--dist", "loadfile")
TIERS = {
    tier.name: tier
    for tier in (
        Tier("unit", ("tests/unit", "tests/cases"), 5, PARALLEL),
        Tier("contract", ("tests/contract",), 8, ("--durations=5", "--durations-min=5")),
        Tier(
            "integration", ("tests/integration",), 20, (*BY_FILE, "--durations=10", "--durations-min=5"), True
        ),
        Tier("e2e", ("tests/e2e",), 20, ("--durations=10", "--durations-min=5"), True),
        Tier("lab", ("tests/lab",), 40, ("--durations=10",)),
    )
}
MOST_FLAKY = 3
LINT = (
    (str(BIN / "ruff"), "check", "--quiet", "."),
    (str(BIN / "ruff"), "format", "--quiet", "--check", "--diff", "."),
    (str(BIN / "mypy"),),
    (str(BIN / "lint-imports"),),
)


def lint() -> list[str]:
    """Names of the checks that failed; a check is silent unless it fails."""
    failed = []
    for command in LINT:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            failed.append(Path(command[0]).name)
            print(f"{Path(command[0]).name} {' '.join(command[1:])}\n{done.stdout}{done.stderr}", flush=True)
    return failed


def run(tier: Tier) -> tuple[bool, Counter[str]]:
    """Whether the tier passed, and its outcomes. No test at all is a failure (pytest says 5)."""
    code, counts, bad = _pytest(tier, [*tier.options, *tier.folders])
    if code == 5:
        print(f"{' '.join(tier.folders)}: no test was found")
    if code == 1 and tier.second_try and 0 < len(bad) <= MOST_FLAKY:
        print(f"{tier.name}: {len(bad)} failed; they are tried once more", flush=True)
        code, again, _ = _pytest(tier, bad)
        if code == 0 and again["passed"] == len(bad):
            counts = counts - Counter(failed=len(bad), error=len(bad)) + Counter(flaky=len(bad))
            print(f"FLAKY, passed at the second try: {', '.join(bad)}")
        else:
            code = 1
    return code == 0, counts


def _pytest(tier: Tier, options: Sequence[str]) -> tuple[int, Counter[str], list[str]]:
    """The exit code, how many tests had which outcome, and the names of those that failed."""
    with tempfile.TemporaryDirectory() as folder:
        tally = Path(folder) / "tally.json"
        command = [sys.executable, "-m", "pytest", "-q", *options]
        code = bounded(command, os.environ | {"TEST_TALLY": str(tally)}, tier.minutes * 60)
        told = json.loads(tally.read_text()) if tally.exists() else {"counts": {"error": 1}, "bad": []}
    return code, Counter(told["counts"]), told["bad"]


def bounded(command: list[str], environment: dict[str, str], seconds: float) -> int:
    """Its exit code. After ``seconds`` all its processes are aborted: pytest's fault handler prints their stacks."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment, process_group=0)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        print(f"\nstill running after {seconds:.0f} s: aborted", flush=True)
        os.killpg(process.pid, signal.SIGABRT)
        return process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
        raise


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no test"


def main(names: list[str]) -> int:
    """Run the named tiers."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    begun, total, bad = time.monotonic(), Counter[str](), list[str]()
    lines = []
    if set(names) - {"lint", "unit"}:
        apt.main()
    for name in names:
        started = time.monotonic()
        print(f"== {name}", flush=True)
        if name == "lint":
            failed = lint()
            good, told = not failed, f"failed: {', '.join(failed)}" if failed else "clean"
        else:
            good, counts = run(TIERS[name])
            total, told = total + counts, _told(counts)
        if not good:
            bad.append(name)
        lines.append(f"{name:12} {told} in {time.monotonic() - started:.1f} s")
        print(f"== {lines[-1]}", flush=True)
    print("\n" + "\n".join(lines))
    verdict = f"FAILED: {', '.join(bad)}" if bad else "all passed"
    print(f"total        {_told(total)} in {time.monotonic() - begun:.1f} s: {verdict}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["lint", "unit", "contract", "integration", "e2e"]))
