"""Many jobs by one request: submission, and verbs by number or by a filter."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.errors import NotAllowed, UserError
from orchestrator.jobs import client as jobs

from .conftest import Grid, api, recount

JDL = 'Executable = "/bin/echo"; Arguments = "--seed $1 #$2"; OutputDir = "/grid/user/a/ada/mc/$1"; JobTag = "mc26";'


async def gather(pages: object) -> list[dict[str, object]]:
    return [each async for page in pages for each in page]  # type: ignore[attr-defined]


async def test_one_request_makes_a_job_for_each_list_in_their_order(grid: Grid) -> None:
    lists = [[str(n), f"run{n}"] for n in range(1200)]
    made = await jobs.submit_many(grid.central, JDL + " Nonsense = 1;", lists, "one")
    assert len(set(made["tasks"])) == 1200
    assert made["tasks"] == sorted(made["tasks"])
    assert "Nonsense is not a JDL attribute" in made["warnings"][0]
    assert len(made["warnings"]) == 1
    for place in (0, 611, 1199):
        shown = await jobs.show(grid.central, made["tasks"][place])
        assert shown["jdl"]["Arguments"] == f"--seed {place} #run{place}"
        assert shown["jdl"]["OutputDir"] == f"/grid/user/a/ada/mc/{place}"
        assert shown["source"] == JDL + " Nonsense = 1;"
        assert shown["owner"] == "ada"
    alone = (await jobs.submit(grid.central, JDL + " Nonsense = 1;", lists[611]))["task"]
    one, other = await jobs.show(grid.central, alone), await jobs.show(grid.central, made["tasks"][611])
    assert one["jdl"] == other["jdl"]
    again = await jobs.submit_many(grid.central, JDL, [["x", "y"]], "one")
    assert again["tasks"] == made["tasks"]
    (count,) = await grid.rows("SELECT count(*) AS n FROM grid.task")
    assert count["n"] == 1201
    await grid.until(made["tasks"][0], "WAITING")


async def test_deliveries_at_the_same_time_make_the_jobs_once(grid: Grid) -> None:
    lists = [[str(n), "x"] for n in range(300)]
    made = await asyncio.gather(*(jobs.submit_many(grid.central, JDL, lists, "same") for _ in range(4)))
    assert all(each["tasks"] == made[0]["tasks"] for each in made)
    (count,) = await grid.rows("SELECT count(*) AS n FROM grid.task")
    assert count["n"] == 300


@pytest.mark.parametrize(
    ("jdl", "lists", "said"),
    [
        (JDL, [["1", "2"]] * 700 + [["1"]], "arguments 701 of 701: .*uses \\$2, but 1 arguments"),
        (JDL, [["1", "2"], ["1", "'"]], "arguments 2 of 2: .*cannot be split"),
        (JDL, [["1", "2"], ["../..", "x"]], "arguments 2 of 2: .*not an absolute directory"),
        ('Executable = "x"; TTL = "$1";', [["1h"], ["soon"]], "arguments 2 of 2: .*TTL"),
        ('Executable = "$1";', [["a"], [""]], "arguments 2 of 2: .*Executable is empty"),
        (
            'Executable = "x"; Split = "$1";',
            [["production:1-2"], ["no:1"]],
            "arguments 2 of 2: .*Split 'no' is unknown",
        ),
        ('Executable = "x"; User = "$1";', [["ada"], ["bob"]], "arguments 2 of 2: .*User must be ada"),
        ('Executable = "x;', [[]], "not closed"),
        (JDL, [], "at least one list"),
        (JDL, [["1", "2"]] * 10_001, "at most 10000"),
    ],
)
async def test_one_that_is_wrong_keeps_all_back(
    grid: Grid, jdl: str, lists: list[list[str]], said: str
) -> None:
    with pytest.raises(UserError, match="(?s)" + said):
        await jobs.submit_many(grid.central, jdl, lists, "bad")
    assert await grid.rows("SELECT id FROM grid.task") == []
    made = await jobs.submit_many(grid.central, JDL, [["1", "2"]], "bad")  # the request id is free still
    assert len(made["tasks"]) == 1


async def test_jobs_of_a_bulk_can_be_masters_and_need_different_resources(grid: Grid) -> None:
    jdl = 'Executable = "x"; Split = "production:1-$1"; MemorySize = "$2"; Requirements = other.Site == "$3";'
    made = (await jobs.submit_many(grid.central, jdl, [["2", "1 GB", "CERN"], ["3", "2 GB", "FZK"]]))["tasks"]
    for job, parts, memory in zip(made, (2, 3), (1_000_000_000, 2_000_000_000), strict=True):
        await grid.until(job, "SPLIT")
        shown = await jobs.show(grid.central, job)
        assert (shown["parts"], shown["jdl"]["MemorySize"]) == ({"WAITING": parts}, memory)
    assert len(await grid.claim(count=9, Cores=9)) == 2


async def test_verbs_tell_what_happened_to_each(grid: Grid) -> None:
    made = (await jobs.submit_many(grid.central, JDL, [[str(n), "x"] for n in range(3)]))["tasks"]
    async with api(grid.base, "bob") as bob:
        foreign = int((await jobs.submit(bob, 'Executable = "x";'))["task"])
    for job in (*made, foreign):
        await grid.until(job, "WAITING")
    found = await gather(jobs.each_of(grid.central, "hold", [made[2], 999_999, foreign, made[0]]))
    assert [(each["job"], each["ok"], each["state"]) for each in found] == [
        (made[2], True, "HELD"), (999_999, False, ""), (foreign, False, ""), (made[0], True, "HELD"),
    ]  # fmt: skip
    assert "there is no task" in str(found[1]["message"])
    assert "belongs to bob" in str(found[2]["message"])
    found = await gather(jobs.each_of(grid.central, "kill", made))
    assert {each["state"] for each in found} == {"KILLED"}
    found = await gather(jobs.each_of(grid.central, "resubmit", made))
    assert all(each["ok"] for each in found)
    await recount(grid.database)


async def test_nothing_never_means_all(grid: Grid) -> None:
    job = int((await jobs.submit(grid.central, 'Executable = "x";'))["task"])
    await grid.until(job, "WAITING")
    for verb in ("kill", "hold"):
        for body in (
            {}, {"ids": []}, {"filter": {}}, {"filter": {"state": ""}}, {"filter": {"state": []}},
            {"filter": {"owner": "", "tag": ""}}, {"filter": {"status": "WAITING"}}, {"ids": [job], "filter": {}},
            {"ids": [str(job)]}, {"ids": [True]}, {"filter": {"state": "WATING"}},
        ):  # fmt: skip
            with pytest.raises(UserError):
                await grid.central.post(f"/v1/jobs/bulk/{verb}", body)
    with pytest.raises(UserError, match="no verb"):
        await grid.central.post("/v1/jobs/bulk/destroy", {"ids": [job]})
    assert await grid.state(job) == "WAITING"


async def test_a_filter_chooses_among_ones_own_jobs_page_by_page(grid: Grid) -> None:
    tagged = (await jobs.submit_many(grid.central, JDL, [[str(n), "x"] for n in range(1100)]))["tasks"]
    other = int((await jobs.submit(grid.central, 'Executable = "x"; JobTag = "comment:other";'))["task"])
    async with api(grid.base, "bob") as bob, api(grid.base, "root") as root:
        foreign = int((await jobs.submit(bob, 'Executable = "x"; JobTag = "mc26";'))["task"])
        found = await gather(jobs.each_chosen(grid.central, "kill", tag="mc26"))
        assert [each["job"] for each in found] == tagged
        assert all(each["state"] == "KILLED" for each in found)
        await grid.until(other, "WAITING")
        await grid.until(foreign, "WAITING")
        for owner in ("bob", "all"):
            with pytest.raises(NotAllowed):
                await gather(jobs.each_chosen(grid.central, "kill", owner=owner))
        with pytest.raises(UserError, match="hold can do nothing with jobs that are KILLED"):
            await gather(jobs.each_chosen(grid.central, "hold", state="KILLED"))
        found = await gather(jobs.each_chosen(root, "hold", owner="all", state="waiting"))
        assert [each["job"] for each in found] == [other, foreign]
        assert await gather(jobs.each_chosen(root, "kill", since=3600.0)) == []  # root has none of its own
        found = await gather(jobs.each_chosen(grid.central, "release", tag="other", since=3600.0))
        assert [(each["job"], each["state"]) for each in found] == [(other, "WAITING")]
    await recount(grid.database)


async def test_the_parts_of_a_master_are_a_filter(grid: Grid) -> None:
    master = int((await jobs.submit(grid.central, 'Executable = "x"; Split = "production:1-4";'))["task"])
    await grid.until(master, "SPLIT")
    (given,) = await grid.claim()
    await grid.report(given, "STARTED", "RUNNING", "ERROR_E", reason="EXIT_CODE 3")
    found = await gather(jobs.each_chosen(grid.central, "resubmit", master=master))
    assert [(each["job"], each["state"]) for each in found] == [(given.task, "WAITING")]
    found = await gather(jobs.each_chosen(grid.central, "kill", master=master, state="WAITING"))
    assert len(found) == 4
    await grid.until(master, "ERROR_E")


async def test_listing_by_tag_site_and_time(grid: Grid) -> None:
    made = (await jobs.submit_many(grid.central, JDL, [["1", "x"], ["2", "x"]]))["tasks"]
    for job in made:
        await grid.until(job, "WAITING")
    (given,) = await grid.claim()
    ids = {
        name: [each["id"] for each in await jobs.listing(grid.central, **chosen)]
        for name, chosen in {
            "tag": {"tag": "mc26"}, "no tag": {"tag": "mc"}, "site": {"site": "CERN"}, "elsewhere": {"site": "FZK"},
            "new": {"since": 3600.0}, "future": {"since": 0.0}, "state": {"state": "waiting, assigned"},
        }.items()
    }  # fmt: skip
    both = made[::-1]
    assert ids == {
        "tag": both, "no tag": [], "site": [given.task], "elsewhere": [], "new": both, "future": [], "state": both,
    }  # fmt: skip
