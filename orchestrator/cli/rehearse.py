"""``orchestrate rehearse``: the site spec on a simulated cloud, on this host, in seconds."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.common import Json, SiteArgument
from orchestrator.errors import UserError

_HERE = Path("site.yaml")


def register(app: typer.Typer) -> None:
    """The verb is in ``app``."""
    app.command(rich_help_panel="Machines")(rehearse)


def rehearse(
    site: SiteArgument = _HERE,
    machines: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Machines in all; groups of workers grow to that.")
    ] = None,
    faults: Annotated[
        str, typer.Option(metavar="SHARE", help="Share of calls and of boots that go wrong, such as 5%.")
    ] = "",
    seed: Annotated[int | None, typer.Option(min=0, help="Another run of luck.")] = None,
    as_json: Json = False,
) -> None:
    """Bring the site up and down on simulated clouds and tell what would happen. Nothing real is touched.

    Waits are jumped over: an hour of boots takes seconds. Providers of kind `sim` keep their settings.
    Examples: `orchestrate rehearse`, `orchestrate rehearse site.yaml --machines 10000 --faults 5%`.
    """
    from orchestrator.cli import live
    from orchestrator.site.load import load
    from orchestrator.wiring import rehearse as rehearsal

    spec = rehearsal.simulated(load(site), machines, _share(faults), seed)
    directory = Path(tempfile.mkdtemp(prefix="rehearse-"))
    try:
        if sys.stderr.isatty() and not as_json:
            with live.view(False, sys.stderr) as sink:
                seen = rehearsal.rehearse(spec, directory, sink)
        else:
            seen = rehearsal.rehearse(spec, directory, lambda _: None)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if as_json:
        typer.echo(json.dumps(seen.to_json(), indent=1))
    else:
        for line in rehearsal.lines(seen):
            typer.echo(line)
    raise typer.Exit(0 if seen.ok else 4)


def _share(text: str) -> float | None:
    if not text:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", text)
    share = float(found[1]) / (100 if found[2] else 1) if found else 2.0
    if share > 1:
        raise UserError(f"{text!r} is not a share; write for example 5% or 0.05")
    return share
