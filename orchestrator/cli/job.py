"""``orchestrate job submit|ps|show|output|why``: one call of ``jobs.client`` each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import jobadvice, jobmany, jobtop
from orchestrator.cli.common import on_grid
from orchestrator.cli.joboptions import Json, Master, Since, SiteOption, State, Tag, seconds
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from orchestrator.wiring.grid import Connection

Job = Annotated[int, typer.Argument(metavar="ID", help="A job's number.")]


def register(app: typer.Typer) -> None:
    """``orchestrate job …`` is in ``app``."""
    group = typer.Typer(no_args_is_help=True, help="Submit jobs and look after them.")
    verbs: list[tuple[str, Callable[..., None]]] = [
        ("submit", submit),
        ("ps", ps),
        ("show", show),
        ("output", output),
        ("why", why),
        ("suggestions", jobadvice.suggestions),
        ("trace", jobtop.trace),
        ("top", jobtop.top),
        *jobmany.verbs().items(),
    ]
    for name, verb in verbs:
        group.command(name)(verb)
    app.add_typer(group, name="job", rich_help_panel="Jobs")


def submit(
    file: Annotated[Path, typer.Argument(help="A JDL file.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARG…", help="What $1, $2 … in the JDL stand for.")
    ] = None,
    each: Annotated[
        Path | None, typer.Option("--each", metavar="FILE", help="A job for each line of arguments in FILE.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it to its end.")] = False,
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """Submit a job, or one for each line of a file. With --watch the exit code tells whether it succeeded.

    Examples: `orchestrate job submit hello.jdl`, `orchestrate job submit sim.jdl 13 500 --watch`,
    `orchestrate job submit sim.jdl --each seeds.txt`.
    """
    from orchestrator.cli import jobview
    from orchestrator.client import Grid
    from orchestrator.jobs import client, model

    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"JDL file {file} cannot be read: {error}") from error
    if each is not None:
        if arguments or watch:
            raise UserError(
                "--each takes the arguments from its file, and watches nobody: leave ARG and --watch out"
            )
        many = on_grid(site, lambda grid: jobmany.submit_each(grid, text, file, each, as_json))
        if as_json:
            typer.echo(json.dumps(many))
        else:
            jobview.submitted_many(file, many)
        return

    async def act(grid: Connection) -> tuple[dict[str, Any], str]:
        try:
            made = await client.submit(grid.central, text, arguments or [])
        except UserError as error:
            raise _in_file(file, error) from error
        if not as_json:
            jobview.submitted(file, made)
        state = ""
        if watch:
            async for event in Grid.over(grid).jobs[made["task"]].follow():
                state = str(event["new"])
                if not as_json:
                    jobview.event(event)
        return made, state

    made, state = on_grid(site, act)
    if as_json:
        typer.echo(json.dumps(made | ({"state": state} if state else {})))
    if state and state not in model.SUCCESSES:
        if not as_json:
            typer.echo(f"see `orchestrate job show {made['task']}`", err=True)
        raise typer.Exit(4)


def ps(
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Parts and jobs that ended long ago too.")
    ] = False,
    state: State = None,
    user: Annotated[
        str | None,
        typer.Option(
            "--user", "--owner", metavar="USER", help="Of this user; default you, `all` for everybody."
        ),
    ] = None,
    master: Master = None,
    tag: Tag = None,
    at: jobmany.At = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """List jobs, newest first.

    Examples: `orchestrate job ps`, `orchestrate job ps -a --state RUNNING`, `orchestrate job ps --master 12`,
    `orchestrate job ps --tag mc26 --since 2h`, `orchestrate job ps --user all --at CERN`.
    """
    from orchestrator.cli import jobview
    from orchestrator.client import Grid

    async def act(grid: Connection) -> list[dict[str, Any]]:
        among = master if master is not None else None if everything or state or at else 0
        more: dict[str, Any] = {"tag": tag, "site": at, "since": seconds(since), "archived": everything}
        return await Grid.over(grid).jobs.list(state=state, owner=user, master=among, limit=limit, **more)

    found = on_grid(site, act)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        jobview.listing(found)


def show(job: Job, site: SiteOption = None, as_json: Json = False) -> None:
    """Show one job: what it is, what happened to it, its outputs.

    Example: `orchestrate job show 12`.
    """
    from orchestrator.cli import jobview
    from orchestrator.jobs import client

    found = on_grid(site, lambda grid: client.show(grid.central, job))
    if as_json:
        typer.echo(json.dumps(found))
    else:
        jobview.job(found)


def output(
    job: Job,
    name: Annotated[str, typer.Option(help="Which of its output files.")] = "stdout",
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="Write it there.")] = None,
    site: SiteOption = None,
) -> None:
    """Print an output file of a job; of a running job what it has printed so far.

    Examples: `orchestrate job output 12`, `orchestrate job output 12 --name merged.json --to merged.json`.
    """
    import sys

    from orchestrator.client import Grid

    data = on_grid(site, lambda grid: Grid.over(grid).jobs[job].read(name))
    if to is not None:
        to.write_bytes(data)
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def why(job: Job, site: SiteOption = None, as_json: Json = False) -> None:
    """Tell why a job waits, and which requirement no resource satisfies. Example: `orchestrate job why 12`."""
    from orchestrator.cli import jobview
    from orchestrator.jobs import client

    told = on_grid(site, lambda grid: client.why(grid.central, job))
    if as_json:
        typer.echo(json.dumps(told))
    else:
        jobview.why(job, told)


def _in_file(file: Path, error: UserError) -> UserError:
    """The same error with FILE:LINE:COLUMN before each problem."""
    problems = error.facts.get("problems")
    if not problems:
        return error
    lines = [f"{file}:{each['line']}:{each['column']}: {each['message']}" for each in problems]
    return UserError("\n".join(lines), problems=problems)
