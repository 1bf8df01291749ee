"""Splits, input data, collections and repeated parts, over HTTP, on a real database with a real catalogue."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest

from orchestrator.catalogue import store as catalogue
from orchestrator.catalogue.model import Output
from orchestrator.jobs import client as jobs
from orchestrator.runtime.sql import rows
from orchestrator.tasks.model import Assignment

from .conftest import Grid, recount

DATA = "/grid/user/a/ada/data"


async def submit(grid: Grid, jdl: str, *arguments: str) -> int:
    return int((await jobs.submit(grid.central, jdl, arguments))["task"])


def copy(lfn: str, se: str, size: int = 10) -> Output:
    number = str(uuid.uuid5(uuid.NAMESPACE_URL, lfn))
    return Output(lfn, number, size, "0" * 32, "0" * 8, se, "")


@pytest.fixture
async def stored(grid: Grid) -> None:
    """Six files: two directories; the first on SE, the second on SE and Torino::SE, the last on Torino::SE alone."""
    async with grid.database.transaction() as connection:
        for name, site in (("SE", "CERN"), ("Torino::SE", "Torino"), ("Torino::Tape", "Torino")):
            await rows(
                connection,
                "INSERT INTO grid.storage_element (name, site, url) VALUES (%(name)s, %(site)s, 'https://x')",
                name=name,
                site=site,
            )
        await catalogue.ensure_home(connection, "grid", "ada", "admin")
        files = [(f"{DATA}/{d}/{n}.root", ses) for d, ses in PLACES.items() for n in "ab"]
        await catalogue.register(
            connection,
            [copy(lfn, se) for lfn, ses in files for se in ses] + [copy(LONE, "Torino::SE", 99)],
            "ada",
        )


PLACES = {"001": ["SE"], "002": ["SE", "Torino::SE"]}
LONE = f"{DATA}/003/lone.root"
A1, B1, A2, B2 = (f"{DATA}/{d}/{n}.root" for d in ("001", "002") for n in "ab")


def listed(*lfns: str) -> str:
    return "{" + ", ".join(f'"LF:{lfn}"' for lfn in lfns) + "}"


async def children(grid: Grid, master: int) -> list[dict[str, Any]]:
    return await grid.rows("SELECT * FROM grid.task WHERE parent = %(id)s ORDER BY id", id=master)  # type: ignore[return-value]


def near(part: dict[str, Any]) -> str:
    told = [each["text"] for each in part["spec"]["conditions"]]
    return next((text for text in told if text.startswith(("near", "at "))), "")


async def claimed(grid: Grid, *close: str) -> list[int]:
    """What an agent near these gets, asking until there is nothing left."""
    found = []
    while given := await grid.claim(wait=0, CloseSE=list(close)):
        found += [each.task for each in given]
    return sorted(found)


@pytest.mark.usefixtures("stored")
async def test_split_by_file_gives_each_part_its_file_and_its_place(grid: Grid) -> None:
    master = await submit(
        grid,
        f"""Executable = "/bin/cat"; Split = "file"; InputData = {listed(A1, B1, A2, LONE)};
        Arguments = "#alienfirstfilename/[.]root/.out/#"; OutputDir = "{DATA}/out/#alien_counter_03i#";""",
    )
    await grid.until(master, "SPLIT")
    parts = await children(grid, master)
    assert [part["state"] for part in parts] == ["WAITING"] * 4
    jdls = [part["spec"]["jdl"] for part in parts]
    assert [jdl["InputData"] for jdl in jdls] == [[A1], [B1], [A2], [LONE]]
    assert [jdl["Inputs"] for jdl in jdls][2] == [{"lfn": A2, "name": "a.root"}]
    assert [jdl["Arguments"] for jdl in jdls] == ["a.out", "b.out", "a.out", "lone.out"]
    assert [jdl["OutputDir"][-3:] for jdl in jdls] == ["001", "002", "003", "004"]
    assert "Split" not in jdls[0]
    assert [near(part).split(",")[0] for part in parts] == [
        "near SE (CloseSE)", "near SE (CloseSE)", "near SE or Torino::SE (CloseSE)", "near Torino::SE (CloseSE)",
    ]  # fmt: skip
    assert await claimed(grid, "Elsewhere::SE") == []
    assert await claimed(grid, "Torino::SE") == [parts[2]["id"], parts[3]["id"]]
    assert await claimed(grid, "SE", "Other") == [parts[0]["id"], parts[1]["id"]]
    await recount(grid.database)


@pytest.mark.usefixtures("stored")
async def test_why_names_the_place_that_no_resource_is_near(grid: Grid) -> None:
    job = await submit(grid, f'Executable = "/bin/cat"; InputData = {listed(LONE)};')
    await grid.until(job, "WAITING")
    assert await claimed(grid, "SE") == []
    told = await jobs.why(grid.central, job)
    assert told["reasons"] == [
        "no known resource satisfies: near Torino::SE (CloseSE), which holds its input data (1 file, 99 B)"
    ]


@pytest.mark.usefixtures("stored")
async def test_split_by_directory_se_and_ce(grid: Grid) -> None:
    wanted = {
        "directory": [[A1, B1], [A2, B2], [LONE]],
        "se": [[A1, B1], [A2, B2], [LONE]],
        "ce": [[A1, B1], [A2, B2], [LONE]],
        "parentdirectory": [[A1, B1, A2, B2, LONE]],
    }
    for mode, groups in wanted.items():
        files = listed(A1, B1, A2, B2, LONE)
        master = await submit(grid, f'Executable = "/bin/cat"; Split = "{mode}"; InputData = {files};')
        await grid.until(master, "SPLIT")
        parts = await children(grid, master)
        assert [part["spec"]["jdl"]["InputData"] for part in parts] == groups
        if mode == "ce":
            assert near(parts[1]).startswith("at CERN or Torino, which has")
            here = set(await claimed(grid)) & {part["id"] for part in parts}  # an agent of CERN, near no SE
            assert here == {parts[0]["id"], parts[1]["id"]}
        if mode == "parentdirectory":
            assert near(parts[0]).startswith("near Torino::SE (CloseSE), which holds the most of")
            names = [each["name"] for each in parts[0]["spec"]["jdl"]["Inputs"]]
            assert names == ["001/a.root", "001/b.root", "002/a.root", "002/b.root", "003/lone.root"]


@pytest.mark.usefixtures("stored")
async def test_nodownload_is_near_its_data_and_fetches_nothing(grid: Grid) -> None:
    job = await submit(grid, f'Executable = "/bin/cat"; InputData = {{"LF:{LONE},NoDownload"}};')
    await grid.until(job, "WAITING")
    (given,) = await grid.claim(CloseSE=["Torino::SE"])
    assert (given.jdl["Inputs"], given.jdl["InputData"]) == ([], [f"{LONE},nodownload"])


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    "text",
    [
        f"# chosen by hand\n\n{A1}\nLF:{B1}\n{A2},nodownload\n",
        f"""<?xml version="1.0"?><alien><collection name="t"><event name="1">
          <file name="a" lfn="{A1}" size="10"/><file name="b" turl="alien://{B1}"/></event>
          <event name="2"><file name="a" lfn="{A2},nodownload"/></event></collection></alien>""",
    ],
)
async def test_a_collection_is_read_and_split(grid: Grid, text: str) -> None:
    grid.files.texts["/grid/user/a/ada/set"] = text
    jdl = 'Executable = "/bin/cat"; InputDataCollection = "LF:/grid/user/a/ada/set"; SplitMaxInputFileNumber = 2;'
    master = await submit(grid, jdl + 'Split = "parentdirectory";')
    await grid.until(master, "SPLIT")
    held = [part["spec"]["jdl"]["InputData"] for part in await children(grid, master)]
    assert held == [[A1, B1], [f"{A2},nodownload"]]
    job = await submit(grid, jdl.replace("set", "set,nodownload"))
    await grid.until(job, "WAITING")
    (given,) = await grid.rows("SELECT spec FROM grid.task WHERE id = %(id)s", id=job)
    spec: Any = given["spec"]
    assert spec["jdl"]["InputData"] == [f"{lfn},nodownload" for lfn in (A1, B1, A2)]
    assert "InputDataCollection" not in spec["jdl"]


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "/grid/user/a/ada/set is not in the catalogue"),
        ("# nothing\n", "names no file"),
        ("relative/path\n", "is not an LFN"),
        ("<alien><file lfn=", "not well-formed"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><alien>&a;</alien>', "DOCTYPE"),
        ("/grid/nowhere\n", "input /grid/nowhere is not a file of the catalogue"),
    ],
)
async def test_a_wrong_collection_says_why(grid: Grid, text: str | None, why: str) -> None:
    if text is not None:
        grid.files.texts["/grid/user/a/ada/set"] = text
    jdl = 'Executable = "/bin/cat"; InputDataCollection = "/grid/user/a/ada/set";'
    for more, state in (("", "ERROR_I"), ('Split = "file";', "ERROR_SPLT")):
        job = await submit(grid, jdl + more)
        await grid.until(job, state)
        assert why in (await jobs.show(grid.central, job))["reason"]


async def test_variables_go_with_the_job(grid: Grid) -> None:
    await submit(
        grid,
        'Executable = "x"; JDLVariables = {"Run", "packages", "Absent"}; Run = 7; Packages = {"A::1", "B::2"};',
    )
    (given,) = await grid.claim()
    assert given.jdl["Variables"] == {"ALIEN_JDL_RUN": "7", "ALIEN_JDL_PACKAGES": "A::1##B::2"}


async def test_user_defined_parts(grid: Grid) -> None:
    master = await submit(
        grid,
        r"""Executable = "x"; Split = "userdefined"; Requirements = other.Cores >= 1;
        SplitDefinitions = {"Arguments = \"$1 #alien_counter#\"; Requirements = other.Memory > 1;", [TTL = 90]};""",
        "first",
    )
    await grid.until(master, "SPLIT")
    one, two = await children(grid, master)
    assert (one["spec"]["jdl"]["Arguments"], two["spec"]["jdl"]["TTL"]) == ("first 1", 90)
    assert (one["spec"]["own"], two["spec"]["own"]) == ("other.Memory > 1", "other.Cores >= 1")


async def fail(grid: Grid, job: Assignment) -> None:
    await grid.report(job, "STARTED", "RUNNING", "ERROR_E", reason="EXIT_CODE 3")


async def test_failed_parts_run_again_by_themselves_up_to_the_fraction(grid: Grid) -> None:
    master = await submit(
        grid,
        'Executable = "x"; Split = "production:1-4"; MaxResubmitFraction = 0.5; MaxFailFraction = 0.25;',
    )
    first = [(await grid.claim())[0] for _ in range(4)]
    for job in first[:3]:
        await fail(grid, job)
    await grid.finish(first[3])
    second = [(await grid.claim())[0] for _ in range(2)]  # two of the three: half of four
    assert [(job.task, job.attempt) for job in second] == [(first[0].task, 2), (first[1].task, 2)]
    await grid.finish(second[0])
    await fail(grid, second[1])
    await grid.until(master, "ERROR_E")
    assert (await jobs.show(grid.central, master))["reason"].startswith("2 of 4 parts failed")
    await jobs.resubmit(grid.central, master)  # the owner's wish: as many again
    third = [(await grid.claim())[0] for _ in range(2)]
    await fail(grid, third[0])
    await grid.finish(third[1])
    (last,) = await grid.claim()
    assert last.task == third[0].task
    await grid.finish(last)
    await grid.until(master, "DONE")
    await recount(grid.database)


async def test_a_killed_part_stays_killed(grid: Grid) -> None:
    master = await submit(
        grid, 'Executable = "x"; Split = "production:1-2"; MaxResubmitFraction = 1; MaxFailFraction = 0.5;'
    )
    one, two = (await grid.claim())[0], (await grid.claim())[0]
    await jobs.kill(grid.central, one.task)
    await grid.finish(two)
    assert await grid.until(master, "DONE_WARN", "ERROR_E") == "DONE_WARN"


@pytest.mark.usefixtures("stored")
async def test_a_resubmitted_job_goes_where_its_data_is_now(grid: Grid) -> None:
    job = await submit(grid, f'Executable = "x"; InputData = {listed(LONE)};')
    await grid.until(job, "WAITING")
    (given,) = await grid.claim(CloseSE=["Torino::SE"])
    await fail(grid, given)
    await grid.until(job, "ERROR_E")
    await grid.rows(
        """UPDATE grid.replica SET se = 'SE' FROM grid.entry AS entry
            WHERE replica.guid = entry.guid AND path = %(path)s RETURNING path""",
        path=LONE,
    )
    await jobs.resubmit(grid.central, job)
    await grid.until(job, "WAITING")
    assert await claimed(grid, "Torino::SE") == []
    assert await claimed(grid, "SE") == [job]
    await recount(grid.database)


@pytest.mark.usefixtures("stored")
async def test_a_waiting_job_follows_its_data(grid: Grid) -> None:
    master = await submit(grid, f'Executable = "x"; Split = "file"; InputData = {listed(LONE, A1)};')
    other = await submit(grid, 'Executable = "x"; MemorySize = "900 GB";')
    await grid.until(master, "SPLIT")
    await grid.until(other, "WAITING")
    moved, kept = await children(grid, master)
    async with grid.database.transaction() as connection:
        await catalogue.register(connection, [copy(LONE, "SE", 99)], "ada")
    grid.optimizer._follow_at = 0.0  # its round is due
    grid.optimizer._wake.set()
    found = await grid.central.get(f"/v1/jobs/{moved['id']}/events", after=1, wait=10, timeout=20)
    assert [(each["old"], each["new"]) for each in found["events"]] == [
        ("WAITING", "HELD"),
        ("HELD", "WAITING"),
    ]
    assert found["events"][1]["reason"].startswith(
        "near SE or Torino::SE (CloseSE), which holds its input data"
    )
    now, still = await children(grid, master)
    assert (now["class"] != moved["class"], still) == (True, kept)
    assert now["deadline"] == moved["deadline"]
    await recount(grid.database)
    assert await claimed(grid, "SE") == [moved["id"], kept["id"]]


async def test_ten_thousand_files_are_split_in_seconds(grid: Grid) -> None:
    lfns = [f"{DATA}/{n % 100:02d}/{n:05d}.root" for n in range(10_000)]
    async with grid.database.transaction() as connection:
        await catalogue.ensure_home(connection, "grid", "ada", "admin")
        for folder in range(100):
            await catalogue.mkdir(connection, f"{DATA}/{folder:02d}", "ada")
        await rows(
            connection,
            """WITH made AS (
                 INSERT INTO grid.entry (path, parent, owner, mode, guid, size)
                 SELECT lfn, substring(lfn FROM '^(.*)/'), 'ada', 420, gen_random_uuid(), 10
                   FROM unnest(%(lfns)s::text[]) AS lfn RETURNING guid)
               INSERT INTO grid.replica (guid, se, pfn) SELECT guid, 'SE', '' FROM made RETURNING guid""",
            lfns=lfns,
        )
    grid.files.texts["/grid/user/a/ada/set"] = "\n".join(lfns)
    master = await submit(
        grid,
        'Executable = "/bin/cat"; Split = "file"; InputDataCollection = "/grid/user/a/ada/set";'
        'Arguments = "#alienfirstfulldir#";',
    )
    started, busy = time.monotonic(), time.process_time()
    await grid.until(master, "SPLIT", within=60)
    spent, busy = time.monotonic() - started, time.process_time() - busy
    (found,) = await grid.rows(
        "SELECT count(*) AS parts, count(DISTINCT class) AS classes FROM grid.task WHERE parent = %(id)s",
        id=master,
    )
    assert found == {"parts": 10_000, "classes": 1}
    print(f"10,000 files were split in {spent:.2f} s, {busy:.2f} s of it in the optimizer")
    assert spent < 20
    await recount(grid.database)
