"""Run playbooks/site.yml with ansible-runner, and yield each machine's outcome as it comes.

Nothing is printed. The run's folder (inventory, events) is private and removed when the run ends; what
Ansible itself said is kept in ``<state>/log/ansible.log``.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any

from orchestrator.configure.events import Tally, task_of
from orchestrator.configure.model import Outcome
from orchestrator.errors import PermanentError
from orchestrator.runtime.files import shipped, write_atomic

MAX_FORKS = 50
FOLDER = ".ansible-"  # how the name of a run's folder begins
Progress = Callable[[str, str], None]  # machine, task


def run(
    inventory: Mapping[str, Any],
    machines: Sequence[str],
    state_dir: Path,
    progress: Progress | None = None,
) -> Iterator[Outcome]:
    """Configure ``machines`` (all hosts of the inventory). Closing the iterator stops the run."""
    import ansible_runner

    state_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=FOLDER, dir=state_dir))  # 0700
    stop = Event()
    events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def keep(event: dict[str, Any]) -> bool:
        events.put(event)
        return False  # ansible-runner need not write it to a file

    try:
        write_atomic(folder / "inventory/hosts.json", json.dumps(inventory), 0o600)
        begun = time.monotonic()
        thread, runner = ansible_runner.run_async(
            private_data_dir=str(folder),
            playbook=str(shipped("playbooks") / "site.yml"),
            inventory=str(folder / "inventory/hosts.json"),
            envvars=_environment(folder, len(machines)),
            event_handler=keep,
            finished_callback=lambda _: events.put(None),
            cancel_callback=stop.is_set,
            quiet=True,
            settings={"suppress_ansible_output": True, "pexpect_timeout": 1},
        )
        tally = Tally(machines)
        while (event := _next(events, thread.is_alive)) is not None:
            if progress is not None and (begins := task_of(event)) is not None:
                progress(*begins)
            if (outcome := tally.feed(event, time.monotonic() - begun)) is not None:
                yield outcome
        thread.join()
        said = _said(folder)
        write_atomic(state_dir / "log/ansible.log", said, 0o600)
        yield from tally.end(
            time.monotonic() - begun, f"Ansible ended early ({runner.status}, {runner.rc}): {said[-1500:]}"
        )
    finally:
        stop.set()
        if "thread" in locals():
            thread.join(30)
        shutil.rmtree(folder, ignore_errors=True)


def _next(
    events: queue.SimpleQueue[dict[str, Any] | None], alive: Callable[[], bool]
) -> dict[str, Any] | None:
    """The next event; None after the last one, also when the runner died without saying so."""
    while True:
        try:
            return events.get(timeout=0.5)
        except queue.Empty:
            if not alive() and events.empty():
                return None


def _path() -> str:
    """Where ansible-playbook is found: beside this interpreter first."""
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    if shutil.which("ansible-playbook", path=path) is None:
        raise PermanentError("ansible-playbook is missing; install ansible-core beside orchestrator")
    return path


def _environment(folder: Path, machines: int) -> dict[str, str]:
    playbooks = shipped("playbooks")
    # The admin's own settings are for other work. What waits for hosts need not look a thousand times a second.
    (folder / "ansible.cfg").write_text("[defaults]\ninternal_poll_interval = 0.01\n")
    return {
        "PATH": _path(),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "ANSIBLE_ACTION_PLUGINS": str(playbooks / "action"),
        "ANSIBLE_FORKS": str(max(1, min(machines, MAX_FORKS))),
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_GATHERING": "explicit",
        "ANSIBLE_RETRY_FILES_ENABLED": "0",
        "ANSIBLE_SSH_ARGS": "",
        "ANSIBLE_TIMEOUT": "15",
        "ANSIBLE_INVENTORY_ENABLED": "yaml",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1",
        "ANSIBLE_DEPRECATION_WARNINGS": "0",
        "ANSIBLE_SYSTEM_WARNINGS": "0",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_JINJA2_NATIVE_WARNING": "0",
    }


def _said(folder: Path) -> str:
    return "\n".join(
        file.read_text(errors="replace")
        for kind in ("stdout", "stderr")
        for file in sorted((folder / "artifacts").glob(f"*/{kind}"))
    )
