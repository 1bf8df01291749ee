"""Commands on their way to agents."""

from __future__ import annotations

import asyncio

from orchestrator.tasks.model import Beat, Command
from orchestrator.vobox.mailbox import Beats, Mailbox


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_command_is_pending_until_it_is_answered() -> None:
    box = Mailbox(Time())
    peek = Command(1, 5, 1, "peek")
    assert box.put([peek])
    assert not box.put([peek]), "the same again is nothing new"
    assert box.pending({(5, 1)}) == [peek]
    assert box.pending({(5, 2)}) == []
    assert box.unclaimed(lambda key: key == (5, 1)) == []
    assert box.unclaimed(lambda key: False) == [peek]
    box.drop(1)
    assert box.pending({(5, 1)}) == []


def test_stale_attempts_are_killed_for_a_while() -> None:
    time = Time()
    box = Mailbox(time)
    box.stale([(5, 1), (6, 1)])
    assert [(c.task, c.attempt, c.verb, c.id) for c in box.pending({(5, 1), (7, 1)})] == [(5, 1, "kill", 0)]
    box.ended((5, 1))
    assert box.pending({(5, 1)}) == []
    time.now = 500.0
    assert box.pending({(6, 1)}) == []


async def test_waiting_ends_with_a_command() -> None:
    box = Mailbox(asyncio.get_running_loop().time)
    waiting = asyncio.create_task(box.wait(lambda: {(5, 1)}, 30))
    await asyncio.sleep(0)
    box.put([Command(1, 9, 1, "kill"), Command(2, 5, 1, "kill")])
    assert [c.id for c in await asyncio.wait_for(waiting, 5)] == [2]
    assert await box.wait(lambda: {(8, 8)}, 0.01) == []


def test_the_newest_heartbeat_counts() -> None:
    beats = Beats()
    beats.put(Beat(1, 1, {"wall": 1}))
    beats.put(Beat(1, 1, {"wall": 2}))
    taken = beats.take()
    assert taken == [Beat(1, 1, {"wall": 2})]
    beats.put(Beat(1, 1, {"wall": 3}))
    beats.restore([*taken, Beat(2, 1)])
    assert sorted(beats.take(), key=lambda beat: beat.task) == [Beat(1, 1, {"wall": 3}), Beat(2, 1)]
