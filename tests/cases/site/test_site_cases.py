"""Each case: a site spec and all that is told about it (`line:column: path: message; what to do`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from orchestrator.site.load import SiteErrors, loads


def cases() -> Iterator[Any]:
    for file in sorted(Path(__file__).parent.glob("*.yaml")):
        for case in YAML(typ="safe").load(file.read_text(encoding="utf-8")):
            yield pytest.param(case["text"], case["errors"], id=f"{file.stem}: {case['name']}")


@pytest.mark.parametrize(("text", "expected"), cases())
def test_site_spec(text: str, expected: list[str]) -> None:
    told: list[str] = []
    try:
        loads(text, "site.yaml", "x")
    except SiteErrors as errors:
        told = [line.removeprefix("site.yaml:") for line in errors.message.splitlines()]
        for shown in (errors.message, str(errors.facts), *(error.line for error in errors.errors)):
            assert "geheim" not in shown  # the German word for "secret" marks the secrets of the cases
    assert told == expected
