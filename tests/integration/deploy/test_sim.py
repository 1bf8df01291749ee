"""Whole sites on simulated clouds: a thousand machines with faults, and both sides killed at work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.deploy import commands
from orchestrator.deploy.context import Context
from orchestrator.deploy.events import Event, Finished, Started
from orchestrator.deploy.report import Ended
from orchestrator.providers.breaker import MOST
from orchestrator.providers.sim.client import SimProvider
from orchestrator.runtime.clock import SystemClock
from orchestrator.runtime.virtual import VirtualClock
from orchestrator.site.load import load
from orchestrator.wiring.deploy import context
from orchestrator.wiring.rehearse import rehearse, shares, simulated

ROOT = Path(__file__).parents[3]


class Place:
    """A site spec in a directory, and the process of its simulated cloud."""

    def __init__(self, folder: Path) -> None:
        self.spec = folder / "lab.yaml"
        self.state = folder / ".orchestrate/lab"
        self.told = ""  # of the last `up`

    def write(
        self, workers: int, local: bool = False, image: str = "", more: int = 0, **options: Any
    ) -> None:
        groups: dict[str, dict[str, Any]] = {
            "central": {"role": "central", "provider": "local" if local else "cloud"},
            "vobox": {"role": "vobox", "provider": "cloud", "needs": ["central"]},
            "workers": {"role": "worker", "provider": "cloud", "count": workers, "needs": ["vobox"]},
        }
        if image:
            groups["workers"]["image"] = image
        if more:
            groups["more"] = {**groups["workers"], "count": more}
        site = {"vo": "alice", "providers": {"cloud": {"kind": "sim", **options}}, "groups": groups}
        self.spec.write_text(json.dumps(site))  # JSON is YAML

    def up(self, sink: Callable[[Event], None] = lambda _: None) -> int:
        with context(self.spec, sink=sink) as ctx:
            report = commands.up(ctx)
            self.told = "; ".join(
                [report.summary, *(f"{r.change.id}: {r.error}" for r in report.of(Ended.FAILED))]
            )
            return report.exit_code

    def look(self, act: Callable[[Context, SimProvider], Any]) -> Any:
        with context(self.spec) as ctx:
            cloud = ctx.providers["cloud"]
            assert isinstance(cloud, SimProvider)
            return act(ctx, cloud)

    def figures(self) -> dict[str, Any]:
        return dict(self.look(lambda _, cloud: cloud.figures()))

    @property
    def pid(self) -> int | None:
        try:
            return int((self.state / "sim/cloud/pid").read_text())
        except OSError:
            return None

    def kill(self) -> None:
        """SIGKILL to the cloud's process; it is gone on return."""
        pid = self.pid
        if pid is None:
            return
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while _alive(pid):
            assert time.monotonic() < deadline
            time.sleep(0.005)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    if made.pid is not None and _alive(made.pid):
        made.kill()


def test_a_thousand_machines_with_faults(place: Place) -> None:
    place.write(1)
    spec = simulated(load(place.spec), 1000, 0.05, 3)
    (folder := place.spec.parent / "rehearsal").mkdir()
    seen = rehearse(spec, folder, lambda _: None)
    assert (seen.wanted, seen.ready, seen.left, seen.ok) == (1000, 1000, 0, True)
    assert seen.counted["lost replies"] > 10
    assert seen.counted["fault failed"] + seen.counted["fault broken"] > 10
    assert 0 < seen.p50 < seen.p99 < seen.up.virtual < 3 * 3600
    assert seen.up.virtual > 10 * seen.up.wall
    assert not (folder / "sim/cloud/pid").exists()


def test_a_site_comes_grows_by_one_call_and_goes_without_a_trace(place: Place) -> None:
    place.write(20)
    assert place.up() == 0, place.told
    pid = place.pid
    assert pid is not None
    assert _alive(pid)  # the cloud outlives the context that started it
    place.look(lambda ctx, _: commands.plan(ctx).changes == () or pytest.fail("the site is not converged"))
    before = place.figures()["tally"]
    with context(place.spec) as ctx:
        assert commands.scale(ctx, "workers", 21).exit_code == 0
    after = place.figures()["tally"]
    assert after["calls create"] - before["calls create"] == 1
    assert "calls destroy" not in after
    with context(place.spec) as ctx:
        assert commands.down(ctx).exit_code == 0
    assert not place.state.exists()
    deadline = time.monotonic() + 10
    while _alive(pid):
        assert time.monotonic() < deadline, "the cloud's process did not end"
        time.sleep(0.01)


