"""Machines that do not come up: made again, elsewhere, or no more; the others are finished."""

from collections import Counter
from pathlib import Path

from directory_world import DirectoryWorld, a_site

from orchestrator.cli import show
from orchestrator.deploy import commands
from orchestrator.deploy.model import Action, Stage
from orchestrator.deploy.report import Ended
from orchestrator.errors import GridError, PermanentError, TemporaryError
from orchestrator.providers.base import QuotaExceeded
from orchestrator.providers.breaker import MOST, TRIP
from orchestrator.runtime.files import read_json
from orchestrator.runtime.virtual import VirtualClock

NOW = 1_700_000_000.0


def test_a_storm_stops_after_a_bounded_number_of_machines_and_other_groups_are_finished(
    tmp_path: Path,
) -> None:
    def bad(verb: str, name: str) -> GridError | None:
        return PermanentError("no bootable disk") if verb == "boot" and "-farm-" in name else None

    site = a_site(3, farm={"role": "worker", "count": 200, "image": "bad"})
    world = DirectoryWorld(tmp_path, site, bad, clock=VirtualClock(NOW))
    report = commands.up(world.context())
    made = {name for verb, name in world.provider.calls if verb == "create" and "-farm-" in name}
    assert len(made) == MOST
    assert report.exit_code == 4
    tried = len(made)
    assert f"group farm stopped after {tried} failed machines (<machine> failed to boot)" in report.summary
    assert f"{200 - tried} not tried" in report.summary
    assert {r.change.group for r in report.of(Ended.DONE)} >= {"central", "vobox", "workers"}
    kept = list((tmp_path / "state/evidence").glob("*lab-farm-*"))
    assert len(kept) >= MOST
    assert "console of lab-farm-" in kept[0].read_text()
    mended = DirectoryWorld(tmp_path, site, clock=VirtualClock(NOW + 60))
    story = commands.why(mended.context(), "farm")
    told = {(d.object, str(d.action), d.reason) for d in story.decisions}
    assert ("200 machines", "create", "it is missing") in told
    image = "role worker with image bad failed in a row at local"
    assert (f"{200 - tried} machines", "none", f"not tried, since {tried} machines of {image}") in told
    shown = list(show.why(story))
    assert any(f"lab-farm-1 … lab-farm-{MOST} ({MOST})" in line and "failed" in line for line in shown)
    untried = list(show.why(commands.why(mended.context(), "farm-150")))
    assert untried[0] == f"lab-farm-150 does not exist: not tried, since {tried} machines of {image}"
    assert commands.why(mended.context(), "farm-1").evidence[0] in {str(file) for file in kept}
    assert commands.up(mended.context()).exit_code == 0
    assert len(mended.names()) == 205


def test_a_context_that_succeeds_but_starts_no_agent_costs_no_more_machines_than_a_bad_image(
    tmp_path: Path,
) -> None:
    def bad(verb: str, name: str) -> GridError | None:
        return TemporaryError("no agent has asked for work yet") if "-farm-" in name else None

    def idle(verb: str, name: str) -> GridError | None:
        return bad(verb, name) if verb == "healthy" else None

    farm = {"role": "worker", "count": 200, "context": "broken"}
    site = a_site(3, farm=farm, good={"role": "worker", "count": 30})
    world = DirectoryWorld(tmp_path, site, idle, clock=VirtualClock(NOW))
    report = commands.up(world.context())
    made = [name for verb, name in world.provider.calls if verb == "create" and "-farm-" in name]
    assert len(made) == MOST
    assert report.exit_code == 4
    why = "<machine> runs, but no agent has asked for work yet (waited # s)"
    assert (
        f"group farm stopped after {MOST} failed machines ({why}), {200 - MOST} not tried" in report.summary
    )
    assert len([name for name in world.names() if "-good-" in name]) == 30
    assert len(list((tmp_path / "state/evidence").glob("*lab-farm-*-create.txt"))) == MOST
    again = DirectoryWorld(tmp_path, site, idle, clock=VirtualClock(NOW + 60))
    assert commands.up(again.context()).exit_code == 4  # they never worked: they may go without --yes-remove
    mended = DirectoryWorld(tmp_path, site, clock=VirtualClock(NOW + 6000))
    report = commands.up(mended.context())
    assert report.exit_code == 0, report.summary
    assert len(mended.names()) == 235


