"""Verbs on many jobs: ``job submit --each``, and ``job kill|resubmit|hold|release`` by number or by a filter."""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import on_grid
from orchestrator.cli.joboptions import Json, Master, Since, SiteOption, State, Tag, seconds
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from orchestrator.wiring.grid import Connection

PORTION = 2_000  # jobs of one request: after each, the progress is told
_TOLD = 10  # refusals that are shown one by one
_COUNTED = 10_000  # jobs that a filter's question counts at most
Jobs = Annotated[list[int] | None, typer.Argument(metavar="ID…", help="Numbers of jobs.")]
Owner = Annotated[
    str | None,
    typer.Option("--owner", "--user", metavar="USER", help="Of this user (an admin: `all` for everybody)."),
]
At = Annotated[str | None, typer.Option("--at", metavar="NAME", help="With a resource of this grid site.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Verb = Callable[..., None]


def verbs() -> dict[str, Verb]:
    """The four verbs, for ``orchestrate job``."""
    docs = {
        "kill": "Kill jobs; a master's parts are killed with it.",
        "resubmit": "Run failed or killed jobs again; a master runs its failed parts only.",
        "hold": "Keep waiting jobs from starting until they are released; of a master, its waiting parts.",
        "release": "Let held jobs wait for a resource again; of a master, its held parts.",
    }
    made = {name: _verb(name) for name in docs}
    for name, function in made.items():
        state = {"kill": "WAITING", "resubmit": "ERROR_E,EXPIRED", "hold": "WAITING", "release": "HELD"}[name]
        function.__doc__ = (
            f"{docs[name]}\n\nBy number, or all that a filter chooses (of your own, unless --owner says otherwise); "
            f"without either nothing is done.\n\nExamples: `orchestrate job {name} 12 13`, "
            f"`orchestrate job {name} --state {state} --tag mc26`, `orchestrate job {name} --master 12 --yes`."
        )
    return made


def _verb(name: str) -> Verb:
    def verb(
        jobs: Jobs = None,
        state: State = None,
        owner: Owner = None,
        master: Master = None,
        tag: Tag = None,
        at: At = None,
        since: Since = None,
        yes: Yes = False,
        site: SiteOption = None,
        as_json: Json = False,
    ) -> None:
        given = {
            "state": state,
            "owner": owner,
            "master": master,
            "tag": tag,
            "site": at,
            "since": seconds(since),
        }
        chosen = {key: value for key, value in given.items() if value is not None}
        if bool(jobs) == bool(chosen):
            said = (
                "either numbers of jobs, or a filter"
                if jobs
                else "numbers of jobs, or a filter (--state, --owner, …)"
            )
            raise UserError(f"{name} wants {said}; nothing never means all")
        results = on_grid(site, lambda grid: _act(grid, name, jobs or [], chosen, yes, as_json))
        if as_json:
            typer.echo(json.dumps(results))
        else:
            _tell(results, bool(jobs))
        refused = [each for each in results if not each["ok"]]
        if refused:
            raise typer.Exit(refused[0]["code"])

    verb.__name__ = name
    return verb


async def _act(
    grid: Connection, verb: str, ids: Sequence[int], chosen: dict[str, Any], yes: bool, as_json: bool
) -> list[dict[str, Any]]:
    from orchestrator.jobs import client

    if chosen and not yes:
        await _confirm(grid, verb, chosen)
    results: list[dict[str, Any]] = []
    pages = (
        client.each_chosen(grid.central, verb, **chosen)
        if chosen
        else client.each_of(grid.central, verb, ids)
    )
    async for page in pages:
        results += page
        _progress(verb, len(results), len(ids), as_json)
    _progress(verb, 0, 0, as_json)
    return results


async def _confirm(grid: Connection, verb: str, chosen: dict[str, Any]) -> None:
    """UserError unless the person at the terminal agrees."""
    from orchestrator.jobs import client, model

    wanted = {each.strip().upper() for each in str(chosen.get("state") or "").split(",") if each.strip()}
    states = sorted(model.VERBS[verb] & wanted if wanted else model.VERBS[verb])
    asked = chosen | {"state": ",".join(states), "owner": chosen.get("owner") or grid.user}
    if asked["owner"] == "all":
        asked["owner"] = None
    found = await client.listing(grid.central, **asked, limit=_COUNTED) if states else []
    many = f"{len(found)} jobs" if len(found) < _COUNTED else f"{_COUNTED} jobs or more"
    if not found:
        return  # nothing will happen, and the answer says why
    if not sys.stdin.isatty():
        raise UserError(f"{verb} would act on {many}; add --yes if you mean it")
    if not typer.confirm(f"{verb} {many}?", err=True):
        raise UserError("nothing was done")


def _progress(verb: str, done: int, of: int, as_json: bool) -> None:
    """A line that is written over; ``done`` 0 takes it away."""
    if as_json or not sys.stderr.isatty():
        return
    total = f" of {of}" if of else ""
    sys.stderr.write(f"\r{verb}: {done}{total}" if done else "\r\033[K")
    sys.stderr.flush()


def _tell(results: Sequence[dict[str, Any]], one_by_one: bool) -> None:
    refused = [each for each in results if not each["ok"]]
    if one_by_one:
        for each in results:
            typer.echo(_line(each), err=not each["ok"])
        return
    counts = Counter(each["state"] for each in results if each["ok"])
    typer.echo(
        ", ".join(f"{count} jobs: {state}" for state, count in sorted(counts.items())) or "no job was changed"
    )
    for each in refused[:_TOLD]:
        typer.echo(_line(each), err=True)
    if len(refused) > _TOLD:
        typer.echo(f"and {len(refused) - _TOLD} more could not be done", err=True)


def _line(each: dict[str, Any]) -> str:
    name = f"job {each['job']}"
    return f"{name}: {each['state'] or each['message'].removeprefix(name).strip()}"


def read_lists(file: Path) -> tuple[list[list[str]], list[int]]:
    """A list of arguments for each line that is not blank, split by shell quoting rules; and the lines' numbers."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    lists, numbers = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            lists.append(shlex.split(line))
        except ValueError as error:
            raise UserError(f"{file}:{number}: {error}") from error
        numbers.append(number)
    if not lists:
        raise UserError(f"{file} has no line; write the arguments of one job on each")
    return lists, numbers


async def submit_each(grid: Connection, text: str, jdl: Path, file: Path, as_json: bool) -> dict[str, Any]:
    """A job for each line of ``file``: {tasks, warnings}. UserError names the line that is wrong, and what was submitted."""
    import secrets

    from orchestrator.jobs import client

    lists, numbers = read_lists(file)
    request = secrets.token_hex(12)
    made: list[int] = []
    warnings: list[str] = []
    for start in range(0, len(lists), PORTION):
        portion = lists[start : start + PORTION]
        try:
            answer = await client.submit_many(grid.central, text, portion, f"{request}/{start}")
        except UserError as error:
            place = error.facts.get("place")
            at = f"{file}:{numbers[start + place - 1]}: " if place else ""
            before = f" ({len(made)} jobs were submitted before: {made[0]} to {made[-1]})" if made else ""
            problems = [
                f"{jdl}:{p['line']}:{p['column']}: {p['message']}" for p in error.facts.get("problems", ())
            ]
            raise UserError(at + ("\n".join(problems) or error.message) + before, **error.facts) from error
        made += answer["tasks"]
        warnings = warnings or answer["warnings"]
        _progress("submit", len(made), len(lists), as_json)
    _progress("submit", 0, 0, as_json)
    return {"tasks": made, "warnings": warnings}
