"""The token issuer: turns proofs (assertions, enrolments) into short-lived tokens."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from orchestrator.auth import model
from orchestrator.auth.store import People
from orchestrator.errors import NotAllowed, UserError
from orchestrator.runtime.clock import Clock
from orchestrator.runtime.security import check_assertion
from orchestrator.runtime.signing import TokenSigner
from orchestrator.runtime.web import Caller

AGENT_LIFETIME = 3600.0  # seconds; an agent renews it
LONGEST_ENROLMENT = 7 * 86400.0  # seconds an agent may wait in a batch queue


@dataclass(frozen=True)
class Issuer:
    """Central's token issuer; ``lifetime`` (seconds) is that of a user's or host's token."""

    signer: TokenSigner
    people: People
    ca: bytes
    clock: Clock
    lifetime: float = 3600.0

    async def token(self, assertion: str) -> dict[str, Any]:
        """A token for the user or host whose certificate made ``assertion``."""
        now = self.clock.now()
        identity, claims = check_assertion(assertion, self.ca, self.signer.vo, now)
        if identity.role == "user":
            granted = model.user_claims(await self.people.get(identity.name))
        elif identity.role in model.HOST_ROLES:
            granted = model.host_claims(identity.name, identity.role, identity.site)
        else:
            raise NotAllowed(f"a certificate of role {identity.role} gets no token")
        await self.people.spend(
            str(claims.get("jti")), float(claims["exp"]), now, issued=float(claims["iat"])
        )
        return self._answer(granted, self.lifetime)

    def enrolment(self, site: str, ce: str, lifetime: float) -> dict[str, Any]:
        """A single-use token with which one agent may start within ``lifetime`` seconds."""
        jti = secrets.token_urlsafe(16)
        claims = model.enrolment_claims(jti, site, ce)
        return self._answer(claims, min(max(lifetime, 60.0), LONGEST_ENROLMENT))

    async def redeem(self, caller: Caller, host: str, proof: str = "") -> dict[str, Any]:
        """The session token of the agent that holds an enrolment token; that one is spent.

        With the same ``proof``, a secret of the agent's own, it is answered again: as the same agent.
        """
        claims = caller.require("enrol").claims
        jti = str(claims["jti"])
        issued = float(claims["iat"])
        await self.people.spend(jti, float(claims["exp"]), self.clock.now(), proof, issued)
        agent = model.agent_name(jti)
        answer = self._answer(
            model.agent_claims(agent, claims["site"], claims["ce"], host[:255]), AGENT_LIFETIME
        )
        return {**answer, "agent": agent}

    def renew(self, caller: Caller) -> dict[str, Any]:
        """A fresh session token for an agent whose present one still holds."""
        claims = caller.require("agent").claims
        return self._answer(
            {key: claims[key] for key in ("sub", "roles", "site", "ce", "host")}, AGENT_LIFETIME
        )

    def job(self, task: int, attempt: int, user: str, site: str, seconds: float) -> str:
        """The token of one attempt at one job."""
        return self.signer.sign(model.job_claims(task, attempt, user, site), self.clock.now(), seconds)

    def envelope(self, pfn: str, method: str, size: int, md5: str, seconds: float = 3600.0) -> str:
        """Permission for one ``method`` on one ``pfn``."""
        return self.signer.sign(model.envelope_claims(pfn, method, size, md5), self.clock.now(), seconds)

    def _answer(self, claims: dict[str, Any], lifetime: float) -> dict[str, Any]:
        return {"token": self.signer.sign(claims, self.clock.now(), lifetime), "expires_in": lifetime}


def person_from(body: dict[str, Any]) -> model.Person:
    """A member as an admin describes one; UserError names what is wrong."""
    name, roles = body.get("name"), body.get("roles", ["user"])
    if not isinstance(name, str) or not name.isidentifier() or not name.islower() or len(name) > 32:
        raise UserError(f"{name!r} is no user name: lower-case letters, digits and _ only, 32 at most")
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise UserError(f"the roles of {name} must be a list of names")
    unknown = sorted(set(roles) - set(model.USER_ROLES))
    if unknown or not roles:
        raise UserError(f"unknown roles {unknown}; there are {', '.join(model.USER_ROLES)}")
    return model.Person(name, tuple(sorted(set(roles))))
