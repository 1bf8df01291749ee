"""Two sites on one host, one of them with worker machines: they do not touch each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import traces
from tests.e2e.grid import ECHO, Grid, standing


@pytest.fixture
def laptop(tmp_path: Path, cache: Path) -> Iterator[Grid]:
    with standing(Grid.of(tmp_path / "laptop", Path("laptop.yaml"), cache)) as grid:
        yield grid


def workers(grid: Grid) -> list[str]:
    return sorted(
        each.name.rpartition("-workers-")[2] for each in grid.machines() if "-workers-" in each.name
    )


def test_two_sites_run_side_by_side_and_one_goes_without_the_other(one_box: Grid, laptop: Grid) -> None:
    here, there = one_box.machines(), laptop.machines()
    assert not {each.address for each in here} & {each.address for each in there}
    both = [(grid, grid.submit(ECHO, "both")) for grid in (one_box, laptop)]
    done = [grid.finished(number) for grid, number in both]
    assert [each["state"] for each in done] == ["DONE", "DONE"]
    assert [each["site"] for each in done] == ["one-box", "site"]
    assert "workers" in done[1]["resource"] or "workers" in str(done[1]["events"])

    laptop.run("scale", "workers", "3")
    assert workers(laptop) == ["1", "2", "3"]
    assert "nothing to do" in laptop.run("up")
    laptop.hello("three")
    laptop.run("scale", "workers", "1")
    assert len(workers(laptop)) == 1
    gone = {each.address for each in there if "-workers-" in each.name} - {
        each.address for each in laptop.machines()
    }
    assert not traces.listeners(gone)
    laptop.hello("one")

    before = traces.processes(one_box.directory)
    programs = {pid for pid, text in before.items() if "orchestrator.wiring" in text or "supervisord" in text}
    laptop.down()
    assert programs <= traces.processes(one_box.directory).keys()
    one_box.hello("alone")
    assert "nothing to do" in one_box.run("up")
