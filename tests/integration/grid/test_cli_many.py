"""``orchestrate job`` on many jobs, and its looks: --each, filters, hold, top, trace, ps. Real central."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.jobs import client as jobs
from tests.support.verbs import Invoke

from .conftest import Grid, api
from .test_cli import hello, run

__all__ = ["hello", "run"]  # fixtures


async def submitted(grid: Grid, run: Invoke, jdl: Path, count: int, tag: str = "mc26") -> list[int]:
    jdl.write_text(f'Executable = "/bin/echo";\nArguments = "$1 $2";\nJobTag = "{tag}";\n')
    lines = jdl.with_name("each.txt")
    lines.write_text("".join(f"{n} 'two words'\n\n" for n in range(count)))
    done = await run("submit", jdl, "--each", lines, "--json")
    assert done.exit_code == 0, done.output
    made: list[int] = json.loads(done.stdout)["tasks"]
    for job in made:
        await grid.until(job, "WAITING")
    return made


async def test_each_line_is_a_job(grid: Grid, run: Invoke, hello: Path) -> None:
    made = await submitted(grid, run, hello, 5)
    assert [(await jobs.show(grid.central, job))["jdl"]["Arguments"] for job in made] == [
        f"{n} two words" for n in range(5)
    ]
    hello.with_name("each.txt").write_text("a b\nc d\n")
    done = await run("submit", hello, "--each", hello.with_name("each.txt"))
    assert done.stdout == f"2 jobs: {made[-1] + 1} to {made[-1] + 2}\n"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("a b\n\nc\n", "each.txt:3: .*hello.jdl:2:1: Arguments uses \\$2"),
        ("a b\n'open\n", "each.txt:2: No closing quotation"),
        ("\n\n", "has no line"),
        (None, "cannot be read"),
    ],
)
async def test_a_line_that_is_wrong_is_named(
    grid: Grid, run: Invoke, hello: Path, lines: str | None, said: str
) -> None:
    hello.write_text('Executable = "x";\nArguments = "$1 $2";\n')
    each = hello.with_name("each.txt")
    if lines is not None:
        each.write_text(lines)
    refused = await run("submit", hello, "--each", each)
    assert isinstance(refused.exception, UserError)
    with pytest.raises(UserError, match="(?s)" + said):
        raise refused.exception
    assert await jobs.listing(grid.central) == []
    both = await run("submit", hello, "x", "--each", each)
    assert "leave ARG and --watch out" in str(both.exception)


async def test_hold_release_and_why(grid: Grid, run: Invoke, hello: Path) -> None:
    made = await submitted(grid, run, hello, 3)
    held = await run("hold", made[0], made[2])
    assert held.stdout == f"job {made[0]}: HELD\njob {made[2]}: HELD\n"
    assert "it is held by ada" in (await run("why", made[0])).stdout
    released = await run("release", made[0], made[1], "--json")
    assert released.exit_code == 0
    assert [each["state"] for each in json.loads(released.stdout)] == ["WAITING", "WAITING"]
    (given,) = await grid.claim()
    refused = await run("release", given.task, made[2])
    assert refused.exit_code == 4
    assert refused.stdout == f"job {made[2]}: WAITING\n"
    assert "is ASSIGNED" in refused.stderr


async def test_a_filter_is_confirmed_and_never_empty(grid: Grid, run: Invoke, hello: Path) -> None:
    made = await submitted(grid, run, hello, 4)
    for verb in ("kill", "hold", "release", "resubmit"):
        nothing = await run(verb)
        assert "nothing never means all" in str(nothing.exception)
        both = await run(verb, made[0], "--tag", "mc26")
        assert isinstance(both.exception, UserError)
    unsure = await run("kill", "--tag", "mc26")
    assert "kill would act on 4 jobs; add --yes" in str(unsure.exception)
    assert await grid.state(made[0]) == "WAITING"
    held = await run("hold", "--state", "waiting", "--yes")
    assert (held.exit_code, held.stdout) == (0, "4 jobs: HELD\n")
    killed = await run("kill", "--tag", "mc26", "--since", "1h", "--yes")
    assert (killed.exit_code, killed.stdout) == (0, "4 jobs: KILLED\n")
    none = await run("kill", "--tag", "mc26", "--yes")
    assert (none.exit_code, none.stdout) == (0, "no job was changed\n")
    refused = await run("kill", "--owner", "bob", "--yes")
    assert "only an admin may kill jobs of bob" in str(refused.exception)
    again = await run("resubmit", "--state", "KILLED", "-y", "--json")
    assert sorted(each["job"] for each in json.loads(again.stdout)) == made


async def test_ps_filters(grid: Grid, run: Invoke, hello: Path) -> None:
    made = await submitted(grid, run, hello, 2)
    other = await submitted(grid, run, hello, 1, "other")
    (given,) = await grid.claim()

    async def ids(*words: object) -> list[int]:
        return [each["id"] for each in json.loads((await run("ps", *words, "--json")).stdout)]

    assert await ids("--tag", "mc26") == made[::-1]
    assert await ids("--tag", "other", "--owner", "ada") == other
    assert await ids("--at", "CERN") == [given.task]
    assert await ids("--since", "1h", "--state", "waiting") == [
        *other,
        *(j for j in made[::-1] if j != given.task),
    ]
    assert await ids("--user", "bob") == []
    wrong = await run("ps", "--since", "soon")
    assert "not a duration" in str(wrong.exception)


async def test_trace_tells_the_time_in_each_state(grid: Grid, run: Invoke, hello: Path) -> None:
    (job,) = await submitted(grid, run, hello, 1)
    (given,) = await grid.claim()
    await grid.finish(given)
    found = json.loads((await run("trace", job, "--json")).stdout)
    events = found["events"]
    assert [each["seq"] for each in events] == list(range(1, 8))
    assert events[-1]["spent"] is None
    for before, after in itertools.pairwise(events):
        assert before["spent"] == pytest.approx(after["at"] - before["at"], abs=1e-5)
    assert found["times"]["WAITING"] == pytest.approx(events[1]["spent"])
    lines = (await run("trace", job)).stdout.splitlines()
    assert lines[0].split() == ["#", "AT", "SPENT", "STATE", "BY", "REASON"]
    assert [lines[7].split()[0], lines[7].split()[3]] == ["7", "DONE"]
    assert lines[-1].startswith("spent: ")


async def test_top(grid: Grid, run: Invoke, hello: Path) -> None:
    await submitted(grid, run, hello, 3)
    async with api(grid.base, "bob") as bob:
        foreign = int((await jobs.submit(bob, 'Executable = "x";'))["task"])
    await grid.until(foreign, "WAITING")
    given = await grid.claim(count=2, Cores=2)
    assert len(given) == 2
    await grid.report(given[0], "STARTED", "RUNNING", "ERROR_E")
    found = json.loads((await run("top", "--once", "--json")).stdout)
    counts: dict[str, int] = {}
    for owned in found["users"].values():
        for state, count in owned.items():
            counts[state] = counts.get(state, 0) + count
    assert counts == {"ASSIGNED": 1, "WAITING": 2}
    assert sum(sum(ended.values()) for ended in found["ended"].values()) == 1
    assert found["median"]["INSERTING"]["jobs"] == 4
    assert 0 < found["median"]["INSERTING"]["seconds"] < 30
    assert found["median"]["RUNNING"]["jobs"] == 1
    told = (await run("top", "--once")).stdout
    assert told.splitlines()[0].split() == ["USER", "RUNNING", "WAITING", "OTHER", "DONE", "FAILED"]
    assert {line.split()[0] for line in told.splitlines()[1:3]} == {"ada", "bob"}
    assert "RUNNING" in told.split("STATE", 1)[1]
    bad = await run("top", "--once", "--within", "soon")
    assert isinstance(bad.exception, UserError)


async def test_watching_goes_on_until_the_verdict(grid: Grid, run: Invoke, hello: Path) -> None:
    hello.write_text('Executable = "/bin/echo"; ValidationCommand = "/bin/true";')
    watching = asyncio.ensure_future(run("submit", hello, "--watch"))
    (given,) = await grid.claim()
    await grid.finish(given)
    (check,) = await grid.claim()
    assert "validation" in (await run("show", given.task)).stdout
    await grid.report(check, "STARTED", "RUNNING", "ERROR_E", facts={"code": "EXIT_CODE"})
    done = await watching
    assert done.exit_code == 4
    assert "FAILED" in done.stdout.splitlines()[-1]


async def test_every_verb_has_an_example(run: Invoke) -> None:
    for verb in (
        "submit",
        "ps",
        "show",
        "output",
        "kill",
        "resubmit",
        "hold",
        "release",
        "why",
        "top",
        "trace",
    ):
        told = await run(verb, "--help")
        assert f"orchestrate job {verb}" in " ".join(told.stdout.replace("│", " ").split()), verb
