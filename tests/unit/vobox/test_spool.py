"""Reports on disk: their order, and what a kill leaves."""

from __future__ import annotations

from pathlib import Path

from orchestrator.tasks.model import Report
from orchestrator.vobox.spool import Spool


def _reports(*tasks: int) -> list[Report]:
    return [Report(task, 1, "DONE", "why", {"status": 0}) for task in tasks]


def test_first_in_first_out_over_restarts(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert spool.first() is None
    for number in range(1, 12):
        spool.append(_reports(number, number + 100))
    assert spool.first() == _reports(1, 101)
    assert spool.first() == _reports(1, 101), "reading does not remove"
    spool.remove()
    again = Spool(tmp_path)
    assert (len(again), again.first()) == (10, _reports(2, 102))
    again.append(_reports(50))
    seen = []
    while (found := again.first()) is not None:
        seen.append(found[0].task)
        again.remove()
    assert seen == [*range(2, 12), 50]
    assert list(tmp_path.iterdir()) == []


def test_a_broken_file_does_not_hold_up_the_others(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(_reports(1))
    spool.append(_reports(2))
    spool.append(_reports(3))
    (tmp_path / "0000000001.json").write_text('[{"task": "x"}]')
    (tmp_path / "0000000002.json").write_text("[{")
    spool = Spool(tmp_path)
    assert spool.first() == _reports(3)
    assert len(list(tmp_path.glob("*.broken"))) == 2


def test_files_are_private(tmp_path: Path) -> None:
    Spool(tmp_path).append(_reports(1))
    assert (tmp_path / "0000000001.json").stat().st_mode & 0o777 == 0o600
