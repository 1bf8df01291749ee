"""What many components are tested on: a real PostgreSQL, one for all tests of a process."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator

import psycopg
import pytest

from orchestrator.runtime import postgres


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an embedded server; ``/grid`` is its empty database."""
    root = tmp_path_factory.mktemp("pg")
    process = subprocess.Popen(postgres.command(root), stderr=subprocess.DEVNULL)
    try:
        give_up = time.monotonic() + 30
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(postgres.url(root), connect_timeout=5).close()
                break
            assert process.poll() is None, "PostgreSQL did not start"
            assert time.monotonic() < give_up, "PostgreSQL does not answer"
            time.sleep(0.05)
        yield postgres.url(root)
    finally:
        process.send_signal(signal.SIGINT)  # SIGTERM waits for clients
        process.wait(120)  # it writes what it holds to a disk that others use
