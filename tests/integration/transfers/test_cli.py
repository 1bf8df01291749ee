"""``orchestrate transfer …`` against a real central, storage elements and FTD; only the way to them is replaced."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import Result

from orchestrator.cli import transfer as verbs
from orchestrator.errors import NotFound, UserError
from tests.support.verbs import Invoke, invoker

from ..catalogue.conftest import VO
from .conftest import HOME, World


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a verb as ada, or as ``who``."""
    invoke = invoker("transfer", verbs.register, world.central.user, VO, monkeypatch)

    async def run(*words: object, who: str = "ada") -> Result:
        return await invoke(who, *words)

    return run


async def test_every_verb(run: Invoke, world: World) -> None:
    await world.site("here", "a")
    await world.site("there", "b")
    assert "no transfers" in (await run("ps")).output
    for name in ("run7/x", "run7/y", "z"):
        await world.put(name, os.urandom(1000), "a")
    assert isinstance((await run("submit", "none", "--to", "b")).exception, UserError)
    assert "no storage element c" in str((await run("submit", "z", "--to", "c")).exception)
    made = json.loads((await run("submit", "-r", "run7", "--to", "b", "--json")).output)
    assert [(each["lfn"], each["new"]) for each in made] == [(f"{HOME}/run7/{n}", True) for n in "xy"]
    again = (await run("submit", f"{HOME}/run7/x", "--to", "b")).output
    assert again == f"transfer {made[0]['task']}  {HOME}/run7/x (under way already)\n"
    first, second = (each["task"] for each in made)
    assert "transfer" in (await run("why", first)).output
    assert (await run("kill", second)).output == f"transfer {second}: KILLED\n"
    assert (await run("kill", 999, second)).exit_code == 2
    async with world.ftd("there", "b"):
        watched = await run("watch", first)
        assert (watched.exit_code, "DONE" in watched.output) == (0, True)
        done = await run("submit", "z", "--to", "b", "--watch")
        assert (done.exit_code, "TRANSFERRING" in done.output) == (0, True)
    assert (await run("watch", second)).exit_code == 4
    assert ": it is there" in (await run("submit", "z", "--to", "b")).output
    listed = (await run("ps")).output.splitlines()
    assert (listed[0].split(), len(listed)) == (["ID", "STATE", "USER", "KIND", "WAY", "SIZE", "FILE"], 5)
    assert "a → b" in listed[-1]
    killed = json.loads(
        (await run("ps", "--state", "killed", "--to", "b", "--lfn", "run7/y", "--json")).output
    )
    assert [each["id"] for each in killed] == [second]
    shown = (await run("show", first)).output
    assert all(word in shown for word in ("a → b", "TRANSFERRING", "there-vobox/ftd at there", "1000 B"))
    assert json.loads((await run("show", first, "--json")).output)["kind"] == "mirror"
    assert isinstance((await run("show", 999)).exception, NotFound)


async def test_limits(run: Invoke, world: World) -> None:
    await world.site("here", "a", "b", "tape")
    assert (await run("limit")).output == "no limits but the defaults\n"
    assert (await run("limit", "a", "--most-out", 3)).exception is not None  # ada is no admin
    assert (await run("limit", "a", "--most-out", 3, who="root")).exit_code == 0
    assert (await run("limit", "tape", "--buffer", "b", who="root")).exit_code == 0
    said = (await run("limit", "a", "--to", "b", "--most", 0, who="root")).output
    assert "a → b" in said
    assert "no direct link" in said
    told = json.loads((await run("limit", "--json")).output)
    assert told["links"] == [{"source": "a", "target": "b", "most": 0}]
    assert {each["se"]: (each["most_out"], each["buffer"]) for each in told["storage"]} == {
        "a": (3, ""),
        "tape": (None, "b"),
    }
    for words in (("a", "--to", "b"), ("a", "--most", 3), ("a", "--to", "b", "--most", 1, "--most-in", 2)):
        assert isinstance((await run("limit", *words, who="root")).exception, UserError)
