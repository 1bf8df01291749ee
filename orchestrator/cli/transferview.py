"""How transfers look on a terminal."""

from __future__ import annotations

import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.cli.cells import short
from orchestrator.transfers import model
from orchestrator.units import format_duration, format_size

Json = dict[str, Any]


def _console() -> Console:
    return Console(highlight=False, soft_wrap=False)


def _colour(state: str) -> str:
    if state == model.DONE:
        return f"[green]{state}[/]"
    if state in model.FAILURES:
        return f"[red]{state}[/]"
    return f"[cyan]{state}[/]" if state in model.ACTIVE else state


def submitted(made: list[Json]) -> None:
    """The numbers of the transfers asked for."""
    for each in made:
        known = "" if each["new"] else " (under way already)"
        there = ": it is there" if each["state"] == model.DONE else ""
        line = f"transfer {each['task']}  {escape(each['lfn'])}{there}{known}"
        _console().print(line, soft_wrap=True)


def event(each: Json, transfer: int | None = None) -> None:
    """One line of a transfer's history."""
    at = datetime.datetime.fromtimestamp(each["at"]).strftime("%H:%M:%S.%f")[:-3]
    which = f"{transfer}  " if transfer is not None else ""
    attempt = f" (attempt {each['attempt']})" if each["attempt"] > 1 else ""
    reason = f"  [dim]{escape(each['reason'])}[/]" if each["reason"] else ""
    _console().print(f"{at}  {which}{_colour(each['new'])}{attempt}{reason}")


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, justify="right" if name in ("ID", "SIZE") else "left", no_wrap=True)
    return table


def listing(found: list[Json]) -> None:
    """A table of transfers."""
    if not found:
        _console().print("no transfers; ask for one with `orchestrate transfer submit LFN --to SE`")
        return
    table = _table("ID", "STATE", "USER", "KIND", "WAY", "SIZE")
    table.add_column("FILE")  # the one that gives way on a narrow terminal
    for each in found:
        attempt = f" [dim]#{each['attempt']}[/]" if each["attempt"] > 1 else ""
        size = format_size(each["size"])
        if each["bytes"] and each["state"] == model.TRANSFERRING:
            size = f"{100 * each['bytes'] // max(1, each['size'])}% of {size}"
        reason = f"  [dim]{escape(each['reason'])}[/]" if each["reason"] else ""
        way = f"{each['source'] or '?'} → {each['destination']}"
        cells = (str(each["id"]), _colour(each["state"]) + attempt, each["owner"], each["kind"], escape(way))
        table.add_row(*cells, size, short(escape(each["lfn"]) + reason))
    _console().print(table)


def transfer(found: Json) -> None:
    """Everything about one transfer."""
    console = _console()
    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    facts.add_row("transfer", f"{found['id']}  {escape(found['lfn'])}")
    reason = f"  {escape(found['reason'])}" if found["reason"] else ""
    facts.add_row("state", _colour(found["state"]) + reason)
    facts.add_row("user", found["owner"])
    facts.add_row("kind", found["kind"])
    facts.add_row("way", escape(f"{found['source'] or '?'} → {found['destination']}"))
    facts.add_row("size", format_size(found["size"]))
    if found["resource"]:
        facts.add_row("FTD", escape(f"{found['resource']} at {found['site']}, attempt {found['attempt']}"))
    if found["tried"]:
        facts.add_row("bad copies", escape(", ".join(found["tried"])))
    facts.add_row("age", format_duration(found["age"]))
    for name, value in found["result"].items():
        facts.add_row(name, escape(str(value)))
    console.print(facts)
    if found["steps"]:
        console.print("\n[bold]steps[/]")
        table = _table("TASK", "ATTEMPT", "DOES", "WAY", "AT", "STATE")
        for each in found["steps"]:
            way = each["target"] if each["role"] == model.CLEAN else f"{each['source']} → {each['target']}"
            why = f"  [dim]{escape(each['reason'])}[/]" if each["reason"] else ""
            cells = (str(each["task"]), str(each["attempt"]), each["role"], escape(way), escape(each["site"]))
            table.add_row(*cells, _colour(each["state"]) + why)
        console.print(table)
    console.print("\n[bold]history[/]")
    for each in found["events"]:
        event(each)


def limits(found: Json) -> None:
    """What differs from the defaults."""
    if not found["storage"] and not found["links"]:
        _console().print("no limits but the defaults")
    if found["storage"]:
        table = _table("STORAGE ELEMENT", "OUT", "IN", "BUFFER")
        for each in found["storage"]:
            numbers = ("default" if each[key] is None else str(each[key]) for key in ("most_out", "most_in"))
            table.add_row(escape(each["se"]), *numbers, escape(each["buffer"]))
        _console().print(table)
    if found["links"]:
        table = _table("LINK", "AT ONCE")
        for each in found["links"]:
            way = f"{each['source']} → {each['target']}"
            table.add_row(escape(way), str(each["most"] or "none: no direct link"))
        _console().print(table)
