"""Failures are grouped by what they have in common."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from orchestrator.deploy.signature import grouped, signature

CASES = YAML(typ="safe").load(Path(__file__).with_name("signature.yaml").read_text())


@pytest.mark.parametrize("case", CASES, ids=[case["text"] for case in CASES])
def test_case(case: dict[str, str]) -> None:
    assert signature(case["text"], (case["name"],)) == case["is"]


@given(st.integers(1, 10**6), st.ip_addresses(), st.uuids())
def test_what_differs_from_machine_to_machine_does_not_matter(n: int, address: object, uid: object) -> None:
    text = f"lab-w-{n}: volume {uid} of {address} did not come within {n} s"
    same = "lab-w-1: volume 00000000-0000-0000-0000-000000000000 of 1.2.3.4 did not come within 1 s"
    assert signature(text, (f"lab-w-{n}",)) == signature(same, ("lab-w-1",))


def test_the_most_frequent_kind_comes_first() -> None:
    failures = [("m-1", "m-1: disk full", "")] + [
        (f"m-{n}", f"m-{n}: the mirror answered 404", f"f{n}") for n in (2, 3)
    ]
    kinds = grouped(failures)
    assert [str(kind) for kind in kinds] == ["2 machines: the mirror answered 404", "m-1: disk full"]
    assert kinds[0].evidence == "f2"
