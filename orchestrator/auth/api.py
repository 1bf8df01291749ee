"""The routes of the authentication service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from orchestrator.auth.issuer import Issuer, person_from
from orchestrator.errors import NotAllowed, UserError
from orchestrator.runtime.web import body, caller, route


def routes(issuer: Issuer, jwks: Mapping[str, Any]) -> list[Route]:
    """/v1/auth/*; ``jwks`` is the public half of the signing key."""

    async def token(request: Request) -> Any:
        return await issuer.token(str((await body(request)).get("assertion", "")))

    async def keys(_: Request) -> Any:
        return dict(jwks)

    async def enrolments(request: Request) -> Any:
        who = caller(request).require("vobox", "admin")
        asked = await body(request)
        site, lifetime = asked.get("site"), asked.get("lifetime", 3600)
        if not isinstance(site, str) or not site or not isinstance(lifetime, int | float):
            raise UserError("an enrolment needs a site, and a lifetime in seconds")
        if "admin" not in who.roles and site != (who.claims.get("site") or who.name):
            raise NotAllowed(f"{who.subject} may not make agents of site {site}", site=site)
        return issuer.enrolment(site, str(asked.get("ce", "")), float(lifetime))

    async def redeem(request: Request) -> Any:
        asked = await body(request)
        return await issuer.redeem(caller(request), str(asked.get("host", "")), str(asked.get("proof", "")))

    async def renew(request: Request) -> Any:
        return issuer.renew(caller(request))

    async def whoami(request: Request) -> Any:
        who = caller(request)
        return {"subject": who.subject, "roles": sorted(who.roles), "expires": who.claims.get("exp")}

    async def people(request: Request) -> Any:
        caller(request).require("user", "admin")
        return [person.to_json() for person in await issuer.people.all()]

    async def save(request: Request) -> Any:
        who = caller(request).require("admin")
        person = person_from(await body(request))
        if person.name == who.name and "admin" not in person.roles:
            raise NotAllowed("an admin cannot take the admin role from themselves; ask another admin")
        await issuer.people.save(person)
        return person.to_json()

    return [
        route("POST", "/v1/auth/token", token),
        route("GET", "/v1/auth/keys", keys),
        route("POST", "/v1/auth/enrolments", enrolments),
        route("POST", "/v1/auth/redeem", redeem),
        route("POST", "/v1/auth/renew", renew),
        route("GET", "/v1/auth/me", whoami),
        route("GET", "/v1/auth/users", people),
        route("POST", "/v1/auth/users", save),
    ]
