"""``orchestrate schema`` and ``orchestrate validate``: the site spec before anything is touched.

Heavy modules are imported inside the functions: no other verb waits for them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.units import format_duration, format_size

if TYPE_CHECKING:
    from rich.text import Text

    from orchestrator.site.load import SiteErrors
    from orchestrator.site.schema import Site


def register(app: typer.Typer) -> None:
    """Adds the two verbs to the application."""
    app.command("schema")(schema)
    app.command("validate")(validate)


def schema() -> None:
    """Print the JSON Schema of site.yaml (editors complete from it)."""
    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")


def validate(
    sites: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[SITE]...", help="Site specs to check; default ./site.yaml."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON.")] = False,
) -> None:
    """Check site specs; tell all mistakes with their places. Exit code 2 if there is one."""
    from rich.console import Console
    from rich.text import Text

    from orchestrator.site.load import SiteErrors, load

    verdicts: list[dict[str, object]] = []
    for path in sites or [Path("site.yaml")]:
        try:
            site = load(path)
        except SiteErrors as error:
            verdicts.append({"file": str(path), "valid": False, "errors": error.facts["errors"]})
            if not as_json:
                Console(stderr=True).print(render(error), soft_wrap=True)
        else:
            verdicts.append({"file": str(path), "valid": True, "site": site.model_dump(mode="json")})
            if not as_json:
                console = Console()
                console.print(Text(f"{path}: valid", "bold green"))
                console.print(Text(summary(site)), soft_wrap=True)
    if as_json:
        sys.stdout.write(json.dumps({"sites": verdicts}, indent=2) + "\n")
    if not all(verdict["valid"] for verdict in verdicts):
        raise typer.Exit(SiteErrors.exit_code)


def json_schema() -> dict[str, object]:
    """The JSON Schema (draft 2020-12) of a site spec as a file may have it: ``site`` may be absent there."""
    from orchestrator.site.schema import Site

    found = Site.model_json_schema()
    found["required"] = [key for key in found["required"] if key != "site"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def render(error: SiteErrors) -> Text:
    """Compiler-style: place and message, the line of the file, a caret below the mistake, what to do."""
    from rich.text import Text

    text = Text()
    for found in error.errors:
        mark = found.mark
        text.append(f"{error.file}:{mark.line}:{mark.column}: ", "bold")
        text.append("error: ", "bold red")
        text.append(f"{found.path}: " if found.path else "", "bold")
        text.append(f"{printable(found.message)}\n")
        if found.line.strip():
            number = f"{mark.line:5d}"
            width = max(1, min(mark.width, len(found.line) - mark.column + 1))
            text.append(f"{number} | {printable(found.line)}\n")
            text.append(f"{' ' * len(number)} | {' ' * (mark.column - 1)}")
            text.append(f"{'^' * width}\n", "bold red")
        text.append("      = ", "cyan")
        text.append(f"{printable(found.hint)}\n")
    count = len(error.errors)
    text.append(f"{count} mistake{'s' * (count != 1)} in {error.file}; nothing was touched")
    return text


def printable(text: str) -> str:
    """The text with what would move the cursor or colour the terminal replaced, one for one."""
    return "".join(letter if letter.isprintable() else "�" for letter in text.replace("\t", " "))


def summary(site: Site) -> str:
    """The site on half a screen: one line for each group and service."""
    rows = [("site", site.site, f"of VO {site.vo}")]
    for name in site.ordered_groups():
        group, (low, high) = site.groups[name], site.groups[name].limits
        many = f"{low}" if low == high else f"{low} to {high}"
        place = f"{group.provider} ({site.providers[group.provider].kind})"
        needs = f", after {', '.join(site.dependencies(name))}" if site.dependencies(name) else ""
        rows.append(("group", name, f"{group.role}: {many} machine{'s' * (high != 1)} at {place}{needs}"))
    for name, ce in site.computing_elements.items():
        agents = f"up to {ce.agent_limit} agents, {ce.min_idle} kept idle, each for {format_duration(ce.ttl)}"
        rows.append(("CE", name, f"on {ce.vobox}: {ce.batch.kind}, {agents}"))
    for name, se in site.storage_elements.items():
        rows.append(("SE", name, f"on {se.vobox}: {format_size(se.capacity)}"))
    for name, repository in site.software.repositories.items():
        rows.append(("repository", name, f"on {repository.server}, by {site.software.method}"))
    width = max(len(name) for _, name, _ in rows)
    return "\n".join(f"  {kind:<10}  {name:<{width}}  {text}" for kind, name, text in rows)
