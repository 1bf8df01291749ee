"""Options that the verbs of ``orchestrate job`` share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

_SITE_HELP = "The site spec; default ./site.yaml, or the file that ORCHESTRATE_SITE names."
SiteOption = Annotated[
    Path | None, typer.Option("--site", "-s", metavar="SITE", envvar="ORCHESTRATE_SITE", help=_SITE_HELP)
]
Json = Annotated[bool, typer.Option("--json", help="For programs: JSON instead of text.")]


def listed(known: Iterable[str], incomplete: str) -> list[str]:
    """What the Tab key offers for names with commas between them."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in known if name.startswith(last.upper())]


def one_of(*names: str) -> Callable[[str], list[str]]:
    """What the Tab key offers for one of a few names."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


def _states(incomplete: str) -> list[str]:
    from orchestrator.jobs import model

    return listed(model.LIFE, incomplete)


State = Annotated[
    str | None,
    typer.Option("--state", help="Only in these states, like RUNNING,ZOMBIE.", autocompletion=_states),
]
Master = Annotated[
    int | None, typer.Option("--master", min=1, metavar="ID", help="Only the parts of this master.")
]
Tag = Annotated[str | None, typer.Option("--tag", help="Only with this JobTag.")]
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Submitted within this time, like 90m or 2 d.")
]


def seconds(text: str | None) -> float | None:
    """A time that a person wrote; UserError when it is none."""
    from orchestrator.units import parse_duration

    return None if text is None else float(parse_duration(text))
