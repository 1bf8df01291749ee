"""The contract of batch adapters: what ``ce.batch.base.Batch`` promises."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.ce.batch.base import Batch, Slot, SlotSpec, SlotState
from orchestrator.ce.batch.fork import ForkBatch
from orchestrator.errors import UserError
from orchestrator.runtime.clock import SystemClock

Make = Callable[[], Batch]  # the adapter as a new CE process would make it, over the same batch system


@pytest.fixture(params=["fork"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    assert request.param == "fork"

    def fork() -> Batch:
        return ForkBatch(tmp_path / "slots", 2, SystemClock())

    yield fork
    batch = fork()
    for _ in range(200):
        left = [slot for slot in batch.list() if slot.state is not SlotState.ENDED]
        for slot in left:
            batch.cancel(slot.id)
        if not left:
            return
        time.sleep(0.02)
    pytest.fail("slots do not end")


def _spec(name: str, script: str, **files: str) -> SlotSpec:
    return SlotSpec(name, ("/bin/sh", "-c", script), files)


def _slot(batch: Batch, name: str) -> Slot:
    return next(slot for slot in batch.list() if slot.name == name)


def _until(true: Callable[[], object], seconds: float = 10.0) -> None:
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def _ended(batch: Batch, name: str) -> Callable[[], bool]:
    return lambda: _slot(batch, name).state is SlotState.ENDED


def test_a_slot_runs_its_command_with_its_files(make: Make, tmp_path: Path) -> None:
    batch = make()
    out = tmp_path / "out"
    spec = SlotSpec("one", ("/bin/sh", "-c", f"cat $0 >{out}; stat -c %a $0 >>{out}; exit 3", "@SLOT@/config"), {"config": "at @SLOT@\n"})  # fmt: skip
    number = batch.submit(spec)
    _until(_ended(batch, "one"))
    found = _slot(batch, "one")
    assert (found.id, found.status) == (number, 3)
    assert found.submitted <= (found.started or 0) <= (found.ended or 0)
    text = out.read_text().split()
    assert "@SLOT@" not in text
    assert text[-1] == "600"


def test_submitting_the_same_name_again_runs_it_once(make: Make, tmp_path: Path) -> None:
    spec = _spec("same", f"echo x >>{tmp_path}/runs")
    first = make().submit(spec)
    assert make().submit(spec) == first
    batch = make()
    _until(_ended(batch, "same"))
    assert make().submit(spec) == first
    assert len(batch.list()) == 1
    assert (tmp_path / "runs").read_text() == "x\n"


def test_what_does_not_fit_is_queued(make: Make, tmp_path: Path) -> None:
    batch = make()
    for name in ("a", "b", "c"):
        batch.submit(_spec(name, f"while ! [ -e {tmp_path}/go_{name} ]; do sleep 0.02; done"))
    assert [_slot(batch, name).state for name in "abc"] == ["running", "running", "queued"]
    (tmp_path / "go_a").touch()
    _until(lambda: _slot(batch, "c").state is SlotState.RUNNING)
    assert _slot(batch, "a").state is SlotState.ENDED


def test_cancel_is_graceful_and_silent_when_gone(make: Make, tmp_path: Path) -> None:
    batch = make()
    slot = batch.submit(_spec("one", f"trap 'touch {tmp_path}/saved; exit 0' TERM; touch {tmp_path}/up; while :; do sleep 0.02; done"))  # fmt: skip
    _until((tmp_path / "up").exists)
    batch.cancel(slot)
    _until(_ended(batch, "one"))
    assert (tmp_path / "saved").exists()
    batch.cancel(slot)
    batch.cancel("nobody")


def test_a_queued_slot_that_is_cancelled_never_runs(make: Make, tmp_path: Path) -> None:
    batch = make()
    for name in ("a", "b"):
        batch.submit(_spec(name, "sleep 30"))
    slot = batch.submit(_spec("c", f"touch {tmp_path}/ran"))
    batch.cancel(slot)
    for name in ("a", "b"):
        batch.cancel(name)
    _until(lambda: all(slot.state is SlotState.ENDED for slot in batch.list()))
    assert not (tmp_path / "ran").exists()


def test_slots_survive_their_ce_and_are_known_again(make: Make, tmp_path: Path) -> None:
    make().submit(_spec("one", f"while ! [ -e {tmp_path}/go ]; do sleep 0.02; done; exit 4"))
    again = make()
    _until(lambda: _slot(again, "one").state is SlotState.RUNNING)
    (tmp_path / "go").touch()
    _until(_ended(again, "one"))
    assert _slot(again, "one").status == 4


def test_forget(make: Make) -> None:
    batch = make()
    slot = batch.submit(_spec("one", "true"))
    _until(_ended(batch, "one"))
    batch.forget(slot)
    batch.forget(slot)
    assert list(batch.list()) == []


def test_a_bad_name_is_refused(make: Make) -> None:
    with pytest.raises(UserError):
        make().submit(_spec("../x", "true"))


def test_fork_a_killed_slot_is_ended_and_a_reused_pid_is_not_it(tmp_path: Path) -> None:
    batch = ForkBatch(tmp_path, 1, SystemClock())
    batch.submit(_spec("one", "exec sleep 79.5"))
    _until((tmp_path / "one/pid").exists)
    pid, start = (tmp_path / "one/pid").read_text().split()
    os.killpg(int(pid), signal.SIGKILL)
    _until(_ended(batch, "one"))
    assert _slot(batch, "one").status is None
    (tmp_path / "one/lost").unlink()
    (tmp_path / "one/pid").write_text(f"{os.getpid()} {start}")
    assert _slot(ForkBatch(tmp_path, 1, SystemClock()), "one").state is SlotState.ENDED


def test_fork_a_ce_killed_while_it_submits_leaves_a_queued_slot(tmp_path: Path) -> None:
    folder = tmp_path / "slots/half"
    folder.mkdir(parents=True)
    command = ["/bin/sh", "-c", f"touch {tmp_path}/ran"]
    (folder / "spec.json").write_text(json.dumps({"command": command, "submitted": time.time()}))
    batch = ForkBatch(tmp_path / "slots", 1, SystemClock())
    _until(_ended(batch, "half"))
    assert (tmp_path / "ran").exists()
