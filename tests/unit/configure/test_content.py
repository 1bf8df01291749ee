"""Digests of what configures machines."""

from __future__ import annotations

import hashlib

from orchestrator.configure import content


def test_code_and_roles_have_content() -> None:
    empty = hashlib.sha256().hexdigest()
    found = {content.code_digest(), content.roles_digest("central"), content.roles_digest("vobox")}
    assert len(found) == 3
    assert empty not in found
