"""What the catalogue's routes have in common: who may call, and what a body must hold."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from orchestrator.errors import UserError
from orchestrator.runtime.web import Caller, caller

PEOPLE = ("user", "job", "admin", "release")


def writer(request: Request) -> Caller:
    """Jobs add to the catalogue, for their user."""
    return caller(request).require(*PEOPLE)


def person(request: Request) -> Caller:
    """Only people take away from it."""
    return caller(request).require("user", "admin", "release")


def admin(who: Caller) -> bool:
    return "admin" in who.roles


def path(request: Request) -> str:
    """The query's path; the root when there is none."""
    return request.query_params.get("path", "/")


def text(asked: dict[str, Any], key: str) -> str:
    """A text of the body that is not empty; UserError otherwise."""
    value = asked.get(key)
    if not isinstance(value, str) or not value:
        raise UserError(f"{key} is missing", key=key)
    return value


def texts(asked: dict[str, Any], key: str, most: int) -> list[str]:
    """A list of at most ``most`` texts; UserError otherwise."""
    value = asked.get(key)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise UserError(f"{key} must be a list of texts", key=key)
    if len(value) > most:
        raise UserError(f"{len(value)} {key} are too many for one call; at most {most} are taken", key=key)
    return value


def whole(asked: dict[str, Any], key: str, default: int | None = None) -> int:
    """A whole number below 2^63; UserError otherwise."""
    value = asked.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise UserError(f"{key} must be a whole number, not {value!r}", key=key)
    return value
