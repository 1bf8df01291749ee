"""The composition root of the central services: one program per name, each under the machine's supervisor.

``python -m orchestrator.wiring.central postgres|central|broker|optimizer|backup|restore --root ROOT``

``central``, ``broker`` and ``optimizer`` are stateless: start as many ``central`` and ``broker`` as the load needs.
Each imports what it is made of by itself: the others' libraries would be much of its start. ``backup`` writes the
database to its standard output and ``restore`` reads it from its standard input (wiring.operations).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orchestrator
from orchestrator.errors import GridError, TemporaryError
from orchestrator.runtime import daemon, logs, postgres
from orchestrator.runtime.clock import SystemClock
from orchestrator.runtime.files import read_json

if TYPE_CHECKING:
    from orchestrator.auth.issuer import Issuer
    from orchestrator.jobs.jdl import Defaults
    from orchestrator.runtime.sql import Database
    from orchestrator.wiring.files import CatalogueFiles

PACKAGE = Path(orchestrator.__file__).parent
COMPONENTS = [PACKAGE / name for name in ("auth", "catalogue", "tasks", "jobs", "transfers", "software")]


@dataclass(frozen=True)
class Central:
    """The machine: its root, its configuration, and the end of the program (``stop``)."""

    root: Path
    config: dict[str, Any]
    stop: asyncio.Event

    @property
    def vo(self) -> str:
        return str(self.config["vo"])

    @property
    def url(self) -> str:
        """The libpq URL of the database."""
        return str(self.config.get("database") or postgres.url(self.root))

    @property
    def defaults(self) -> Defaults:
        from orchestrator.jobs.jdl import Defaults

        return Defaults(self.vo)

    @property
    def admin(self) -> str:
        """The VO's first administrator, to whom the top of the catalogue belongs."""
        return str((self.config.get("admins") or ["admin"])[0])

    @contextlib.asynccontextmanager
    async def database(self, size: int = 8) -> AsyncIterator[Database]:
        """The migrated database; waits for a server that is starting."""
        from orchestrator.operations import maintenance
        from orchestrator.runtime.sql import Database, migrate

        async with Database(self.url, size=size) as database:
            while True:
                try:
                    done = await migrate(database, COMPONENTS)
                    break
                except TemporaryError as error:
                    logs.get("central").info("waits for the database", reason=error.message)
                    await asyncio.sleep(error.retry_in)
            if done:
                logs.get("central").info("migrated", files=done)
                await maintenance.renew(database)
            yield database

    def issuer(self, database: Database) -> Issuer:
        from orchestrator.auth.issuer import Issuer
        from orchestrator.auth.store import People
        from orchestrator.runtime.signing import TokenSigner

        signer = TokenSigner(self.vo, read_json(self.root / "etc/token-signing.json"))
        ca, lifetime = (self.root / "etc/tls/ca.pem").read_bytes(), float(self.config["token_lifetime"])
        return Issuer(signer, People(database), ca, SystemClock(), lifetime)

    def files(self, database: Database, issuer: Issuer) -> CatalogueFiles:
        """The catalogue as the jobs see it."""
        from orchestrator.runtime.http import tls_context
        from orchestrator.wiring.files import CatalogueFiles

        tls = tls_context(self.root / "etc/tls/ca.pem")
        return CatalogueFiles(database, issuer.envelope, tls, self.vo, self.admin)

    async def serve(self, routes: Sequence[Any], port: str) -> None:
        """Serve until SIGTERM; ``stop`` is set then."""
        from orchestrator.auth.verify import verifier
        from orchestrator.runtime import web

        check = verifier(self.root / "etc/token-keys.json", self.vo)
        running = web.server(web.application(routes, check), web.TlsFiles.of(self.root))
        sock = web.listen(str(self.config["address"]), int(self.config["ports"][port]), reuse_port=True)
        try:
            await running.serve([sock])
        finally:
            self.stop.set()


