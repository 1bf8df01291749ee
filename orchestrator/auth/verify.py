"""Check tokens with the VO's public keys alone: for every service but the issuer."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from orchestrator.errors import PermanentError
from orchestrator.runtime.clock import Clock, SystemClock
from orchestrator.runtime.files import read_json
from orchestrator.runtime.security import TokenVerifier
from orchestrator.runtime.web import Authenticator, Caller

_REMEMBERED = 10_000  # tokens


def verifier(keys_file: Path, vo: str, clock: Clock | None = None) -> Authenticator:
    """token → Caller, by the JWKS in ``keys_file`` (ROOT/etc/token-keys.json)."""
    if not keys_file.exists():
        raise PermanentError(f"{keys_file} is missing; run `orchestrate up` again")
    keys, time = TokenVerifier(vo, read_json(keys_file)), clock or SystemClock()
    known: OrderedDict[str, tuple[float, Caller]] = OrderedDict()  # a signature is checked once

    def check(token: str) -> Caller:
        now = time.now()
        expires, caller = known.get(token, (0.0, None))
        if caller is not None and now <= expires:
            return caller
        claims = keys.verify(token, now)
        caller = Caller(str(claims["sub"]), frozenset(claims.get("roles", ())), claims)
        known[token] = (float(claims["exp"]), caller)
        if len(known) > _REMEMBERED:
            known.popitem(last=False)
        return caller

    return check
