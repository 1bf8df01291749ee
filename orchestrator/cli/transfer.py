"""``orchestrate transfer submit|ps|show|why|kill|watch|limit``: one call of ``transfers.client`` each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import on_grid
from orchestrator.cli.filegrid import Json, Lfns, Named, SiteOption, on_files, print_json
from orchestrator.cli.joboptions import listed, one_of
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from orchestrator.client import Transfer as Followed
    from orchestrator.wiring.grid import Connection

Row = dict[str, Any]
Transfer = Annotated[int, typer.Argument(metavar="ID", help="A transfer's number.")]
_Most = Annotated[int | None, typer.Option(min=0, metavar="N", help="So many transfers at once.")]


def _states(incomplete: str) -> list[str]:
    from orchestrator.transfers import model

    return listed(model.LIFE, incomplete)


def register(app: typer.Typer) -> None:
    """``orchestrate transfer …`` is in ``app``."""
    group = typer.Typer(no_args_is_help=True, help="Bring files to storage elements and look after that.")
    for verb in (submit, ps, show, why, kill, watch, limit):
        group.command(verb.__name__)(verb)
    app.add_typer(group, name="transfer", rich_help_panel="Files")


def submit(
    lfns: Lfns,
    to: Annotated[str, typer.Option("--to", metavar="SE", help="The storage element that shall have them.")],
    kind: Annotated[
        str,
        typer.Option(
            help="mirror: one more replica; master_copy: the main one; cache: not registered.",
            autocompletion=one_of("mirror", "master_copy", "cache"),
        ),
    ] = "mirror",
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="All files below the directories named.")
    ] = False,
    follow: Annotated[bool, typer.Option("--watch", "-w", help="Follow them to their end.")] = False,
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """Ask for files on a storage element. What is under way already is not asked for twice.

    Examples: `orchestrate transfer submit run1.root --to CERN`, `orchestrate transfer submit -r run7 --to disk -w`.
    """
    from orchestrator.cli import transferview
    from orchestrator.client import Grid
    from orchestrator.transfers import model

    async def act(grid: Connection, _: Named) -> tuple[list[Row], int]:
        asked = await Grid.over(grid).transfers.mirror(*lfns, to=to, kind=kind, recursive=recursive)
        made = [each.row for each in asked]
        if not as_json:
            transferview.submitted(made)
        if not follow:
            return made, 0
        for each in asked:
            each.row["state"] = await _follow(each, quiet=as_json)
        return made, sum(each["state"] != model.DONE for each in made)

    made, failed = on_files(site, act)
    if as_json:
        print_json(made)
    if failed:
        typer.echo(f"{failed} of {len(made)} failed; see `orchestrate transfer show`", err=True)
        raise typer.Exit(4)


async def _follow(transfer: Followed, *, quiet: bool = False, as_json: bool = False) -> str:
    """Every event of a transfer is shown until its end, unless ``quiet``; the state that it ends in."""
    from orchestrator.cli import transferview

    state = ""
    async for event in transfer.follow():
        state = str(event["new"])
        if as_json and not quiet:
            print_json(event)
        elif not quiet:
            transferview.event(event, transfer.number)
    return state


def ps(
    state: Annotated[
        str | None,
        typer.Option(help="Only in these states, like WAITING,FAILED.", autocompletion=_states),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(
            "--user", "--owner", metavar="USER", help="Of this user; default you, `all` for everybody."
        ),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="SE", help="Only to this storage element.")
    ] = None,
    lfn: Annotated[str | None, typer.Option(help="Only of this file.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """List transfers, newest first. Example: `orchestrate transfer ps --state FAILED --to disk`."""
    from orchestrator.cli import transferview
    from orchestrator.client import Grid

    asked: Row = {"state": state, "owner": user, "lfn": lfn or None, "to": to, "limit": limit}
    found = on_grid(site, lambda grid: Grid.over(grid).transfers.list(**asked))
    if as_json:
        print_json(found)
    else:
        transferview.listing(found)


def show(transfer: Transfer, site: SiteOption = None, as_json: Json = False) -> None:
    """Show one transfer: its way, its steps, what happened to it. Example: `orchestrate transfer show 12`."""
    from orchestrator.cli import transferview
    from orchestrator.transfers import client

    found = on_grid(site, lambda grid: client.show(grid.central, transfer))
    if as_json:
        print_json(found)
    else:
        transferview.transfer(found)


def why(transfer: Transfer, site: SiteOption = None, as_json: Json = False) -> None:
    """Tell what a transfer waits for. Example: `orchestrate transfer why 12`."""
    from orchestrator.transfers import client

    told = on_grid(site, lambda grid: client.why(grid.central, transfer))
    if as_json:
        print_json(told)
        return
    typer.echo(f"transfer {transfer} is {told['state']}")
    for reason in told["reasons"]:
        typer.echo(f"  {reason}")


def kill(
    transfers: Annotated[list[int], typer.Argument(metavar="ID…", help="Numbers of transfers.")],
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """Kill transfers. Example: `orchestrate transfer kill 12 13`."""
    from orchestrator.transfers import client

    async def every(grid: Connection) -> list[Row]:
        told: list[Row] = []
        for transfer in transfers:
            try:
                told.append({"transfer": transfer, "state": await client.kill(grid.central, transfer)})
            except UserError as error:
                told.append({"transfer": transfer, "message": error.message, "code": error.exit_code})
        return told

    told = on_grid(site, every)
    if as_json:
        print_json(told)
    for each in () if as_json else told:
        said = each.get("state") or each["message"]
        typer.echo(f"transfer {each['transfer']}: {said}", err="message" in each)
    if refused := [each for each in told if "message" in each]:
        raise typer.Exit(refused[0]["code"])


def watch(transfer: Transfer, site: SiteOption = None, as_json: Json = False) -> None:
    """Follow a transfer to its end; the exit code tells whether it succeeded. With --json a line for each event.

    Example: `orchestrate transfer watch 12`.
    """
    from orchestrator.client import Grid
    from orchestrator.transfers import model

    state = on_grid(site, lambda grid: _follow(Grid.over(grid).transfers[transfer], as_json=as_json))
    if state != model.DONE:
        raise typer.Exit(4)


def limit(
    se: Annotated[str | None, typer.Argument(metavar="SE", help="A storage element.")] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="SE", help="The link from SE to this one instead.")
    ] = None,
    most: _Most = None,
    most_out: _Most = None,
    most_in: _Most = None,
    buffer: Annotated[
        str, typer.Option(metavar="SE", help="SE is mass storage; its files are staged to this one.")
    ] = "",
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """Show the limits, or say how much a storage element or a link may carry (admins). Without a number: the default.

    Examples: `orchestrate transfer limit`, `orchestrate transfer limit disk --most-out 5 --most-in 10`,
    `orchestrate transfer limit disk --to CERN --most 0` (no direct link), `orchestrate transfer limit tape --buffer disk`.
    """
    from orchestrator.cli import transferview
    from orchestrator.transfers import client

    if to is not None and (most is None or most_out is not None or most_in is not None or buffer):
        raise UserError("a link has --to and --most alone")
    if to is None and most is not None:
        raise UserError("--most is a link's: name its end by --to, or say --most-out and --most-in")
    said: Row = {"source": se, "target": to, "most": most}
    if to is None:
        said = {"se": se, "most_out": most_out, "most_in": most_in, "buffer": buffer}

    async def act(grid: Connection) -> Row:
        if se is not None:
            await client.limit(grid.central, **said)
        return await client.limits(grid.central)

    found = on_grid(site, act)
    if as_json:
        print_json(found)
    else:
        transferview.limits(found)
