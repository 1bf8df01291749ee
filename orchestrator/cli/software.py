"""``orchestrate software publish|list|show``: releases in, and what is published."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import on_grid
from orchestrator.errors import NotFound, UserError

if TYPE_CHECKING:
    from orchestrator.software.publish import Published
    from orchestrator.software.steps import Sink
    from orchestrator.wiring.grid import Connection

_SITE_HELP = "The site spec; default ./site.yaml, or the file that ORCHESTRATE_SITE names."
SiteOption = Annotated[
    Path | None, typer.Option("--site", "-s", metavar="SITE", envvar="ORCHESTRATE_SITE", help=_SITE_HELP)
]
Json = Annotated[bool, typer.Option("--json", help="For programs: JSON instead of text.")]


def register(app: typer.Typer) -> None:
    """``orchestrate software …`` is in ``app``."""
    group = typer.Typer(no_args_is_help=True, help="Publish software and see what is published.")
    for name, verb in (("publish", publish), ("list", listing), ("show", show)):
        group.command(name)(verb)
    app.add_typer(group, name="software", rich_help_panel="Software")


def publish(
    fqrn: Annotated[str, typer.Argument(metavar="FQRN", help="The repository, like alice.example.org.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What jobs will name, like AliRoot.")],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Like v5-09-01.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The release's top directory.")],
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """Publish a release: repository revision, torrent, then the package entry that makes it visible to jobs.

    Nothing is touched when something is wrong with DIR. The same command again finishes a broken one.

    Example: `orchestrate software publish alice.example.org AliRoot v5-09-01 ./build/AliRoot`.
    Then a job asks for it with `Packages = {"AliRoot::v5-09-01"};`.
    """
    from orchestrator.cli import softwareview

    async def act(grid: Connection, sink: Sink) -> Published:
        from orchestrator.runtime.clock import SystemClock
        from orchestrator.software import publish as publication

        _check_repository(fqrn, grid.addresses)
        async with grid.packman(fqrn) as packman:
            return await publication.publish(
                publication.Ports(grid.central, packman, grid.web_url(fqrn)),
                fqrn,
                name,
                version,
                directory,
                keys=grid.state / "cvmfs",
                work=grid.state / "publish",
                clock=SystemClock(),
                progress=sink,
            )

    try:
        with softwareview.steps(quiet=as_json) as sink:
            made = on_grid(site, lambda grid: act(grid, sink))
    except KeyboardInterrupt:
        typer.echo(
            f"{name}::{version} is not published or not whole; the same command again finishes it", err=True
        )
        raise typer.Exit(130) from None
    if as_json:
        told = made.package.to_json() | {"new": made.new, "files": made.files, "seconds": made.seconds}
        typer.echo(json.dumps(told | ({"warning": made.warning} if made.warning else {})))
    else:
        softwareview.published(made)


def listing(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this package.")] = None,
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """List what is published, the newest version of each package first.

    Examples: `orchestrate software list`, `orchestrate software list AliRoot --json`.
    """
    from orchestrator.cli import softwareview
    from orchestrator.software import client

    found = on_grid(site, lambda grid: client.listing(grid.central, name))
    if as_json:
        typer.echo(json.dumps(found))
    else:
        softwareview.listing(found)


def show(
    package: Annotated[str, typer.Argument(metavar="NAME[::VERSION]", help="The newest version if none.")],
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """Show where a package is, its checksums, and how a job asks for it.

    Examples: `orchestrate software show AliRoot`, `orchestrate software show AliRoot::v5-09-01`.
    """
    from orchestrator.cli import softwareview
    from orchestrator.software import client

    everything = on_grid(site, lambda grid: client.listing(grid.central))
    found = _versions(package, everything)
    if as_json:
        typer.echo(json.dumps(found[0]))
    else:
        softwareview.package(found[0], [each["version"] for each in found[1:]])


def _versions(spelling: str, everything: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The package asked for, then the other versions of its name; NotFound with the nearest known one."""
    name, _, version = spelling.partition("::")
    same = [each for each in everything if each["name"] == name]
    if not same:
        names = sorted({str(each["name"]) for each in everything})
        raise NotFound(f"no package {name} is published; {_hint(name, names, 'packages')}", name=name)
    wanted = [each for each in same if each["version"] == version] if version else same[:1]
    if not wanted:
        versions = [str(each["version"]) for each in same]
        raise NotFound(
            f"{name} is not published in version {version}; {_hint(version, versions, 'versions')}",
            name=name,
            version=version,
        )
    return [*wanted, *(each for each in same if each is not wanted[0])]


def _hint(wrong: str, known: Iterable[str], what: str) -> str:
    """The nearest known word, or the first of them."""
    from difflib import get_close_matches

    by_lower = {word.lower(): word for word in known}
    if not by_lower:
        return "publish one with `orchestrate software publish`"
    if near := get_close_matches(wrong.lower(), list(by_lower), n=1, cutoff=0.6):
        return f"did you mean {by_lower[near[0]]!r}?"
    words = list(by_lower.values())
    return f"{what} here: {', '.join(words[:12])}{', …' if len(words) > 12 else ''}"


def _check_repository(fqrn: str, known: Iterable[str]) -> None:
    """UserError with the nearest name when the site does not serve ``fqrn``."""
    words = sorted(known)
    if fqrn not in words:
        hint = _hint(fqrn, words, "repositories") if words else "none of its VO boxes serves one"
        raise UserError(
            f"this site has no repository {fqrn}; {hint} (site.yaml: software.repositories)", fqrn=fqrn
        )
