"""Sites for the end-to-end tests. The agent file and the PYTHIA release are built once for all of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.grid import PRODUCTION, Grid, standing

EVENTS = 60  # a part; PYTHIA's initialisation takes longer than these


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def one_box(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Grid]:
    """The site that `make up` makes. Every test leaves it up and converged."""
    with standing(Grid.of(tmp_path_factory.mktemp("one-box"), Path("one-box.yaml"), cache)) as grid:
        yield grid


@pytest.fixture(scope="session")
def pythia(one_box: Grid) -> Grid:
    """one_box with PYTHIA published and the production's scripts in its catalogue."""
    release = one_box.cache / "PYTHIA-8.317"
    subprocess.run([sys.executable, PRODUCTION / "build_release.py", release], check=True)
    one_box.run("software", "publish", "alice.example.org", "PYTHIA", "8.317", release)
    one_box.put_production()
    return one_box


@pytest.fixture(scope="session")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], bytes]:
    """The result of the seeds 1 to N without any grid."""

    def run(seeds: int) -> bytes:
        out = tmp_path_factory.mktemp("direct") / "merged.json"
        words = [str(EVENTS), str(out), *map(str, range(1, seeds + 1))]
        subprocess.run(
            [sys.executable, str(PRODUCTION / "direct.py"), *words], check=True, capture_output=True
        )
        return out.read_bytes()

    return run
