"""``orchestrate job top`` and ``orchestrate job trace``: how the jobs of all are going, and how one came to be."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import on_grid
from orchestrator.cli.joboptions import Json, SiteOption, seconds

if TYPE_CHECKING:
    from orchestrator.wiring.grid import Connection

Job = Annotated[int, typer.Argument(metavar="ID", help="A job's number.")]


def top(
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
    every: Annotated[float, typer.Option(min=0.5, metavar="S", help="Seconds between two looks.")] = 2.0,
    within: Annotated[str, typer.Option(metavar="TIME", help="What counts as lately.")] = "1h",
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """Who has how many jobs running and waiting, what ended lately, and how long each state lasted; until Ctrl-C.

    Examples: `orchestrate job top`, `orchestrate job top --once --within 1d`, `orchestrate job top --once --json`.
    """
    lately = seconds(within) or 3600.0

    async def act(grid: Connection) -> None:
        import asyncio  # not for `orchestrate --help`

        from orchestrator.jobs import client

        if once or as_json or not sys.stdout.isatty():
            show(await client.top(grid.central, within=lately))
            return
        from rich.live import Live

        from orchestrator.cli import jobview

        with Live(auto_refresh=False, screen=True) as live:
            while True:
                live.update(jobview.top(await client.top(grid.central, within=lately)), refresh=True)
                await asyncio.sleep(every)

    def show(found: dict[str, Any]) -> None:
        from orchestrator.cli import jobview

        if as_json:
            typer.echo(json.dumps(found))
        else:
            jobview.print_top(found)

    on_grid(site, act)


def trace(job: Job, site: SiteOption = None, as_json: Json = False) -> None:
    """Every event of a job, as central numbered them, and the time that it spent in each state.

    Examples: `orchestrate job trace 12`, `orchestrate job trace 12 --json`.
    """
    from orchestrator.cli import jobview
    from orchestrator.jobs import client

    found = on_grid(site, lambda grid: client.trace(grid.central, job))
    if as_json:
        typer.echo(json.dumps(found))
    else:
        jobview.trace(found)