async def central(here: Central) -> None:
    """Manager, jobs, catalogue, authentication, packages."""
    from orchestrator.auth import api as auth_api
    from orchestrator.auth.model import USER_ROLES, Person
    from orchestrator.catalogue import store as catalogue_store
    from orchestrator.catalogue.api import Catalogue
    from orchestrator.jobs import compose
    from orchestrator.operations.api import routes as operations_routes
    from orchestrator.runtime.sql import ReadOnly
    from orchestrator.software.api import routes as package_routes
    from orchestrator.transfers import compose as transfers
    from orchestrator.transfers.kind import TransferKind
    from orchestrator.wiring.proc import JobsView
    from orchestrator.wiring.replicas import CatalogueReplicas
    from orchestrator.wiring.surroundings import GridSurroundings

    async with here.database(12) as database:
        issuer = here.issuer(database)
        with contextlib.suppress(ReadOnly):  # what was made when it was first started is read
            for name in here.config.get("admins") or ["admin"]:
                await issuer.people.ensure(Person(name, USER_ROLES))
            async with database.transaction() as connection:
                await catalogue_store.begin(connection, here.vo, here.admin)
        kind = TransferKind(CatalogueReplicas())
        around = GridSurroundings.over(database, kind)
        files = here.files(database, issuer)
        jobs = compose.central_routes(database, files, here.defaults, also=[kind], surroundings=around)
        routes = [
            *auth_api.routes(issuer, read_json(here.root / "etc/token-keys.json")),
            *Catalogue(database, issuer.envelope, here.vo, JobsView(database, issuer.people)).routes(),
            *jobs.routes,
            *transfers.central_routes(database, jobs.hub, kind, SystemClock().now),
            *package_routes(database),
            *operations_routes(database),
        ]
        await asyncio.gather(here.serve(routes, "central"), jobs.hub.run(here.stop))


async def broker(here: Central) -> None:
    """Claims."""
    from orchestrator.jobs import compose
    from orchestrator.transfers.kind import TransferKind

    async with here.database(12) as database:
        issuer = here.issuer(database)
        served = compose.broker_routes(database, issuer.job, also=[TransferKind(None, issuer.envelope)])
        await asyncio.gather(here.serve(served.routes, "broker"), served.hub.run(here.stop))


async def optimizer(here: Central) -> None:
    """Makes submitted jobs ready, splits, merges, plans transfers, gives up on the silent, archives what ended."""
    from orchestrator.jobs import archived, compose
    from orchestrator.jobs.advice import Advice
    from orchestrator.tasks.archive import Archive
    from orchestrator.tasks.keeping import Keeping
    from orchestrator.transfers import archived as archived_transfers
    from orchestrator.transfers import compose as transfers
    from orchestrator.transfers.kind import TransferKind
    from orchestrator.wiring.replicas import CatalogueReplicas
    from orchestrator.wiring.surroundings import GridSurroundings

    daemon.stop_on_signals(here.stop)
    async with here.database(6) as database:
        files = here.files(database, here.issuer(database))
        kind = TransferKind(CatalogueReplicas())
        around = GridSurroundings.over(database, kind)
        advice = Advice(around, here.admin, int(here.config.get("replication", 0)))
        jobs = compose.optimizer(database, files, here.defaults, advice=advice)
        moves = transfers.optimizer(database, kind)
        keeping = Keeping(**here.config.get("archive", {}))
        ended = {"job": archived.ENDED, "transfer": archived_transfers.ENDED}
        past = Archive(database, ended, SystemClock().now, keeping)
        daemon.ready()
        await asyncio.gather(jobs.run(here.stop), moves.run(here.stop), past.run(here.stop))


async def backup(here: Central) -> None:
    """The database to standard output."""
    from orchestrator.wiring import operations

    await operations.backup(here.url, here.vo)


async def restore(here: Central) -> None:
    """The database from standard input."""
    from orchestrator.wiring import operations

    await operations.restore(here.url, here.vo, COMPONENTS)


_PROGRAMS: dict[str, Callable[[Central], Coroutine[Any, Any, None]]] = {
    "central": central,
    "broker": broker,
    "optimizer": optimizer,
    "backup": backup,
    "restore": restore,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """0 after SIGTERM; the exit code of the error otherwise. ``postgres`` becomes the server's process."""
    parser = argparse.ArgumentParser(prog="orchestrator.wiring.central")
    parser.add_argument("program", choices=["postgres", *_PROGRAMS])
    parser.add_argument("--root", required=True, type=Path, help="the machine's root directory")
    chosen = parser.parse_args(arguments)
    root = chosen.root.resolve()
    logs.configure(root / f"log/{chosen.program}.log")
    try:
        if chosen.program == "postgres":
            command = postgres.command(root)
            log = os.open(root / "log/postgres.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.execv(command[0], command)  # noqa: S606
        import uvloop

        here = Central(root, read_json(root / "etc/central.json"), asyncio.Event())
        logs.get(chosen.program).info("starts", pid=os.getpid(), root=str(root))
        daemon.collect_seldom()
        uvloop.run(_PROGRAMS[chosen.program](here))
    except GridError as error:
        logs.get(chosen.program).error("cannot run", reason=error.message, **error.facts)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
