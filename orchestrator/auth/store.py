"""People and spent single-use tokens, in PostgreSQL."""

from __future__ import annotations

import hashlib
from pathlib import Path

from orchestrator.auth.model import Person
from orchestrator.errors import NotAllowed
from orchestrator.runtime.sql import Database, Queries

QUERIES = Queries(Path(__file__).with_name("queries.sql"))


class People:
    """The VO's members."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def get(self, name: str) -> Person:
        """The member ``name``; NotAllowed when there is none."""
        found = await self.database.rows(QUERIES["person"], name=name)
        if not found:
            raise NotAllowed(
                f"{name} is not a member of this VO; ask its admin for `orchestrate user add {name}`"
            )
        return Person(found[0]["name"], tuple(found[0]["roles"]))

    async def all(self) -> list[Person]:
        """All members, by name."""
        return [
            Person(row["name"], tuple(row["roles"])) for row in await self.database.rows(QUERIES["people"])
        ]

    async def save(self, person: Person) -> None:
        """Add ``person``, or give an existing one these roles."""
        await self.database.rows(QUERIES["save_person"], name=person.name, roles=list(person.roles))

    async def ensure(self, person: Person) -> None:
        """Add ``person`` unless there is one of that name."""
        await self.database.rows(QUERIES["add_person"], name=person.name, roles=list(person.roles))

    async def spend(
        self, jti: str, expires: float, now: float, proof: str = "", issued: float | None = None
    ) -> None:
        """Mark a single-use token as used; NotAllowed when it was used before.

        So does one from before the database was put back from a backup: ``issued`` (default now) tells.

        Whoever shows the same non-empty ``proof`` again may: the answer of the first time was lost.
        """
        digest = hashlib.sha256(proof.encode()).digest() if proof else None
        values = {
            "jti": jti,
            "expires": expires,
            "proof": digest,
            "issued": now if issued is None else issued,
        }
        if not await self.database.rows(QUERIES["spend"], **values):
            raise NotAllowed("this single-use token was used before; ask for a new one")
        await self.database.rows(QUERIES["forget_spent"], now=now)
