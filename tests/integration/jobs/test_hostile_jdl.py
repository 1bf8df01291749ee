"""JDLs that would cost central its memory or its time; and reading many at once as reading each."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from orchestrator.classads import MAX_TEXT
from orchestrator.errors import UserError
from orchestrator.jobs import jdl, many, split
from orchestrator.jobs.jdl import Defaults, JobSpec

DEFAULTS = Defaults("grid")


@pytest.mark.parametrize(
    ("text", "arguments", "wanted"),
    [
        (
            'Executable = "x"; Arguments = "' + "$1" * 100_000 + '";',
            ["a" * 1_000_000],
            "with its arguments is too long",
        ),
        ('Executable = "x"; Arguments = "$' + "1" * 100_000 + '";', ["a"], "1 arguments were given"),
        ('Executable = "x"; Arguments = "$٣";', ["a"], None),  # digits of another script are text
        ('Executable = "x"; Requirements = other.X == $1;', ["eval(other.Y)"], "part of the ClassAd"),
        ('Executable = "x"; Requirements = other.X == "$1";', ['" || eval(other.Y) || "'], "eval"),
        ('Executable = "' + "\\\\" * 200_000 + '";', [], None),
        ('Executable = "x"; Arguments = "' + "'" * 400_000 + "'\";", [], "cannot be split"),
        ('Executable = "x"; TTL = "' + "9" * 500_000 + '";', [], "TTL"),
        ('Executable = "x"; TTL = 1e400;', [], "TTL"),
        ('Executable = "x"; CPUCores = 99999999999999999999999999;', [], "CPUCores"),
        ('Executable = "x"; ' + "".join(f"Unknown{n} = {n};" for n in range(490)), [], None),
        ('Executable = {"x", {"y"}};', [], "Executable"),
        ('Executable = [a = "x"];', [], "Executable"),
        ('Executable = "x"; Packages = {' + '"A::1",' * 10_000 + '"B::1"};', [], "Packages"),
        ('Executable = "x"; Arguments = Arguments;', [], "Arguments"),
    ],
    ids=lambda each: str(each)[:40],
)
def test_a_hostile_jdl_is_answered_soon(text: str, arguments: Sequence[str], wanted: str | None) -> None:
    tracemalloc.start()
    began = time.process_time()
    try:
        if wanted is None:
            jdl.read(text, arguments, DEFAULTS)
        else:
            with pytest.raises(UserError, match=wanted) as refused:
                jdl.read(text, arguments, DEFAULTS)
            assert len(refused.value.message) < 2_000
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert time.process_time() - began < 20  # tracing makes it some times slower
    assert peak < 200e6


def test_parts_that_would_fill_the_memory_are_refused() -> None:
    """A hundred thousand parts of a JDL of 400 KB: 40 GB."""
    code = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from orchestrator.errors import UserError
from orchestrator.jobs import jdl, split
for more in ('Arguments = "#alien_counter# ' + "a" * 400_000 + '";', 'Comment = "' + "a" * 400_000 + '";'):
    read = jdl.read('Executable = "x"; Split = "production:1-100000";' + more, [], jdl.Defaults("grid"))
    try:
        split.check(read.attributes)
    except UserError as error:
        print(error.message)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.count("512 MiB") == 2
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2 << 20  # KiB
    large = jdl.read(
        'Executable = "x"; Split = "production:1-100000"; Arguments = "#alien_counter#";', [], DEFAULTS
    )
    assert len(split.parts(large.attributes)) == 100_000


def test_many_that_would_fill_the_memory_are_refused() -> None:
    text = 'Executable = "x"; OutputDir = "/' + "$1" * 100_000 + '";'
    read, refused = read_all(many.read(text, [["ab"]] * 10_000, DEFAULTS))
    assert refused is not None
    assert "arguments 84 of 10000: the JDLs of all have more than 32 MiB" in refused.message
    assert [len(each.attributes["OutputDir"]) for each in read] == [200_001] * 83


TEXTS = some.text(some.characters(exclude_categories=["Cs"], exclude_characters='\0"\\'), max_size=10)


@given(
    some.lists(some.lists(TEXTS, min_size=1, max_size=3), min_size=1, max_size=5),
    some.sampled_from(
        [
            'Executable = "/bin/$1"; Arguments = "a $2 $1"; OutputDir = "/x/$1";',
            'Executable = "/bin/x"; Arguments = "$1"; OutputFile = {"$1.root@disk=2"}; JobTag = "$2";',
            'Executable = "x"; TTL = "$1"; InputData = {"/a/$1"};',
            'Executable = "x"; Requirements = other.Site == "$1"; arguments = "$2";',
        ]
    ),
)
@settings(max_examples=300, deadline=None)
def test_reading_many_is_reading_each(lists: list[list[str]], text: str) -> None:
    alone, refused = read_all(jdl.read(text, each, DEFAULTS) for each in lists)
    together, wrong = read_all(many.read(text, lists, DEFAULTS))
    assert together == alone
    assert (wrong is None) == (refused is None)
    if wrong is not None and refused is not None:
        assert wrong.facts == refused.facts | {"place": len(alone) + 1}
        assert wrong.message == f"arguments {len(alone) + 1} of {len(lists)}: {refused.message}"


def read_all(jobs: Iterator[JobSpec]) -> tuple[list[JobSpec], UserError | None]:
    """The jobs up to the first error, and that."""
    found = []
    try:
        for each in jobs:
            found.append(each)
    except UserError as error:
        return found, error
    return found, None


@given(some.text(max_size=60) | some.text(some.sampled_from('Ex="$12;{}[]()\n/*#\\ A,'), max_size=60))
@settings(max_examples=500, deadline=None)
def test_any_text_is_a_job_or_a_clear_error(text: str) -> None:
    try:
        read = jdl.read(text, ["a", "b"], DEFAULTS)
    except UserError as error:
        for problem in error.facts["problems"]:
            assert problem["message"]
            assert problem["line"] >= 1
    else:
        assert read.attributes["Executable"]


def test_the_longest_jdl_is_bounded() -> None:
    with pytest.raises(UserError, match="too long"):
        jdl.read("A" * (MAX_TEXT + 1), [], DEFAULTS)
