"""`down` asks, and keeps what it is told to keep."""

from __future__ import annotations

from tests.e2e import traces
from tests.e2e.grid import Grid


def test_down_destroys_nothing_unless_it_is_told_to(one_box: Grid) -> None:
    assert "--yes" in one_box.run("down", code=2)
    assert "nothing to do" in one_box.run("up")


def test_down_with_keep_data_keeps_jobs_and_files(one_box: Grid) -> None:
    number = one_box.hello("kept")["id"]
    (lfn,) = [each["lfn"] for each in one_box.job(number)["outputs"]]
    machines, jobs = one_box.machines(), one_box.json("job", "ps", "-a")
    print(one_box.run("down", "--yes", "--keep-data"))
    assert not traces.processes(one_box.directory)
    assert not traces.listeners({each.address for each in machines})
    assert "no central services" in one_box.run("job", "ps", code=2)
    print(one_box.run("up"))
    assert one_box.json("job", "ps", "-a") == jobs
    assert one_box.run("file", "cat", lfn) == "hello kept\n"
    assert one_box.hello("new")["id"] > number
