"""Files in and out of a job's work directory, through the catalogue and the storage elements."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from orchestrator.agent import outputs
from orchestrator.catalogue import client as catalogue
from orchestrator.errors import PermanentError, TemporaryError
from orchestrator.jobs.model import Input, OutputSpec
from orchestrator.runtime.clock import Clock
from orchestrator.runtime.http import Api
from orchestrator.tasks.model import Output

_AT_ONCE = 8
T = TypeVar("T")


@dataclass(frozen=True)
class Chosen:
    """A file to store: its path in the work directory ``root``, and what its OutputFile entry asks for."""

    path: Path
    spec: OutputSpec
    root: Path

    def open(self) -> BinaryIO:
        """As ``outputs.open_inside``; what the job's processes did to it meanwhile is an Unsafe."""
        try:
            return outputs.open_inside(self.path, self.root)
        except FileNotFoundError as error:
            raise PermanentError(f"{self.path.name} has vanished") from error


@dataclass(frozen=True)
class Choice:
    """What OutputFile stands for: the files, the patterns that match nothing, files that share a name,
    and "NAME: WHY" of each match that is not the job's own regular file."""

    files: tuple[Chosen, ...]
    missing: tuple[str, ...]
    clashes: tuple[str, ...]
    unsafe: tuple[str, ...] = ()


async def patiently(
    work: Callable[[], Awaitable[T]], clock: Clock, patience: float, *, pause: float = 0.5
) -> T:
    """``work``, again after each TemporaryError until ``patience`` seconds have passed; then that error."""
    give_up = clock.monotonic() + patience
    while True:
        try:
            return await work()
        except TemporaryError as error:
            wait = max(pause, min(error.retry_in, 10.0))
            if clock.monotonic() + wait > give_up:
                raise
        await asyncio.sleep(wait)
        pause = min(10.0, pause * 2)


async def fetch(
    api: Api, inputs: Sequence[Input], directory: Path, token: str, clock: Clock, patience: float
) -> None:
    """Every input stands in ``directory``, checked. The first that cannot be had raises its GridError."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(wanted: Input) -> None:
        target = directory / wanted.name
        if not target.resolve().is_relative_to(directory.resolve()):
            raise PermanentError(f"input {wanted.lfn} would be put outside the work directory: {wanted.name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        async with gate:
            await patiently(lambda: catalogue.get(api, wanted.lfn, target, token), clock, patience)
        if wanted.executable:
            target.chmod(target.stat().st_mode | 0o700)

    async with first_error(asyncio.TaskGroup()) as group:
        for wanted in inputs:
            group.create_task(one(wanted))


def choose(directory: Path, specs: Sequence[OutputSpec]) -> Choice:
    """The files that ``specs`` name now: regular ones inside ``directory``, each once."""
    root = directory.resolve()
    found: dict[Path, OutputSpec] = {}
    missing: list[str] = []
    unsafe: dict[str, None] = {}
    for spec in specs:
        paths = outputs.matching(spec.pattern, root)
        refused = {path: why for path in paths if (why := outputs.refusal(path, root))}
        unsafe |= dict.fromkeys(f"{path.relative_to(root)}: {why}" for path, why in refused.items())
        if not paths:
            missing.append(spec.pattern)
        for path in paths:
            if path not in refused:
                found.setdefault(path, spec)
    names = [path.name for path in found]
    clashes = sorted({name for name in names if names.count(name) > 1})
    files = tuple(Chosen(path, spec, root) for path, spec in found.items())
    return Choice(files, tuple(missing), tuple(clashes), tuple(unsafe))


async def store(
    api: Api, files: Sequence[Chosen], directory: str, token: str, clock: Clock, patience: float
) -> list[Output]:
    """Every file is stored (not registered) for the LFN ``directory``/name; one Output per copy.

    A copy beyond the first that no storage element takes is left out: compare with ``spec.copies``.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(chosen: Chosen) -> list[Output]:
        lfn, spec = f"{directory.rstrip('/')}/{chosen.path.name}", chosen.spec
        async with gate:
            kept = await patiently(
                lambda: catalogue.store_copies(api, chosen.open, lfn, spec.storage, spec.copies, token),
                clock,
                patience,
            )
        return [Output.from_json(each.to_json()) for each in kept]

    async with first_error(asyncio.TaskGroup()) as group:
        tasks = [group.create_task(one(chosen)) for chosen in files]
    return [output for task in tasks for output in task.result()]


def too_few(files: Sequence[Chosen], outputs: Sequence[Output]) -> list[str]:
    """Names of the files that have fewer copies than asked."""
    have: dict[str, int] = {}
    for output in outputs:
        name = output.lfn.rpartition("/")[2]
        have[name] = have.get(name, 0) + 1
    return [chosen.path.name for chosen in files if have.get(chosen.path.name, 0) < chosen.spec.copies]


class first_error:
    """A TaskGroup whose first error is raised as it is, not in a group of errors."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group

    async def __aenter__(self) -> asyncio.TaskGroup:
        return await self._group.__aenter__()

    async def __aexit__(self, *what: object) -> None:
        try:
            await self._group.__aexit__(*what)  # type: ignore[arg-type]
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None
