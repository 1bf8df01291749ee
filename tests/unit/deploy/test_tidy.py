"""gc, adopt, the removal guard, ledgers of older programs, prices and file diffs."""

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from directory_world import DirectoryConfigurator, DirectoryProvider, DirectoryWorld, a_site

from orchestrator.cli import show
from orchestrator.deploy import commands, render, tables, tidy
from orchestrator.deploy.ledger import Ledger
from orchestrator.deploy.model import Target
from orchestrator.errors import NotFound, UserError
from orchestrator.providers.base import MachineSpec, Object, Offering
from orchestrator.runtime.virtual import VirtualClock


def stray(world: DirectoryWorld, name: str, group: str = "old") -> None:
    world.provider.create(MachineSpec(name, group, "worker", user_data="x", tags={}))


def lose_ledger(root: Path) -> None:
    for file in (root / "state").glob("ledger.db*"):
        file.unlink()


def test_gc_proves_that_each_object_belongs_and_removes_what_does_not(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path)
    ctx = world.context()
    commands.up(ctx)
    assert [claim.why for claim in tidy.proof(ctx)].count("machine of group workers") == 2
    assert all(claim.belongs for claim in tidy.proof(ctx))
    stray(world, "lab-old-1")
    left = [claim for claim in tidy.proof(ctx) if not claim.belongs]
    assert [(claim.object.id, claim.why) for claim in left] == [("lab-old-1", "no group old any more")]
    world.provider.calls.clear()
    assert commands.gc(ctx).exit_code == 0
    assert world.provider.calls == [("destroy", "lab-old-1")]
    assert all(claim.belongs for claim in tidy.proof(ctx))


class Volumes(DirectoryProvider):
    """Each machine has a volume that outlives it."""

    kept: list[Object]

    def objects(self) -> Sequence[Object]:
        return list(self.kept)

    def remove(self, thing: Object) -> None:
        self.kept.remove(thing)


def test_gc_sees_parts_that_outlived_their_machine(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path)
    world.clouds["local"] = world.provider = volumes = Volumes("local", tmp_path / "cloud")
    volumes.kept = [Object("volume", "v-1", "lab-workers-1"), Object("volume", "v-9", "lab-workers-9")]
    ctx = world.context()
    commands.up(ctx)
    assert [claim.object.id for claim in tidy.proof(ctx) if not claim.belongs] == ["v-9"]
    commands.gc(ctx)
    assert [volume.id for volume in volumes.kept] == ["v-1"]


def test_adopting_takes_what_the_ledger_does_not_know_and_nothing_else(tmp_path: Path) -> None:
    commands.up(DirectoryWorld(tmp_path).context())
    lose_ledger(tmp_path)
    world = DirectoryWorld(tmp_path)
    ctx = world.context()
    stray(world, "lab-old-1")
    world.provider.calls.clear()
    commands.adopt(ctx, ["workers-1"])
    assert set(ctx.ledger.records()) == {"lab-workers-1"}
    commands.adopt(ctx)
    assert "lab-old-1" not in ctx.ledger.records()
    assert len(ctx.ledger.records()) == 4
    assert world.provider.calls == []
    with pytest.raises(UserError, match="not in the site spec"):
        commands.adopt(ctx, ["old-1"])
    with pytest.raises(NotFound):
        commands.adopt(ctx, ["workers-7"])


def test_an_edit_that_removes_many_must_say_how_many(tmp_path: Path) -> None:
    commands.up(DirectoryWorld(tmp_path, a_site(12)).context())
    world = DirectoryWorld(tmp_path, a_site(2))
    world.provider.calls.clear()
    with pytest.raises(UserError, match=r"10 of the 12 machines of group workers.*--yes-remove 10"):
        commands.up(world.context())
    assert world.provider.calls == []
    assert "--yes-remove 10" in commands.plan(world.context()).notes[0]
    with pytest.raises(UserError):
        commands.up(world.context(), yes_remove=9)
    assert commands.up(world.context(), yes_remove=10).exit_code == 0
    assert len(world.names()) == 4


