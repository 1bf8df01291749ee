"""``orchestrate why|logs|ssh|inventory|gc|adopt``: looking into a site, and what is left over of it.

Heavy modules are imported inside the verbs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from orchestrator.deploy.context import Context

_PROGRAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def register(app: typer.Typer) -> None:
    """The verbs that look into a site are in ``app``."""
    for verb in (why, logs, inventory, gc, adopt):
        app.command(rich_help_panel="Machines")(verb)
    app.command(rich_help_panel="Machines", name="ssh")(enter)


def gc(
    site: SiteArgument = HERE,
    prove: Annotated[
        bool, typer.Option("--prove", help="Remove nothing: list every object of ours, and why it is there.")
    ] = False,
    yes: Yes = False,
    yes_remove: YesRemove = 0,
    as_json: Json = False,
) -> None:
    """Remove what is ours at any provider and does not belong to the site.

    Examples: `orchestrate gc --prove` (exit code 4 when something is left over), `orchestrate gc`.
    """
    if not prove:
        change(site, as_json, yes, lambda commands, ctx, ask: commands.gc(ctx, ask, yes_remove))
        return
    with reading(site) as ctx:
        from dataclasses import asdict

        from orchestrator.cli import show
        from orchestrator.deploy import tidy

        claims = tidy.proof(ctx)
        data = [asdict(claim) for claim in claims]
        show_as(as_json, data, lambda: show.claims(ctx.site.site, tuple(ctx.guards), claims))
    if not all(claim.belongs for claim in claims):
        raise typer.Exit(4)


def adopt(
    machines: Annotated[
        list[str] | None, typer.Argument(metavar="[MACHINE]…", help="Machines; `workers-2` will do.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that the ledger does not know.")] = False,
    site: SiteOption = HERE,
    as_json: Json = False,
) -> None:
    """Take machines of ours into the ledger that it does not know: after it was lost, or made elsewhere.

    Examples: `orchestrate adopt --all`, `orchestrate adopt workers-2`.
    """
    if bool(machines) == everything:
        raise UserError("name the machines to adopt, or say --all")
    change(site, as_json, True, lambda commands, ctx, _: commands.adopt(ctx, machines or ()))


def why(
    name: Annotated[str, typer.Argument(metavar="MACHINE|GROUP|JOB", help="A machine, a group or a job.")],
    site: SiteOption = HERE,
    as_json: Json = False,
) -> None:
    """Tell why a machine or group exists, waits, failed or was removed, or why a job waits.

    Examples: `orchestrate why workers-1`, `orchestrate why workers`, `orchestrate why 12`.
    """
    if name.isdigit():
        from orchestrator.cli import job

        job.why(int(name), site, as_json)
        return
    with reading(site) as ctx:
        from orchestrator.cli import show
        from orchestrator.deploy import commands

        story = commands.why(ctx, name)
        show_as(as_json, story.to_json(), lambda: show.why(story))


def logs(
    machine: Annotated[str, typer.Argument(help="A machine; `central` or `workers-2` will do.")],
    program: Annotated[
        str, typer.Argument(help="One program (central, broker, ce, agent, …); all if absent.")
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as the log grows.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 100,
    site: SiteOption = HERE,
) -> None:
    """Show the logs of a machine's programs.

    Examples: `orchestrate logs vobox ce`, `orchestrate logs central broker --follow`.
    """
    if program and not _PROGRAM.fullmatch(program):
        raise UserError(f"{program!r} is not the name of a program", program=program)
    with reading(site) as ctx:
        options = ["-n", str(lines), *(["-F"] if follow else [])]
        # The machine's own shell expands the names; they are arguments, never part of the script.
        script = (
            'cd "$1/log" 2>/dev/null || { echo "no logs yet" >&2; exit 1; }; p=$2; shift 2; exec tail "$@" $p'
        )
        argv = shell(
            ctx, machine, lambda root: ["sh", "-c", script, "sh", root, f"{program or '*'}.log", *options]
        )
    os.execvp(argv[0], argv)  # noqa: S606 - the terminal is handed over


def enter(
    machine: Annotated[str, typer.Argument(help="A machine; `central` or `workers-2` will do.")],
    command: Annotated[
        list[str] | None, typer.Argument(help="After `--`: run this instead of a shell.")
    ] = None,
    site: SiteOption = HERE,
) -> None:
    """Open a shell on a machine, or run a command there.

    Examples: `orchestrate ssh vobox`, `orchestrate ssh workers-1 -- df -h`.
    """
    with reading(site) as ctx:
        argv = shell(ctx, machine, lambda _: command or [])
    os.execvp(argv[0], argv)  # noqa: S606 - the terminal is handed over


def inventory(site: SiteArgument = HERE, limit: Limit = "", as_json: Json = False) -> None:
    """List the machines; with --json as an Ansible inventory.

    Example: `orchestrate inventory --json > hosts.json; ansible -i hosts.json central -m ping`.
    """
    with reading(site) as ctx:
        from orchestrator.cli import show
        from orchestrator.deploy import commands

        listed = commands.fleet(ctx, limit)
        show_as(as_json, show.inventory(listed), lambda: show.machines(listed))


def shell(ctx: Context, name: str, command: Callable[[str], list[str]]) -> list[str]:
    """The argument vector that runs a command (of the machine's root directory) on a machine of the site."""
    from orchestrator.deploy import commands
    from orchestrator.providers.base import HasShell, bare

    machine = commands.find(ctx, name)
    provider = bare(ctx.provider(machine.provider))
    if not isinstance(provider, HasShell):
        raise UserError(f"machines of provider {machine.provider} cannot be entered", machine=machine.name)
    return provider.shell(machine.name, command(machine.root))
