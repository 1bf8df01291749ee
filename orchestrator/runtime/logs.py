"""Structured logs: one JSON object a line in a file of the service's own, never through a pipe.

A supervised service must survive its supervisor, so it does not log to the supervisor's pipe. The few lines of a
logger are ours: a logging library would be an eighth of a job agent's start.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TextIO

_out: TextIO | None = None  # None is stderr, whatever that is when something is logged


def configure(file: Path | None = None) -> None:
    """All later logging of this process goes to ``file`` (appended), or to stderr when None."""
    global _out
    _out = None
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Users' names and files stand in it: for the service's account alone.
        private = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(PermissionError):
            os.fchmod(private, 0o600)
        _out = os.fdopen(private, "a", buffering=1)
        sys.stdout = sys.stderr = _out
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s", force=True
    )


class Log:
    """Writes events with named facts; what JSON does not know is written as its text."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self._facts = facts

    def bind(self, **facts: Any) -> Self:
        """The same log, whose every line has ``facts`` too."""
        return type(self)(self._facts | facts)

    def info(self, event: str, **facts: Any) -> None:
        self._write("info", event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        self._write("warning", event, facts)

    def error(self, event: str, *, exc_info: BaseException | None = None, **facts: Any) -> None:
        """With the traceback of ``exc_info``."""
        if exc_info is not None:
            facts["exception"] = "".join(traceback.format_exception(exc_info))
        self._write("error", event, facts)

    def exception(self, event: str, **facts: Any) -> None:
        """An error, with the traceback of the exception that is being handled."""
        self.error(event, exc_info=sys.exception(), **facts)

    def _write(self, level: str, event: str, facts: dict[str, Any]) -> None:
        when = datetime.now(UTC).isoformat().replace("+00:00", "Z")  # noqa: TID251  (for who reads, not for us)
        line = {**self._facts, **facts, "event": event, "level": level, "timestamp": when}
        out = _out or sys.stderr
        out.write(json.dumps(line, default=str) + "\n")
        out.flush()


def get(name: str) -> Log:
    """A logger that carries ``service=name``."""
    return Log({"service": name})
