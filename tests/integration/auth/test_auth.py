"""Tokens over HTTP: by certificate, by enrolment, and what they are good for."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent.model import AgentConfig
from orchestrator.agent.session import Session
from orchestrator.errors import NotAllowed, TemporaryError, UserError
from orchestrator.runtime.security import make_assertion

from ..catalogue.conftest import VO, Central


async def test_a_member_gets_a_token_and_a_stranger_does_not(central: Central) -> None:
    async with central.user("ada") as ada, central.user("eve") as eve:
        me = await ada.get("/v1/auth/me")
        assert (me["subject"], me["roles"]) == ("user:ada", ["user"])
        assert time.time() < me["expires"] <= time.time() + 3600
        with pytest.raises(NotAllowed, match="eve is not a member"):
            await eve.get("/v1/auth/me")


async def test_an_assertion_is_good_once_and_for_this_vo(central: Central) -> None:
    pair = central.authority.user("ada", time.time())
    async with central.plain() as plain:
        good = make_assertion(pair, VO, secrets.token_hex(8), time.time())
        assert (await plain.post("/v1/auth/token", {"assertion": good}))["expires_in"] == 3600
        with pytest.raises(NotAllowed, match="used before"):
            await plain.post("/v1/auth/token", {"assertion": good})
        old = make_assertion(pair, VO, "n1", time.time() - 1000)
        foreign = make_assertion(pair, "othervo", "n2", time.time())
        for bad in (old, foreign, good[:-6] + "AAAAAA", "x", ""):
            with pytest.raises(NotAllowed):
                await plain.post("/v1/auth/token", {"assertion": bad})


async def test_a_lost_answer_costs_a_second_assertion_only(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a client and its central an answer is lost: the first assertion counts as used."""
    async with central.user("ada") as ada:
        spend, lost = central.issuer.people.spend, []

        async def spent_twice(jti: str, expires: float, now: float, **more: float) -> None:
            await spend(jti, expires, now, **more)
            if not lost:
                lost.append(jti)
                await spend(jti, expires, now, **more)

        monkeypatch.setattr(central.issuer.people, "spend", spent_twice)
        assert (await ada.get("/v1/auth/me"))["subject"] == "user:ada"
        assert len(lost) == 1


async def test_an_agent_starts_once_with_its_enrolment(central: Central, tmp_path: Path) -> None:
    root = central.machine(tmp_path / "vobox", "127.0.0.1")
    async with central.host(root) as box, central.plain() as plain, central.user("ada") as ada:
        enrolment = await box.post("/v1/auth/enrolments", {"site": "here", "ce": "farm", "lifetime": 600})
        session = await plain.post("/v1/auth/redeem", {"host": "n1"}, token=enrolment["token"])
        me = await plain.get("/v1/auth/me", token=session["token"])
        assert (me["subject"], me["roles"]) == (f"agent:{session['agent']}", ["agent"])
        with pytest.raises(NotAllowed, match="used before"):
            await plain.post("/v1/auth/redeem", {"host": "n1"}, token=enrolment["token"])
        renewed = await plain.post("/v1/auth/renew", {}, token=session["token"])
        assert (await plain.get("/v1/auth/me", token=renewed["token"]))["subject"] == me["subject"]
        with pytest.raises(NotAllowed):
            await plain.post("/v1/auth/renew", {}, token=enrolment["token"])
        with pytest.raises(NotAllowed):
            await ada.post("/v1/auth/enrolments", {"site": "here"})
        for bad in ({}, {"site": 1}, {"site": "here", "lifetime": "long"}):
            with pytest.raises(UserError):
                await box.post("/v1/auth/enrolments", bad)


async def test_a_redeem_whose_answer_was_lost_is_repeated_by_the_same_agent_alone(
    central: Central, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = central.machine(tmp_path / "vobox", "127.0.0.1")
    async with central.host(root) as box, central.plain() as monitor:
        enrolment = (await box.post("/v1/auth/enrolments", {"site": "here", "lifetime": 600}))["token"]
        config = AgentConfig(monitor.base, "", "", token=enrolment, session_file=str(tmp_path / "session"))
        post, dropped = monitor.post, []

        async def forwarded(path: str, body: Any = None, **more: Any) -> Any:
            """What the ClusterMonitor does; the first answer never arrives."""
            answer = await post(path.replace("/v1/", "/v1/auth/"), body, **more)
            if not dropped:
                dropped.append(answer)
                raise TemporaryError("the line is cut", retry_in=0.1)
            return answer

        monkeypatch.setattr(monitor, "post", forwarded)
        with pytest.raises(TemporaryError):
            await Session(monitor, config, "n1").token()
        restarted = Session(monitor, config, "n1")
        me = await monitor.get("/v1/auth/me", token=await restarted.token())
        assert me["subject"] == f"agent:{dropped[0]['agent']}"
        for proof in ({}, {"proof": ""}, {"proof": "another's"}):
            with pytest.raises(NotAllowed, match="used before"):
                await post("/v1/auth/redeem", {"host": "n1", **proof}, token=enrolment)


async def test_admins_look_after_members(central: Central) -> None:
    async with central.user("root") as root, central.user("ada") as ada, central.user("eve") as eve:
        await root.post("/v1/auth/users", {"name": "eve"})
        assert (await eve.get("/v1/auth/me"))["roles"] == ["user"]
        names = [each["name"] for each in await ada.get("/v1/auth/users")]
        assert names == ["ada", "bob", "eve", "root"]
        with pytest.raises(NotAllowed):
            await ada.post("/v1/auth/users", {"name": "ada", "roles": ["admin"]})
        with pytest.raises(NotAllowed, match="ask another admin"):
            await root.post("/v1/auth/users", {"name": "root", "roles": ["user"]})
        for bad in (
            {"name": "X"},
            {"name": "x", "roles": []},
            {"name": "x", "roles": 1},
            {"name": "x", "roles": ["king"]},
        ):
            with pytest.raises(UserError):
                await root.post("/v1/auth/users", bad)
