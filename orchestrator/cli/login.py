"""``orchestrate login|whoami|user``: people of the VO and their tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.common import done
from orchestrator.errors import UserError

SiteOption = Annotated[
    Path | None,
    typer.Option(
        "--site", "-s", metavar="SITE", envvar="ORCHESTRATE_SITE", help="The site spec; default ./site.yaml."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="For programs: JSON instead of text.")]


def register(app: typer.Typer) -> None:
    """The verbs are in ``app``."""
    app.command("login", rich_help_panel="People")(login)
    app.command("whoami", rich_help_panel="People")(whoami)
    group = typer.Typer(no_args_is_help=True, help="Members of the VO.")
    group.command("add")(add)
    group.command("list")(people)
    app.add_typer(group, name="user", rich_help_panel="People")


def login(
    identity: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="The identity file that your admin gave you.")
    ] = None,
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """Keep an identity, and get a token to see that it works.

    Tokens last an hour and are renewed by themselves with your certificate.
    Examples: `orchestrate login ada.json` once; `orchestrate login` to see who you are.
    """
    from orchestrator.wiring import grid

    if identity is not None:
        kept = grid.read(identity)
        grid.save(kept, grid.identities() / f"{kept.vo}.json")
        told = done(_me_as(kept, grid.identities()))
    else:
        told = done(_me(site))
    _who(told, as_json)


def whoami(site: SiteOption = None, as_json: Json = False) -> None:
    """Who you are for the grid, with which roles."""
    _who(done(_me(site)), as_json)


def add(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and _.")],
    role: Annotated[
        list[str] | None, typer.Option("--role", help="user, release or admin; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where to write the identity file.")] = None,
    site: SiteOption = None,
) -> None:
    """Add a member of the VO, or change their roles, and write their identity file (0600).

    Example: `orchestrate user add ada --role user --role release`, then give ada.json to Ada over a safe way.
    """
    from orchestrator.wiring import grid
    from orchestrator.wiring.sites import state_directory

    spec = site or Path("site.yaml")
    if not spec.exists():
        raise UserError(f"{spec} does not exist; only the site's admin can add members, with its site spec")
    from orchestrator.site.load import load

    async def act() -> Any:
        async with grid.connect(spec) as connection:
            return await connection.central.post("/v1/auth/users", {"name": name, "roles": role or ["user"]})

    person = done(act())
    loaded = load(spec)
    target = out or Path(f"{name}.json")
    grid.save(grid.identity_of(loaded, state_directory(spec, loaded), name), target)
    typer.echo(f"{name} has the roles {', '.join(person['roles'])}")
    typer.echo(f"{target} is {name}'s identity, a secret; {name} keeps it by: orchestrate login {target}")


def people(site: SiteOption = None, as_json: Json = False) -> None:
    """The members of the VO and their roles."""
    from orchestrator.wiring import grid

    async def act() -> Any:
        async with grid.connect(site) as connection:
            return await connection.central.get("/v1/auth/users")

    found = done(act())
    if as_json:
        typer.echo(json.dumps(found))
        return
    for each in found:
        typer.echo(f"{each['name']:<20} {', '.join(each['roles'])}")


async def _me(site: Path | None) -> Any:
    from orchestrator.wiring import grid

    async with grid.connect(site) as connection:
        return {"vo": connection.vo, **await connection.central.get("/v1/auth/me")}


async def _me_as(identity: Any, secrets: Path) -> Any:
    from orchestrator.wiring import grid

    async with grid.connected(identity, secrets) as connection:
        return {"vo": connection.vo, **await connection.central.get("/v1/auth/me")}


def _who(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(told))
    else:
        typer.echo(f"{told['subject'].partition(':')[2]} of VO {told['vo']}: {', '.join(told['roles'])}")
