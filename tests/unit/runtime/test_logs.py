"""One JSON object a line, whatever is logged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.runtime import logs


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    logs.configure(tmp_path / "log/service.log")
    yield tmp_path / "log/service.log"
    monkeypatch.undo()
    logs.configure(None)


def test_facts_and_tracebacks(file: Path) -> None:
    log = logs.get("agent").bind(task=7)
    log.info("starts", node={"cores": 2}, path=Path("/tmp"), odd="a\nb")
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("round broke")
    log.error("later", exc_info=KeyError("k"))
    first, second, third = map(json.loads, file.read_text().splitlines())
    assert first | {"timestamp": 0} == {
        "service": "agent", "task": 7, "node": {"cores": 2}, "path": "/tmp", "odd": "a\nb",
        "event": "starts", "level": "info", "timestamp": 0,
    }  # fmt: skip
    assert "ValueError: broken" in second["exception"]
    assert "KeyError: 'k'" in third["exception"]
    assert file.stat().st_mode & 0o777 == 0o600
