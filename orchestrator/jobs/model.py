"""The life of a job: AliEn's states in one table, and what an agent is told to run.

No heavy imports: the agent carries this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

KIND: Final = "job"
VALIDATE: Final = "validate"  # the role of a job that runs another one's ValidationCommand

# Not given to a resource.
INSERTING, WAITING, HELD = "INSERTING", "WAITING", "HELD"
SPLITTING, SPLIT, MERGING = "SPLITTING", "SPLIT", "MERGING"
# Owned by a resource: its heartbeats are expected. QUEUED exists in direct mode only.
ASSIGNED, QUEUED, STARTED, RUNNING, SAVING = "ASSIGNED", "QUEUED", "STARTED", "RUNNING", "SAVING"
ZOMBIE, EXPIRED = "ZOMBIE", "EXPIRED"
# Final.
DONE, DONE_WARN, VALIDATED, FAILED, KILLED = "DONE", "DONE_WARN", "VALIDATED", "FAILED", "KILLED"
ERROR_I, ERROR_SPLT, ERROR_EW, ERROR_A, ERROR_S = "ERROR_I", "ERROR_SPLT", "ERROR_EW", "ERROR_A", "ERROR_S"
ERROR_IB, ERROR_E, ERROR_SV, ERROR_VN, ERROR_M = "ERROR_IB", "ERROR_E", "ERROR_SV", "ERROR_VN", "ERROR_M"

ERRORS = frozenset(
    {ERROR_I, ERROR_SPLT, ERROR_EW, ERROR_A, ERROR_S, ERROR_IB, ERROR_E, ERROR_SV, ERROR_VN, ERROR_M}
)
SUCCESSES = frozenset({DONE, DONE_WARN, VALIDATED})
FAILURES = ERRORS | {FAILED, KILLED, EXPIRED}
FINAL = SUCCESSES | FAILURES
ACTIVE = frozenset({ASSIGNED, QUEUED, STARTED, RUNNING, SAVING})

_AGAIN = frozenset({WAITING, SPLITTING, INSERTING})  # resubmission, with attempt + 1


def _active(*to: str) -> frozenset[str]:
    """An active job may also fall silent, be preempted (attempt + 1) or be killed."""
    return frozenset({*to, ZOMBIE, WAITING, KILLED})


LIFE: Mapping[str, frozenset[str]] = {
    INSERTING: frozenset({WAITING, SPLITTING, ERROR_I, KILLED}),
    SPLITTING: frozenset({SPLIT, ERROR_SPLT, KILLED}),
    SPLIT: frozenset({MERGING, DONE, DONE_WARN, ERROR_E, KILLED}),  # ERROR_E: too many parts failed
    MERGING: frozenset({DONE, DONE_WARN, ERROR_M, KILLED}),
    WAITING: frozenset({ASSIGNED, ERROR_EW, HELD, KILLED}),
    HELD: frozenset({WAITING, KILLED}),
    ASSIGNED: _active(QUEUED, STARTED, ERROR_A),
    QUEUED: _active(STARTED, ERROR_S),
    STARTED: _active(RUNNING, ERROR_IB),
    RUNNING: _active(SAVING, ERROR_E),
    SAVING: _active(DONE, DONE_WARN, ERROR_SV),
    ZOMBIE: ACTIVE | {EXPIRED, KILLED},
    EXPIRED: frozenset({WAITING}),
    DONE: frozenset({VALIDATED, FAILED, ERROR_VN}),
    DONE_WARN: frozenset({VALIDATED, FAILED, ERROR_VN}),
    VALIDATED: frozenset(),
    FAILED: _AGAIN,
    KILLED: _AGAIN,
    **dict.fromkeys(ERRORS, _AGAIN),
}


# The states in which each verb can do something: what many jobs chosen by a filter are narrowed to.
VERBS: Mapping[str, frozenset[str]] = {
    "kill": frozenset(LIFE) - FINAL,
    "resubmit": FAILURES,
    "hold": frozenset({WAITING}),
    "release": frozenset({HELD}),
}


def unjudged(state: str, spec: Mapping[str, Any]) -> bool:
    """It succeeded, and the verdict of its ValidationCommand is still to come. A master is judged by its parts."""
    jdl = spec.get("jdl", {})
    return state in (DONE, DONE_WARN) and "ValidationCommand" in jdl and "Split" not in jdl


def settled(state: str, spec: Mapping[str, Any]) -> bool:
    """Nothing more happens to it by itself."""
    return state in FINAL and not unjudged(state, spec)


@dataclass(frozen=True)
class Input:
    """A catalogue file to put into the work directory under ``name`` (relative) before the payload starts."""

    lfn: str
    name: str
    executable: bool = False  # chmod +x


@dataclass(frozen=True)
class OutputSpec:
    """What to keep: a shell pattern relative to the work directory, and on how many (or which) SEs."""

    pattern: str
    copies: int = 1
    storage: tuple[str, ...] = ()


@dataclass(frozen=True)
class Payload:
    """What the agent runs. ``Payload.of(assignment.jdl)`` reads it from the job's JDL.

    The JDL keeps AliEn's attribute names; the optimizer adds ``Inputs`` (list of {lfn, name,
    executable}: all that must be downloaded, the executable included, in which case Executable is
    its local name ``./<name>``) and ``Variables`` ({name: value} of the environment). Sizes are bytes, times seconds.
    """

    executable: str  # "./name" of an input, an absolute path, or a command to look up in PATH
    arguments: tuple[str, ...]  # split by shell quoting rules, without any expansion
    inputs: tuple[Input, ...]
    input_data: tuple[str, ...]  # every LFN of InputData, also those marked nodownload
    outputs: tuple[OutputSpec, ...]
    outputs_on_error: tuple[OutputSpec, ...]
    output_dir: str  # LFN of the directory; a file's LFN is output_dir/basename
    packages: tuple[str, ...]  # NAME::VERSION
    ttl: int
    memory: int
    disk: int
    cores: int
    variables: Mapping[str, str] = field(default_factory=dict)  # environment, from JDLVariables

    @classmethod
    def of(cls, jdl: Mapping[str, Any]) -> Self:
        """Read an assignment's ``jdl``; KeyError or ValueError only when central itself is wrong."""
        import shlex

        return cls(
            str(jdl["Executable"]),
            tuple(shlex.split(str(jdl.get("Arguments", "")))),
            tuple(Input(i["lfn"], i["name"], bool(i.get("executable"))) for i in jdl.get("Inputs", ())),
            tuple(str(name).partition(",")[0].removeprefix("LF:") for name in jdl.get("InputData", ())),
            tuple(output_spec(text) for text in jdl.get("OutputFile", ())),
            tuple(output_spec(text) for text in jdl.get("OutputErrorE", ())),
            str(jdl["OutputDir"]),
            tuple(jdl.get("Packages", ())),
            int(jdl["TTL"]),
            int(jdl["MemorySize"]),
            int(jdl["WorkDirectorySize"]),
            int(jdl["CPUCores"]),
            {str(name): str(value) for name, value in jdl.get("Variables", {}).items()},
        )


def output_spec(text: str) -> OutputSpec:
    """``histos.root@disk=2`` or ``histos.root@CERN::SE1,CERN::SE2``; ValueError when the number is none."""
    pattern, _, where = text.partition("@")
    if not where:
        return OutputSpec(pattern)
    parts = [part.strip() for part in where.split(",") if part.strip()]
    copies = [int(part.partition("=")[2]) for part in parts if "=" in part]
    storage = tuple(part for part in parts if "=" not in part)
    return OutputSpec(pattern, (sum(copies) if copies else 0) + len(storage), storage)
