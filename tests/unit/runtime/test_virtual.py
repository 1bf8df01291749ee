"""The clock that jumps: no wall time for waits, and it stands still while anybody works."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from orchestrator.runtime.clock import SystemClock, aside, each
from orchestrator.runtime.virtual import VirtualClock


def test_a_sleep_costs_no_wall_time() -> None:
    clock, begun = VirtualClock(1000.0), time.monotonic()
    clock.sleep(3600)
    assert clock.now() == clock.monotonic() == 4600.0
    assert not clock.wait(threading.Event(), 3600)
    stop = threading.Event()
    stop.set()
    assert clock.wait(stop, 3600)
    assert clock.now() == 8200.0
    assert time.monotonic() - begun < 5


def test_sleepers_wake_in_the_order_of_their_times() -> None:
    clock, woken = VirtualClock(0.0), []

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        woken.append((seconds, clock.now()))

    each(clock, [30.0, 10.0, 20.0], sleep, 3)
    assert woken == [(10.0, 10.0), (20.0, 20.0), (30.0, 30.0)]
    clock.sleep(1)
    assert clock.now() == 31.0  # the caller works again, alone


def test_more_sleepers_than_threads() -> None:
    clock = VirtualClock(0.0)
    assert each(clock, range(100), lambda n: clock.sleep(1) or n, 4) == list(range(100))
    assert clock.now() == 25.0


@pytest.mark.parametrize("clock", [VirtualClock(0.0), SystemClock()])
def test_the_first_error_is_raised(clock: VirtualClock | SystemClock) -> None:
    def bad(n: int) -> int:
        if n == 3:
            raise ValueError(n)
        return n

    with pytest.raises(ValueError, match="3"):
        each(clock, range(9), bad, 2)
    clock.sleep(0.001)  # nobody is counted as working any more but the caller


def test_time_stands_still_while_somebody_works() -> None:
    clock, inbox, go = VirtualClock(0.0), None, threading.Event()
    inbox = clock.inbox()

    def work() -> str:
        go.wait(10)
        return f"done at {clock.now()}"

    def over(future: Future[str]) -> None:
        inbox.put(future.result())
        clock.end()

    with ThreadPoolExecutor(1) as pool:
        clock.begin()
        pool.submit(work).add_done_callback(over)
        threading.Timer(0.05, go.set).start()
        assert inbox.get(60) == "done at 0.0"
        with pytest.raises(queue.Empty):
            inbox.get(60)
        assert clock.now() == 60.0


def test_whoever_waits_aside_lets_time_pass() -> None:
    clock = VirtualClock(0.0)

    def ends(call: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            call()
            clock.end()

        return run

    with ThreadPoolExecutor(1) as pool:
        clock.begin()
        pool.submit(ends(lambda: clock.sleep(5)))
        with aside(clock):
            pool.shutdown()
    assert clock.now() == 5.0


def test_another_process_may_have_moved_on() -> None:
    clock = VirtualClock(100.0)
    clock.reach(50.0)
    assert clock.now() == 100.0
    clock.reach(150.0)
    assert clock.now() == 150.0