def test_a_worker_whose_agent_came_late_stays_where_it_is(tmp_path: Path) -> None:
    late = {"role": "worker", "count": 20, "provider": "far", "fallback": ["local"]}
    site = a_site(0, farm=late)
    site = site.model_copy(update={"providers": {**site.providers, "far": site.providers["local"]}})
    asks = False

    def fault(verb: str, name: str) -> GridError | None:
        return TemporaryError("no agent") if verb == "healthy" and "-farm-" in name and not asks else None

    world = DirectoryWorld(tmp_path, site, fault, clock=VirtualClock(NOW))
    assert commands.up(world.context(rounds=1)).exit_code == 4
    slow = {read_json(folder / "machine.json")["name"] for folder in world.clouds["far"].folders()}
    asks = True
    assert commands.up(world.context()).exit_code == 0
    assert slow <= {read_json(folder / "machine.json")["name"] for folder in world.clouds["far"].folders()}
    assert not any(verb == "destroy" for verb, _ in world.clouds["far"].calls)
    assert len(world.names()) == 22


def test_a_context_that_breaks_half_way_stops_what_is_not_made_yet(tmp_path: Path) -> None:
    fine: set[str] = set()

    def later(verb: str, name: str) -> GridError | None:
        if verb != "healthy" or "-farm-" not in name or name in fine:
            return None
        if len(fine) < 5:
            fine.add(name)
            return None
        return TemporaryError("no agent has asked for work yet")

    site = a_site(1, farm={"role": "worker", "count": 400})
    world = DirectoryWorld(tmp_path, site, later, clock=VirtualClock(NOW))
    report = commands.up(world.context())
    made = {name for verb, name in world.provider.calls if verb == "create" and "-farm-" in name}
    assert len(fine) + TRIP <= len(made) < 100
    assert report.exit_code == 4
    assert "group farm stopped after" in report.summary


def test_machines_that_fail_to_boot_are_replaced_within_the_same_up(tmp_path: Path) -> None:
    boots = Counter[str]()

    def some(verb: str, name: str) -> GridError | None:
        if verb == "boot":
            boots[name] += 1
        return PermanentError("dead") if verb == "boot" and name.endswith("3") and boots[name] < 3 else None

    world = DirectoryWorld(tmp_path, a_site(13), some, clock=VirtualClock(NOW))
    ctx = world.context()
    report = commands.up(ctx)
    assert report.exit_code == 0, report.summary
    assert len(world.names()) == 15
    assert {r.change.object for r in report.mended} >= {"lab-workers-3", "lab-workers-13"}
    assert {record.stage for record in ctx.ledger.records().values()} == {Stage.READY}
    assert commands.plan(ctx).changes == ()


def test_a_worker_that_runs_but_does_not_work_is_replaced(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path, clock=VirtualClock(NOW))
    first: list[str] = []

    def broken(verb: str, name: str) -> GridError | None:
        if (verb, name) == ("healthy", "lab-workers-2") and len(first) < 1:
            return TemporaryError("no agent has asked for work")
        if (verb, name) == ("destroy", "lab-workers-2"):
            first.append(name)
        return None

    world.provider.fault = world.workload.fault = broken
    report = commands.up(world.context())
    assert report.exit_code == 0, report.summary
    assert first == ["lab-workers-2"]
    assert ("destroy", "lab-workers-1") not in world.provider.calls


def test_when_nothing_works_because_what_they_need_does_not_no_worker_is_replaced(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path, a_site(9), clock=VirtualClock(NOW))
    commands.up(world.context())
    world.provider.calls.clear()
    world.workload.fault = lambda verb, name: TemporaryError("central is away") if verb == "healthy" else None
    report = commands.up(world.context())
    assert report.exit_code == 3
    assert [call for call in world.provider.calls if call[0] != "create"] == []


