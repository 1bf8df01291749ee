"""What the signer writes, the other library verifies."""

from __future__ import annotations

import pytest
from joserfc.jwk import ECKey

from orchestrator.errors import NotAllowed, PermanentError
from orchestrator.runtime.security import TokenVerifier, new_token_key, public_keys
from orchestrator.runtime.signing import TokenSigner


def test_every_signature_holds_however_small_its_numbers_are() -> None:
    # A hundred and twenty-eighth of all signatures have a number that begins with a zero byte.
    key = new_token_key()
    signer, verifier = TokenSigner("alice", key), TokenVerifier("alice", public_keys(key))
    for number in range(1000):
        token = signer.sign({"sub": f"job:{number}:1", "task": number}, 1000.0 + number, 60.0)
        told = verifier.verify(token, 1000.0 + number)
        assert told == {
            "sub": f"job:{number}:1", "task": number, "iss": "alice", "iat": 1000 + number, "exp": 1060 + number,
        }  # fmt: skip


def test_claims_or_signatures_of_another_token_do_not_hold() -> None:
    key = new_token_key()
    signer, verifier = TokenSigner("alice", key), TokenVerifier("alice", public_keys(key))
    one, two = (signer.sign({"sub": sub}, 1000.0, 60.0).split(".") for sub in ("user:ada", "user:bob"))
    for token in ((one[0], two[1], one[2]), (one[0], one[1], two[2])):
        with pytest.raises(NotAllowed):
            verifier.verify(".".join(token), 1000.0)
    with pytest.raises(NotAllowed):
        verifier.verify(TokenSigner("alice", new_token_key()).sign({"sub": "user:ada"}, 1000.0, 60.0), 1000.0)


def test_a_key_that_cannot_sign_is_refused_at_once() -> None:
    private = new_token_key()
    public = {name: value for name, value in private.items() if name != "d"}
    for key in (public, ECKey.generate_key("P-384").as_dict(private=True)):
        with pytest.raises(PermanentError, match=r"alice.*P-256"):
            TokenSigner("alice", key)