def test_a_ledger_of_an_older_program_is_brought_up_to_date(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path)
    commands.up(world.context())
    with sqlite3.connect(tmp_path / "state/ledger.db") as database:
        database.execute("ALTER TABLE intent DROP COLUMN place")
        database.execute("UPDATE ledger_version SET number = 1")
    for _ in range(2):
        ledger = Ledger.of_file(tmp_path / "state/ledger.db", "lab")
        assert ledger.failures() == ()
        ledger.close()
    with sqlite3.connect(tmp_path / "state/ledger.db") as database:
        assert database.execute("SELECT number FROM ledger_version").fetchall() == [(tables.VERSION,)]
    assert commands.up(world.context()).summary == "nothing to do"


class Priced(DirectoryProvider):
    """A provider that tells its sizes."""

    def offerings(self) -> Mapping[str, Offering]:
        return {"small": Offering(2, price=0.1), "big": Offering(8, price=0.5)}


def test_a_plan_tells_what_it_costs(tmp_path: Path) -> None:
    def world(offering: str) -> DirectoryWorld:
        farm = {"role": "worker", "count": 4, "offering": offering}
        site = a_site(0, farm=farm)
        budget = site.budgets.model_copy(update={"money_per_hour": 1.0})
        made = DirectoryWorld(tmp_path, site.model_copy(update={"budgets": budget}), clock=VirtualClock(1e9))
        made.clouds["local"] = made.provider = Priced("local", tmp_path / "cloud")
        return made

    first = world("small")
    assert commands.plan(first.context()).cost == pytest.approx(0.4)
    commands.up(first.context())
    bigger = world("big")
    update = commands.plan(bigger.context())
    assert update.cost == pytest.approx(0.4)
    assert update.per_hour == pytest.approx(0.8)
    told = list(show.plan(update))
    assert told[-1].endswith("+0.40 per hour to 0.80")
    assert any("left as it is: the budget of 1.00 per hour" in line for line in told)
    report = commands.up(bigger.context())
    assert report.exit_code == 4
    assert "group farm: 3 machines left as it is: the budget of 1.00 per hour" in report.summary
    assert len([m for m in bigger.provider.list() if m.tags["offering"] == "big"]) == 1
    with pytest.raises(UserError, match="group farm: 5 machines make"):
        commands.scale(bigger.context(), "farm", 5)
    assert commands.up(first.context()).exit_code == 0
    assert commands.scale(first.context(), "farm", 3).exit_code == 0


def test_a_budget_caps_what_is_made_and_the_last_line_says_so(tmp_path: Path) -> None:
    site = a_site(8)
    site = site.model_copy(update={"budgets": site.budgets.model_copy(update={"machines": 6})})
    world = DirectoryWorld(tmp_path, site, clock=VirtualClock(1e9))
    for _ in range(2):
        report = commands.up(world.context())
        assert report.exit_code == 4
        assert (
            "group workers: 4 machines not made: it would go over the budget of 6 machines" in report.summary
        )
        assert len(world.names()) == 6
    story = commands.why(world.context(), "workers-8")
    assert "not made: it would go over the budget of 6 machines" in {d.reason for d in story.decisions}
    assert commands.scale(world.context(), "workers", 4).exit_code == 0


class Rendering(DirectoryConfigurator):
    """A configurator that tells what it would write."""

    def rendered(self, target: Target) -> Mapping[str, str]:
        return {"etc/x.json": f"version {self.version}\n", "etc/same": "same\n"}


def test_differences_of_files_are_those_between_the_machine_and_what_it_would_get(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path)
    commands.up(world.context())
    world.configurator = Rendering("2")
    machine = next(m for m in world.provider.list() if m.group == "vobox")
    (Path(machine.root) / "etc").mkdir()
    (Path(machine.root) / "etc/x.json").write_text("version 1\n")
    (Path(machine.root) / "etc/same").write_text("same\n")
    ctx = world.context()
    found = render.differences(ctx, commands.plan(ctx))
    assert found["lab-vobox-1"] == {"etc/x.json": ("version 1\n", "version 2\n")}
    assert set(found["lab-central-1"]) == {"etc/x.json", "etc/same"}  # it has none of them