def test_looking_at_a_site_that_was_never_up_starts_nothing(place: Place) -> None:
    place.write(3)
    with context(place.spec, reading=True) as ctx:
        assert len(commands.plan(ctx).changes) > 3
    assert not place.state.exists()


def test_the_cloud_is_killed_again_and_again(place: Place) -> None:
    place.write(40, lost_replies="5 %")
    ends, kills = 0, 0

    def kill(event: Event) -> None:
        nonlocal ends, kills
        if isinstance(event, Started | Finished):
            ends += 1
            if ends % 15 == 0:
                place.kill()
                kills += 1

    code = place.up(kill)
    for _ in range(5):
        code = place.up() if code else 0
    assert code == 0, place.told
    assert kills >= 3
    seen = place.figures()
    assert (seen["machines"], len(seen["ready"])) == (42, 42)
    assert seen["tally"]["created"] - seen["tally"].get("destroyed", 0) == 42
    place.look(lambda ctx, _: commands.plan(ctx).changes == () or pytest.fail("the site is not converged"))


@pytest.mark.parametrize("lines", [3, 12, 40, 90])
def test_the_orchestrator_is_killed_and_the_cloud_goes_on(place: Place, lines: int) -> None:
    place.write(40, lost_replies="10 %", eventual_list="10 s")
    command = [sys.executable, "-m", "orchestrator.cli.main", "up", str(place.spec), "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as child:
        assert child.stdout is not None
        for _ in range(lines):
            assert json.loads(child.stdout.readline())["event"]
        child.kill()
    pid = place.pid
    assert lines < 10 or (pid is not None and _alive(pid))
    assert place.up() == 0, place.told
    seen = place.figures()
    assert (seen["machines"], len(seen["ready"])) == (42, 42)
    assert seen["tally"]["created"] == 42
    with context(place.spec) as ctx:
        assert commands.down(ctx, keep_data=True).exit_code == 0
    assert place.figures()["machines"] == 0


@pytest.mark.parametrize("fault", [{"bad_images": ["broken"]}, {"broken_context": "100 %"}])
def test_an_image_that_never_works_costs_an_exact_number_and_is_mended_by_the_spec(
    place: Place, fault: dict[str, Any]
) -> None:
    place.write(300, image="broken", **fault)
    ended: list[Ended] = []
    code = place.up(lambda event: ended.append(event.result.ended) if isinstance(event, Finished) else None)
    assert code == 4
    assert f"group workers stopped after {MOST} failed machines" in place.told
    assert f"{300 - MOST} not tried" in place.told
    assert place.figures()["tally"]["created"] == 2 + MOST  # the pets have another image
    assert ended.count(Ended.SKIPPED) == 300 - MOST
    assert any((place.state / "evidence").iterdir())
    place.write(300, image="broken")  # the faults stop: the next run tells the cloud
    code = place.up()
    assert code == 0, place.told
    assert len(place.figures()["ready"]) == 302


def test_time_jumps_only_if_every_machine_is_simulated(place: Place) -> None:
    place.write(1)
    assert isinstance(place.look(lambda ctx, _: ctx.clock), VirtualClock)
    place.write(1, local=True)
    assert isinstance(place.look(lambda ctx, _: ctx.clock), SystemClock)


def test_virtual_time_never_goes_back_from_one_run_to_the_next(place: Place) -> None:
    place.write(2)
    assert place.up() == 0, place.told
    first = place.look(lambda ctx, _: ctx.clock.now())
    assert first > SystemClock().now()  # boots took minutes that nobody waited for
    assert place.look(lambda ctx, _: ctx.clock.now()) >= first


def test_only_its_owner_reaches_the_cloud(place: Place) -> None:
    place.write(1)
    assert place.up() == 0, place.told
    folder = place.state / "sim/cloud"
    assert folder.stat().st_mode & 0o077 == 0
    assert all(
        entry.stat().st_mode & 0o077 == 0 for entry in folder.iterdir() if entry.name not in ("log", "lock")
    )


def test_a_cloud_that_was_killed_is_started_anew_from_its_disk(place: Place) -> None:
    place.write(1)
    assert place.up() == 0, place.told

    def calls(_: Context, cloud: SimProvider) -> None:
        before = cloud.list()
        place.kill()
        assert cloud.list() == before
        place.kill()
        cloud.configure("lab-central-1", "x")
        assert [machine.applied for machine in cloud.list() if machine.group == "central"] == ["x"]

    place.look(calls)


def test_machines_are_shared_out_over_the_groups_of_workers(place: Place) -> None:
    place.write(10, more=30)
    assert shares(load(place.spec), 402) == {"workers": 100, "more": 300}
