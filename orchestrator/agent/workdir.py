"""A work directory of one agent's own; what killed agents left beside it goes."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.runtime.files import remove_tree


@contextmanager
def own(base: Path) -> Iterator[Path]:
    """A fresh folder below ``base`` (for jobs of other accounts to pass, not to list), gone at the end. Folders of agents that live are left alone.

    A folder's agent holds a lock on its file ``alive`` as long as it lives, however it ends.
    """
    base.mkdir(parents=True, exist_ok=True)
    for other in base.glob("agent-*"):
        _remove_dead(other)
    folder = Path(tempfile.mkdtemp(prefix="agent-", dir=base))
    folder.chmod(0o711)
    lock = os.open(folder / "alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        remove_tree(folder)
        os.close(lock)


def _remove_dead(folder: Path) -> None:
    try:
        lock = os.open(folder / "alive", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return  # just being made, or going
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    else:
        remove_tree(folder)
    finally:
        os.close(lock)
