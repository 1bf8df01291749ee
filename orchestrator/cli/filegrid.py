"""What the verbs of ``orchestrate file`` share."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from orchestrator.cli.common import on_grid
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from orchestrator.wiring.grid import Connection

_SITE_HELP = "The site spec; default ./site.yaml, or the file that ORCHESTRATE_SITE names."
SiteOption = Annotated[
    Path | None, typer.Option("--site", "-s", metavar="SITE", envvar="ORCHESTRATE_SITE", help=_SITE_HELP)
]
Json = Annotated[bool, typer.Option("--json", help="For programs: JSON instead of text.")]
Lfn = Annotated[str, typer.Argument(metavar="LFN", help="A name in the catalogue; relative: from your home.")]
Lfns = Annotated[list[str], typer.Argument(metavar="LFN…", help="Names in the catalogue.")]
T = TypeVar("T")
Named = Callable[[str], str]  # what the user wrote → LFN


def print_json(value: Any) -> None:
    """One line for programs."""
    typer.echo(json.dumps(value))


def on_files(site: Path | None, act: Callable[[Connection, Named], Awaitable[T]]) -> T:
    """``act`` with a connection to the site's central services and what makes an LFN of what the user wrote."""
    from orchestrator.catalogue import model
    from orchestrator.client.copying import absolute

    async def named(grid: Connection) -> T:
        home = model.home(grid.vo, grid.user)
        try:
            return await act(grid, lambda lfn: absolute(lfn, home))
        except OSError as error:
            raise UserError(f"{error.filename or 'a file'}: {error.strerror or error}") from error

    return on_grid(site, named)
