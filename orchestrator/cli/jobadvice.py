"""``orchestrate job suggestions``: what would let waiting jobs run, and having it done."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import on_grid
from orchestrator.cli.joboptions import Json, SiteOption, one_of

if TYPE_CHECKING:
    from orchestrator.wiring.grid import Connection


def suggestions(
    accept: Annotated[
        int | None,
        typer.Option(
            "--accept", min=1, metavar="ID", help="Ask for the copies of this suggestion as transfers."
        ),
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", "--owner", metavar="USER", help="Only for jobs of this user.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Only of this kind: copy, fetch, install or publish.",
            autocompletion=one_of("copy", "fetch", "install", "publish"),
        ),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="NAME", help="Only to this storage element or grid site.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """List what would let waiting jobs run: copies of their data near free resources, packages that are missing.

    Examples: `orchestrate job suggestions`, `orchestrate job suggestions --kind copy --user ada`,
    `orchestrate job suggestions --accept 3`.
    """
    from orchestrator.cli import jobview, transferview
    from orchestrator.jobs import client

    async def act(grid: Connection) -> list[dict[str, Any]]:
        if accept is not None:
            return await client.accept(grid.central, accept)
        return await client.suggestions(grid.central, owner=user, kind=kind, target=to, limit=limit)

    found = on_grid(site, act)
    if as_json:
        typer.echo(json.dumps(found))
    elif accept is not None:
        transferview.submitted(found)
    else:
        jobview.suggestions(found)
