"""The process of a verb killed (SIGKILL) once at each kind of write of its ledger, on real services: the next
one finishes the work, and nothing is leaked or doubled. `make bench AREA=deploy` does it at every write."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.grid import Grid
from tests.support.crash_sites import LocalSite, down, rolls, scalings, up
from tests.support.crash_sweep import Found, every_kind, every_kind_in_a_row

MANY = 2  # workers, so that an update goes in waves


def test_killed_at_each_kind_of_ledger_write(tmp_path: Path, cache: Path) -> None:
    site, found = LocalSite(tmp_path / "cut", MANY, cache), Found()
    try:
        every_kind_in_a_row(site, up(MANY), found)
        Grid(site.folder / "site.yaml", cache).hello()
        every_kind(site, scalings(MANY, MANY + 1), found)
        known = {kind for kind in found.kinds["scale_up"] if not kind.endswith("worker")}  # such as the lease
        every_kind(site, rolls(MANY), found, known)
        every_kind_in_a_row(site, down(), found)
    finally:
        site.close()
    print(found)
    assert found.troubles == []
    for verb, kinds in {
        "up": {
            "open create central",
            "open configure central",
            "done configure central",
            "open create worker",
        },
        "scale_up": {
            "scale",
            "open create worker",
            "done create worker",
            "machine ready",
            "lease given back",
        },
        "scale_down": {"scale emptied", "open destroy worker", "done destroy worker", "lease given back"},
        "roll": {"open replace worker", "done replace worker"},
        "down": {"open destroy worker", "done destroy vobox", "done destroy central", "intent emptied"},
    }.items():
        assert kinds <= found.kinds[verb], verb
