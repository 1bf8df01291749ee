"""What `orchestrate job|transfer|file --help` promises: an example of every verb, --json, and the Tab key."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from orchestrator.cli import file, job, transfer

SAYS_NOTHING = {"job output", "file cat", "file mv"}  # a file's bytes, or nothing at all


def app() -> typer.Typer:
    made = typer.Typer(name="orchestrate")
    made.callback()(lambda: None)
    for part in (job, transfer, file):
        part.register(made)
    return made


def verbs() -> Iterator[tuple[str, Any]]:
    top: Any = typer.main.get_command(app())
    for group, commands in top.commands.items():
        for name, command in commands.commands.items():
            yield f"{group} {name}", command


@pytest.mark.parametrize(("name", "verb"), verbs(), ids=lambda each: each if isinstance(each, str) else "")
def test_every_verb_has_an_example_json_and_help_for_each_option(name: str, verb: Any) -> None:
    told = " ".join(inspect.cleandoc(verb.help or "").split())
    assert f"orchestrate {name}" in told
    assert "Example" in told
    options = {option for each in verb.params for option in each.opts}
    assert "--site" in options
    assert ("--json" in options) is (name not in SAYS_NOTHING)
    assert [each.name for each in verb.params if not getattr(each, "help", None)] == []


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("tr", ["transfer"]),
        ("job su", ["submit", "suggestions"]),
        ("job ps --state RU", ["RUNNING"]),
        ("job ps --state running,ZO", ["running,ZOMBIE"]),
        ("job kill --state ERROR_S", ["ERROR_S", "ERROR_SPLT", "ERROR_SV"]),
        ("job suggestions --kind ", ["copy", "fetch", "install", "publish"]),
        ("transfer ps --state TRANS", ["TRANSFERRING"]),
        ("transfer submit --kind m", ["mirror", "master_copy"]),
        ("file ls --lo", ["--long"]),
    ],
)
def test_what_the_tab_key_offers(words: str, wanted: list[str]) -> None:
    typed = f"orchestrate {words}"
    shell = {
        "_ORCHESTRATE_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split(" ")) - 1),
    }
    offered = CliRunner().invoke(app(), [], env=shell, prog_name="orchestrate").output
    assert sorted(offered.split()) == sorted(wanted)
