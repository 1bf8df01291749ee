"""The whole error tree. Vendor errors stop at their adapter and become one of these.

    GridError
    ├── UserError        the caller must change something: bad input, not allowed      (exit 2)
    │   ├── NotAllowed   the caller's token does not permit it                         (exit 2)
    │   └── NotFound     the named object does not exist                               (exit 2)
    ├── TemporaryError   the same call may succeed after ``retry_in`` seconds          (exit 3)
    └── PermanentError   trying again unchanged cannot help                            (exit 4)

Facts travel as attributes (``error.facts["path"]``), not inside prose. Messages name the object,
say what is wrong, and what to do.
"""

from __future__ import annotations

from typing import Any, ClassVar


class GridError(Exception):
    """Root of the tree; ``facts`` are JSON-serialisable."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts


class UserError(GridError):
    """The caller must change something."""

    exit_code = 2
    http_status = 400


class NotAllowed(UserError):
    """The caller's token is missing, expired or lacks the role."""

    http_status = 403


class NotFound(UserError):
    """The named object does not exist."""

    http_status = 404


class TemporaryError(GridError):
    """The same call may succeed after ``retry_in`` seconds."""

    exit_code = 3
    http_status = 503

    def __init__(self, message: str, *, retry_in: float = 1.0, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.retry_in = retry_in


class PermanentError(GridError):
    """Trying again unchanged cannot help."""

    exit_code = 4
    http_status = 409
