"""After ``down`` no file of the site is left; after a crash, nothing of the run that died."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from orchestrator.configure.ansible import FOLDER
from orchestrator.errors import PermanentError

_LAST = ("ledger.db", "ledger.db-wal", "ledger.db-shm")


def holds_data(state_dir: Path) -> bool:
    """Keys, kept data or anything else is there that cannot be made again."""
    worthless = {*_LAST, "admins.json", "ansible", "cache", "evidence", "locks"}
    return state_dir.is_dir() and any(entry.name not in worthless for entry in state_dir.iterdir())


def remove_strays(state_dir: Path) -> None:
    """Folders of Ansible runs that were killed are gone, with what is secret in them. For the lease's holder:
    nobody else configures the site."""
    for folder in state_dir.glob(f"{FOLDER}*"):
        shutil.rmtree(folder, ignore_errors=True)


def remove_state(state_dir: Path) -> None:
    """The state directory is gone, the ledger last, so that a killed ``down`` can be run again."""
    try:
        for entry in state_dir.iterdir():
            if entry.name not in _LAST:
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        for name in reversed(_LAST):
            (state_dir / name).unlink(missing_ok=True)
        state_dir.rmdir()
        with contextlib.suppress(OSError):  # another site's directory is still in it
            state_dir.parent.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        raise PermanentError(
            f"cannot remove {error.filename}: {error.strerror}; remove {state_dir} by hand"
        ) from error
