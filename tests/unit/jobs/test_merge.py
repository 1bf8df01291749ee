from __future__ import annotations

import pytest

from orchestrator.errors import UserError
from orchestrator.jobs.jdl import Defaults
from orchestrator.jobs.merge import Finished, jobs, output_dir

DEFAULTS = Defaults("grid")
MASTER = {"Merge": ["h.json:/v/merge.jdl:all.json"], "OutputDir": "/v/prod/#alien_counter#"}
PARTS = [Finished(10, ("/v/prod/10/h.json", "/v/prod/10/log")), Finished(2, ("/v/prod/2/h.json",))]


def test_a_merge_job_gets_all_parts_files_in_order() -> None:
    jdls = {"/v/merge.jdl": 'Executable = "/v/merge.py"; Packages = {"Tool::1"}; Requirements = other.A;'}
    ((job, requirements),) = jobs(MASTER, jdls, PARTS, "/v/prod", DEFAULTS)
    assert requirements == "other.A"
    assert job["Inputs"] == [
        {"lfn": "/v/prod/2/h.json", "name": "002/h.json"},
        {"lfn": "/v/prod/10/h.json", "name": "010/h.json"},
    ]
    assert job["InputData"] == ["/v/prod/2/h.json", "/v/prod/10/h.json"]
    assert (job["OutputFile"], job["OutputDir"], job["Packages"]) == (["all.json"], "/v/prod", ["Tool::1"])


def test_no_merge_no_job() -> None:
    assert jobs({}, {}, PARTS, "/v", DEFAULTS) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Arguments = 1", "Executable is missing"),
        ('Executable = "x"; Split = "production:1-2";', "cannot ask for Split"),
    ],
)
def test_a_wrong_merge_jdl(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        jobs(MASTER, {"/v/merge.jdl": text}, PARTS, "/v", DEFAULTS)


def test_nothing_to_merge() -> None:
    with pytest.raises(UserError, match=r"no part has an output named h\.json"):
        jobs(MASTER, {"/v/merge.jdl": 'Executable = "x"'}, [Finished(1, ("/v/log",))], "/v", DEFAULTS)


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ({"MergeOutputDir": "/m", "OutputDir": "/v/x"}, "/m"),
        ({"OutputDir": "/v/prod/#alien_counter#/x"}, "/v/prod"),
        ({"OutputDir": "/v/prod"}, "/v/prod"),
        ({"OutputDir": "/#alien_counter#"}, "/home"),
        ({}, "/home"),
    ],
)
def test_where_a_merge_goes(attributes: dict[str, str], wanted: str) -> None:
    assert output_dir(attributes, "/home") == wanted
