"""JDL text in, job or problems out: each .json beside this file is a list of cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import UserError
from orchestrator.jobs.jdl import Defaults, read

HERE = Path(__file__).parent


def cases(name: str) -> list[Any]:
    found = json.loads((HERE / name).read_text())
    return [pytest.param(case, id=case["name"]) for case in found]


@pytest.mark.parametrize("case", cases("good.json"))
def test_good(case: dict[str, Any]) -> None:
    spec = read(case["jdl"], case.get("arguments", []), Defaults("grid"))
    shown = spec.attributes | {"Requirements": spec.requirements}
    assert {name: shown.get(name) for name in case["wanted"]} == case["wanted"]
    assert list(spec.warnings) == case.get("warnings", [])


@pytest.mark.parametrize("case", cases("bad.json"))
def test_bad(case: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        read(case["jdl"], case.get("arguments", []), Defaults("grid"))
    problems = caught.value.facts["problems"]
    assert [[each["line"], each["column"]] for each in problems] == [each[:2] for each in case["problems"]]
    for found, wanted in zip(problems, case["problems"], strict=True):
        assert wanted[2] in found["message"]
