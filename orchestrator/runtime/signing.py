"""The signer of a VO's tokens. Only central holds its key; ``security`` has what verifies them."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc.jwk import ECKey

from orchestrator.errors import PermanentError
from orchestrator.runtime.security import ALGORITHM

_ECDSA = ec.ECDSA(hashes.SHA256())


class TokenSigner:
    """Signs tokens of one VO with its private key."""

    def __init__(self, vo: str, private: Mapping[str, Any]) -> None:
        self.vo = vo
        key = ECKey.import_key(dict(private))
        if key.private_key is None:
            raise PermanentError(f"the token key of {vo} is not a private one")
        self._key = key.private_key
        self._header = _base64(orjson.dumps({"alg": ALGORITHM, "kid": key.kid, "typ": "JWT"}))

    def sign(self, claims: Mapping[str, Any], now: float, lifetime: float) -> str:
        """``claims`` with issuer, time of issue and an expiry ``lifetime`` seconds after ``now``.

        Every task that is given away costs a signature, which is half of what a broker does for it; so this is the
        one place that writes a token by itself (RFC 7515, section 7.1; RFC 7518, section 3.4).
        """
        full = {**claims, "iss": self.vo, "iat": int(now), "exp": int(now + lifetime)}
        signed = self._header + b"." + _base64(orjson.dumps(full))
        r, s = decode_dss_signature(self._key.sign(signed, _ECDSA))
        return (signed + b"." + _base64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))).decode()


def _base64(value: bytes) -> bytes:
    return urlsafe_b64encode(value).rstrip(b"=")
