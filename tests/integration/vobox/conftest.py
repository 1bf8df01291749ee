"""A VO box's programs as real processes, and a small central that answers them over real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.auth import model as claims
from orchestrator.errors import NotAllowed
from orchestrator.runtime import security, signing, web
from orchestrator.runtime.files import write_json
from orchestrator.runtime.http import Api, tls_context

VO, SITE, CE = "testvo", "testsite", "farm"


async def until(true: Callable[[], Any], seconds: float = 15.0, what: str = "condition") -> Any:
    """The first true value of ``true()``; fails after ``seconds``."""
    give_up = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < give_up, f"{what} did not come within {seconds} s"
        await asyncio.sleep(0.02)
    return found


class Central:
    """Manager, broker, issuer, catalogue and SE in one process: just what the VO box calls."""

    def __init__(self, root: Path, address: str, signer: signing.TokenSigner, ca: bytes) -> None:
        self.root, self.address, self.signer, self.ca = root, address, signer, ca
        self.reports: list[dict[str, Any]] = []
        self.beats: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.stale: set[tuple[int, int]] = set()
        self.queue: list[dict[str, Any]] = []
        self.claims: list[dict[str, Any]] = []
        self.commands: dict[int, dict[str, Any]] = {}
        self.answers: dict[int, Any] = {}
        self.files: dict[str, bytes] = {}
        self.spent: set[str] = set()
        self.port = 0
        self.wake = asyncio.Event()
        self._server: Any = None
        self._task: asyncio.Task[None] | None = None
        self._agents = itertools.count(1)

    @property
    def url(self) -> str:
        return f"https://{self.address}:{self.port}"

    async def start(self) -> None:
        sock = web.listen(self.address, self.port)
        self.port = sock.getsockname()[1]
        keys = security.TokenVerifier(VO, json.loads((self.root / "etc/token-keys.json").read_text()))

        def check(token: str) -> web.Caller:
            told = keys.verify(token, time.time())
            return web.Caller(str(told["sub"]), frozenset(told.get("roles", ())), told)

        self._server = web.server(web.application(self._routes(), check), web.TlsFiles.of(self.root))
        self._server.capture_signals = contextlib.nullcontext
        self._task = asyncio.create_task(self._server.serve([sock]))
        await until(lambda: self._server.started)

    async def stop(self) -> None:
        if self._task is not None:
            self._server.should_exit = self._server.force_exit = True
            self.wake.set()
            await self._task
            self._task = None

    def job(self, task: int, attempt: int = 1, **jdl: Any) -> None:
        """A job waits for the next agent."""
        full = {
            "Executable": "/bin/echo", "Arguments": "", "OutputFile": ["stdout"], "OutputDir": f"/out/{task}",
            "TTL": 60, "MemorySize": 1 << 29, "WorkDirectorySize": 1 << 28, "CPUCores": 1,
        } | jdl  # fmt: skip
        self.queue.append({
            "task": task, "attempt": attempt, "kind": "job", "jdl": full, "user": "ada", "site": SITE,
            "token": self.job_token(task, attempt), "deadline": time.time() + 15,
        })  # fmt: skip
        self.wake.set()

    def job_token(self, task: int, attempt: int = 1) -> str:
        return self.signer.sign(claims.job_claims(task, attempt, "ada", SITE), time.time(), 600)

    def enrolment(self, number: str) -> str:
        return self.signer.sign(claims.enrolment_claims(number, SITE, CE), time.time(), 600)

    def states(self, task: int) -> list[str]:
        return [each["to"] for each in self.reports if each["task"] == task]

    def _routes(self) -> list[Any]:
        routes = [
            ("POST", "/v1/auth/token", self._token), ("POST", "/v1/auth/redeem", self._redeem),
            ("POST", "/v1/auth/renew", self._renew), ("POST", "/v1/auth/enrolments", self._enrol),
            ("POST", "/v1/tasks/reports", self._reports), ("POST", "/v1/tasks/heartbeats", self._beats),
            ("GET", "/v1/tasks/commands", self._commands), ("POST", "/v1/tasks/commands/{id:int}", self._answer),
            ("POST", "/v1/broker/claim", self._claim), ("POST", "/v1/broker/demand", self._demand),
            ("POST", "/v1/catalogue/write", self._write), ("POST", "/v1/catalogue/read", self._read),
            ("PUT", "/files/{guid}", self._put), ("GET", "/files/{guid}", self._get),
        ]  # fmt: skip
        return [web.route(*each) for each in routes]

    def _sign(self, told: dict[str, Any]) -> dict[str, Any]:
        return {"token": self.signer.sign(told, time.time(), 3600), "expires_in": 3600}

    async def _token(self, request: Any) -> Any:
        asked = await web.body(request)
        who, _ = security.check_assertion(asked["assertion"], self.ca, VO, time.time())
        return self._sign(claims.host_claims(who.name, who.role, who.site))

    async def _redeem(self, request: Any) -> Any:
        jti = str(web.caller(request).require("enrol").claims["jti"])
        if jti in self.spent:
            raise NotAllowed("this enrolment is spent")
        self.spent.add(jti)
        agent = f"agent{next(self._agents)}"
        return {**self._sign(claims.agent_claims(agent, SITE, CE, "host")), "agent": agent}

    async def _renew(self, request: Any) -> Any:
        return self._sign({"sub": web.caller(request).require("agent").subject, "roles": ["agent"]})

    async def _enrol(self, request: Any) -> Any:
        web.caller(request).require("vobox")
        return {"token": self.enrolment(uuid.uuid4().hex), "expires_in": 600}

    async def _reports(self, request: Any) -> Any:
        web.caller(request).require("vobox")
        results = []
        for each in (await web.body(request))["reports"]:
            stale = (each["task"], each["attempt"]) in self.stale
            if not stale:
                self.reports.append(each)
            results.append(
                {
                    "task": each["task"],
                    "accepted": not stale,
                    "why": "stale" if stale else "",
                    "state": each["to"],
                }
            )
        return {"results": results}

    async def _beats(self, request: Any) -> Any:
        web.caller(request).require("vobox")
        self.calls.append("beats")
        given = (await web.body(request))["beats"]
        self.beats += given
        return {
            "stale": [[b["task"], b["attempt"]] for b in given if (b["task"], b["attempt"]) in self.stale]
        }

    async def _commands(self, request: Any) -> Any:
        web.caller(request).require("vobox")
        await self._wait(float(request.query_params["wait"]), lambda: bool(self.commands))
        return {"commands": list(self.commands.values())}

    async def _answer(self, request: Any) -> Any:
        number = int(request.path_params["id"])
        self.answers[number] = (await web.body(request))["answer"]
        self.commands.pop(number, None)
        return {}

    async def _claim(self, request: Any) -> Any:
        web.caller(request).require("vobox")
        asked = await web.body(request)
        self.claims.append(asked)
        await self._wait(min(asked["wait"], 3), lambda: bool(self.queue))
        if await request.is_disconnected():
            return {"tasks": [], "retry_in": 0}
        return {"tasks": [self.queue.pop(0)] if self.queue else [], "retry_in": 0.05}

    async def _wait(self, seconds: float, true: Callable[[], bool]) -> None:
        give_up = time.monotonic() + seconds
        while not true() and time.monotonic() < give_up and not self._server.should_exit:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wake.wait(), 0.1)
            self.wake.clear()

    async def _demand(self, request: Any) -> Any:
        web.caller(request).require("vobox")
        assert (await web.body(request))["ad"]["CloseSE"] == ["disk"]
        return {"waiting": len(self.queue)}

    async def _write(self, request: Any) -> Any:
        web.caller(request).require("job")
        asked = await web.body(request)
        guid = uuid.uuid4().hex
        write = {"se": "disk", "pfn": f"/{guid}", "url": f"{self.url}/files/{guid}", "envelope": "signed"}
        return {"lfn": asked["lfn"], "guid": guid, "writes": [write]}

    async def _read(self, request: Any) -> Any:
        web.caller(request).require("job")
        lfn = (await web.body(request))["lfn"]
        data = self.files[lfn]
        good = {"se": "disk", "pfn": lfn, "url": f"{self.url}/files/{lfn.strip('/')}", "envelope": "signed"}
        broken = {**good, "se": "broken", "url": f"{self.url}/files/nothing"}
        return {
            "path": lfn, "owner": "ada", "mode": 0o644, "guid": "g", "size": len(data),
            "md5": hashlib.md5(data).hexdigest(), "adler32": "", "made": 0.0, "reads": [broken, good],
        }  # fmt: skip

    async def _put(self, request: Any) -> Any:
        self.files[f"/{request.path_params['guid']}"] = await request.body()
        return {}

    async def _get(self, request: Any) -> Any:
        from starlette.responses import Response

        data = self.files.get(f"/{request.path_params['guid']}")
        return Response(data) if data is not None else Response("none", status_code=404)


class Machine:
    """One VO box: ROOT with certificate and configuration, and its running programs."""

    def __init__(self, root: Path, address: str, ca: security.Pair) -> None:
        self.root, self.address, self.ca = root, address, ca
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def api(self) -> Api:
        return Api(f"https://{self.address}:8445", tls_context(self.root / "etc/tls/ca.pem"), patience=10.0)

    def start(self, program: str, *more: str) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "orchestrator.wiring.vobox",
            program,
            "--root",
            str(self.root),
            *more,
        ]
        environment = {**os.environ, "ORCHESTRATE_MACHINE": str(self.root)}
        self.processes[program] = subprocess.Popen(command, env=environment, start_new_session=True)
        return self.processes[program]

    async def ready(self, port: int = 8445, scheme: str = "https") -> None:
        """The program that listens on ``port`` answers."""
        async with httpx.AsyncClient(
            verify=tls_context(self.root / "etc/tls/ca.pem"), trust_env=False
        ) as http:
            give_up = time.monotonic() + 20
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get(f"{scheme}://{self.address}:{port}/healthz")).is_success:
                        return
                assert time.monotonic() < give_up, self.log()
                await asyncio.sleep(0.05)

    def log(self) -> str:
        return "\n".join(file.read_text()[-3000:] for file in self.root.glob("log/*.log"))

    def stop(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A VO box on a loopback address of its own, nothing started."""
    address = f"127.{random.randint(10, 250)}.{random.randint(1, 250)}.{random.randint(1, 250)}"
    now = time.time()
    ca = security.create_ca(VO, now)
    host = security.issue(ca, security.Identity(VO, "vobox", "box", now + 3600), [address, "box"], now)
    key = security.new_token_key()
    tls = tmp_path / "etc/tls"
    tls.mkdir(parents=True)
    for name, content in (("ca.pem", ca.certificate), ("host.pem", host.certificate), ("host.key", host.key)):
        (tls / name).write_bytes(content)
    write_json(tmp_path / "etc/token-keys.json", security.public_keys(key))
    write_json(tmp_path / "signing.json", key, 0o600)
    found = Machine(tmp_path, address, ca)
    yield found
    found.stop()


@pytest.fixture
async def central(machine: Machine) -> AsyncIterator[Central]:
    """A running central; the machine's vobox.json names it."""
    signer = signing.TokenSigner(VO, json.loads((machine.root / "signing.json").read_text()))
    found = Central(machine.root, machine.address, signer, machine.ca.certificate)
    await found.start()
    write_json(machine.root / "etc/vobox.json", {
        "vo": VO, "site": SITE, "machine": "box", "address": machine.address, "central": found.url,
        "broker": found.url, "clustermonitor": f"https://{machine.address}:8445", "method": "http",
        "computing_elements": [{"name": CE, "batch": {"kind": "fork", "slots": 2}, "min_idle": 1, "ttl": 600}],
        "storage_elements": [{"name": "disk"}], "repositories": [], "agent_file": None,
    })  # fmt: skip
    yield found
    await found.stop()
