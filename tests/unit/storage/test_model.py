"""What an envelope permits, and which names there are."""

from __future__ import annotations

import pytest

from orchestrator.errors import NotAllowed, NotFound, UserError
from orchestrator.storage import model

GUID = "6f1c1f0e-6a3b-4b9e-9d0f-0123456789ab"
PFN = f"/6f/{GUID}"


@pytest.mark.parametrize(
    "pfn",
    [
        "",
        "/",
        "/6f",
        f"/6e/{GUID}",
        f"/6f/{GUID}/",
        f"/6f/../{GUID}",
        f"6f/{GUID}",
        "/6f/..",
        PFN.upper(),
        PFN + "\n",
    ],
)
def test_only_one_form_of_name(pfn: str) -> None:
    with pytest.raises(NotFound):
        model.split(pfn)


def test_split() -> None:
    assert model.split(PFN) == ("6f", GUID)


@pytest.mark.parametrize(
    ("granted", "asked", "allowed"),
    [
        ("GET", "GET", True), ("GET", "HEAD", True), ("PUT", "HEAD", True), ("PUT", "PUT", True),
        ("DELETE", "DELETE", True), ("PUT", "GET", False), ("GET", "PUT", False), ("GET", "DELETE", False),
        ("PUT", "DELETE", False), ("DELETE", "GET", False), ("DELETE", "HEAD", False), ("PATCH", "PATCH", False),
    ],
)  # fmt: skip
def test_methods(granted: str, asked: str, allowed: bool) -> None:
    claims = {"sub": "envelope", "pfn": f"disk:{PFN}", "method": granted, "size": 3, "md5": "0" * 32}
    if allowed:
        assert model.permit(claims, asked, "disk", PFN) == model.Permit(PFN, 3, "0" * 32)
    else:
        with pytest.raises(NotAllowed):
            model.permit(claims, asked, "disk", PFN)


def test_garbled_envelopes() -> None:
    good = {"sub": "envelope", "pfn": f"disk:{PFN}", "method": "PUT", "size": 3, "md5": "0" * 32}
    for wrong in (
        {"sub": "user:ada"},
        {"pfn": PFN},
        {"size": -1},
        {"size": "3"},
        {"size": None},
        {"md5": None},
    ):
        with pytest.raises(NotAllowed):
            model.permit(good | wrong, "PUT", "disk", PFN)
    with pytest.raises(UserError):
        model.permit(good | {"md5": "short"}, "PUT", "disk", PFN)


@pytest.mark.parametrize(
    ("capacity", "used", "disk", "left"),
    [(0, 5, 100, 90), (50, 20, 100, 30), (200, 20, 100, 90), (50, 60, 100, 0), (0, 0, 5, 0)],
)
def test_free(capacity: int, used: int, disk: int, left: int) -> None:
    assert model.free(capacity, used, disk, 10) == left
