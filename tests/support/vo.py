"""A VO for tests that serve central in their own process: its keys, and root (admin), ada and bob as members."""

from __future__ import annotations

from pathlib import Path

from orchestrator.auth.authority import Authority
from orchestrator.auth.issuer import Issuer
from orchestrator.auth.model import USER_ROLES, Person
from orchestrator.auth.store import People
from orchestrator.runtime.clock import SystemClock
from orchestrator.runtime.files import read_json
from orchestrator.runtime.signing import TokenSigner
from orchestrator.runtime.sql import Database


async def founded(database: Database, keys: Path, vo: str) -> tuple[Authority, People, Issuer]:
    """The VO's authority with its ``keys``, its members in ``database``, and who gives them tokens."""
    authority, clock = Authority(keys, vo), SystemClock()
    authority.ensure(clock.now())
    people = People(database)
    for person in (Person("root", USER_ROLES), Person("ada", ("user",)), Person("bob", ("user",))):
        await people.ensure(person)
    signer = TokenSigner(vo, read_json(keys / "token-signing.json"))
    return authority, people, Issuer(signer, people, authority.ca.read_bytes(), clock)
