"""/proc/<user>/<job>: real tasks of a real table, seen through the catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.catalogue import client
from orchestrator.classads import parse
from orchestrator.errors import NotAllowed, NotFound, UserError
from orchestrator.jobs import model
from orchestrator.tasks import store as tasks
from orchestrator.tasks.store import New

from .conftest import Central
from .test_catalogue import names

JDL = {
    "Executable": "/bin/echo", "Arguments": 'a "b" \\ c', "TTL": 3600, "Price": 1.5, "Packages": ["A::1", "B::2"],
    "Inputs": [{"lfn": "/x", "name": "é", "executable": True}], "OutputFile": [],
}  # fmt: skip
REQUIREMENTS = 'other.Memory > 5 && other.Site == "CERN"'


async def job(central: Central, owner: str, *states: str) -> int:
    """A job of ``owner`` that went through these states."""
    async with central.database.transaction() as connection:
        new = [New({"jdl": JDL, "own": REQUIREMENTS}, None, 1.0)]
        made = await tasks.submit(connection, model.KIND, owner, model.INSERTING, new, actor=owner)
        task = await tasks.get(connection, made[0])
        for state in states:
            reason = "there is no\nroom" if state == model.ERROR_I else ""
            task = await tasks.move(connection, model.LIFE, task, state, actor="optimizer", reason=reason)
    return made[0]


async def content(central: Central, user: str, lfn: str, folder: Path) -> str:
    async with central.user(user) as api:
        entry = await client.get(api, lfn, folder / "content")
        data = (folder / "content").read_bytes()
        assert (entry.size, len(data)) == (len(data), entry.size)
        return data.decode()


async def test_jobs_are_seen_as_directories(central: Central, tmp_path: Path) -> None:
    first, second = await job(central, "ada", model.WAITING), await job(central, "ada", model.ERROR_I)
    other = await job(central, "bob")
    async with central.user("ada") as ada:
        assert await names(ada, "/proc") == ["/proc/ada", "/proc/bob", "/proc/root"]
        assert await names(ada, "/proc/ada") == [f"/proc/ada/{first}", f"/proc/ada/{second}"]
        home = f"/proc/ada/{second}"
        assert await names(ada, home) == [f"{home}/{name}" for name in ("jdl", "resource", "state", "trace")]
        assert [entry.path for entry in await client.ls(ada, f"{home}/state")] == [f"{home}/state"]
        for path, owner in (("/proc", ""), ("/proc/root", "root"), (home, "ada")):
            entry = await client.stat(ada, path)
            assert (entry.path, entry.owner, entry.mode, entry.is_directory) == (path, owner, 0o555, True)
        assert (await client.stat(ada, f"{home}/state")).size == len("ERROR_I\n")
        for none in ("/proc/nobody", f"/proc/bob/{first}", f"{home}/none", f"{home}/jdl/x", "/proc/ada/x", "/proc/ada/0",
                     f"/proc/ada/0{second}", f"/proc/ada/{'9' * 30}", "/proc/ada/²", "/proc/ada/999"):  # fmt: skip
            with pytest.raises(NotFound):
                await client.stat(ada, none)
    assert await content(central, "bob", f"{home}/state", tmp_path) == "ERROR_I\n"
    trace = (await content(central, "bob", f"{home}/trace", tmp_path)).splitlines()
    assert [line.split(" ", 1)[1] for line in trace] == [
        "- INSERTING attempt 1 by ada",
        "INSERTING ERROR_I attempt 1 by optimizer: there is no room",
    ]
    assert await content(central, "ada", f"/proc/bob/{other}/resource", tmp_path) == ""
    await central.rows(
        "UPDATE grid.task SET resource = 'node/agent', site = 'CERN' WHERE id = %(id)s", id=other
    )
    told = await content(central, "ada", f"/proc/bob/{other}/resource", tmp_path)
    assert told == "site CERN\nresource node/agent\n"


async def test_the_jdl_says_what_the_job_says(central: Central, tmp_path: Path) -> None:
    number = await job(central, "ada")
    text = await content(central, "ada", f"/proc/ada/{number}/jdl", tmp_path)
    assert text.startswith('Executable = "/bin/echo";\nArguments = ')
    assert text.endswith(f"Requirements = {REQUIREMENTS};\n")
    values, _, problems = parse(text)
    assert problems == []
    assert {name: value for name, value in values.items() if name != "Requirements"} == JDL


async def test_proc_is_read_only_and_a_job_sees_its_users(central: Central) -> None:
    mine, other = await job(central, "ada"), await job(central, "bob")
    async with central.user("root") as root, central.plain() as running, central.plain() as nobody:
        for refused in (client.mkdir(root, "/proc/x"), client.mkdir(root, "/proc"), client.mv(root, "/testvo/user", "/proc/x"),
                        client.tag(root, "/proc", {"a": 1}),
                        root.post("/v1/catalogue/write", {"lfn": "/proc/root/x", "size": 1, "md5": "0" * 32})):  # fmt: skip
            with pytest.raises(NotAllowed):
                await refused
        with pytest.raises(NotFound):
            await client.rm(root, f"/proc/ada/{mine}", recursive=True)
        for wrong in (client.find(root, "/proc", "*"), client.whereis(root, f"/proc/ada/{mine}/jdl"),
                      root.post("/v1/catalogue/read", {"lfn": "/proc/ada"})):  # fmt: skip
            with pytest.raises(UserError):
                await wrong
        running.token = central.job_token(mine, "ada")
        assert len(await names(running, f"/proc/ada/{mine}")) == 4
        assert await names(running, "/proc/ada") == [f"/proc/ada/{mine}"]
        for path in ("/proc", "/proc/bob", f"/proc/bob/{other}"):
            with pytest.raises(NotAllowed, match="jobs of ada alone"):
                await names(running, path)
        with pytest.raises(NotAllowed):
            await nobody.get("/v1/catalogue/ls", path="/proc")
