"""A person's line to the grid, and what can be done over it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Self

from orchestrator.client.files import Files
from orchestrator.client.jobs import Job, Jobs
from orchestrator.client.transfers import Transfers
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from orchestrator.wiring.grid import Connection


class Grid:
    """``async with Grid.open() as grid``, or ``grid = await Grid.open()`` and ``await grid.close()``."""

    def __init__(self, identity: Path | None, site: Path | None, patience: float) -> None:
        self._identity, self._site, self._patience = identity, site, patience
        self._stack = contextlib.AsyncExitStack()
        self._connection: Connection | None = None

    @classmethod
    def open(
        cls, identity: str | Path | None = None, *, site: str | Path | None = None, patience: float = 10.0
    ) -> Self:
        """A grid to enter. ``identity``: a file that the VO's admin made (`orchestrate user add`), else of ``site``
        (a site spec that is up), else what the command line would use here.

        ``patience``: seconds that a call is repeated when central does not answer. Entering raises UserError when it
        is not known which grid is meant; central is asked by the first call.
        """
        if identity is not None and site is not None:
            raise UserError("which one: an identity, or a site spec?")
        path = None if identity is None else Path(identity).expanduser()
        return cls(path, None if site is None else Path(site).expanduser(), patience)

    @classmethod
    def over(cls, connection: Connection) -> Grid:
        """A grid over a connection that is open; who opened it closes it."""
        made = cls(None, None, 0.0)
        made._connection = connection
        return made

    async def __aenter__(self) -> Self:
        from orchestrator.wiring import grid  # with the providers: not for a mere import of this package

        if self._connection is None:
            if self._identity is None:
                way = grid.connect(self._site, patience=self._patience)
            else:
                own = grid.read(self._identity)
                way = grid.connected(own, grid.identities(), patience=self._patience)
            self._connection = await self._stack.enter_async_context(way)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __await__(self) -> Generator[object, None, Self]:
        return self.__aenter__().__await__()

    async def close(self) -> None:
        """Nothing is asked of the grid any more; closing twice is harmless."""
        self._connection = None
        await self._stack.aclose()

    @property
    def connection(self) -> Connection:
        """Who you are (``user``, ``vo``) and the clients' way to the services; UserError when the grid is not open."""
        if self._connection is None:
            raise UserError("the grid is not open: use `async with Grid.open() as grid`")
        return self._connection

    @property
    def user(self) -> str:
        """Who you are in the VO."""
        return self.connection.user

    @property
    def vo(self) -> str:
        """The virtual organisation."""
        return self.connection.vo

    @property
    def jobs(self) -> Jobs:
        """Jobs: submit, list, choose."""
        return Jobs(self.connection)

    @property
    def files(self) -> Files:
        """The file catalogue and what it holds."""
        return Files(self.connection)

    @property
    def transfers(self) -> Transfers:
        """Copies of files to storage elements."""
        return Transfers(self.connection)

    async def submit(self, jdl: str | Path, *arguments: object) -> Job:
        """As ``jobs.submit``."""
        return await self.jobs.submit(jdl, *arguments)
