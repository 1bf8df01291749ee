"""Structured logs: one JSON object a line in a file of the service's own, never through a pipe.

A supervised service must survive its supervisor, so it does not log to the supervisor's pipe. structlog, which
loads rich for colours that a file has not, is imported by who logs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import structlog


def configure(file: Path | None = None, level: int = logging.INFO) -> None:
    """All later logging of this process goes to ``file`` (appended), or to stderr when None."""
    import structlog

    out: TextIO = sys.stderr
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Users' names and files stand in it: for the service's account alone.
        private = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(PermissionError):
            os.fchmod(private, 0o600)
        out = os.fdopen(private, "a", buffering=1)
        sys.stdout = sys.stderr = out
    logging.basicConfig(
        stream=out, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s", force=True
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=True,
    )


def get(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger that carries ``service=name``."""
    import structlog

    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(service=name)
    return logger
