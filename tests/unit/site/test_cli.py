"""`orchestrate schema` and `orchestrate validate`, as a user sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from orchestrator.cli.site import register, render
from orchestrator.site.load import SiteErrors, load, loads

EXAMPLES = Path(__file__).parents[3] / "templates/sites"


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    register(app)
    return app


def test_schema_is_json(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["schema"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["properties"]["vo"]["description"] == "Name of the virtual organisation."


def test_valid_sites_are_summarised(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["validate", *map(str, sorted(EXAMPLES.glob("*.yaml")))])
    assert result.exit_code == 0
    assert "one-box.yaml: valid" in result.stdout
    assert "group       workers            worker: 19 machines at farm (ssh), after vobox" in result.stdout
    assert "on vobox: fork, up to 2 agents, 1 kept idle, each for 12 h" in result.stdout


def test_one_wrong_site_among_valid_ones(app: typer.Typer, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("vo: alice\ngroups:\n  central: {rol: central}\n")
    result = CliRunner().invoke(app, ["validate", str(EXAMPLES / "laptop.yaml"), str(wrong)])
    assert result.exit_code == 2
    assert "laptop.yaml: valid" in result.stdout
    assert "wrong.yaml:3:13: error: groups.central.rol: unknown key 'rol'" in result.stderr
    assert "2 mistakes in" in result.stderr


def test_verdicts_as_json(app: typer.Typer, tmp_path: Path) -> None:
    good = EXAMPLES / "one-box.yaml"
    result = CliRunner().invoke(app, ["validate", "--json", str(good), str(tmp_path / "none.yaml")])
    assert result.exit_code == 2
    first, second = json.loads(result.stdout)["sites"]
    assert (first["valid"], first["site"]) == (True, load(good).model_dump(mode="json"))
    assert (second["valid"], second["errors"][0]["line"]) == (False, 1)


def shown(text: str) -> str:
    with pytest.raises(SiteErrors) as caught:
        loads(text, "site.yaml", "x")
    return render(caught.value).plain


def test_errors_look_like_a_compilers() -> None:
    assert shown("vo: alice\ngroups:\n  central: {role: centrl}\n") == (
        "site.yaml:3:19: error: groups.central.role: 'centrl' is not a role\n"
        "    3 |   central: {role: centrl}\n"
        "      |                   ^^^^^^\n"
        "      = did you mean 'central'? (one of: central, vobox, worker)\n"
        "1 mistake in site.yaml; nothing was touched"
    )


def test_a_file_cannot_steer_the_terminal() -> None:
    text = shown('vo: "\\e[2J"\ngroups: {central: {role: central}} #\tx\x85\n')
    assert "\x1b" not in text
    assert "\x85" not in text
