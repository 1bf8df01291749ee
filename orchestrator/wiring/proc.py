"""/proc of the catalogue (``catalogue.proc.View``): users, their jobs, and what is known of each, from grid.task."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.auth.store import People
from orchestrator.catalogue import proc
from orchestrator.catalogue.model import PROC
from orchestrator.catalogue.proc import Seen
from orchestrator.classads import quote
from orchestrator.errors import NotFound
from orchestrator.jobs import archived
from orchestrator.jobs import store as jobs
from orchestrator.jobs.model import KIND
from orchestrator.runtime.sql import Database
from orchestrator.tasks import store as tasks
from orchestrator.tasks.kinds import Task

MOST_JOBS = 1000  # that a user's directory shows, the newest; the others are there too

Json = dict[str, Any]


@dataclass(frozen=True)
class JobsView:
    """/proc/<user>/<job>/{jdl,state,trace,resource}."""

    database: Database
    people: People

    async def look(self, path: str) -> Seen:
        """What is at the clean ``path``; NotFound when there is nothing."""
        parts = path.removeprefix(PROC).split("/")[1:]
        if not parts:
            users = [
                proc.directory(f"{PROC}/{person.name}", person.name) for person in await self.people.all()
            ]
            return Seen(proc.directory(PROC, ""), tuple(users))
        if len(parts) == 1:
            return await self._user(path, parts[0])
        task, events = await self._job(path, parts)
        files = {name: show(task, events) for name, show in _FILES.items()}
        home = f"{PROC}/{parts[0]}/{parts[1]}"
        entries = {
            name: proc.file(f"{home}/{name}", task.owner, task.changed, text) for name, text in files.items()
        }
        if len(parts) == 2:
            return Seen(proc.directory(home, task.owner, task.submitted), tuple(entries.values()))
        if parts[2] not in files or len(parts) > 3:
            raise _nothing(path)
        return Seen(entries[parts[2]], content=files[parts[2]])

    async def _user(self, path: str, user: str) -> Seen:
        async with self.database.transaction() as connection:
            listed = await archived.listing(connection, jobs.Choice(owner=user), MOST_JOBS, everything=True)
        if not listed and user not in {person.name for person in await self.people.all()}:
            raise _nothing(path)
        found = (
            proc.directory(f"{path}/{each.task.id}", user, each.task.submitted) for each in reversed(listed)
        )
        return Seen(proc.directory(path, user), tuple(found))

    async def _job(self, path: str, parts: list[str]) -> tuple[Task, list[Json]]:
        user, number = parts[:2]
        if not (number.isascii() and number.isdecimal() and len(number) < 19):
            raise _nothing(path)
        async with self.database.transaction() as connection:
            task = await tasks.get(connection, int(number))
            if task.owner != user or task.kind != KIND or str(task.id) != number:
                raise _nothing(path)
            return task, await tasks.events(connection, task.id)


def _nothing(path: str) -> NotFound:
    return NotFound(f"{path} is not in the catalogue", path=path)


def jdl_text(attributes: Mapping[str, Any], requirements: str) -> str:
    """A job's JDL as it is now, one attribute a line, by name, the Executable first. Pure."""
    ordered = sorted(attributes.items(), key=lambda each: (each[0] != "Executable", each[0]))
    lines = [f"{name} = {_literal(value)};\n" for name, value in ordered]
    return "".join(lines) + (f"Requirements = {requirements};\n" if requirements else "")


def _literal(value: Any) -> str:
    """A value in the spelling of the ClassAd language."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "{" + ", ".join(_literal(each) for each in value) + "}"
    if isinstance(value, Mapping):
        return "[" + "; ".join(f"{name} = {_literal(each)}" for name, each in value.items()) + "]"
    return quote(value) if isinstance(value, str) else repr(value)


def _jdl(task: Task, _: list[Json]) -> str:
    return jdl_text(task.spec.get("jdl", {}), str(task.spec.get("own") or ""))


def _state(task: Task, _: list[Json]) -> str:
    return f"{task.state}\n"


def _trace(_: Task, events: list[Json]) -> str:
    return "".join(f"{_when(event['at'])} {_step(event)}\n" for event in events)


def _step(event: Json) -> str:
    moved = f"{event['old'] or '-'} {event['new']} attempt {event['attempt']} by {event['actor']}"
    reason = " ".join(event["reason"].split())  # an event is one line
    return f"{moved}: {reason}" if reason else moved


def _resource(task: Task, _: list[Json]) -> str:
    return f"site {task.site}\nresource {task.resource}\n" if task.resource else ""


def _when(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


_FILES: Mapping[str, Callable[[Task, list[Json]], str]] = {
    "jdl": _jdl,
    "resource": _resource,
    "state": _state,
    "trace": _trace,
}
