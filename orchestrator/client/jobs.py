"""Jobs from a program: over ``jobs.client``."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.catalogue import client as catalogue
from orchestrator.client import copying
from orchestrator.client.following import Followed
from orchestrator.errors import NotFound, UserError
from orchestrator.jobs import client, model

if TYPE_CHECKING:
    from orchestrator.wiring.grid import Connection

Json = dict[str, Any]
Rows = list[Json]  # by this name, since a method is called list
PORTION = 2_000  # jobs of one request


@dataclass(frozen=True)
class Job(Followed):
    """One job by its number. ``warnings``: what its submission said."""

    connection: Connection = field(repr=False)
    number: int
    warnings: tuple[str, ...] = ()

    async def show(self) -> Json:
        """All about it: state, jdl, events, times, outputs, parts (``jobs.client.show``)."""
        return await client.show(self.connection.central, self.number)

    async def state(self) -> str:
        """Its state now."""
        return str((await self.show())["state"])

    async def why(self) -> Json:
        """Why it is in its state, and what would let it run (``jobs.client.why``)."""
        return await client.why(self.connection.central, self.number)

    async def trace(self) -> Json:
        """Its events with the time spent in each state."""
        return await client.trace(self.connection.central, self.number)

    async def peek(self) -> Json:
        """What it has printed so far, while it runs: {"stdout", "stderr"}."""
        return await client.peek(self.connection.central, self.number)

    async def follow(self) -> AsyncIterator[Json]:
        """Every event, as it happens, to its end: {seq, at, attempt, old, new, actor, reason}. The verdict of a
        ValidationCommand belongs to it."""
        async for event in client.watch(self.connection.central, self.number):
            yield event
            state = str(event["new"])
            if state in model.FINAL and not (
                state in (model.DONE, model.DONE_WARN) and model.unjudged(state, await self.show())
            ):
                return

    async def outputs(self) -> list[Json]:
        """Its output files: {lfn, size, md5, se, ...}."""
        return list((await self.show())["outputs"])

    async def read(self, name: str = "stdout") -> bytes:
        """The content of an output file; of a running job what it has printed so far. NotFound names what it has."""
        found = await self.show()
        for each in found["outputs"]:
            if each["lfn"].rpartition("/")[2] == name:
                return await catalogue.read_bytes(self.connection.central, each["lfn"])
        if found["state"] in model.ACTIVE and name in ("stdout", "stderr"):
            return str((await self.peek()).get(name, "")).encode()
        have = ", ".join(each["lfn"].rpartition("/")[2] for each in found["outputs"]) or "none"
        hint = (
            f"; its parts have their own: `orchestrate job ps --master {self.number}`"
            if found["parts"]
            else ""
        )
        said = f"job {self.number} ({found['state']}) has no output {name}; it has {have}{hint}"
        raise NotFound(said, job=self.number)

    async def output(self, folder: str | Path = ".") -> list[Path]:
        """All its output files are in ``folder``, which is made when it does not exist."""
        into = Path(folder)
        into.mkdir(parents=True, exist_ok=True)
        lfns = dict.fromkeys(str(each["lfn"]) for each in await self.outputs())

        async def one(lfn: str) -> Path:
            path = into / lfn.rpartition("/")[2]
            await catalogue.get(self.connection.central, lfn, path)
            return path

        return await copying.some_at_once(lfns, one)

    async def kill(self) -> str:
        """Its state afterwards; a master's parts are killed with it."""
        return await client.kill(self.connection.central, self.number)

    async def resubmit(self) -> str:
        """Another attempt of a failed or killed job; its state afterwards."""
        return await client.resubmit(self.connection.central, self.number)

    async def hold(self) -> str:
        """It waits until it is released."""
        return await client.hold(self.connection.central, self.number)

    async def release(self) -> str:
        """A held job may run again."""
        return await client.release(self.connection.central, self.number)


@dataclass(frozen=True)
class Jobs:
    """All jobs that you may see."""

    connection: Connection = field(repr=False)

    def __getitem__(self, number: int) -> Job:
        """The job of that number; whether there is one is told by the first call."""
        return Job(self.connection, number)

    async def submit(self, jdl: str | Path, *arguments: object, request: str = "") -> Job:
        """Submit JDL text, or a file of it; ``arguments`` are what $1, $2 … stand for.

        UserError's ``facts["problems"]`` is a list of {line, column, message}. With the same ``request`` a repeated
        call makes no second job.
        """
        texts = [str(each) for each in arguments]
        made = await client.submit(self.connection.central, _text(jdl), texts, request)
        return Job(self.connection, int(made["task"]), tuple(made["warnings"]))

    async def submit_many(self, jdl: str | Path, arguments: Iterable[Sequence[object]]) -> Sequence[Job]:
        """A job for each list of arguments, in their order, any number of them; each 2,000 are made or none."""
        lists = [[str(one) for one in each] for each in arguments]
        text, request = _text(jdl), secrets.token_hex(12)
        made: list[Job] = []
        for start in range(0, len(lists), PORTION):
            some = lists[start : start + PORTION]
            answer = await client.submit_many(self.connection.central, text, some, f"{request}/{start}")
            made += [
                Job(self.connection, int(number), tuple(answer["warnings"])) for number in answer["tasks"]
            ]
        return made

    async def list(
        self,
        *,
        state: str | None = None,
        owner: str | None = None,
        master: int | None = None,
        tag: str | None = None,
        site: str | None = None,
        since: float | None = None,
        limit: int | None = None,
        archived: bool = False,
    ) -> Rows:
        """Jobs, newest first (``jobs.client.listing``). ``owner``: you when it is not given, "all" for everybody;
        ``state``: "RUNNING,SAVING"; ``since``: submitted within so many seconds; ``master`` 0: only those that are no part;
        ``archived``: those that ended long ago too (else only if ``since`` reaches back to them)."""
        whose = None if owner == "all" else owner or self.connection.user
        return await client.listing(
            self.connection.central,
            state=state,
            owner=whose,
            master=master,
            tag=tag,
            site=site,
            since=since,
            limit=limit,
            archived=archived,
        )

    async def top(self, within: float = 3600.0) -> Json:
        """Who has how many jobs in which state, and what ended within so many seconds (``jobs.client.top``)."""
        return await client.top(self.connection.central, within=within)

    async def suggestions(self, owner: str | None = None) -> Rows:
        """What would let waiting jobs run: copies of data, packages (``jobs.client.suggestions``)."""
        return await client.suggestions(self.connection.central, owner=owner)

    async def accept(self, suggestion: int) -> Rows:
        """The copies of a suggestion are asked for as transfers of yours."""
        return await client.accept(self.connection.central, suggestion)


def _text(jdl: str | Path) -> str:
    if isinstance(jdl, str):
        return jdl
    try:
        return jdl.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"JDL file {jdl} cannot be read: {error}") from error