def test_one_failed_worker_leaves_its_siblings_verified(tmp_path: Path) -> None:
    def never(verb: str, name: str) -> GridError | None:
        return PermanentError("dead") if (verb, name) == ("boot", "lab-workers-2") else None

    world = DirectoryWorld(tmp_path, a_site(3), never, clock=VirtualClock(NOW))
    ctx = world.context()
    report = commands.up(ctx)
    stages = {name: record.stage for name, record in ctx.ledger.records().items()}
    assert stages["lab-workers-1"] is stages["lab-workers-3"] is Stage.READY
    assert stages["lab-workers-2"] is Stage.FAILED
    assert report.exit_code == 4
    assert "lab-workers-2" in report.summary


def test_what_one_provider_cannot_make_another_one_makes(tmp_path: Path) -> None:
    farm = {"role": "worker", "count": 6, "provider": "small", "fallback": ["local"]}
    site = a_site(0, farm=farm)
    site = site.model_copy(update={"providers": {**site.providers, "small": site.providers["local"]}})
    world = DirectoryWorld(tmp_path, site, clock=VirtualClock(NOW))

    def full(verb: str, name: str) -> GridError | None:
        there = sum(call[0] == "create" for call in world.clouds["small"].calls)
        return QuotaExceeded("no room in zone a") if verb == "create" and there > 4 else None

    world.clouds["small"].fault = full
    ctx = world.context()
    report = commands.up(ctx)
    assert report.exit_code == 0, report.summary
    assert len(world.clouds["small"].folders()) == 4
    assert len(world.names()) == 8
    world.clouds["small"].fault = lambda verb, name: None
    assert commands.plan(ctx).changes == ()  # they stay where they are
    assert commands.down(ctx).exit_code == 0
    assert world.names() == []


def test_an_update_of_workers_goes_in_waves_and_stops_at_the_first_that_does_not_work(tmp_path: Path) -> None:
    def site(offering: str) -> object:
        return a_site(0, farm={"role": "worker", "count": 10, "offering": offering, "max_unavailable": 3})

    world = DirectoryWorld(tmp_path, site("small"), clock=VirtualClock(NOW))  # type: ignore[arg-type]
    commands.up(world.context())
    edited = DirectoryWorld(tmp_path, site("big"), clock=VirtualClock(NOW))  # type: ignore[arg-type]
    made = commands.plan(edited.context())
    assert all(f.how == "rolling" for c in made.changes for f in c.fields)
    edited.workload.jobs["lab-farm-4"] = [7]

    def broken(verb: str, name: str) -> GridError | None:
        new = ("create", "lab-farm-5") in edited.provider.calls
        return TemporaryError("no agent") if name == "lab-farm-5" and verb == "healthy" and new else None

    edited.workload.fault = broken
    report = commands.up(edited.context(rounds=1))
    replaced = [r.change.object for r in report.of(Ended.DONE) if r.change.action is Action.REPLACE]
    assert sorted(replaced) == [f"lab-farm-{n}" for n in (1, 2, 3, 4, 5, 6)]
    assert "lab-farm-4" in edited.workload.drained
    assert {r.change.object for r in report.of(Ended.SKIPPED)} >= {"lab-farm-7", "lab-farm-10"}
    assert report.exit_code != 0
    mended = DirectoryWorld(tmp_path, site("big"), clock=VirtualClock(NOW))  # type: ignore[arg-type]
    assert commands.up(mended.context()).exit_code == 0
    assert commands.plan(mended.context()).changes == ()


def test_a_cancelled_drain_is_undone(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path, clock=VirtualClock(NOW))
    ctx = world.context()
    commands.up(ctx)
    world.workload.jobs["lab-workers-2"] = [41]
    world.provider.fault = lambda verb, name: PermanentError("api away") if verb == "destroy" else None
    commands.scale(ctx, "workers", 1)
    assert world.workload.drained == ["lab-workers-2"]
    world.provider.fault = lambda verb, name: None
    report = commands.scale(ctx, "workers", 2)
    assert report.exit_code == 0
    assert world.names()[-1] == "lab-workers-2"
    assert commands.plan(ctx).changes == ()
