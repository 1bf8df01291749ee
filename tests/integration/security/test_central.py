"""What an attacker with this or that token gets from central: nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from starlette.routing import Route

from orchestrator.auth import model
from orchestrator.runtime.security import (
    Identity,
    Pair,
    create_ca,
    issue,
    make_assertion,
    new_token_key,
)
from orchestrator.runtime.signing import TokenSigner

from .conftest import VO, Vo

_OPEN = {"/healthz", "/v1/openapi.json", "/v1/auth/token", "/v1/auth/keys"}
GUID = "11111111-1111-4111-8111-111111111111"


def _routes(app: Any) -> list[tuple[str, str]]:
    found = []
    for route in app.routes:
        assert isinstance(route, Route)
        path = route.path.replace("{id:int}", "1")
        found += [(method, path) for method in sorted((route.methods or set()) - {"HEAD"})]
    assert len(found) > 1
    return found


async def _task(vo: Vo, site: str = "cern", state: str = "RUNNING") -> int:
    """A running job of ada at ``site``, with the history that every job has."""
    async with vo.database.transaction() as connection:
        cursor = await connection.execute(
            """INSERT INTO grid.task (kind, owner, state, spec, resource, site)
               VALUES ('job', 'ada', %s, '{"jdl": {"TTL": 60}}', 'agent', %s) RETURNING id, attempt""",
            (state, site),
        )
        row: Any = await cursor.fetchone()
        for number, new in enumerate(("INSERTING", "WAITING", "ASSIGNED", "STARTED", state), 1):
            await connection.execute(
                "INSERT INTO grid.task_event (task, seq, attempt, old, new, actor, reason)"
                " VALUES (%s, %s, %s, '', %s, 'test', '')",
                (row["id"], number, row["attempt"], new),
            )
    return int(row["id"])


async def _state(vo: Vo, task: int) -> str:
    found = await vo.database.rows("SELECT state FROM grid.task WHERE id = %(task)s", task=task)
    return str(found[0]["state"])


async def test_no_route_answers_without_a_token_of_this_vo(vo: Vo) -> None:
    other = TokenSigner(VO, new_token_key()).sign({"sub": "user:root", "roles": ["admin"]}, time.time(), 600)
    stranger = TokenSigner("othervo", json.loads((vo.authority.directory / "token-signing.json").read_text()))
    foreign = stranger.sign({"sub": "user:root", "roles": ["admin"]}, time.time(), 600)
    old = vo.sign({"sub": "user:root", "roles": ["admin"]}, -1)
    for app in (vo.central, vo.broker):
        for method, path in _routes(app):
            if path in _OPEN:
                continue
            for token in (None, "", "x.y.z", other, foreign, old):
                answer = await vo.call(method, path, token, app=app, json={} if method == "POST" else None)
                assert answer.status_code in (401, 403), (method, path, answer.text)


async def test_the_algorithm_of_a_token_is_not_the_attackers_choice(vo: Vo) -> None:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = {"sub": "user:root", "roles": ["admin"], "iss": VO, "exp": int(time.time()) + 600}
    public = (vo.authority.directory / "token-keys.json").read_bytes()
    kid = json.loads(public)["keys"][0]["kid"]
    none = f"{part({'alg': 'none', 'kid': kid})}.{part(claims)}."
    signed = f"{part({'alg': 'HS256', 'kid': kid})}.{part(claims)}"
    mac = base64.urlsafe_b64encode(hmac.digest(public, signed.encode(), hashlib.sha256)).rstrip(b"=").decode()
    own = new_token_key()
    embedded = TokenSigner(VO, {**own, "kid": kid}).sign(claims, time.time(), 600)
    for token in (none, f"{signed}.{mac}", embedded):
        assert (await vo.call("GET", "/v1/auth/me", token)).status_code in (401, 403)
    assert (await vo.call("GET", "/v1/auth/me", vo.user("root", "admin"))).status_code == 200


@pytest.mark.parametrize("kind", ["job", "agent", "enrol", "envelope"])
async def test_what_small_tokens_may_not(vo: Vo, kind: str) -> None:
    task = await _task(vo)
    token = {
        "job": vo.job(task),
        "agent": vo.sign(model.agent_claims("a", "cern", "ce", "h")),
        "enrol": vo.sign(model.enrolment_claims("j", "cern", "ce")),
        "envelope": vo.sign(model.envelope_claims(f"SE:/11/{GUID}", "PUT", 1, "0" * 32)),
    }[kind]
    for_people = {"/v1/catalogue"} if kind == "job" else set()
    allowed = {"/v1/auth/me", *(["/v1/auth/renew"] if kind == "agent" else []), *(["/v1/auth/redeem"] if kind == "enrol" else [])}  # fmt: skip
    vobox_only = {"/v1/catalogue/storage", "/v1/catalogue/removals", "/v1/catalogue/removed"}
    for app in (vo.central, vo.broker):
        for method, path in _routes(app):
            if path in _OPEN | allowed or (method, path) == ("GET", "/v1/packages"):
                continue
            if path not in vobox_only and any(path.startswith(each) for each in for_people):
                continue
            answer = await vo.call(method, path, token, app=app, json={} if method == "POST" else None)
            assert answer.status_code == 403, (method, path, answer.status_code, answer.text)


async def test_a_job_writes_in_no_other_users_home(vo: Vo) -> None:
    other = {"lfn": f"/{VO}/user/r/root/x", "size": 1, "md5": "0" * 32}
    token = vo.job(await _task(vo))
    assert (await vo.call("POST", "/v1/catalogue/write", token, json=other)).status_code == 403
    replica = {"replicas": [{"se": "disk", "pfn": f"/11/{GUID}"}], "guid": GUID, "adler32": "0" * 8}
    assert (await vo.call("POST", "/v1/catalogue/register", token, json=other | replica)).status_code == 403
    root = vo.user("root", "admin", "user")
    home = f"/{VO}/user/r/root"
    assert (await vo.call("POST", "/v1/catalogue/mkdir", root, json={"path": f"{home}/kept"})).is_success
    for call, path in (("mkdir", f"{home}/x"), ("rm", f"{home}/kept"), ("mv", f"{home}/kept"), ("rm", home)):
        body = {"path": path, "to": f"/{VO}/user/a/ada/x", "recursive": True}
        answer = await vo.call("POST", f"/v1/catalogue/{call}", token, json=body)
        assert answer.status_code == 403, (call, answer.text)
    assert (
        await vo.call("POST", "/v1/catalogue/mkdir", token, json={"path": f"/{VO}/user/a/ada/d"})
    ).is_success


@pytest.mark.parametrize("to", ["WAITING", "DONE", "ERROR_E", "RUNNING", "SAVING"])
async def test_a_vo_box_moves_no_job_of_another_site(vo: Vo, to: str) -> None:
    task = await _task(vo)
    report = {"task": task, "attempt": 1, "to": to, "reason": "", "facts": {}, "outputs": []}
    evil = vo.vobox("evil")
    answer = await vo.call("POST", "/v1/tasks/reports", evil, json={"reports": [report]})
    assert answer.status_code == 200
    assert await _state(vo, task) == "RUNNING"
    beats = {"beats": [{"task": task, "attempt": 1, "usage": {}}]}
    answer = await vo.call("POST", "/v1/tasks/heartbeats", evil, json=beats)
    assert answer.json() == {"stale": [[task, 1]]}
    own = await vo.call("POST", "/v1/tasks/heartbeats", vo.vobox("cern"), json=beats)
    assert own.json() == {"stale": []}


async def test_a_vo_box_makes_agents_of_its_own_site_only(vo: Vo) -> None:
    body = {"site": "cern", "ce": "x", "lifetime": 600}
    assert (await vo.call("POST", "/v1/auth/enrolments", vo.vobox("evil"), json=body)).status_code == 403
    assert (await vo.call("POST", "/v1/auth/enrolments", vo.vobox("cern"), json=body)).status_code == 200
    assert (await vo.call("POST", "/v1/auth/enrolments", vo.user("ada"), json=body)).status_code == 403


async def test_an_enrolment_is_redeemed_once(vo: Vo) -> None:
    made = await vo.call("POST", "/v1/auth/enrolments", vo.vobox("cern"), json={"site": "cern", "ce": "x"})
    token = made.json()["token"]
    first = await vo.call("POST", "/v1/auth/redeem", token, json={"host": "h"})
    again = await vo.call("POST", "/v1/auth/redeem", token, json={"host": "h"})
    assert (first.status_code, again.status_code) == (200, 403)


async def test_a_vo_box_takes_no_storage_of_another_site(vo: Vo) -> None:
    mine = {"name": "disk", "site": "cern", "url": "https://cern/disk", "free": 1}
    assert (await vo.call("POST", "/v1/catalogue/storage", vo.vobox("cern"), json=mine)).is_success
    evil = vo.vobox("evil")
    for body in (mine, mine | {"site": "evil", "url": "https://evil"}):
        assert (await vo.call("POST", "/v1/catalogue/storage", evil, json=body)).status_code in (400, 403)
    assert (await vo.call("GET", "/v1/catalogue/removals", evil, params={"se": "disk"})).status_code == 403
    body = {"se": "disk", "pfns": [f"/11/{GUID}"]}
    assert (await vo.call("POST", "/v1/catalogue/removed", evil, json=body)).status_code == 403
    assert (await vo.call("POST", "/v1/catalogue/removed", vo.vobox("cern"), json=body)).is_success


async def test_an_assertion_is_taken_once_and_from_this_ca_only(vo: Vo) -> None:
    now = time.time()
    pair = vo.authority.user("ada", now)

    async def ask(assertion: str) -> int:
        return (await vo.call("POST", "/v1/auth/token", json={"assertion": assertion})).status_code

    good = make_assertion(pair, VO, "n1", now)
    assert await ask(good) == 200
    assert await ask(good) == 403
    assert await ask(make_assertion(pair, "othervo", "n2", now)) == 403
    assert await ask(make_assertion(pair, VO, "n3", now - 3600)) == 403
    assert await ask(make_assertion(pair, VO, "", now)) == 403
    ca = create_ca(VO, now)
    fake = issue(ca, Identity(VO, "user", "root", now + 600), (), now)
    assert await ask(make_assertion(fake, VO, "n4", now)) == 403
    # A certificate of ours with somebody else's key, and one that our user "issued".
    assert await ask(make_assertion(Pair(pair.certificate, fake.key), VO, "n5", now)) == 403
    child = issue(pair, Identity(VO, "user", "root", now + 600), (), now)
    assert await ask(make_assertion(child, VO, "n6", now)) == 403
    assert await ask(make_assertion(pair, VO, "\0", now)) == 403
    for garbage in ("", "a.b.c", "\u0000", "." * 100_000):
        assert await ask(garbage) == 403


async def test_bodies_are_bounded_and_are_json(vo: Vo) -> None:
    user = vo.user("ada")
    for content, status in (
        (b'{"jdl": "' + b"x" * (17 << 20) + b'"}', 413),
        (b"[" * 100_000, 400),
        (b'{"size": NaN}', 400),
        (b"[]", 400),
        (b"\xff", 400),
    ):
        answer = await vo.call("POST", "/v1/jobs", user, content=content)
        assert answer.status_code == status, content[:20]
    for path in ("/v1/jobs?limit=nan", "/v1/jobs/1/events?after=nan", "/v1/jobs/1/events?after=0&wait=nan"):
        assert (await vo.call("GET", path, user)).status_code == 400


async def test_a_user_moves_only_own_jobs(vo: Vo) -> None:
    task = await _task(vo)
    for call in ("kill", "resubmit"):
        answer = await vo.call("POST", f"/v1/jobs/{task}/{call}", vo.user("eve"), json={})
        assert answer.status_code == 403
    assert (await vo.call("GET", f"/v1/jobs/{task}/peek", vo.user("eve"))).status_code == 403
    assert await _state(vo, task) == "RUNNING"


_NASTY: list[Any] = ["\0", "nan", "../../etc/passwd", "-1", 1e308, -1, [], {}, None, "\ud800", 2**70, True]
_NAMES = (
    "path", "to", "lfn", "se", "guid", "size", "md5", "copies", "site", "free", "url", "name", "roles", "jdl", "arguments",
    "request", "assertion", "host", "lifetime", "ce", "reports", "beats", "ad", "count", "wait", "claim", "answer", "pfns",
    "replicas", "adler32", "version", "torrent", "sha256", "fqrn", "info_hash", "recursive", "pattern", "limit", "owner",
    "state", "master", "after",
)  # fmt: skip


@pytest.mark.parametrize("nasty", _NASTY, ids=repr)
async def test_nonsense_is_refused_not_stumbled_over(vo: Vo, nasty: Any) -> None:
    admin = vo.sign(
        {
            "sub": "user:root",
            "roles": ["user", "admin", "release", "vobox", "agent"],
            "site": "s",
            "ce": "c",
            "host": "h",
        }
    )
    found = []
    for app in (vo.central, vo.broker):
        for method, path in _routes(app):
            params = {name: str(nasty).encode("utf-8", "replace") for name in _NAMES} | {"wait": "0"}
            content = json.dumps({name: nasty for name in _NAMES if name != "wait"})
            more: dict[str, Any] = {"params": params} if method == "GET" else {"content": content}
            answer = await vo.call(method, path, admin, app=app, **more)
            if answer.status_code == 500:
                found.append(f"{method} {path}")
    assert found == []
