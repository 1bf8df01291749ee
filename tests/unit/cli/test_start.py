"""What a program imports is most of its start: what a verb or a daemon does not use, it does not import."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

_SERVER = {"classad2", "libtorrent", "psycopg", "starlette", "uvicorn", "uvloop"}
_NOBODYS = {"click", "pygments", "rich", "attr"}
_SLOW_VERBS = {"ansible_runner", "botocore", "libcloud", "libvirt", "numpy", "matplotlib"}
_TELL = (
    "import json, sys; print(json.dumps(sorted(m for m in sys.modules if sys.modules[m])), file=sys.stderr)"
)


def imported(code: str, directory: Path) -> set[str]:
    """The modules that a Python has imported after that code."""
    run = [sys.executable, "-c", f"{code}\n{_TELL}"]
    done = subprocess.run(run, cwd=directory, capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stderr))


def orchestrate(*words: str) -> str:
    return (
        f"import sys; sys.argv = {['orchestrate', *words]}\nfrom orchestrator.cli.main import run\n"
        "try: run()\nexcept SystemExit as ended: assert not ended.code, ended.code"
    )


def test_help_needs_the_command_line_alone(tmp_path: Path) -> None:
    found = imported(orchestrate("--help"), tmp_path)
    assert "typer" in found
    grid = {"asyncio", "cryptography", "httpx", "jinja2", "pydantic", "ruamel", "sqlalchemy"}
    coloured = {"attr", "pygments", "rich"}  # rich looks for attrs
    assert found & (grid | _SERVER | _SLOW_VERBS | _NOBODYS) <= coloured


def test_a_plan_needs_no_server_and_no_colours(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("vo: alice\ngroups: {central: {role: central}}\n")
    found = imported(orchestrate("plan"), tmp_path)
    assert {"h11", "sqlalchemy"} <= found
    assert found & (_SERVER | _SLOW_VERBS | _NOBODYS | {"httpx"}) == set()


@pytest.mark.parametrize("program", ["vobox", "central"])
def test_a_daemon_imports_what_it_runs_when_it_knows_what_that_is(program: str, tmp_path: Path) -> None:
    found = imported(f"import orchestrator.wiring.{program}", tmp_path)
    assert found & ({"cryptography", "httpx", "joserfc"} | _NOBODYS | _SERVER - {"uvloop"}) == set()
