"""``orchestrate plan|up|status|scale|down|why|logs|ssh|inventory``: one call of ``deploy.commands`` each.

Heavy modules are imported inside the verbs: ``orchestrate --help`` and a job's verbs need none of them.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.errors import UserError

if TYPE_CHECKING:
    from orchestrator.deploy.context import Context
    from orchestrator.deploy.report import Report
    from orchestrator.deploy.plan import Plan

_SITE_HELP = "The site spec; default ./site.yaml, or the file that ORCHESTRATE_SITE names."
SiteArgument = Annotated[Path, typer.Argument(metavar="SITE", envvar="ORCHESTRATE_SITE", help=_SITE_HELP)]
SiteOption = Annotated[
    Path, typer.Option("--site", "-s", metavar="SITE", envvar="ORCHESTRATE_SITE", help=_SITE_HELP)
]
Limit = Annotated[str, typer.Option("--limit", metavar="GROUP", help="Only this group of machines.")]
Json = Annotated[bool, typer.Option("--json", help="For programs: JSON instead of text.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before data is destroyed.")]
_HERE = Path("site.yaml")
_PROGRAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def register(app: typer.Typer) -> None:
    """The verbs of the deploy plane are in ``app``."""
    for verb in (plan, up, status, scale, down, why, logs, inventory):
        app.command(rich_help_panel="Machines")(verb)
    app.command(rich_help_panel="Machines", name="ssh")(enter)


def plan(
    site: SiteArgument = _HERE,
    limit: Limit = "",
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the plan for `up --plan`.")] = None,
    as_json: Json = False,
) -> None:
    """Show what `up` would do, and why. Nothing is changed.

    Examples: `orchestrate plan`, `orchestrate plan site.yaml --limit workers`, `orchestrate plan --save plan.json`.
    """
    with _reading(site) as ctx:
        from orchestrator.cli import show
        from orchestrator.deploy import commands
        from orchestrator.runtime.files import write_json

        made = commands.plan(ctx, limit)
        if save is not None:
            write_json(save, made.to_json(), 0o600)
        _print(as_json, made.to_json(), lambda: show.plan(made))


def up(
    site: SiteArgument = _HERE,
    limit: Limit = "",
    saved: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="Apply exactly this saved plan.")
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Make the site what its spec says, and wait until it works. Running it again is always safe.

    Examples: `orchestrate up`, `orchestrate up site.yaml --limit workers`, `orchestrate up --json | jq .summary`.
    """
    from orchestrator.deploy.plan import Plan

    exact = None if saved is None else Plan.from_json(_json_of(saved))
    _change(site, as_json, yes, lambda commands, ctx, ask: commands.up(ctx, limit, exact, ask))


def status(site: SiteArgument = _HERE, as_json: Json = False) -> None:
    """Show the machines of the site, whether they work, and what is left to do.

    Example: `orchestrate status`.
    """
    with _reading(site) as ctx:
        from orchestrator.cli import show
        from orchestrator.deploy import commands

        now = commands.status(ctx)
        _print(as_json, now.to_json(), lambda: show.status(now))


