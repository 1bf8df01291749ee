"""``orchestrate plan|up|status|scale|down``: one call of ``deploy.commands`` each.

Heavy modules are imported inside the verbs: ``orchestrate --help`` and a job's verbs need none of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.common import (
    HERE,
    Json,
    Limit,
    SiteArgument,
    SiteOption,
    Yes,
    YesRemove,
    change,
    reading,
    show_as,
)
from orchestrator.errors import UserError


def register(app: typer.Typer) -> None:
    """The verbs of the deploy plane are in ``app``."""
    for verb in (plan, up, status, scale, down):
        app.command(rich_help_panel="Machines")(verb)


def plan(
    site: SiteArgument = HERE,
    limit: Limit = "",
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the plan for `up --plan`.")] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Show what changes in configuration files.")] = False,
    as_json: Json = False,
) -> None:
    """Show what `up` would do, and why. Nothing is changed.

    Examples: `orchestrate plan`, `orchestrate plan site.yaml --limit workers`, `orchestrate plan --save plan.json`.
    """
    with reading(site) as ctx:
        from orchestrator.cli import show
        from orchestrator.deploy import commands, render
        from orchestrator.runtime.files import write_json

        made = commands.plan(ctx, limit)
        if save is not None:
            write_json(save, made.to_json(), 0o600)
        files = render.differences(ctx, made) if diff else {}
        data = made.to_json() | ({"files": files} if diff else {})
        show_as(as_json, data, lambda: [*show.differences(files), *show.plan(made)])


def up(
    site: SiteArgument = HERE,
    limit: Limit = "",
    saved: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="Apply exactly this saved plan.")
    ] = None,
    yes: Yes = False,
    yes_remove: YesRemove = 0,
    as_json: Json = False,
) -> None:
    """Make the site what its spec says, and wait until it works. Running it again is always safe.

    Examples: `orchestrate up`, `orchestrate up site.yaml --limit workers`, `orchestrate up --json | jq .summary`.
    """
    from orchestrator.deploy.plan import Plan

    exact = None if saved is None else Plan.from_json(_json_of(saved))
    change(site, as_json, yes, lambda commands, ctx, ask: commands.up(ctx, limit, exact, ask, yes_remove))


def status(site: SiteArgument = HERE, as_json: Json = False) -> None:
    """Show the machines of the site, whether they work, and what is left to do.

    Example: `orchestrate status`.
    """
    with reading(site) as ctx:
        from orchestrator.cli import show
        from orchestrator.deploy import commands

        now = commands.status(ctx)
        show_as(as_json, now.to_json(), lambda: show.status(now))


def scale(
    group: Annotated[str, typer.Argument(help="The group of workers.")],
    count: Annotated[int, typer.Argument(metavar="N", help="How many machines it has from now on.")],
    site: SiteOption = HERE,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Give a group N machines, until its count in the site spec is edited.

    Machines that leave are drained first: their running jobs may finish. Example: `orchestrate scale workers 4`.
    """
    change(site, as_json, yes, lambda commands, ctx, ask: commands.scale(ctx, group, count, ask))


def down(
    site: SiteArgument = HERE,
    limit: Limit = "",
    keep_data: Annotated[
        bool, typer.Option("--keep-data", help="Keep the machines' data, the keys and the ledger.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Destroy the machines of the site. Asks before it destroys data.

    Examples: `orchestrate down`, `orchestrate down --keep-data`, `orchestrate down --limit workers --yes`.
    """
    change(
        site,
        as_json,
        yes,
        lambda commands, ctx, ask: commands.down(ctx, keep_data=keep_data, limit=limit, confirm=ask),
    )


def _json_of(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file}: this is not a saved plan ({error}); make one with `plan --save {file}`"
        ) from error
