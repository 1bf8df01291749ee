"""``orchestrate rehearse`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.errors import GridError

SITE = """
vo: alice
budgets: {machines: 20, cores: 30, money_per_hour: 0.5}
providers:
  cloud: {kind: sim, offerings: {small: {cores: 2, price: 0.05}}}
groups:
  central: {role: central}
  vobox: {role: vobox}
  workers: {role: worker, provider: cloud, count: 8, offering: small}
"""


def run(tmp_path: Path, *arguments: str, site: str = SITE) -> tuple[int, str]:
    spec = tmp_path / "lab.yaml"
    spec.write_text(site)
    result = CliRunner().invoke(app, ["rehearse", str(spec), *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit | GridError), result.exception
    assert list(tmp_path.iterdir()) == [spec]  # nothing is left beside the spec
    code = result.exception.exit_code if isinstance(result.exception, GridError) else result.exit_code
    return code, result.output or str(result.exception)


def test_a_rehearsal_tells_what_would_happen(tmp_path: Path) -> None:
    code, text = run(tmp_path)
    assert code == 0
    assert "10 of 10 machines after 1 `up`" in text
    assert "0 machines left" in text
    assert "no quota or budget was hit" in text
    assert text.rstrip().endswith("site lab would come up, and go without a trace")


def test_the_same_seed_is_the_same_luck(tmp_path: Path) -> None:
    told = []
    for seed in ("5", "5", "6"):
        options = ("--machines", "40", "--faults", "20%", "--seed", seed, "--json")
        code, text = run(tmp_path, *options, site=SITE.replace("budgets", "monitoring: {} #"))
        assert code == 0
        told.append(json.loads(text))
    assert told[0]["ready"] == 40
    faults = [{k: v for k, v in each["counted"].items() if k.startswith("fault ")} for each in told]
    assert faults[0] == faults[1] != faults[2]
    assert told[0]["over"] == []


def test_budgets_are_kept_and_what_they_forbid_is_told(tmp_path: Path) -> None:
    code, text = run(tmp_path, "--machines", "40", "--faults", "20%")
    assert code == 4
    assert "ready      12 of 40 machines after " in text  # ten workers for 0.05 an hour each, and the pets
    why = "it would go over the budget of 20 machines"
    assert (
        "limits     group workers: 28 machines not made: it would go over the budget of 0.50 per hour" in text
    )
    assert why not in text
    assert "0.50 per hour from then on" in text
    assert text.rstrip().endswith("site lab would NOT become what its spec says")
    code, text = run(tmp_path, site=SITE.replace("machines: 20", "machines: 9"))
    assert code == 2
    assert "lab.yaml:3:21: budgets.machines: the groups want at least 10 machines, more than 9" in text


def test_a_quota_that_is_too_small_is_told(tmp_path: Path) -> None:
    code, text = run(tmp_path, site=SITE.replace("kind: sim,", "kind: sim, quota: {machines: 5},"))
    assert code == 4
    assert "quota: " in text
    assert "site lab would NOT become what its spec says" in text


@pytest.mark.parametrize("arguments", [("--faults", "7"), ("--faults", "some"), ("--machines", "1")])
def test_what_cannot_be_is_said(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert run(tmp_path, *arguments)[0] == 2
