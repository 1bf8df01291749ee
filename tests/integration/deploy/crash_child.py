"""One deploy command on a directory world; kills itself (SIGKILL) before or after its Nth ledger write.

Runs in a forked process. The number of ledger writes is in the file ``writes`` when it ends alive.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import sqlalchemy as sa
from directory_world import DirectoryWorld, a_site

from orchestrator.deploy import commands


def main(directory: Path, verb: str, fatal: int, moment: str) -> None:
    world = DirectoryWorld(directory, a_site(3), boots=1)
    ctx = world.context()
    writes = 0

    seen: dict[int, int] = {}

    @sa.event.listens_for(ctx.ledger.engine, "commit")
    def before(connection: sa.Connection) -> None:
        nonlocal writes
        raw = connection.connection.driver_connection
        assert raw is not None
        if raw.total_changes == seen.get(id(raw), 0):
            return
        seen[id(raw)] = raw.total_changes
        writes += 1
        if writes == fatal:
            if moment == "after":
                raw.commit()
            os.kill(os.getpid(), signal.SIGKILL)

    match verb:
        case "up":
            report = commands.up(ctx)
        case "roll":
            world.configurator.version = "2"
            report = commands.up(ctx)
        case "scale":
            world.workload.jobs["lab-workers-3"] = [7]
            report = commands.scale(ctx, "workers", 1)
        case "down":
            report = commands.down(ctx)
        case _:
            raise SystemExit(f"no verb {verb}")
    directory.with_suffix(".writes").write_text(str(writes))
    sys.exit(report.exit_code)
