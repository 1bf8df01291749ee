"""Make a job ready to run: its packages, its input files, its environment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestrator.agent import stage
from orchestrator.agent.guard import Program
from orchestrator.agent.isolation import Isolation
from orchestrator.agent.model import INPUT_MISSING, PACKAGE_MISSING
from orchestrator.agent.payload import resolve
from orchestrator.agent.session import Session
from orchestrator.errors import GridError
from orchestrator.jobs.model import ERROR_IB, Payload
from orchestrator.runtime.clock import Clock
from orchestrator.software.model import Package
from orchestrator.tasks.model import Assignment

_INPUT_PATIENCE, _PACKAGE_PATIENCE = 60.0, 300.0  # seconds


class Packages(Protocol):
    """The node's packages: what orchestrator.wiring.packages.NodePackages promises."""

    async def ensure(self, package: Package, sources: Sequence[str]) -> Path: ...
    def release(self, package: Package) -> None: ...
    def environment(
        self, releases: Sequence[tuple[Package, Path]], base: Mapping[str, str]
    ) -> dict[str, str]: ...
    def installed(self) -> list[str]: ...


@dataclass(frozen=True)
class Tools:
    """What every job of an agent shares. Times in seconds."""

    session: Session
    packages: Packages
    clock: Clock
    host: str
    heartbeat: float
    grace: float
    environment: Mapping[str, str]
    isolation: Isolation


class Failed(Exception):
    """The attempt ends in state ``to`` for the reason ``code``, told to the user as ``text``."""

    def __init__(self, to: str, code: str, text: str) -> None:
        super().__init__(text)
        self.to, self.code, self.text = to, code, text


async def prepare(
    assignment: Assignment, payload: Payload, work: Path, tools: Tools, held: list[Package]
) -> Program:
    """``work`` has the input files; returns what to run. Packages in ``held`` are to be released afterwards.

    Failed when something could not be had, from every source and with patience.
    """
    async with stage.first_error(asyncio.TaskGroup()) as group:
        packages = group.create_task(_packages(payload.packages, tools, held))
        group.create_task(_inputs(payload, work, assignment.token, tools))
    if payload.input_data:
        (work / "InputData.txt").write_text("".join(f"{lfn}\n" for lfn in payload.input_data))
    try:
        environment = tools.packages.environment(packages.result(), _base(assignment, payload, work, tools))
    except GridError as error:
        raise Failed(ERROR_IB, PACKAGE_MISSING, error.message) from error
    path = resolve(payload.executable, work, environment["PATH"])
    return Program(
        path, payload.arguments, environment, str(work), str(work / "stdout"), str(work / "stderr")
    )


def _base(assignment: Assignment, payload: Payload, work: Path, tools: Tools) -> dict[str, str]:
    return {
        **tools.environment,
        **payload.variables,
        "HOME": str(work),
        "TMPDIR": str(work),
        "ALIEN_PROC_ID": str(assignment.task),
        "ORCHESTRATE_JOB": str(assignment.task),
        "ORCHESTRATE_ATTEMPT": str(assignment.attempt),
        "ORCHESTRATE_CORES": str(payload.cores),
        "OMP_NUM_THREADS": str(payload.cores),
    }


async def _packages(
    spellings: Sequence[str], tools: Tools, held: list[Package]
) -> list[tuple[Package, Path]]:
    releases = []
    for spelling in spellings:

        async def once(wanted: str = spelling) -> tuple[Package, Path]:
            package, urls = await tools.session.package(wanted)
            path = await tools.packages.ensure(package, urls)
            held.append(package)
            return package, path

        try:
            releases.append(await stage.patiently(once, tools.clock, _PACKAGE_PATIENCE))
        except GridError as error:
            raise Failed(ERROR_IB, PACKAGE_MISSING, f"{spelling}: {error.message}") from error
    return releases


async def _inputs(payload: Payload, work: Path, token: str, tools: Tools) -> None:
    if not payload.inputs:
        return
    try:
        await stage.fetch(tools.session.api, payload.inputs, work, token, tools.clock, _INPUT_PATIENCE)
    except GridError as error:
        raise Failed(ERROR_IB, INPUT_MISSING, error.message) from error
