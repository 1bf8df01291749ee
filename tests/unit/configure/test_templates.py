"""What the templates make is what the supervisors read."""

from __future__ import annotations

import configparser
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pytest
from supervisor.options import ServerOptions

from orchestrator.configure.context import AgentSource, worker
from orchestrator.runtime.files import shipped

_PROGRAMS = [
    {"name": "postgres", "stop_signal": "INT", "reads": False, "priority": 1},
    {"name": "central", "processes": 2},
    {"name": "ce_q", "arguments": "ce --name q"},
]


def _files(manager: str, root: str) -> dict[str, str]:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(shipped("templates") / manager),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,  # as Ansible has it
    )
    environment.filters["to_json"] = json.dumps
    text = environment.get_template("programs.json.j2").render(
        service_programs=_PROGRAMS,
        service_module="orchestrator.wiring.central",
        orchestrate_python="/a b/python",
        orchestrate_root=root,
        orchestrate_site="try",
        orchestrate_address="127.1.1.1",
        orchestrate_inputs="abc",
    )
    return {file["path"]: file["content"] for file in json.loads(text)}


@pytest.fixture
def supervised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    """The programs as supervisord itself understands them, in a directory with every letter that means something."""
    root = tmp_path / """100% m'i"ne # a ; b $x \\ y"""
    monkeypatch.setenv("ORCHESTRATE_ROOT", str(root))
    (root / "etc/supervisor.d").mkdir(parents=True)
    for folder in ("run", "log"):
        (root / folder).mkdir()
    template = (shipped("templates") / "supervisor/supervisord.conf.j2").read_text()
    main = jinja2.Template(template).render(socket="%(ENV_ORCHESTRATE_ROOT)s/run/s.sock", user="")
    (root / "etc/supervisord.conf").write_text(main)
    for name, content in _files("supervisor", str(root)).items():
        (root / name).write_text(content)
    options = ServerOptions()
    options.realize(["-c", str(root / "etc/supervisord.conf")])
    return {group.name: (root, group) for group in options.process_group_configs}


def test_supervisor_understands_the_programs(supervised: Mapping[str, Any]) -> None:
    assert set(supervised) == {"postgres", "central", "ce_q"}
    root, central = supervised["central"]
    assert [process.name for process in central.process_configs] == ["central_00", "central_01"]
    first = central.process_configs[0]
    assert first.environment["ORCHESTRATE_INPUTS"] == "abc"
    assert first.autorestart
    assert (first.startsecs, first.stdout_logfile) == (1, None)
    shell = shlex.split(first.command)
    assert shell[:2] == ["/bin/sh", "-c"]
    command = 'exec "$ORCHESTRATE_ROOT/bin/python" -m orchestrator.wiring.central central --root "$ORCHESTRATE_ROOT"'
    assert shell[2].startswith(command)
    assert first.directory == str(root)


def test_postgres_is_stopped_fast_and_not_restarted_for_our_files(supervised: Mapping[str, Any]) -> None:
    process = supervised["postgres"][1].process_configs[0]
    assert process.stopsignal == 2
    others = supervised["central"][1].process_configs[0]
    assert process.priority < others.priority  # started first, stopped last
    assert "ORCHESTRATE_INPUTS" not in process.environment


def test_systemd_units_are_one_for_each_process() -> None:
    files = _files("systemd", "/opt/orchestrate/try")
    names = [Path(path).name for path in files]
    assert names == [
        "orchestrate-try-postgres.service",
        "orchestrate-try-central-1.service",
        "orchestrate-try-central-2.service",
        "orchestrate-try-ce_q.service",
    ]
    for content in files.values():
        unit = configparser.ConfigParser(strict=False, interpolation=None)
        unit.optionxform = str  # type: ignore[method-assign,assignment]
        unit.read_string(content)
        assert unit["Service"]["Restart"] == "always"
        assert unit["Service"]["ExecStart"].startswith("/bin/sh -c 'exec ")
        assert unit["Install"]["WantedBy"] == "multi-user.target"
    assert "KillSignal=SIGINT" in files["/etc/systemd/system/orchestrate-try-postgres.service"]


def test_the_context_is_a_script_with_nothing_left_open() -> None:
    import subprocess

    script = worker("try-w-1", "try", {"token": "t'o$ken"}, "PEM\n", AgentSource("file:///agent", "ab"))
    assert script.startswith("#!/bin/sh\n")
    assert "{{" not in script
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
