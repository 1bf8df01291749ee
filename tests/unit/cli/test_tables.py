"""Tables on terminals of any width: the last column gives way, the others never."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.cli import jobview, transferview

JOB: dict[str, Any] = {
    "id": 3000001, "state": "ERROR_IB", "owner": "ada", "site": "CERN", "parts": 0, "submitted": 0.0,
    "attempt": 2, "name": "echo", "reason": "PACKAGE_MISSING: " + "x" * 200,
}  # fmt: skip
TRANSFER: dict[str, Any] = {
    "id": 7, "state": "FAILED", "owner": "ada", "kind": "mirror", "source": "CERN::A", "destination": "Lyon::B",
    "size": 5_000_000, "bytes": 0, "attempt": 1, "lfn": "/vo/user/a/ada/" + "y" * 200, "reason": "",
}  # fmt: skip


@pytest.mark.parametrize("width", [66, 80, 120])
def test_what_matters_is_there(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    jobview.listing([JOB])
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["ID", "STATE", "USER", "SITE", "PARTS", "SUBMITTED", "NAME"]
    assert row.split()[:5] == ["3000001", "ERROR_IB", "#2", "ada", "CERN"]
    assert len(row) <= width
    transferview.listing([TRANSFER])
    _, row = capsys.readouterr().out.splitlines()
    assert row.split()[:7] == ["7", "FAILED", "ada", "mirror", "CERN::A", "→", "Lyon::B"]
    assert len(row) <= width
