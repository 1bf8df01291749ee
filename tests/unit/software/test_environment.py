"""A payload's environment, from releases with and without a declaration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.errors import PermanentError
from orchestrator.software.environment import ENVIRONMENT_FILE, payload_environment, root_variable


def declare(root: Path, text: str) -> Path:
    (root / "etc").mkdir(parents=True)
    (root / ENVIRONMENT_FILE).write_text(text)
    return root


@pytest.mark.parametrize(
    ("name", "variable"),
    [("AliRoot", "ALIROOT_ROOT"), ("pythia8-mc", "PYTHIA8_MC_ROOT"), ("VO@a.b", "VO_A_B_ROOT")],
)
def test_root_variable(name: str, variable: str) -> None:
    assert root_variable(name) == variable


def test_without_declaration_bin_goes_first_and_the_base_is_kept(tmp_path: Path) -> None:
    base = {"PATH": "/usr/bin", "HOME": "/x"}
    found = payload_environment([("A", tmp_path / "a"), ("B", tmp_path / "b")], base)
    assert found == {
        "PATH": f"{tmp_path}/a/bin:{tmp_path}/b/bin:/usr/bin",
        "HOME": "/x",
        "A_ROOT": f"{tmp_path}/a",
        "B_ROOT": f"{tmp_path}/b",
    }
    assert base == {"PATH": "/usr/bin", "HOME": "/x"}


def test_no_empty_part_of_path(tmp_path: Path) -> None:
    assert payload_environment([("A", tmp_path)], {})["PATH"] == f"{tmp_path}/bin"


def test_a_declaration_prepends_and_sets(tmp_path: Path) -> None:
    root = declare(
        tmp_path,
        json.dumps(
            {
                "prepend": {"PATH": ["bin", "sbin"], "LD_LIBRARY_PATH": ["lib"]},
                "set": {"DATA": "{root}/share", "MODE": "fast"},
            }
        ),
    )
    found = payload_environment([("A", root)], {"PATH": "/bin", "MODE": "slow"})
    assert found["PATH"] == f"{root}/bin:{root}/sbin:/bin"
    assert found["LD_LIBRARY_PATH"] == f"{root}/lib"
    assert found["DATA"] == f"{root}/share"
    assert found["MODE"] == "fast"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"append": {}}',
        '{"prepend": []}',
        '{"prepend": {"PATH": "bin"}}',
        '{"prepend": {"PATH": ["/bin"]}}',
        '{"prepend": {"PATH": ["../bin"]}}',
        '{"prepend": {"A B": ["bin"]}}',
        '{"set": {"X": 1}}',
        '{"set": {"1X": "a"}}',
    ],
)
def test_a_wrong_declaration_names_its_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(PermanentError, match=r"orchestrate-env\.json"):
        payload_environment([("A", declare(tmp_path, text))], {})
