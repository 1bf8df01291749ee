"""The signer of a VO's tokens. Only central holds its key; ``security`` has what verifies them."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

import orjson
from awscrt.crypto import EC
from joserfc.jwk import ECKey

from orchestrator.errors import PermanentError
from orchestrator.runtime.security import ALGORITHM


class TokenSigner:
    """Signs tokens of one VO with its private key."""

    def __init__(self, vo: str, private: Mapping[str, Any]) -> None:
        self.vo = vo
        key = ECKey.import_key(dict(private))
        if key.private_key is None or key.curve_name != "P-256":
            raise PermanentError(f"the token key of {vo} is not a private one of P-256")
        self._key = EC.new_key_from_der_data(key.as_der(private=True))
        self._header = _base64(orjson.dumps({"alg": ALGORITHM, "kid": key.kid, "typ": "JWT"}))

    def sign(self, claims: Mapping[str, Any], now: float, lifetime: float) -> str:
        """``claims`` with issuer, time of issue and an expiry ``lifetime`` seconds after ``now``.

        Every task that is given away costs a signature, which is half of what a broker does in bulk; so this is the
        one place that writes a token by itself (RFC 7515, section 7.1; RFC 7518, section 3.4), and AWS-LC signs: it
        takes two thirds of OpenSSL's time.
        """
        full = {**claims, "iss": self.vo, "iat": int(now), "exp": int(now + lifetime)}
        signed = self._header + b"." + _base64(orjson.dumps(full))
        signature = self._key.sign(hashlib.sha256(signed).digest())
        return (
            signed + b"." + _base64(EC.decode_der_signature_to_padded_pair(signature, pad_to=32))
        ).decode()


def _base64(value: bytes) -> bytes:
    return urlsafe_b64encode(value).rstrip(b"=")
