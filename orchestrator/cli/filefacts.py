"""``orchestrate file tag|untag|quota|distance``: what is kept beside the files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import on_grid
from orchestrator.cli.filegrid import Json, Lfn, Named, SiteOption, on_files, print_json
from orchestrator.errors import UserError
from orchestrator.units import parse_size

if TYPE_CHECKING:
    from orchestrator.catalogue.model import Quota, Value
    from orchestrator.wiring.grid import Connection

NONE = "none"


def register(group: typer.Typer) -> None:
    """The verbs are in ``group``."""
    for name, verb in (("tag", tag), ("untag", untag), ("quota", quota), ("distance", distance)):
        group.command(name)(verb)


def tag(
    lfn: Lfn,
    tags: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=VALUE…", help="Tags to add or change; none: show them."),
    ] = None,
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """Show the tags of an entry, or add some. Numbers, true and false are kept as such, all else as text.

    Examples: `orchestrate file tag sim/run7 run=7 pass=p2`, `orchestrate file tag sim/run7`,
    `orchestrate file tag sim/run7 'period="2026"'` (a text, for its quotes).
    """
    from orchestrator.catalogue import client

    asked = dict(value_of(each) for each in tags or ())

    async def act(grid: Connection, path: Named) -> dict[str, Value]:
        if not asked:
            return dict((await client.stat(grid.central, path(lfn))).tags)
        return await client.tag(grid.central, path(lfn), asked)

    _show(on_files(site, act), as_json)


def untag(
    lfn: Lfn,
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Tags to take away.")],
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """Take tags from an entry. Example: `orchestrate file untag sim/run7 pass`."""
    from orchestrator.catalogue import client

    _show(on_files(site, lambda grid, path: client.untag(grid.central, path(lfn), names)), as_json)


def quota(
    user: Annotated[str, typer.Argument(metavar="USER", help="Whose; default yours.")] = "",
    files: Annotated[str, typer.Option(help="For admins: how many files at most, or none (no limit).")] = "",
    size: Annotated[str, typer.Option(help="For admins: how much at most, or none; such as 10TB.")] = "",
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """Show how much a user has in the catalogue and may have, or set it. Copies of a file do not count.

    Examples: `orchestrate file quota`, `orchestrate file quota ada --files 1000000 --size 10TB`.
    """
    from orchestrator.catalogue import client
    from orchestrator.cli import fileview

    async def act(grid: Connection) -> Quota:
        found = await client.quota(grid.central, user)
        if not (files or size):
            return found
        most_files = _limit(files, found.most_files, _count)
        return await client.set_quota(
            grid.central, found.user, most_files, _limit(size, found.most_bytes, parse_size)
        )

    found = on_grid(site, act)
    print_json(found.to_json()) if as_json else fileview.quota(found)


def distance(
    place: Annotated[str, typer.Argument(metavar="PLACE", help="The name of a site of the VO.")],
    se: Annotated[str, typer.Argument(metavar="SE", help="A storage element; none: show all.")] = "",
    value: Annotated[
        str, typer.Argument(metavar="DISTANCE", help="0: at hand; default: what the sites tell.")
    ] = "",
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """Show how far storage elements are from a site, or (admins) set it: closer copies are read first.

    A storage element of the site itself has 0, others 1, unless it is set.
    Examples: `orchestrate file distance CERN`, `orchestrate file distance CERN FZK::SE 0.5`,
    `orchestrate file distance CERN FZK::SE default`.
    """
    from orchestrator.catalogue import client
    from orchestrator.cli import fileview

    if se and not value:
        raise UserError(f"how far is {se} from {place}? give a number, or default")

    async def act(grid: Connection) -> list[dict[str, Any]]:
        if se:
            await client.set_distance(grid.central, place, se, _distance(value))
        return await client.distances(grid.central, place)

    found = on_grid(site, act)
    print_json(found) if as_json else fileview.distances(found)


def value_of(text: str) -> tuple[str, Value]:
    """The name and value of ``NAME=VALUE``; UserError when there is no =."""
    from orchestrator.catalogue import where

    name, sign, value = text.partition("=")
    if not sign:
        raise UserError(f"{text!r} is no tag; write NAME=VALUE")
    if value in ("true", "false"):
        return name, value == "true"
    try:
        if value.startswith('"'):
            return name, str(json.loads(value))
        return name, where.number(value)
    except ValueError:
        return name, value


def _show(tags: dict[str, Value], as_json: bool) -> None:
    from orchestrator.cli import fileview

    if as_json:
        print_json(tags)
    for text in () if as_json else fileview.tag_lines(tags):
        fileview.line(text)


def _limit(text: str, before: int | None, read: Any) -> int | None:
    if not text:
        return before
    return None if text == NONE else int(read(text))


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise UserError(f"--files {text!r} is no number of files")
    return int(text)


def _distance(text: str) -> float | None:
    if text == "default":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f"{text!r} is no distance; give a number, or default") from error
