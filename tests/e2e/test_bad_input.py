"""What is wrong is refused with exit code 2, named with its place, and touches nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.grid import Grid


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("vo: alice\ngroups:\n  central: {role: centrall}\n", "site.yaml:3:"),
        ("vo: alice\ngroups:\n  c: {role: central, colour: red}\n", "site.yaml:3:"),
        ("vo: alice\ngroups: [1\n", "site.yaml:2:9"),
        ("", "site.yaml"),
    ],
)
@pytest.mark.parametrize("verb", ["up", "validate", "down"])
def test_a_wrong_site_spec_is_refused_and_nothing_is_made(
    tmp_path: Path, spec: str, says: str, verb: str
) -> None:
    grid = Grid.of(tmp_path, spec, tmp_path / "cache")
    assert says in grid.run(verb, "site.yaml", code=2)
    assert [each.name for each in tmp_path.iterdir()] == ["site.yaml"]


def test_a_site_spec_with_two_mistakes_names_both(tmp_path: Path) -> None:
    text = "vo: alice\ngroups:\n  a: {role: x}\n  b: {role: worker, count: -1}\n"
    said = Grid.of(tmp_path, text, tmp_path / "cache").run("up", code=2)
    assert "site.yaml:3:" in said
    assert "site.yaml:4:" in said


@pytest.mark.parametrize(
    ("jdl", "says"),
    [
        ('Executable = "/bin/echo"\nArguments = "x";\n', "wrong.jdl:2:"),
        ('Arguments = "x";\n', "Executable"),
        ('Executable = "/bin/echo";\nTTL = "soon";\n', "wrong.jdl:2:"),
        ('Executable = "/bin/echo";\n\nSplit = "production:9-1";\n', "wrong.jdl:3:"),
    ],
)
def test_a_wrong_jdl_is_refused_and_makes_no_job(one_box: Grid, jdl: str, says: str) -> None:
    before = one_box.json("job", "ps", "-a")
    file = one_box.directory / "wrong.jdl"
    file.write_text(jdl)
    assert says in one_box.run("job", "submit", file, code=2)
    assert one_box.json("job", "ps", "-a") == before


def test_a_wrong_package_directory_makes_no_revision(one_box: Grid, tmp_path: Path) -> None:
    publish = ("software", "publish", "alice.example.org", "TOOL")
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/tool").write_text("#!/bin/sh\n")
    before = one_box.run("software", "list")
    assert "nowhere" in one_box.run(*publish, "1", tmp_path / "nowhere", code=2)
    assert "tool" in one_box.run(*publish, "1", tree / "bin/tool", code=2)
    (tmp_path / "empty").mkdir()
    assert "empty" in one_box.run(*publish, "1", tmp_path / "empty", code=2)
    assert "no.such" in one_box.run("software", "publish", "no.such", "TOOL", "1", tree, code=2)
    (tree / "bin/loop").symlink_to("/etc/passwd")
    assert "loop" in one_box.run(*publish, "1", tree, code=2)
    assert one_box.run("software", "list") == before
