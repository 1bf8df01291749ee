"""Splits that would fill the memory are refused; some take seconds to get that far."""

from __future__ import annotations

import time
from typing import Any

import pytest

from orchestrator.errors import UserError
from orchestrator.jobs.split import parts


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"Split": "production:1-99999", "SplitArguments": ["a", "b"]}, "more than 100000 parts"),
        ({"Split": "production:1-99999", "Comment": "x" * 20_000}, "MiB of JDL"),
        ({"Split": "production:1-99999", "InputData": ["/v/a"] * 2000, "Arguments": "#alienallfilename/a//#"},
         "MiB of JDL"),
        ({"Split": "production:1-2", "InputData": ["/v/a"] * 30_000, "Arguments": "#alienallfulldir#"}, "InputData.txt"),
        ({"Split": "production:1-2", "InputData": ["/v/a"] * 30_000, "Arguments": "#alienalldir# " * 100}, "to fill in"),
    ],
)  # fmt: skip
def test_what_would_be_too_large_is_refused_soon(attributes: dict[str, Any], message: str) -> None:
    started = time.process_time()
    with pytest.raises(UserError) as caught:
        parts(attributes)
    assert message in caught.value.message
    assert time.process_time() - started < 20
