"""The loop every daemon runs: seen = observe(); todo = decide(seen); perform(todo).

``step`` is one such round. TemporaryError waits what it asks for; anything unexpected is logged
with its traceback and the loop goes on: one bad round must not end a service. This and the CLI's
last line of defence are the only broad handlers of the project.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import Awaitable, Callable

from orchestrator.errors import GridError, TemporaryError
from orchestrator.runtime import logs


def collect_seldom() -> None:
    """For a server that answers with many small objects: what is loaded stays, and cycles are looked for every 50,000
    new objects instead of 700. That is a tenth of a broker's time."""
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)


async def loop(
    name: str,
    step: Callable[[], Awaitable[float]],
    stop: asyncio.Event,
    wake: asyncio.Event | None = None,
) -> None:
    """Call ``step`` until ``stop`` is set; ``step`` returns the seconds to wait before the next.

    ``wake``, when set by somebody, ends the wait early and is cleared.
    """
    log = logs.get(name)
    failures = 0
    while not stop.is_set():
        try:
            pause = await step()
            failures = 0
        except TemporaryError as error:
            failures += 1
            pause = max(error.retry_in, min(30.0, 0.2 * 2**failures))
            log.warning("round put off", reason=error.message, retry_in=pause, **error.facts)
        except GridError as error:
            failures += 1
            pause = min(60.0, 0.5 * 2**failures)
            log.error("round failed", reason=error.message, **error.facts)
        except Exception:
            failures += 1
            pause = min(60.0, 0.5 * 2**failures)
            log.exception("round broke")
        await wait_any(pause, stop, wake)
        if wake is not None:
            wake.clear()


async def wait_any(seconds: float, *events: asyncio.Event | None) -> None:
    """Return when any event is set or ``seconds`` have passed."""
    waiters = [asyncio.ensure_future(event.wait()) for event in events if event is not None]
    try:
        if waiters:
            await asyncio.wait(waiters, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(seconds)
    finally:
        for waiter in waiters:
            waiter.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiter


def ready() -> None:
    """Who waits for this program to be up is told, if there is one (sd_notify(3))."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, contextlib.suppress(OSError):
            told.sendto(b"READY=1", address)


def stop_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM and SIGINT set ``stop``."""
    running = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        running.add_signal_handler(number, stop.set)
