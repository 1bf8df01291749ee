"""Who may do what: roles, subjects and the claims of each kind of token. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

USER_ROLES = ("user", "admin", "release")
HOST_ROLES = ("central", "vobox", "worker")


@dataclass(frozen=True)
class Person:
    """A member of the VO."""

    name: str
    roles: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "roles": list(self.roles)}


def user_claims(person: Person) -> dict[str, Any]:
    """The token of a person."""
    return {"sub": f"user:{person.name}", "roles": list(person.roles)}


def host_claims(name: str, role: str, site: str) -> dict[str, Any]:
    """The token of a machine's services; it speaks for ``site``."""
    return {"sub": f"host:{name}", "roles": [role], "site": site}


def enrolment_claims(jti: str, site: str, ce: str) -> dict[str, Any]:
    """A single-use ticket with which one agent of ``site`` may start."""
    return {"sub": f"enrolment:{jti}", "jti": jti, "roles": ["enrol"], "site": site, "ce": ce}


def agent_name(jti: str) -> str:
    """The agent that an enrolment token makes: always the same one."""
    return hashlib.sha256(jti.encode()).hexdigest()[:16]


def agent_claims(agent: str, site: str, ce: str, host: str) -> dict[str, Any]:
    """The session token of a started agent."""
    return {"sub": f"agent:{agent}", "roles": ["agent"], "site": site, "ce": ce, "host": host}


def job_claims(task: int, attempt: int, user: str, site: str) -> dict[str, Any]:
    """What one attempt at one job may use on behalf of its owner."""
    return {
        "sub": f"job:{task}:{attempt}",
        "roles": ["job"],
        "task": task,
        "attempt": attempt,
        "user": user,
        "site": site,
    }


def envelope_claims(pfn: str, method: str, size: int, md5: str) -> dict[str, Any]:
    """Permission for one method on one PFN of one size (bytes) and checksum."""
    return {"sub": "envelope", "roles": ["envelope"], "pfn": pfn, "method": method, "size": size, "md5": md5}


class Envelope(Protocol):
    """Signs permission for one ``method`` on one PFN (``<se>:<path>``), size in bytes."""

    def __call__(self, pfn: str, method: str, size: int, md5: str) -> str: ...
