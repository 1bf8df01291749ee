"""How jobs look on a terminal."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from orchestrator.cli.cells import short
from orchestrator.jobs import model
from orchestrator.units import format_duration, format_size

Json = dict[str, Any]


def _console(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, highlight=False, soft_wrap=False)


def _colour(state: str) -> str:
    if state in model.SUCCESSES:
        return f"[green]{state}[/]"
    if state in model.FAILURES:
        return f"[red]{state}[/]"
    return f"[cyan]{state}[/]" if state in model.ACTIVE else state


def _when(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).strftime("%m-%d %H:%M:%S")


def submitted(file: Path, made: Json) -> None:
    """The number of a new job; warnings on stderr."""
    for warning in made.get("warnings", ()):
        _console(stderr=True).print(f"[yellow]{escape(f'{file}:{warning}')}[/]", soft_wrap=True)
    _console().print(f"job {made['task']}")


def submitted_many(file: Path, made: Json) -> None:
    """How many jobs were made, and between which numbers; warnings on stderr."""
    for warning in made.get("warnings", ()):
        _console(stderr=True).print(f"[yellow]{escape(f'{file}:{warning}')}[/]", soft_wrap=True)
    tasks = made["tasks"]
    _console().print(f"{len(tasks)} jobs: {tasks[0]} to {tasks[-1]}")


def event(event: Json) -> None:
    """One line of a job's history."""
    at = datetime.datetime.fromtimestamp(event["at"]).strftime("%H:%M:%S.%f")[:-3]
    attempt = f" (attempt {event['attempt']})" if event["attempt"] > 1 else ""
    reason = f"  [dim]{escape(event['reason'])}[/]" if event["reason"] else ""
    _console().print(f"{at}  {_colour(event['new'])}{attempt}{reason}")


def listing(found: list[Json]) -> None:
    """A table of jobs."""
    if not found:
        _console().print("no jobs; submit one with `orchestrate job submit FILE`")
        return
    names = ("ID", "STATE", "USER", "SITE", "PARTS", "SUBMITTED")
    lines = [_cells(each) for each in found]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, name in enumerate(names):
        width = max(len(name), *(len(Text.from_markup(line[column])) for line in lines))
        right = name in ("ID", "PARTS")
        table.add_column(name, justify="right" if right else "left", min_width=width, no_wrap=True)
    table.add_column("NAME")  # the one that gives way on a narrow terminal
    for *cells, name in lines:
        table.add_row(*cells, short(name))
    _console().print(table)


def _cells(each: Json) -> list[str]:
    """A row of the table of jobs, as markup."""
    attempt = f" [dim]#{each['attempt']}[/]" if each["attempt"] > 1 else ""
    reason = f"  [dim]{escape(each['reason'])}[/]" if each["reason"] else ""
    return [
        str(each["id"]),
        _colour(each["state"]) + attempt,
        each["owner"],
        each["site"],
        str(each["parts"] or ""),
        _when(each["submitted"]),
        escape(each["name"]) + reason,
    ]


def job(found: Json) -> None:
    """Everything about one job."""
    console = _console()
    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    facts.add_row("job", f"{found['id']}  {escape(found['name'])}")
    facts.add_row(
        "state", _colour(found["state"]) + (f"  {escape(found['reason'])}" if found["reason"] else "")
    )
    facts.add_row("user", found["owner"])
    if found["site"]:
        facts.add_row(
            "where", f"{escape(found['resource'])} at {escape(found['site'])}, attempt {found['attempt']}"
        )
    if found["parent"]:
        facts.add_row("part of", str(found["parent"]))
    if found["parts"]:
        facts.add_row(
            "parts", ", ".join(f"{count} {_colour(state)}" for state, count in found["parts"].items())
        )
    if found.get("validation"):
        judged = found["validation"]
        told = (
            f"job {judged['job']} is {_colour(judged['state'])}"
            if judged["job"]
            else escape(judged["reason"])
        )
        facts.add_row("validation", told)
    spent = ", ".join(f"{state} {format_duration(seconds)}" for state, seconds in found["times"].items())
    facts.add_row("spent", spent)
    for name, value in found["result"].items():
        facts.add_row(name, escape(str(value)))
    console.print(facts)
    console.print("\n[bold]history[/]")
    for each in found["events"]:
        event(each)
    if found["outputs"]:
        console.print("\n[bold]outputs[/]")
    for each in found["outputs"]:
        size = format_size(each["size"])
        console.print(f"{escape(each['lfn'])}  {size}  at {escape(each['se'])}", soft_wrap=True)


