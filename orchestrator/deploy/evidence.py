"""Why a change failed, written down before the machine goes. Runs beside the apply loop."""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter

from orchestrator.deploy.context import Context
from orchestrator.deploy.plan import Change
from orchestrator.deploy.signature import signature
from orchestrator.errors import GridError
from orchestrator.providers.base import HasConsole, bare
from orchestrator.runtime.files import write_atomic

_ENOUGH = 20  # machines with the same failure whose consoles are kept
_CONSOLES = 5  # of one failed verification


class Evidence:
    """The evidence of one apply. Safe for several threads."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._kept: Counter[str] = Counter()
        self._mutex = threading.Lock()

    def keep(self, change: Change, error: BaseException, more: str = "") -> str:
        """The file that tells of the failure, with what the machine's console shows; "" when enough
        machines failed in the same way before."""
        with self._mutex:
            kind = signature(str(error), (change.object,))
            self._kept[kind] += 1
            if self._kept[kind] > _ENOUGH:
                return ""
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self._ctx.clock.now()))
        path = self._ctx.state_dir / "evidence" / f"{stamp}-{change.object}-{change.action}.txt"
        text = [
            f"{change.action} {change.object} (group {change.group}, provider {change.provider})",
            str(error),
        ]
        if isinstance(error, GridError):
            text += [f"{key}: {value}" for key, value in error.facts.items()]
        else:
            text += ["".join(traceback.format_exception(error))]
        if more:
            text += ["", more]
        text += self._consoles(change, error)
        write_atomic(path, "\n".join(text) + "\n", 0o600)
        return str(path)

    def _consoles(self, change: Change, error: BaseException) -> list[str]:
        facts = error.facts if isinstance(error, GridError) else {}
        provider = bare(self._ctx.guards.get(change.provider))
        if not isinstance(provider, HasConsole):
            return []
        told = []
        for name in facts.get("machines", [change.object])[:_CONSOLES]:
            try:
                told += ["", f"--- console of {name}", provider.console(name)]
            except GridError as unseen:
                told += ["", f"--- console of {name}: {unseen.message}"]
        return told
