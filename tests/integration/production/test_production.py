"""The PYTHIA release and the production's programs: exact, repeatable, and refusing what is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import classad2
import pytest

PRODUCTION = Path(__file__).resolve().parents[3] / "templates/production"
EVENTS = "40"


def script(
    name: str, *words: str | Path, python: str | Path = sys.executable, **more: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, PRODUCTION / name, *words], capture_output=True, text=True, check=False, timeout=180, **more
    )


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("pythia")
    started = time.monotonic()
    done = script("build_release.py", base / "build")
    assert done.returncode == 0, done.stderr
    print(f"figure pythia_release_build {time.monotonic() - started:.1f} s goal <= 20")
    print(done.stdout)
    return (base / "build").rename(base / "PYTHIA 8.317")


@pytest.fixture(scope="module")
def parts(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two parts as the grid makes them: by the release, without any variable of this environment."""
    base = tmp_path_factory.mktemp("parts")
    for number in ("1", "2"):
        (base / f"00{number}").mkdir()
        done = subprocess.run(
            ["pythia8-python", PRODUCTION / "generate.py", EVENTS, number, "histograms.json"],
            cwd=base / f"00{number}",
            env={"PATH": f"{release}/bin:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        assert f"seed {number}: {EVENTS} events" in done.stdout
    return base


def test_the_merged_result_equals_the_same_seeds_run_directly_byte_for_byte(
    release: Path, parts: Path, tmp_path: Path
) -> None:
    done = script("merge.py", "merged.json", python=release / "bin/pythia8-python", cwd=parts, env={})
    assert done.returncode == 0, done.stderr
    assert script("direct.py", EVENTS, tmp_path / "direct.json", "1", "2").returncode == 0
    merged = (parts / "merged.json").read_bytes()
    assert merged == (tmp_path / "direct.json").read_bytes()
    result = json.loads(merged)
    assert result["seeds"] == [1, 2]
    assert result["events"] == 2 * int(EVENTS) == sum(result["multiplicity"])
    assert result["sum_n"] == sum(result["pt"]) + result["pt_overflow"]
    assert result["sum_n"] == sum(n * count for n, count in enumerate(result["multiplicity"]))
    assert 3 < result["sum_n"] / result["events"] < 20  # ALICE's range at this energy, with 80 events


def test_merging_in_any_order_and_in_steps_is_the_same(parts: Path, tmp_path: Path) -> None:
    one, two = (parts / f"00{n}/histograms.json" for n in (1, 2))
    script("merge.py", tmp_path / "step.json", two)
    script("merge.py", tmp_path / "a.json", one, tmp_path / "step.json")
    script("merge.py", tmp_path / "b.json", two, one)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, "seed 1 is in .* a part would count twice"),
        ({"seeds": [9], "selection": "all"}, "selection is 'all'"),
        ({"seeds": [9], "format": "other"}, "format is 'other'"),
        ({"seeds": [9], "events": 41}, "41 events, but 40"),
    ],
)
def test_what_cannot_be_added_is_refused(
    parts: Path, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    one = parts / "001/histograms.json"
    other = tmp_path / "other.json"
    other.write_text(json.dumps(json.loads(one.read_text()) | change))
    done = script("merge.py", tmp_path / "out.json", one, other)
    assert done.returncode == 1
    assert re.search(says, done.stderr), done.stderr
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    "words", [["0", "1", "x"], ["10", "0", "x"], ["10", "-3", "x"], ["10", "900000001", "x"], ["10", "1"]]
)
def test_generate_refuses_bad_arguments(release: Path, words: list[str], tmp_path: Path) -> None:
    done = script("generate.py", *words, python=release / "bin/pythia8-python", cwd=tmp_path)
    assert done.returncode == 2
    assert not list(tmp_path.iterdir())


def test_merge_without_parts_says_so(tmp_path: Path) -> None:
    done = script("merge.py", "out.json", cwd=tmp_path)
    assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
    assert "no part given" in done.stderr


def test_plot_writes_a_picture_and_a_table_with_mean_and_error(parts: Path, tmp_path: Path) -> None:
    script("merge.py", tmp_path / "m.json", parts / "001/histograms.json", parts / "002/histograms.json")
    for name in ("one", "two"):
        done = script("plot.py", tmp_path / "m.json", tmp_path / f"{name}.png", tmp_path / f"{name}.txt")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads((tmp_path / "m.json").read_text())
    counts = [n for n, c in enumerate(result["multiplicity"]) for _ in range(c)]
    mean = sum(counts) / len(counts)
    error = (sum((n - mean) ** 2 for n in counts) / (len(counts) - 1) / len(counts)) ** 0.5
    table = {line[:22].strip(): line[22:].strip() for line in (tmp_path / "one.txt").read_text().splitlines()}
    assert table["events"] == f"{len(counts)}"
    assert float(table["mean multiplicity"]) == mean
    assert table["statistical error"] == f"{error:.4f}"


def test_plot_refuses_what_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    assert script("plot.py", tmp_path / "bad.json", tmp_path / "x.png").returncode == 2
    assert not (tmp_path / "x.png").exists()


@pytest.mark.needs_root
def test_the_release_runs_where_there_is_only_busybox(release: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    shutil.copy(shutil.which("busybox") or "/bin/busybox", tmp_path / "bin/sh")
    shutil.copytree(release, tmp_path / "release")
    code = "import pythia8mc; p = pythia8mc.Pythia('', False); print(p.settings.parm('Pythia:versionNumber'))"
    done = subprocess.run(
        ["/release/bin/pythia8-python", "-c", code],
        env={},
        preexec_fn=lambda: os.chroot(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "8.317\n", done.stderr


@pytest.mark.parametrize("name", ["production.jdl", "merge.jdl"])
def test_the_jdl_is_valid_and_names_what_exists(name: str) -> None:
    ad = classad2.parseOne(f"[{(PRODUCTION / name).read_text()}]")
    assert ad["Executable"] == "pythia8-python"
    assert list(ad["Packages"]) == ["PYTHIA::8.317"]
    for lfn in ad["InputFile"]:
        assert (PRODUCTION / lfn.rpartition("/")[2]).is_file()
    assert (PRODUCTION / ad["Arguments"].split()[0]).is_file()