def why(number: int, told: Json) -> None:
    """Why a job waits."""
    console = _console()
    console.print(f"job {number} is {_colour(told['state'])}")
    for reason in told["reasons"]:
        console.print(f"  {escape(reason)}", soft_wrap=True)
    suggested(told.get("suggestions", ()))
    if not told["requirements"]:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("SATISFIED BY", justify="right")
    table.add_column("REQUIREMENT", overflow="fold")
    for each in told["requirements"]:
        count = f"{each['satisfied']} of {each['known']}"
        table.add_row(
            f"[red]{count}[/]" if each["known"] and not each["satisfied"] else count, escape(each["text"])
        )
    console.print(table)


def suggested(found: Iterable[Json]) -> None:
    """Suggestions of the optimizer, each with what the person can do."""
    for each in found:
        _console().print(f"  {escape(each['text'])}", soft_wrap=True)
        if each["advice"]:
            _console().print(f"    [dim]{escape(each['advice'])}[/]", soft_wrap=True)


def suggestions(found: list[Json]) -> None:
    """A table of suggestions."""
    if not found:
        _console().print("no suggestions: nothing is known that would help the waiting jobs")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("ID", "KIND", "JOBS", "SIZE", "TO"):
        table.add_column(name, justify="right" if name in ("ID", "JOBS", "SIZE") else "left", no_wrap=True)
    table.add_column("WHAT", overflow="fold")
    for each in found:
        size = format_size(each["bytes"]) if each["bytes"] else ""
        said = f"  [dim]{escape(each['reason'])}[/]" if each["reason"] else ""
        asked = f"  [cyan]asked for by {escape(each['accepted'])}[/]" if each["accepted"] else ""
        many = f" ({each['files']} files)" if each["files"] > 1 else ""
        cells = (str(each["id"]), each["kind"], str(each["jobs"]), size, escape(each["target"]))
        table.add_row(*cells, escape(each["subject"]) + many + said + asked)
    _console().print(table)


def trace(found: Json) -> None:
    """A job's events with the time spent in each state, and the sums."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("#", "AT", "SPENT"):
        table.add_column(name, justify="left" if name == "AT" else "right", no_wrap=True)
    for name in ("STATE", "BY", "REASON"):
        table.add_column(name, overflow="fold")
    for each in found["events"]:
        at = datetime.datetime.fromtimestamp(each["at"]).strftime("%m-%d %H:%M:%S.%f")[:-3]
        attempt = f" [dim]#{each['attempt']}[/]" if each["attempt"] > 1 else ""
        spent = "" if each["spent"] is None else _seconds(each["spent"])
        state = _colour(each["new"]) + attempt
        table.add_row(str(each["seq"]), at, spent, state, escape(each["actor"]), escape(each["reason"]))
    _console().print(table)
    sums = sorted(found["times"].items(), key=lambda pair: -pair[1])
    _console().print("\nspent: " + ", ".join(f"{state} {_seconds(time)}" for state, time in sums))


def _seconds(time: float) -> str:
    return f"{time:.3f} s" if time < 60 else format_duration(time)


def print_top(found: Json) -> None:
    """``top`` once."""
    _console().print(top(found))


def top(found: Json) -> Group:
    """Users by what they run, and states by how many there are and how long they last."""
    users = Table(box=None, pad_edge=False, header_style="bold")
    users.add_column("USER")
    for name in ("RUNNING", "WAITING", "OTHER", "DONE", "FAILED"):
        users.add_column(name, justify="right")

    def running(owner: str) -> int:
        return sum(count for state, count in found["users"].get(owner, {}).items() if state in model.ACTIVE)

    for owner in sorted({*found["users"], *found["ended"]}, key=lambda each: (-running(each), each)):
        open_, ended = found["users"].get(owner, {}), found["ended"].get(owner, {})
        waiting = open_.get(model.WAITING, 0)
        good = sum(count for state, count in ended.items() if state in model.SUCCESSES)
        cells = (running(owner), waiting, sum(open_.values()) - running(owner) - waiting)
        users.add_row(owner, *(str(each) for each in (*cells, good, sum(ended.values()) - good)))
    states = Table(box=None, pad_edge=False, header_style="bold")
    states.add_column("STATE")
    for name in ("JOBS", "LEFT IT", "MEDIAN"):
        states.add_column(name, justify="right")
    counts: Counter[str] = Counter()
    for owned in found["users"].values():
        counts.update(owned)
    for state in (each for each in model.LIFE if each in counts or each in found["median"]):
        left = found["median"].get(state, {})
        median = _seconds(left["seconds"]) if left else ""
        states.add_row(_colour(state), str(counts[state]), str(left.get("jobs", "")), median)
    said = f"[dim]DONE, FAILED, LEFT IT and MEDIAN: the last {format_duration(found['within'])}[/]"
    return Group(users, Text(""), states, Text.from_markup(said))
