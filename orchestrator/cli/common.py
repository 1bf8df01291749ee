"""What the verbs share: options, the way to the site and to the grid, how changes are shown and confirmed."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from orchestrator.errors import UserError

if TYPE_CHECKING:
    from orchestrator.deploy.context import Context
    from orchestrator.deploy.plan import Plan
    from orchestrator.deploy.report import Report
    from orchestrator.wiring.grid import Connection

T = TypeVar("T")
_SITE_HELP = "The site spec; default ./site.yaml, or the file that ORCHESTRATE_SITE names."
SiteArgument = Annotated[Path, typer.Argument(metavar="SITE", envvar="ORCHESTRATE_SITE", help=_SITE_HELP)]
SiteOption = Annotated[
    Path, typer.Option("--site", "-s", metavar="SITE", envvar="ORCHESTRATE_SITE", help=_SITE_HELP)
]
Limit = Annotated[str, typer.Option("--limit", metavar="GROUP", help="Only this group of machines.")]
Json = Annotated[bool, typer.Option("--json", help="For programs: JSON instead of text.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before data is destroyed.")]
YesRemove = Annotated[
    int, typer.Option("--yes-remove", metavar="N", min=0, help="So many machines may be removed at once.")
]
HERE = Path("site.yaml")


def change(
    site: Path, as_json: bool, yes: bool, verb: Callable[[Any, Context, Callable[[Plan], bool]], Report]
) -> None:
    """Run a verb that changes the world, show it as it goes, and exit with its code."""
    from orchestrator.cli import live
    from orchestrator.deploy import commands
    from orchestrator.wiring.deploy import context

    with live.view(as_json) as sink, context(site, sink=sink) as ctx, live.stopping(ctx.stop):
        report = verb(commands, ctx, asker(yes))
    raise typer.Exit(report.exit_code)


def asker(yes: bool) -> Callable[[Plan], bool]:
    """Asks the person at the terminal whether data may be destroyed."""

    def ask(made: Plan) -> bool:
        if yes:
            return True
        from orchestrator.cli import show

        if not sys.stdin.isatty():
            lost = ", ".join(change.object for change in made.destroys_data) or "; ".join(made.notes)
            raise UserError(f"site {made.site}: this destroys data ({lost}); add --yes if you mean it")
        for line in show.plan(made):
            typer.echo(line, err=True)
        return typer.confirm("Destroy it?", err=True)

    return ask


@contextmanager
def reading(site: Path) -> Iterator[Context]:
    """Everything about the site, for looking alone."""
    from orchestrator.wiring.deploy import context

    with context(site, reading=True) as ctx:
        yield ctx


def show_as(as_json: bool, data: Any, lines: Callable[[], Iterable[str]]) -> None:
    """``data`` as JSON, or the lines for people."""
    if as_json:
        typer.echo(json.dumps(data, indent=1, default=str))
        return
    for line in lines():
        typer.echo(line)


def done(work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` comes to, in an event loop of its own."""
    import asyncio  # with ssl and logging: not for `orchestrate --help`

    return asyncio.run(work)


def on_grid(site: Path | None, act: Callable[[Connection], Awaitable[T]]) -> T:
    """``act`` with a connection to the site's central services."""
    from orchestrator.wiring.grid import connect

    async def main() -> T:
        async with connect(site) as grid:
            return await act(grid)

    return done(main())
