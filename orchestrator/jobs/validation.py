"""ValidationCommand: whether a job's outputs are good is judged by a job of its own (paper, section 3.4).

A job with a ValidationCommand that ends as DONE or DONE_WARN is *unjudged*. The optimizer inserts its
validation, a child of role ``validate`` with the job's outputs as inputs, and notes it in the job's spec
in one transaction: a killed optimizer has done both or neither, and its next sweep finds what is left.
The move that ends the validation moves the job too, in one transaction (``JobKind.on_move``).

Of a master each part, and each merge job whose own JDL asks for it, is validated; the master waits for
the verdicts and has none of its own.
"""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from orchestrator.errors import PermanentError, UserError
from orchestrator.jobs import model, store
from orchestrator.runtime.sql import Connection
from orchestrator.tasks import store as tasks
from orchestrator.tasks.kinds import Task
from orchestrator.tasks.manager import Manager
from orchestrator.tasks.model import Json
from orchestrator.tasks.store import New

Prepare = Callable[[Mapping[str, Any], str, str], Awaitable[New]]  # prepare.Preparer's
REJECTED: Final = "EXIT_CODE"  # how an agent calls the end of a command that ran and did not exit with 0
_NOT_ITS = frozenset(
    {"Executable", "Arguments", "Inputs", "InputFile", "InputData", "InputDataCollection", "OutputFile",
     "OutputArchive", "OutputDir", "ValidationCommand", "Email", "Counter"}
)  # fmt: skip


def words(jdl: Mapping[str, Any]) -> list[str]:
    """ValidationCommand split by shell quoting rules: a program and its arguments; UserError. Pure."""
    try:
        found = shlex.split(str(jdl["ValidationCommand"]))
    except ValueError as error:
        raise UserError(f"ValidationCommand cannot be split into words: {error}") from error
    if not found:
        raise UserError("ValidationCommand is empty")
    return found


def attributes(parent: Task, directory: str) -> Json:
    """The JDL of a job's validation: its own limits and packages, its outputs as inputs.

    What it prints is kept below ``directory``. Pure.
    """
    own = {name: value for name, value in parent.spec["jdl"].items() if name not in _NOT_ITS}
    program, *rest = words(parent.spec["jdl"])
    lfns = list(dict.fromkeys(str(output["lfn"]) for output in parent.result.get("outputs", ())))
    return own | {
        "Executable": program,
        "Arguments": shlex.join(rest),
        "InputData": lfns,
        "Inputs": [{"lfn": lfn, "name": lfn.rpartition("/")[2]} for lfn in lfns],
        "OutputFile": ["stdout", "stderr"],
        "OutputErrorE": ["stdout", "stderr"],
        "OutputDir": f"{directory}/validation/{parent.attempt}",
    }


def verdict(child: Task) -> tuple[str, str]:
    """The state that an ended validation gives to its job, and why. Pure."""
    if child.state in model.SUCCESSES:
        return model.VALIDATED, f"accepted by job {child.id}"
    if child.state == model.ERROR_SV:  # the command exited with 0 before that
        return model.VALIDATED, f"accepted by job {child.id}, whose own output could not be stored"
    if child.state == model.ERROR_E and child.result.get("code") == REJECTED:
        return model.FAILED, f"rejected by job {child.id}: {child.reason}"
    return model.ERROR_VN, f"its validation, job {child.id}, ended as {child.state}: {child.reason}"


async def begin(
    connection: Connection, manager: Manager, prepare: Prepare, task: Task, directory: str
) -> int | None:
    """The validation of ``task`` (locked by this transaction) waits; its number.

    None when there is nothing to begin any more, or it could not be made: then the job is ERROR_VN.
    """
    begun = int(task.spec.get("validation", {}).get("attempt", 0))
    if not model.unjudged(task.state, task.spec) or begun >= task.attempt:
        return None
    try:
        async with connection.transaction():
            new = await prepare(attributes(task, directory), task.spec.get("own", ""), directory)
    except (UserError, PermanentError) as error:
        why = f"its validation could not be made: {error.message}"
        await manager.move(connection, task, model.ERROR_VN, actor="optimizer", reason=why)
        return None
    new.spec.update(role=model.VALIDATE, master_attempt=task.attempt)
    (made,) = await tasks.submit(
        connection,
        model.KIND,
        task.owner,
        model.WAITING,
        [New(new.spec, new.task_class, max(new.priority, task.priority))],
        actor="optimizer",
        parent=task.id,
        lasts=float(new.spec["jdl"]["MaxWaitingTime"]),
    )
    await store.note_validation(connection, task.id, made)
    return made


async def judge(connection: Connection, child: Task) -> Task | None:
    """The job as its validation ``child`` leaves it; None when ``child`` is none, or gives no verdict (yet)."""
    if child.spec.get("role") != model.VALIDATE or child.parent is None or child.state not in model.FINAL:
        return None
    if child.state == model.EXPIRED and child.attempt < child.max_attempts:
        return None  # it goes on with its next attempt
    job = await tasks.get(connection, child.parent, lock=True)
    if not model.unjudged(job.state, job.spec) or job.attempt != child.spec["master_attempt"]:
        return None
    to, reason = verdict(child)
    return await tasks.move(connection, model.LIFE, job, to, actor="validation", reason=reason)
