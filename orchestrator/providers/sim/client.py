"""The port ``Provider`` on a simulated cloud. Its process and its state are in ``<state>/sim/<name>``."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.errors import GridError, PermanentError, TemporaryError
from orchestrator.providers.base import Machine, MachineSpec, MachineState, Offering, QuotaExceeded
from orchestrator.providers.sim.link import Link
from orchestrator.providers.sim.model import NEVER
from orchestrator.providers.sim.model import Settings as Plain
from orchestrator.providers.sim.store import facts_of
from orchestrator.runtime.clock import SystemClock, Timeline
from orchestrator.runtime.files import write_atomic
from orchestrator.runtime.virtual import VirtualClock
from orchestrator.site.schema import SimProvider as Settings
from orchestrator.site.schema import Site

_Row = list[Any]  # inside the class, ``list`` is a verb of the port


class SimProvider:
    """A client of one simulated cloud. ``clock`` may be set before the first call; its time is the cloud's."""

    def __init__(self, name: str, settings: Settings, site: Site, state_dir: Path) -> None:
        self.name = name
        self.clock: Timeline = SystemClock()
        self._site, self._settings = site, settings
        self.directory = state_dir.resolve() / "sim" / name
        self._link = Link(self.directory)
        self._known: dict[bytes, Machine] = {}  # line of the last list → what it says
        self._hello = threading.Lock()
        self._ahead: float | None = None  # of the cloud's time, seconds; None: not asked yet

    def list(self) -> Sequence[Machine]:
        """The cloud's machines; no cloud is started for a site that has none."""
        if not self._link.exists:
            return []
        known, rows = self._known, self._call("list")["rows"]
        self._known = {row: known.get(row) or self._machine(json.loads(row)) for row in rows}
        return [self._known[row] for row in rows]

    def create(self, spec: MachineSpec) -> Machine:
        """The machine boots. QuotaExceeded when the cloud is full."""
        facts = {
            "group": spec.group, "role": spec.role, "image": spec.image, "offering": spec.offering,
            "tags": {**spec.tags, "provider": self.name}, "avoid": list(spec.avoid),
        }  # fmt: skip
        if spec.user_data.startswith("{"):  # the context of a simulated agent; nothing else reads any
            write_atomic(self.directory / "contexts" / spec.name, spec.user_data, 0o600)
        return self._machine(self._call("create", name=spec.name, **facts)["machine"])

    def destroy(self, name: str, *, keep_data: bool = False) -> None:  # noqa: ARG002 - it has no data
        """The machine is gone; with the last one the cloud's process ends."""
        if not self._link.exists:
            return
        left = self._call("destroy", name=name)["left"]
        for file in (name, f"{name}.session"):
            (self.directory / "contexts" / file).unlink(missing_ok=True)
        if left == 0:
            self.end()

    def console(self, name: str) -> str:
        """What the machine would have printed while it booted."""
        return str(self._call("console", name=name)["console"]) if self._link.exists else ""

    def offerings(self) -> Mapping[str, Offering]:
        """As the site spec says."""
        return {name: Offering(size.cores, 0, size.price) for name, size in self._settings.offerings.items()}

    # --- beyond the port: for the adapters of a simulated site

    def ill(self) -> Mapping[str, str]:
        """Machine → what keeps it from its work, of those that do not do it."""
        found: Mapping[str, str] = self._call("health")["ill"] if self._link.exists else {}
        return found

    def configure(self, name: str, digest: str) -> None:
        """The machine carries that configuration."""
        self._call("configure", name=name, digest=digest)

    def figures(self, since: float = 0.0) -> Mapping[str, Any]:
        """What the cloud counted, and for each machine that works the seconds after ``since`` until it did."""
        return self._call("figures", since=since)

    def present(self) -> float | None:
        """The cloud's time, None when it was never used."""
        return float(self._call("hello")["now"]) if self._link.exists else None

    def end(self) -> None:
        """The cloud's process ends, if no machine is left."""
        try:
            self._call("end")
        except TemporaryError:
            return  # somebody else ended it
        finally:
            self._link.close()

    def _call(self, verb: str, **facts: Any) -> dict[str, Any]:
        with self._hello:
            if self._ahead is None:
                first = {
                    "verb": "hello",
                    "now": self.clock.now(),
                    "settings": facts_of(plain(self._settings)),
                }
                self._met(float(self._link.call(first)["now"]))
        answer = self._link.call({"verb": verb, "now": self.clock.now() + (self._ahead or 0.0), **facts})
        if answer["took"] > 0:
            self.clock.sleep(answer["took"])
        if answer.get("lost"):
            raise TemporaryError(f"{self.name} did not answer to {verb}", retry_in=1.0, provider=self.name)
        if "refused" in answer:
            raise self._error(verb, facts.get("name", ""), answer)
        return answer

    def _met(self, now: float) -> None:
        """A cloud that is ahead of a jumping clock pulls it along; a real clock keeps the distance."""
        if isinstance(self.clock, VirtualClock):
            self.clock.reach(now)
        self._ahead = max(0.0, now - self.clock.now())

    def _error(self, verb: str, name: str, answer: Mapping[str, Any]) -> GridError:
        text = f"{self.name} refuses to {verb} {name}: {answer['message']}".replace(" : ", ": ")
        match answer["refused"]:
            case "quota" | "shortage":
                return QuotaExceeded(text, retry_in=answer["retry_in"], provider=self.name)
            case "throttled" | "unavailable" | "unreachable":
                return TemporaryError(text, retry_in=answer["retry_in"], provider=self.name)
            case _:
                return PermanentError(text, machine=name, provider=self.name)

    def _machine(self, row: _Row) -> Machine:
        name, group, role, state, address, zone, applied, tags, notice = row
        more = {} if notice is None else {"spot-notice": f"{notice:.0f}"}
        return Machine(
            name, group, role, self.name, MachineState(state), address, f"/opt/orchestrate/{self._site.site}",
            {**tags, **more}, applied=applied, place=zone,
        )  # fmt: skip


def plain(settings: Settings) -> Plain:
    """The settings as the server reads them."""
    spot, throttle = settings.spot, settings.throttle

    def limit(value: int | None) -> float:
        return NEVER if value is None else value

    return replace(
        Plain(), seed=settings.seed,
        latency=(settings.latency.typical, settings.latency.slowest),
        boot=(settings.boot.typical, settings.boot.slowest),
        configure=(settings.configure.typical, settings.configure.slowest),
        job=(settings.job.typical, settings.job.slowest),
        machines=limit(settings.quota.machines), cores=limit(settings.quota.cores),
        rate=throttle.rate if throttle else NEVER, burst=throttle.burst if throttle else 10,
        offerings={name: (size.cores, size.price) for name, size in settings.offerings.items()},
        zones=dict(settings.zones), ip_reuse=settings.ip_reuse, api_errors=settings.api_errors,
        lost_replies=settings.lost_replies, duplicate_listing=settings.duplicate_listing,
        eventual_list=float(settings.eventual_list or 0.0), slow_boot=settings.slow_boot,
        failed_boot=settings.failed_boot, bad_images=settings.bad_images, broken_context=settings.broken_context,
        network_cut=settings.network_cut, cut_lasts=float(settings.cut_lasts),
        spot=(spot.share, float(spot.life), float(spot.notice)) if spot else Plain().spot,
    )  # fmt: skip
