"""The life of a job: every pair of states, and the shape of the table."""

from __future__ import annotations

import itertools

import pytest

from orchestrator.jobs import model
from orchestrator.jobs.model import LIFE, OutputSpec, Payload, output_spec
from orchestrator.states import IllegalTransition, advance

# grid.md's table, written out by hand once more: a slip in one of the two is seen.
WANTED = """
INSERTING: WAITING SPLITTING ERROR_I KILLED
SPLITTING: SPLIT ERROR_SPLT KILLED
SPLIT: MERGING DONE DONE_WARN ERROR_E KILLED
MERGING: DONE DONE_WARN ERROR_M KILLED
WAITING: ASSIGNED ERROR_EW HELD KILLED
HELD: WAITING KILLED
ASSIGNED: QUEUED STARTED WAITING ERROR_A ZOMBIE KILLED
QUEUED: STARTED ERROR_S WAITING ZOMBIE KILLED
STARTED: RUNNING ERROR_IB WAITING ZOMBIE KILLED
RUNNING: SAVING ERROR_E WAITING ZOMBIE KILLED
SAVING: DONE DONE_WARN ERROR_SV WAITING ZOMBIE KILLED
ZOMBIE: ASSIGNED QUEUED STARTED RUNNING SAVING EXPIRED KILLED
EXPIRED: WAITING
DONE: VALIDATED FAILED ERROR_VN
DONE_WARN: VALIDATED FAILED ERROR_VN
VALIDATED:
FAILED: WAITING SPLITTING INSERTING
KILLED: WAITING SPLITTING INSERTING
"""
LEGAL = {
    (line.split(":")[0], new) for line in WANTED.strip().splitlines() for new in line.split(":")[1].split()
} | {(old, new) for old in model.ERRORS for new in ("WAITING", "SPLITTING", "INSERTING")}


@pytest.mark.parametrize(("old", "new"), list(itertools.product(sorted(LIFE), sorted(LIFE))))
def test_every_pair(old: str, new: str) -> None:
    if (old, new) in LEGAL:
        assert advance(LIFE, old, new) == new
    else:
        with pytest.raises(IllegalTransition):
            advance(LIFE, old, new)


def test_every_state_can_be_reached_and_none_is_unknown() -> None:
    reached = {"INSERTING"}
    while new := {state for old in reached for state in LIFE[old]} - reached:
        reached |= new
    assert reached == set(LIFE)


def test_whatever_is_not_final_can_be_killed_and_always_ends() -> None:
    assert {state for state in LIFE if "KILLED" not in LIFE[state]} == model.FINAL
    assert set(LIFE) >= model.FINAL | model.ACTIVE


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a.root", OutputSpec("a.root")),
        ("*.log@disk=2", OutputSpec("*.log", 2)),
        ("a@CERN::SE1,CERN::SE2", OutputSpec("a", 2, ("CERN::SE1", "CERN::SE2"))),
        ("a@disk=1,CERN::SE", OutputSpec("a", 2, ("CERN::SE",))),
    ],
)
def test_output_spec(text: str, wanted: OutputSpec) -> None:
    assert output_spec(text) == wanted


def test_payload_is_read_from_a_jdl() -> None:
    jdl = {
        "Executable": "./run.sh",
        "Arguments": "--name 'two words' x",
        "Inputs": [{"lfn": "/grid/run.sh", "name": "run.sh", "executable": True}],
        "InputData": ["/grid/a,nodownload"],
        "OutputFile": ["a"],
        "OutputDir": "/grid/out",
        "TTL": 60,
        "MemorySize": 1,
        "WorkDirectorySize": 2,
        "CPUCores": 3,
        "Variables": {"ALIEN_JDL_RUN": "7"},
    }
    payload = Payload.of(jdl)
    assert payload.arguments == ("--name", "two words", "x")
    assert payload.inputs == (model.Input("/grid/run.sh", "run.sh", True),)
    assert payload.variables == {"ALIEN_JDL_RUN": "7"}
    assert (payload.input_data, payload.outputs, payload.cores) == (("/grid/a",), (OutputSpec("a"),), 3)