def scale(
    group: Annotated[str, typer.Argument(help="The group of workers.")],
    count: Annotated[int, typer.Argument(metavar="N", help="How many machines it has from now on.")],
    site: SiteOption = _HERE,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Give a group N machines, until its count in the site spec is edited.

    Machines that leave are drained first: their running jobs may finish. Example: `orchestrate scale workers 4`.
    """
    _change(site, as_json, yes, lambda commands, ctx, ask: commands.scale(ctx, group, count, ask))


def down(
    site: SiteArgument = _HERE,
    limit: Limit = "",
    keep_data: Annotated[
        bool, typer.Option("--keep-data", help="Keep the machines' data, the keys and the ledger.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Destroy the machines of the site. Asks before it destroys data.

    Examples: `orchestrate down`, `orchestrate down --keep-data`, `orchestrate down --limit workers --yes`.
    """
    _change(
        site,
        as_json,
        yes,
        lambda commands, ctx, ask: commands.down(ctx, keep_data=keep_data, limit=limit, confirm=ask),
    )


def why(
    name: Annotated[str, typer.Argument(metavar="MACHINE|GROUP", help="A machine or a group.")],
    site: SiteOption = _HERE,
    as_json: Json = False,
) -> None:
    """Tell why a machine or group exists, waits, failed or was removed.

    Example: `orchestrate why one-box-workers-1`. For jobs: `orchestrate job why ID`.
    """
    with _reading(site) as ctx:
        from orchestrator.cli import show
        from orchestrator.deploy import commands

        story = commands.why(ctx, name)
        _print(as_json, story.to_json(), lambda: show.why(story))


def logs(
    machine: Annotated[str, typer.Argument(help="A machine; `central` or `workers-2` will do.")],
    program: Annotated[
        str, typer.Argument(help="One program (central, broker, ce, agent, …); all if absent.")
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as the log grows.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 100,
    site: SiteOption = _HERE,
) -> None:
    """Show the logs of a machine's programs.

    Examples: `orchestrate logs vobox ce`, `orchestrate logs central broker --follow`.
    """
    if program and not _PROGRAM.fullmatch(program):
        raise UserError(f"{program!r} is not the name of a program", program=program)
    with _reading(site) as ctx:
        options = ["-n", str(lines), *(["-F"] if follow else [])]
        # The machine's own shell expands the names; they are arguments, never part of the script.
        script = (
            'cd "$1/log" 2>/dev/null || { echo "no logs yet" >&2; exit 1; }; p=$2; shift 2; exec tail "$@" $p'
        )
        argv = _shell(
            ctx, machine, lambda root: ["sh", "-c", script, "sh", root, f"{program or '*'}.log", *options]
        )
    os.execvp(argv[0], argv)  # noqa: S606 - the terminal is handed over


def enter(
    machine: Annotated[str, typer.Argument(help="A machine; `central` or `workers-2` will do.")],
    command: Annotated[
        list[str] | None, typer.Argument(help="After `--`: run this instead of a shell.")
    ] = None,
    site: SiteOption = _HERE,
) -> None:
    """Open a shell on a machine, or run a command there.

    Examples: `orchestrate ssh vobox`, `orchestrate ssh workers-1 -- df -h`.
    """
    with _reading(site) as ctx:
        argv = _shell(ctx, machine, lambda _: command or [])
    os.execvp(argv[0], argv)  # noqa: S606 - the terminal is handed over


def inventory(site: SiteArgument = _HERE, limit: Limit = "", as_json: Json = False) -> None:
    """List the machines; with --json as an Ansible inventory.

    Example: `orchestrate inventory --json > hosts.json; ansible -i hosts.json central -m ping`.
    """
    with _reading(site) as ctx:
        from orchestrator.cli import show
        from orchestrator.deploy import commands

        listed = commands.fleet(ctx, limit)
        _print(as_json, show.inventory(listed), lambda: show.machines(listed))


def _change(
    site: Path, as_json: bool, yes: bool, verb: Callable[[Any, Context, Callable[[Plan], bool]], Report]
) -> None:
    """Run a verb that changes the world, show it as it goes, and exit with its code."""
    from orchestrator.cli import live
    from orchestrator.deploy import commands
    from orchestrator.wiring.deploy import context

    with live.view(as_json) as sink, context(site, sink=sink) as ctx, live.stopping(ctx.stop):
        report = verb(commands, ctx, _asker(yes))
    raise typer.Exit(report.exit_code)


def _asker(yes: bool) -> Callable[[Plan], bool]:
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
def _reading(site: Path) -> Iterator[Context]:
    from orchestrator.wiring.deploy import context

    with context(site, reading=True) as ctx:
        yield ctx


def _shell(ctx: Context, name: str, command: Callable[[str], list[str]]) -> list[str]:
    from orchestrator.deploy import commands
    from orchestrator.providers.base import HasShell

    machine = commands.find(ctx, name)
    provider: object = ctx.provider(machine.provider)
    if not isinstance(provider, HasShell):
        raise UserError(f"machines of provider {machine.provider} cannot be entered", machine=machine.name)
    return provider.shell(machine.name, command(machine.root))


def _print(as_json: bool, data: Any, lines: Callable[[], Iterable[str]]) -> None:
    if as_json:
        typer.echo(json.dumps(data, indent=1, default=str))
        return
    for line in lines():
        typer.echo(line)


def _json_of(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file}: this is not a saved plan ({error}); make one with `plan --save {file}`"
        ) from error
