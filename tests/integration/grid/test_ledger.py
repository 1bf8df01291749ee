"""The deploy ledger on PostgreSQL: its statements, its history and its migration are those of SQLite."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "deploy"))
from directory_world import DirectoryWorld

from orchestrator.deploy import commands, tables
from orchestrator.deploy.ledger import Ledger
from orchestrator.deploy.model import Stage
from orchestrator.errors import PermanentError


async def test_a_site_lives_with_its_ledger_in_postgresql(url: str, tmp_path: Path) -> None:
    await asyncio.to_thread(live, url, tmp_path)


def live(url: str, root: Path) -> None:
    world = DirectoryWorld(root)
    world.provider.fault = lambda verb, name: PermanentError("no") if name == "lab-workers-2" else None
    ctx = replace(world.context(rounds=1), ledger=Ledger.open(url, "lab"))
    assert commands.up(ctx).exit_code == 4
    assert [failure.object for failure in ctx.ledger.failures()] == ["lab-workers-2"]
    world.provider.fault = lambda verb, name: None
    assert commands.up(ctx).exit_code == 0
    assert ctx.ledger.failures() == ()
    assert {record.stage for record in ctx.ledger.records().values()} == {Stage.READY}
    assert ("2 machines", "it is missing") in {(d.object, d.reason) for d in ctx.ledger.story("workers")}
    with ctx.ledger.transaction() as connection:
        connection.execute(sa.text("ALTER TABLE intent DROP COLUMN place"))
        connection.execute(tables.version.update().values(number=1))
    again = replace(ctx, ledger=Ledger.open(url, "lab"))
    assert commands.up(again).summary == "nothing to do"
    assert commands.down(again, keep_data=True).exit_code == 0
    for each in (ctx, again):
        each.ledger.close()
