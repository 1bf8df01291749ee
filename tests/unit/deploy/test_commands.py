"""up, scale, down, status, why on a world in a directory, with a real ledger."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from directory_world import DirectoryWorld, a_site

from orchestrator.deploy import commands
from orchestrator.deploy.events import Closed, Started
from orchestrator.deploy.model import Action, IntentState, Outcome, Stage, Target
from orchestrator.deploy.plan import Plan
from orchestrator.deploy.report import Ended
from orchestrator.deploy.session import LeaseHeld, LeaseLost, Session, acquire
from orchestrator.errors import NotFound, PermanentError, TemporaryError, UserError

ALL = ["lab-central-1", "lab-vobox-1", "lab-workers-1", "lab-workers-2"]


def folder_of(world: DirectoryWorld, name: str) -> Path:
    return next(Path(m.root) for m in world.provider.list() if m.name == name)


def test_up_makes_everything_in_order_and_a_second_up_does_nothing(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path)
    ctx = world.context()
    report = commands.up(ctx)
    assert report.exit_code == 0, report.summary
    assert world.names() == ALL
    begun = [event.change.id for event in world.events if isinstance(event, Started)]
    order = ["configure:lab-central-1", "verify:central", "configure:lab-vobox-1", "verify:vobox",
             "create:lab-workers-1", "verify:workers"]  # fmt: skip
    assert [key for key in begun if key in order] == order
    assert set(begun[:2]) == {"create:lab-central-1", "create:lab-vobox-1"}
    assert {record.stage for record in ctx.ledger.records().values()} == {Stage.READY}
    assert ctx.ledger.open_intents() == ()
    assert commands.plan(ctx).changes == ()
    world.provider.calls.clear()
    world.configurator.runs.clear()
    again = commands.up(ctx)
    assert (again.summary, again.exit_code) == ("nothing to do", 0)
    assert world.provider.calls == []
    assert world.configurator.runs == []


def test_adding_one_worker_touches_one_machine(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path)
    ctx = world.context()
    commands.up(ctx)
    world.provider.calls.clear()
    world.configurator.runs.clear()
    report = commands.scale(ctx, "workers", 3)
    assert report.exit_code == 0
    assert world.provider.calls == [("create", "lab-workers-3")]
    assert world.configurator.runs == []
    assert commands.up(ctx).summary == "nothing to do"  # the count is remembered


def test_scale_down_drains_and_removes_the_last(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path)
    ctx = world.context()
    commands.up(ctx)
    world.workload.jobs["lab-workers-2"] = [41]
    commands.scale(ctx, "workers", 1)
    assert world.workload.drained == ["lab-workers-2"]
    assert world.names() == ALL[:3]


def test_an_edited_count_wins_over_an_older_scale(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path)
    commands.up(world.context())
    commands.scale(world.context(), "workers", 3)
    edited = DirectoryWorld(tmp_path, a_site(1))
    commands.up(edited.context())
    assert edited.names() == ALL[:3]


def test_scale_refuses_what_the_site_spec_forbids(tmp_path: Path) -> None:
    ctx = DirectoryWorld(tmp_path, a_site(farm={"role": "worker", "min": 0, "max": 4})).context()
    for group, count in (("farm", 5), ("workers", -1), ("central", 2), ("nobody", 1)):
        with pytest.raises(UserError, match=group):
            commands.scale(ctx, group, count)
    assert ctx.ledger.overrides() == {}


def test_drift_a_new_digest_and_a_stopped_pet_are_mended_and_nothing_else(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path)
    ctx = world.context()
    commands.up(ctx)
    (folder_of(world, "lab-vobox-1") / "drift").touch()
    (folder_of(world, "lab-central-1") / "stopped").touch()
    done = {r.change.id for r in commands.up(ctx).results if r.change.action is not Action.VERIFY}
    assert done == {"create:lab-central-1", "configure:lab-vobox-1"}
    world.configurator.version = "2"
    done = {r.change.id for r in commands.up(ctx).results if r.change.action is not Action.VERIFY}
    assert done == {"configure:lab-central-1", "configure:lab-vobox-1"}
    assert commands.plan(ctx).changes == ()


def test_a_stopped_worker_is_replaced_with_a_fresh_context(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path)
    ctx = world.context()
    commands.up(ctx)
    (folder_of(world, "lab-workers-1") / "stopped").touch()
    world.provider.calls.clear()
    commands.up(ctx)
    assert world.provider.calls == [("destroy", "lab-workers-1"), ("create", "lab-workers-1")]
    assert world.configurator.contexts[-1] == "lab-workers-1"


def test_unreachable_is_not_dead(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path)
    ctx = world.context()
    commands.up(ctx)
    (folder_of(world, "lab-workers-1") / "unreachable").touch()
    world.provider.calls.clear()
    report = commands.up(ctx)
    assert world.provider.calls == []
    assert report.exit_code == 3
    assert "lab-workers-1" in report.results[0].error


def test_machines_that_boot_are_waited_for_by_one_list(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path, a_site(6), boots=3)
    report = commands.up(world.context())
    assert report.exit_code == 0, report.summary
    assert len(world.names()) == 8


def test_what_waited_for_a_pet_that_booted_late_is_made_by_the_same_run(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path, a_site(3), boots=3)
    report = commands.up(world.context(boot=0.2))
    assert report.exit_code == 0, report.summary
    assert len(world.names()) == 5


def test_pets_that_are_ready_together_share_one_run(tmp_path: Path) -> None:
    boxes = {f"box{n}": {"role": "vobox"} for n in range(4)}
    world = DirectoryWorld(tmp_path, a_site(0, **boxes))
    assert commands.up(world.context()).exit_code == 0
    assert [len(run) for run in world.configurator.runs] == [1, 5]


def test_calls_to_a_provider_are_bounded(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path, a_site(30))
    commands.up(world.context())
    assert 1 < world.provider.most <= 4  # providers.local.parallel


def test_a_failure_keeps_what_worked_skips_what_needs_it_and_leaves_evidence(tmp_path: Path) -> None:
    def broken(verb: str, name: str) -> PermanentError | None:
        bad = (verb, name) == ("configure", "lab-vobox-1")
        return PermanentError("the mirror answered 404") if bad else None

    farm = {"role": "central"}
    world = DirectoryWorld(tmp_path, a_site(2, other=farm), broken)
    ctx = world.context()
    report = commands.up(ctx)
    failed = report.of(Ended.FAILED)
    assert [result.change.id for result in failed] == ["configure:lab-vobox-1"]
    assert "mirror answered 404" in Path(failed[0].evidence).read_text()
    assert Path(failed[0].evidence).stat().st_mode & 0o077 == 0
    assert {r.change.group for r in report.of(Ended.SKIPPED)} == {"vobox", "workers"}
    assert {r.change.group for r in report.of(Ended.DONE)} >= {"central", "other"}
    assert report.exit_code == 4
    assert "lab-vobox-1" in report.summary
    assert ctx.ledger.records()["lab-vobox-1"].stage is Stage.FAILED
    assert ctx.ledger.intents("lab-vobox-1")[0].state is IntentState.FAILED
    mended = DirectoryWorld(tmp_path, world.site)
    assert commands.up(mended.context()).exit_code == 0


def test_a_temporary_error_is_tried_again(tmp_path: Path) -> None:
    left = [2]

    def flaky(verb: str, name: str) -> TemporaryError | None:
        if verb == "create" and left[0]:
            left[0] -= 1
            return TemporaryError("throttled", retry_in=0.01)
        return None

    assert commands.up(DirectoryWorld(tmp_path, a_site(0), flaky).context()).exit_code == 0


def test_a_configuration_whose_answer_was_lost_counts_once_its_machine_is_seen_working(
    tmp_path: Path,
) -> None:
    world = DirectoryWorld(tmp_path)
    configure, lost = world.configurator.configure, {"lab-central-1"}

    def deaf(targets: Sequence[Target]) -> Iterator[Outcome]:
        for outcome in configure(targets):
            if outcome.machine in lost:
                lost.remove(outcome.machine)
                outcome = replace(outcome, ok=False, evidence="no answer")
            yield outcome

    world.configurator.configure = deaf  # type: ignore[method-assign]
    ctx = world.context()
    while commands.up(ctx).exit_code:
        pass
    assert lost == set()
    assert {record.stage for record in ctx.ledger.records().values()} == {Stage.READY}
    assert commands.plan(ctx).changes == ()


def test_what_a_killed_ansible_run_left_behind_is_removed(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path)
    ctx = world.context()
    assert commands.up(ctx).exit_code == 0
    left = ctx.state_dir / ".ansible-xyz"
    (left / "inventory").mkdir(parents=True)
    (left / "inventory/hosts.json").write_text("{}")
    assert commands.plan(ctx).changes == ()
    assert left.exists()  # whoever only looks touches nothing
    assert commands.up(ctx).summary == "nothing to do"
    assert not left.exists()


def test_a_bug_in_an_adapter_is_a_failure_with_its_traceback(tmp_path: Path) -> None:
    def bug(verb: str, name: str) -> None:
        if verb == "create":
            raise ZeroDivisionError("a bug")

    report = commands.up(DirectoryWorld(tmp_path, a_site(0), bug).context())
    failed = report.of(Ended.FAILED)
    assert len(failed) == 2
    assert "Traceback" in Path(failed[0].evidence).read_text()


def test_a_group_that_never_works_says_which_machine_and_why(tmp_path: Path) -> None:
    def ill(verb: str, name: str) -> TemporaryError | None:
        bad = (verb, name) == ("healthy", "lab-workers-2")
        return TemporaryError("no agent has asked for work") if bad else None

    report = commands.up(DirectoryWorld(tmp_path, None, ill).context(verify=0.3))
    (failed,) = report.of(Ended.FAILED)
    assert (failed.change.id, report.exit_code) == ("verify:workers", 3)
    assert "lab-workers-2: no agent has asked for work" in failed.error
    assert "console of lab-workers-2" in Path(failed.evidence).read_text()


def test_limit_narrows_and_refuses_when_what_it_needs_is_not_up(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path)
    ctx = world.context()
    with pytest.raises(UserError, match="--limit central"):
        commands.up(ctx, "vobox")
    commands.up(ctx, "central")
    assert world.names() == ALL[:1]
    commands.up(ctx, "vobox")
    assert world.names() == ALL[:2]


def test_down_asks_and_leaves_no_file(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path)
    commands.up(world.context())
    with pytest.raises(UserError, match="nothing was changed"):
        commands.down(world.context(), confirm=lambda plan: False)
    assert world.names() == ALL
    asked: list[Plan] = []
    world.provider.calls.clear()
    report = commands.down(world.context(), confirm=lambda plan: not asked.append(plan))  # type: ignore[func-returns-value]
    assert report.exit_code == 0
    assert {c.object for c in asked[0].destroys_data} == {"lab-central-1", "lab-vobox-1"}
    assert world.names() == []
    assert [name for _, name in world.provider.calls][-2:] == ["lab-vobox-1", "lab-central-1"]
    assert not (tmp_path / "state").exists()
    assert isinstance(world.events[-1], Closed)
    assert commands.down(world.context()).summary == "nothing to do"


def test_down_keep_data_keeps_the_ledger(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path)
    commands.up(world.context())
    commands.down(world.context(), keep_data=True)
    ctx = world.context()
    assert world.names() == []
    assert ctx.ledger.records() == {}
    assert ctx.ledger.decisions("lab-central-1")


def test_a_group_that_left_the_spec_is_destroyed_after_asking(tmp_path: Path) -> None:
    more = DirectoryWorld(tmp_path, a_site(1, box2={"role": "vobox"}))
    commands.up(more.context())
    less = DirectoryWorld(tmp_path, a_site(1))
    with pytest.raises(UserError):
        commands.up(less.context(), confirm=lambda plan: False)
    assert len(less.names()) == 4
    commands.up(less.context())
    assert less.names() == ALL[:3]


def test_machines_that_the_ledger_does_not_know_are_adopted(tmp_path: Path) -> None:
    first = DirectoryWorld(tmp_path)
    commands.up(first.context())
    (tmp_path / "state/ledger.db").rename(tmp_path / "lost.db")
    for rest in (tmp_path / "state").glob("ledger.db-*"):
        rest.unlink()
    world = DirectoryWorld(tmp_path)
    ctx = world.context()
    report = commands.up(ctx)
    assert report.exit_code == 0
    assert world.provider.calls == []
    assert sorted(ctx.ledger.records()) == ALL


def test_a_saved_plan_is_applied_exactly_or_refused(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path)
    ctx = world.context()
    saved = Plan.from_json(commands.plan(ctx).to_json())
    assert commands.up(ctx, saved=saved).exit_code == 0
    with pytest.raises(UserError, match="has changed since"):
        commands.up(ctx, saved=saved)


def test_status_and_why_tell_what_is_known(tmp_path: Path) -> None:
    world = DirectoryWorld(tmp_path)
    ctx = world.context()
    before = commands.status(ctx)
    assert [row.state for row in before.machines] == ["missing"] * 4
    assert not before.ok
    commands.up(ctx)
    after = commands.status(ctx)
    assert after.ok
    assert after.lease is None
    assert {(row.state, row.health) for row in after.machines} == {("running", "ok")}
    story = commands.why(ctx, "lab-workers-1")
    assert [decision.reason for decision in story.decisions] == ["it is missing"]
    assert story.intents[0].state is IntentState.DONE
    assert commands.why(ctx, "workers").decisions
    with pytest.raises(NotFound):
        commands.why(ctx, "nobody")


def test_find_takes_short_names(tmp_path: Path) -> None:
    ctx = DirectoryWorld(tmp_path).context()
    commands.up(ctx)
    assert commands.find(ctx, "central").name == "lab-central-1"
    assert commands.find(ctx, "workers-2").name == "lab-workers-2"
    with pytest.raises(NotFound, match="lab-vobox-1"):
        commands.find(ctx, "workers-9")


def test_stopping_finishes_what_runs_starts_nothing_and_the_next_up_goes_on(tmp_path: Path) -> None:
    stop: list[Callable[[], None]] = []

    def pressed(verb: str, name: str) -> None:
        if (verb, name) == ("create", "lab-vobox-1"):
            stop[0]()

    world = DirectoryWorld(tmp_path, None, pressed)
    ctx = world.context()
    stop.append(ctx.stop.set)
    report = commands.up(ctx)
    assert report.exit_code == 130
    assert "the same command again goes on" in report.summary
    assert "lab-vobox-1" in world.names()  # what ran was finished
    assert "lab-workers-1" not in world.names()
    assert ctx.ledger.open_intents() == ()
    assert ctx.ledger.lease() is None
    again = DirectoryWorld(tmp_path)
    assert commands.up(again.context()).exit_code == 0
    assert again.names() == ALL


def test_stopping_ends_waits(tmp_path: Path) -> None:
    def ill(verb: str, name: str) -> TemporaryError | None:
        if (verb, name) == ("healthy", "lab-central-1"):
            stop[0]()
            return TemporaryError("the broker does not answer")
        return None

    stop: list[Callable[[], None]] = []
    ctx = DirectoryWorld(tmp_path, None, ill).context(verify=600)
    stop.append(ctx.stop.set)
    report = commands.up(ctx)
    assert report.exit_code == 130
    assert {r.ended for r in report.results if r.change.id == "verify:central"} == {Ended.INTERRUPTED}


def test_a_holder_that_loses_its_lease_in_the_middle_stops_acting(tmp_path: Path) -> None:
    thieves: list[Session] = []

    def steal(verb: str, name: str) -> None:
        if (verb, name) == ("configure", "lab-central-1"):
            thieves.append(acquire(ctx.ledger, "thief", ctx.clock, lambda holder: True))

    world = DirectoryWorld(tmp_path, None, steal)
    ctx = world.context()
    with pytest.raises(LeaseLost):
        commands.up(ctx)
    assert "lab-workers-1" not in world.names()
    assert ctx.ledger.lease() is not None
    assert thieves[0].epoch == 2


def test_of_two_at_once_one_works_and_the_other_says_who_and_since_when(tmp_path: Path) -> None:
    refused: list[LeaseHeld] = []

    def second(verb: str, name: str) -> None:
        if (verb, name) == ("create", "lab-vobox-1"):
            with pytest.raises(LeaseHeld) as caught:
                commands.up(DirectoryWorld(tmp_path).context())
            refused.append(caught.value)

    world = DirectoryWorld(tmp_path, None, second)
    ctx = world.context()
    assert commands.up(ctx).exit_code == 0
    (told,) = refused
    assert told.exit_code == 3
    assert f"process {os.getpid()}" in told.message
    assert " since 20" in told.message
    assert told.facts["holder"] == ctx.holder
    assert told.facts["since"] <= told.facts["expires"]
    assert world.names() == ALL
