"""Check tokens with the VO's public keys alone: for every service but the issuer."""

from __future__ import annotations

from pathlib import Path

from orchestrator.errors import PermanentError
from orchestrator.runtime.clock import Clock, SystemClock
from orchestrator.runtime.files import read_json
from orchestrator.runtime.security import TokenVerifier
from orchestrator.runtime.web import Authenticator, Caller


def verifier(keys_file: Path, vo: str, clock: Clock | None = None) -> Authenticator:
    """token → Caller, by the JWKS in ``keys_file`` (ROOT/etc/token-keys.json)."""
    if not keys_file.exists():
        raise PermanentError(f"{keys_file} is missing; run `orchestrate up` again")
    keys, time = TokenVerifier(vo, read_json(keys_file)), clock or SystemClock()

    def check(token: str) -> Caller:
        claims = keys.verify(token, time.now())
        return Caller(str(claims["sub"]), frozenset(claims.get("roles", ())), claims)

    return check
