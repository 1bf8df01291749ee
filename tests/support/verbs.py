"""Run the command line's verbs against a central of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from orchestrator.runtime.http import Api

Invoke = Callable[..., Awaitable[Result]]


def invoker(
    group: str,
    register: Callable[[typer.Typer], None],
    api: Callable[[str], AbstractAsyncContextManager[Api]],
    vo: str,
    monkeypatch: pytest.MonkeyPatch,
    columns: int = 200,
) -> Invoke:
    """A function (who, *words) that runs a verb of ``group`` in a thread of its own; only the way to central, which is
    ``api`` of the person, is replaced."""
    acting = ""

    @contextlib.asynccontextmanager
    async def connect(_site: Path | None) -> AsyncIterator[SimpleNamespace]:
        async with api(acting) as central:
            yield SimpleNamespace(central=central, vo=vo, user=acting)

    wiring = ModuleType("orchestrator.wiring.grid")
    wiring.connect = connect  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "orchestrator.wiring.grid", wiring)
    monkeypatch.setenv("COLUMNS", str(columns))
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)

    async def invoke(who: str, *words: object) -> Result:
        nonlocal acting
        acting = who
        return await asyncio.to_thread(CliRunner().invoke, app, [group, *(str(word) for word in words)])

    return invoke
