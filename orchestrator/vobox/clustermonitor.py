"""The ClusterMonitor: what the site's agents and CEs talk to, so that central grows with sites, not agents."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.routing import BaseRoute

from orchestrator.errors import NotAllowed, NotFound
from orchestrator.jobs.model import WAITING
from orchestrator.runtime import logs
from orchestrator.runtime.clock import Clock
from orchestrator.runtime.http import Api
from orchestrator.runtime.web import Caller, bearer, body, caller, number, route
from orchestrator.tasks import client
from orchestrator.tasks.model import Beat, Claimed, Report, list_of, value_of
from orchestrator.transfers.model import FTD
from orchestrator.vobox.mailbox import Beats, Mailbox
from orchestrator.vobox.model import VoBoxConfig
from orchestrator.vobox.registry import Key, Registry
from orchestrator.vobox.uplink import Uplink

LONGEST_WAIT = 30.0  # seconds of a long poll
_REPORTS = 1000  # of one call


class ClusterMonitor:
    """The routes of port 8445. It verifies tokens itself and asks central only what it must."""

    def __init__(
        self,
        config: VoBoxConfig,
        uplink: Uplink,
        tokenless: Api,
        broker: Api,
        packman: Api,
        registry: Registry,
        mailbox: Mailbox,
        beats: Beats,
        clock: Clock,
    ) -> None:
        self._config, self._uplink, self._tokenless = config, uplink, tokenless
        self._broker, self._packman = broker, packman
        self._registry, self._mailbox, self._beats, self._clock = registry, mailbox, beats, clock
        self._log = logs.get("clustermonitor")

    def routes(self) -> list[BaseRoute]:
        """All of them; see ARCHITECTURE.md."""
        return [
            route("POST", "/v1/auth/token", self.token),
            route("POST", "/v1/redeem", self.redeem),
            route("POST", "/v1/renew", self.renew),
            route("POST", "/v1/claim", self.claim),
            route("POST", "/v1/reports", self.reports),
            route("POST", "/v1/beats", self.beat),
            route("GET", "/v1/commands", self.commands),
            route("POST", "/v1/commands/{id:int}", self.answer),
            route("POST", "/v1/enrolments", self.enrolments),
            route("POST", "/v1/demand", self.demand),
            route("GET", "/v1/packages", self.package_list),
            route("GET", "/v1/packages/wanted", self.packages_wanted),
            route("GET", "/v1/packages/{name}/{version}", self.package),
            route("GET", "/v1/catalogue/{call}", self.catalogue),
            route("POST", "/v1/catalogue/{call}", self.catalogue),
        ]

    async def token(self, request: Request) -> Any:
        """For the other services of the VO box: an assertion proves itself, so no token is wanted."""
        return await self._tokenless.post("/v1/auth/token", await body(request))

    async def redeem(self, request: Request) -> Any:
        self._here(caller(request).require("enrol"))
        return await self._uplink.central.post("/v1/auth/redeem", await body(request), token=bearer(request))

    async def renew(self, request: Request) -> Any:
        self._here(caller(request).require("agent"))
        return await self._uplink.central.post("/v1/auth/renew", {}, token=bearer(request))

    async def claim(self, request: Request) -> Any:
        """The broker's answer. An agent that hung up meanwhile gets nothing: its tasks wait again."""
        who = self._here(caller(request).require("agent"))
        asked = await body(request)
        count = value_of(asked, "count", int, "claim", 1)
        wait = min(max(value_of(asked, "wait", float, "claim", 0.0), 0.0), LONGEST_WAIT)
        ad, ce = self._ad(value_of(asked, "ad", dict, "claim"), who), _ce(who)
        claim_id = f"{who.name}/{value_of(asked, 'claim', str, 'claim', '')[:100]}"
        self._registry.asks(who.name, ce, self._clock.monotonic())
        claimed = Claimed()
        try:
            claimed = await client.claim(self._broker, ad, count=count, wait=wait, claim_id=claim_id)
        finally:
            keys = [(task.task, task.attempt) for task in claimed.tasks]
            self._registry.answered(who.name, ce, keys, self._clock.monotonic())
        if await request.is_disconnected():
            self._registry.left(who.name)
            if claimed.tasks:
                await self._give_back(keys)
        return claimed.to_json()

    async def reports(self, request: Request) -> Any:
        """Central's verdicts, or a promise on disk when it is away."""
        who = self._here(caller(request).require("job"))
        reports = list_of(await body(request), "reports", Report, _REPORTS)
        for report in reports:
            _own(who, (report.task, report.attempt))
        results = await self._uplink.report(reports)
        for report in reports:
            key = (report.task, report.attempt)
            self._registry.reported(key, report.to, self._clock.monotonic())
            if self._registry.owner(key) is None:
                self._mailbox.ended(key)
        return {"results": [result.to_json() for result in results]}

    async def beat(self, request: Request) -> Any:
        """Taken for the next batch; ``agent`` is the session token of the agent that runs the job."""
        who = self._here(caller(request).require("job"))
        asked = await body(request)
        agent = self._here(
            request.app.state.authenticate(value_of(asked, "agent", str, "beat")).require("agent")
        )
        keys: set[Key] = set()
        for beat in list_of(asked, "beats", Beat, _REPORTS):
            key = (beat.task, beat.attempt)
            _own(who, key)
            keys.add(key)
            self._beats.put(beat)
            self._registry.beats(key, agent.name, _ce(agent), self._clock.monotonic())
        return {"commands": [each.to_json() for each in self._mailbox.pending(keys) if each.id == 0]}

    async def commands(self, request: Request) -> Any:
        """What the calling agent's jobs must do: a long poll."""
        who = self._here(caller(request).require("agent"))
        wait = number(request, "wait", 0.0, LONGEST_WAIT)
        found = await self._mailbox.wait(lambda: self._registry.tasks(who.name), wait)
        return {"commands": [each.to_json() for each in found]}

    async def answer(self, request: Request) -> Any:
        who = self._here(caller(request).require("agent"))
        command = self._mailbox.get(int(request.path_params["id"]))
        if command is None:
            raise NotFound(f"command {request.path_params['id']} is answered or unknown")
        if self._registry.owner((command.task, command.attempt)) not in (who.name, None):
            raise NotAllowed(f"task {command.task} is not run by {who.subject}", task=command.task)
        await self._uplink.answer(command.id, (await body(request)).get("answer") or {})
        return {}

    async def enrolments(self, request: Request) -> Any:
        caller(request).require("vobox", "admin")
        asked = {**await body(request), "site": self._config.site}
        return await self._uplink.central.post("/v1/auth/enrolments", asked)

    async def demand(self, request: Request) -> Any:
        """Waiting tasks that a slot of the CE in the ad could run, and its agents that are idle and busy."""
        caller(request).require("vobox", "admin")
        ad = value_of(await body(request), "ad", dict, "demand")
        counts = self._registry.counts(str(ad.get("CE", "")), self._clock.monotonic())
        waiting = await client.demand(self._broker, self._near({**ad, "Site": self._config.site}))
        return {"waiting": waiting, "idle": counts.idle, "busy": counts.busy}

    async def package_list(self, request: Request) -> Any:
        caller(request).require("vobox", "agent", "job")
        return await self._uplink.central.call("GET", "/v1/packages", params=dict(request.query_params))

    async def packages_wanted(self, request: Request) -> Any:
        """What waiting jobs want at this site, and no resource here has yet."""
        caller(request).require("vobox")
        return await self._uplink.central.get("/v1/jobs/packages")

    async def package(self, request: Request) -> Any:
        caller(request).require("agent", "job", "vobox")
        name, version = (quote(request.path_params[part], safe="") for part in ("name", "version"))
        return await self._packman.get(f"/v1/packages/{name}/{version}", timeout=60, token=bearer(request))

    async def catalogue(self, request: Request) -> Any:
        """Passed on with the caller's own token (a job's, or the storage element's): central decides what it may."""
        caller(request).require("job", "vobox")
        path = f"/v1/catalogue/{request.path_params['call']}"
        if request.method == "GET":
            asked = dict(request.query_params)
            return await self._uplink.central.call("GET", path, params=asked, token=bearer(request))
        return await self._uplink.central.post(path, await body(request), token=bearer(request))

    def _here(self, who: Caller) -> Caller:
        """The VO's tokens hold everywhere; an agent or job of another site has no business here."""
        if who.claims.get("site") != self._config.site:
            raise NotAllowed(f"{who.subject} is of site {who.claims.get('site')}, not of {self._config.site}")
        return who

    def _ad(self, given: dict[str, Any], who: Caller) -> dict[str, Any]:
        """What the token proves and the site knows counts more than what the agent says."""
        ad = {**given, "Site": self._config.site, "CE": _ce(who), "VOBox": self._config.machine}
        ad["Type"] = FTD if _ce(who) == FTD else "machine"  # an agent must not get at others' files
        ad["Name"] = f"{given.get('Host') or '?'}/{who.name}"
        return self._near(ad)

    def _near(self, ad: dict[str, Any]) -> dict[str, Any]:
        """An ad that names no storage element is near those of the site."""
        return ad if ad.get("CloseSE") else {**ad, "CloseSE": list(self._config.close_se)}

    async def _give_back(self, keys: list[Key]) -> None:
        why = "PREEMPTED: the agent was gone before it heard of the job"
        self._log.info("agent gone: tasks wait again", tasks=keys)
        await self._uplink.report([Report(task, attempt, WAITING, why) for task, attempt in keys])
        for key in keys:
            self._registry.reported(key, WAITING, self._clock.monotonic())


def _ce(who: Caller) -> str:
    return str(who.claims.get("ce") or "")


def _own(who: Caller, key: Key) -> None:
    if (who.claims.get("task"), who.claims.get("attempt")) != key:
        raise NotAllowed(f"{who.subject} may speak for its own attempt only, not for {key}")
