"""Central's machine, with its programs as real processes on a database of the test's own."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orchestrator.runtime.sql import Database, migrate
from orchestrator.wiring.central import COMPONENTS
from tests.support.central import Central, VoBox, new_database, standing

_names = itertools.count()


@pytest.fixture
def url(server: str) -> str:
    """The URL of an empty database."""
    return new_database(server, f"central{next(_names)}")


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """It, with the project's tables."""
    async with Database(url, size=8) as opened:
        await migrate(opened, COMPONENTS)
        yield opened


@pytest.fixture
def machine(url: str, tmp_path: Path) -> Iterator[Central]:
    """No program runs yet."""
    with standing(tmp_path / "central", url) as made:
        yield made


@pytest.fixture
def box(machine: Central, tmp_path: Path) -> Iterator[VoBox]:
    """A VO box of that central; no program runs yet."""
    address = f"127.{random.randint(10, 250)}.{random.randint(1, 250)}.{random.randint(1, 250)}"
    made = VoBox(tmp_path / "box", machine, address)
    try:
        yield made
    finally:
        made.stop()
