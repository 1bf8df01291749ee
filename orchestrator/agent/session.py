"""The agent's line to its site's ClusterMonitor: session token, claims, reports, heartbeats, commands."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from orchestrator.agent.model import AgentConfig
from orchestrator.errors import GridError, NotAllowed, UserError
from orchestrator.runtime.clock import Clock, SystemClock
from orchestrator.runtime.files import read_json, write_json
from orchestrator.runtime.http import Api
from orchestrator.software.model import Package, parse_spelling
from orchestrator.tasks.model import Beat, Claimed, Command, Json, Report, ReportResult


class Session:
    """An agent known to the grid. ``api`` is to the ClusterMonitor and uses this session's token from now on."""

    def __init__(self, api: Api, config: AgentConfig, host: str, clock: Clock | None = None) -> None:
        self.api = api
        self._config = config
        self.host = host
        self._clock = clock or SystemClock()
        self._held = self._kept_proof = ""
        self._renew_at = self._expires = 0.0
        self._lock = asyncio.Lock()
        api.token = self.token

    async def token(self) -> str:
        """A session token that holds; redeemed first, renewed when two thirds of its life are over."""
        async with self._lock:
            now = self._clock.now()
            if not self._held:
                self._resume(now)
            if not self._held:
                body = {"host": self.host, "proof": self._proof()}
                self._keep(await self.api.post("/v1/redeem", body, token=self._enrolment()), now)
            elif now >= self._renew_at:
                try:
                    self._keep(await self.api.post("/v1/renew", {}, token=self._held), now)
                except NotAllowed:
                    raise
                except GridError:
                    if now >= self._expires:  # else it still holds: try again with the next call
                        raise
            return self._held

    def forget(self) -> None:
        """The kept session is gone: the next agent here begins with its enrolment token."""
        if self._config.session_file:
            Path(self._config.session_file).unlink(missing_ok=True)

    async def claim(self, ad: Json, *, wait: float, claim_id: str, count: int = 1) -> Claimed:
        """At most ``count`` tasks; the same ``claim_id`` again gives the same ones."""
        body = {"ad": ad, "count": count, "wait": wait, "claim": claim_id}
        return Claimed.from_json(await self.api.post("/v1/claim", body, timeout=wait + 10))

    async def report(self, token: str, reports: Sequence[Report]) -> list[ReportResult]:
        """One verdict for each report of the job that ``token`` is for."""
        body = {"reports": [report.to_json() for report in reports]}
        answer = await self.api.post("/v1/reports", body, token=token)
        return [ReportResult.from_json(each) for each in answer["results"]]

    async def beat(self, token: str, beat: Beat) -> list[Command]:
        """The job lives; returns what it is told to do."""
        body = {"beats": [beat.to_json()], "agent": await self.token()}
        answer = await self.api.post("/v1/beats", body, token=token)
        return [Command.from_json(each) for each in answer["commands"]]

    async def commands(self, wait: float) -> list[Command]:
        """Commands for this agent's jobs; the same one comes again until it is answered."""
        answer = await self.api.get("/v1/commands", wait=wait, timeout=wait + 10)
        return [Command.from_json(each) for each in answer["commands"]]

    async def answer(self, command: Command, value: Json) -> None:
        """The command is done. Commands that the ClusterMonitor made itself (id 0) need no answer."""
        if command.id:
            await self.api.post(f"/v1/commands/{command.id}", {"answer": value})

    async def package(self, spelling: str) -> tuple[Package, list[str]]:
        """The package entry of ``NAME::VERSION`` for this site, and URLs of its archive."""
        name = parse_spelling(spelling)
        found = await self.api.get(f"/v1/packages/{quote(name.name)}/{quote(name.version)}", timeout=60)
        return Package.from_json(found), [str(url) for url in found.get("urls", ())]

    def _enrolment(self) -> str:
        if self._config.token:
            return self._config.token
        if not self._config.token_file:
            raise UserError("the agent has neither session nor enrolment token; start it with a new one")
        try:
            return Path(self._config.token_file).read_text().strip()
        except OSError as error:
            raise UserError(f"the enrolment token {self._config.token_file}: {error.strerror}") from error

    def _proof(self) -> str:
        """This agent's own secret, kept before its first use: a redeem whose answer was lost is repeated with it."""
        if not self._kept_proof:
            self._kept_proof = secrets.token_urlsafe(16)
            if self._config.session_file:
                write_json(Path(self._config.session_file), {"proof": self._kept_proof}, 0o600)
        return self._kept_proof

    def _keep(self, answer: Any, now: float) -> None:
        lifetime = float(answer["expires_in"])
        self._held, self._expires = str(answer["token"]), now + lifetime
        self._renew_at = now + lifetime * 2 / 3
        if self._config.session_file:
            kept = {"token": self._held, "renew_at": self._renew_at, "expires": self._expires}
            write_json(Path(self._config.session_file), kept, 0o600)

    def _resume(self, now: float) -> None:
        """Go on where an agent that was here before stopped, if its session still holds."""
        if not self._config.session_file:
            return
        try:
            kept = read_json(Path(self._config.session_file))
            self._kept_proof = str(kept.get("proof", ""))
            if now < float(kept["expires"]):
                self._held, self._expires = str(kept["token"]), float(kept["expires"])
                self._renew_at = float(kept["renew_at"])
        except (OSError, json.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError):
            self._held = ""
