"""A digest is made again exactly when an input looks otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.runtime.relocatable import remembered


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, Path]:
    """A package of one source file, and the folder of the cache."""
    package, cache = tmp_path / "package", tmp_path / "cache"
    package.mkdir()
    (package / "one.py").write_text("1")
    monkeypatch.setitem(remembered.__globals__, "_PACKAGE", package)
    return package, cache / "digest.json"


def asked(file: Path, answer: str) -> str:
    return remembered(file, lambda: answer)


def test_the_same_inputs_are_not_read_again(made: tuple[Path, Path]) -> None:
    _, file = made
    assert asked(file, "first") == "first"
    assert asked(file, "second") == "first"


def test_an_edit_a_new_file_and_a_new_package_are_seen(
    made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package, file = made
    assert asked(file, "first") == "first"
    (package / "one.py").write_text("2")
    os.utime(package / "one.py", ns=(1, 1))  # also when it looks older than before
    assert asked(file, "second") == "second"
    (package / "two.py").touch()
    assert asked(file, "third") == "third"
    site = tmp_path / "site-packages"
    (site / "thing-1.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(site))
    assert asked(file, "fourth") == "fourth"
    (site / "thing-1.0.dist-info").rename(site / "thing-1.1.dist-info")
    assert asked(file, "fifth") == "fifth"
    assert asked(file, "sixth") == "fifth"


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"look": 1}'])
def test_a_damaged_cache_only_costs_time(made: tuple[Path, Path], damage: str) -> None:
    _, file = made
    assert asked(file, "first") == "first"
    file.write_text(damage)
    assert asked(file, "second") == "second"
