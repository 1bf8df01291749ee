"""What would happen: a whole site on simulated clouds, up and down, with what went wrong and what it cost."""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.deploy import commands
from orchestrator.deploy.context import Context
from orchestrator.deploy.events import Sink
from orchestrator.deploy.ledger import Ledger
from orchestrator.deploy.report import Ended, Report
from orchestrator.errors import UserError
from orchestrator.providers.sim.client import SimProvider
from orchestrator.site.providers import SimProvider as SimSettings
from orchestrator.site.schema import Role, Site
from orchestrator.units import Seconds, format_duration, format_size
from orchestrator.wiring.deploy import made
from orchestrator.wiring.simulated import clouds_of

TRIES = 5  # runs of `up` or `down` until nothing fails any more


@dataclass(frozen=True)
class Effort:
    """What one verb cost this process, and how long it took in the simulated world (all in seconds)."""

    virtual: float
    wall: float
    cpu: float


@dataclass(frozen=True)
class Rehearsal:
    """What happened. Times to ready are virtual seconds since `up` began."""

    site: str
    wanted: int
    ready: int
    left: int  # machines that exist after `down`
    p50: float
    p99: float
    ups: int  # runs of `up` until nothing failed
    exit_code: int  # of the last `up`
    up: Effort
    again: Effort  # an `up` of the site as it should be
    one_more: Effort  # `scale` of the largest group of workers by one
    one_more_calls: int  # that create or destroy something, while it did
    down: Effort
    memory: int  # bytes, the most that this process ever had
    spent: float  # money until the site was ready
    per_hour: float  # money per hour from then on
    counted: Mapping[str, float] = field(default_factory=dict)  # by the clouds: faults, refusals, calls
    failed: Mapping[str, int] = field(default_factory=dict)  # changes that `up` told as failed, by action
    over: tuple[str, ...] = ()  # budgets and quotas that were hit

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @property
    def ok(self) -> bool:
        """Everything became ready, and nothing was left."""
        return self.ready == self.wanted and self.left == 0 and self.exit_code == 0


def simulated(site: Site, machines: int | None, faults: float | None, seed: int | None) -> Site:
    """``site`` with every provider replaced by a simulated cloud; those that are simulated keep their settings.

    ``machines`` in all: the worker groups grow or shrink in proportion. ``faults`` is the share of calls
    and the share of boots that go wrong, each split evenly over the kinds of fault.
    """
    changed: dict[str, Any] = {} if seed is None else {"seed": seed}
    if faults is not None:
        call, boot = faults / 2, faults / 4
        changed |= {
            "api_errors": call, "lost_replies": call, "duplicate_listing": faults,
            "failed_boot": boot, "slow_boot": boot, "broken_context": boot, "network_cut": boot,
            "eventual_list": Seconds(5.0) if faults else None,
        }  # fmt: skip
    providers = {
        name: (found if isinstance(found, SimSettings) else SimSettings(kind="sim")).model_copy(
            update=changed
        )
        for name, found in site.providers.items()
    }
    groups = dict(site.groups)
    if machines is not None:
        for name, count in shares(site, machines).items():
            groups[name] = groups[name].model_copy(update={"count": count, "min": None, "max": None})
    return site.model_copy(
        update={"providers": providers, "groups": groups, "ledger": None, "database": None}
    )


def shares(site: Site, machines: int) -> dict[str, int]:
    """Worker group → its machines, of ``machines`` in all. UserError when that cannot be."""
    workers = site.names(Role.WORKER)
    left = machines - sum(group.wanted for name, group in site.groups.items() if name not in workers)
    if not workers:
        raise UserError(f"site {site.site} has no group of workers that could grow; leave --machines away")
    if left < 0:
        raise UserError(
            f"site {site.site} cannot have {machines} machines: {machines - left} of them are no workers"
        )
    weights = {name: max(site.groups[name].wanted, site.groups[name].limits[1], 1) for name in workers}
    total, shared, counts = sum(weights.values()), 0, {}
    for name in workers[:-1]:
        counts[name] = left * weights[name] // total
        shared += counts[name]
    return {**counts, workers[-1]: left - shared}


def rehearse(site: Site, directory: Path, sink: Sink) -> Rehearsal:
    """``site`` (all simulated) was brought up, looked at once more and taken down in the empty ``directory``."""
    ledger = Ledger.of_file(directory / "ledger.db", site.site)
    ctx = made(site, directory, ledger, sink)
    try:
        return _rehearsed(ctx)
    finally:
        for cloud in clouds_of(ctx.providers).values():
            cloud.end()
        ledger.close()


def _rehearsed(ctx: Context) -> Rehearsal:
    begun = ctx.clock.now()
    reports: list[Report] = []

    def until_done(verb: Callable[[], Report]) -> list[Report]:
        """As an admin would: again, until it says that all is well."""
        told = []
        for _ in range(TRIES):
            told.append(verb())
            if told[-1].exit_code == 0 or _final(told[-1]) or ctx.stop.is_set():
                break
        return told

    up = _measured(ctx, lambda: reports.extend(until_done(lambda: commands.up(ctx))))
    clouds = [cloud for cloud in clouds_of(ctx.providers).values() if cloud.present() is not None]
    seen = [cloud.figures(begun) for cloud in clouds]
    again = _measured(ctx, lambda: commands.up(ctx))
    before = _changing(clouds)
    one_more = _measured(ctx, lambda: _one_more(ctx))
    calls = _changing(clouds) - before
    down = _measured(ctx, lambda: until_done(lambda: commands.down(ctx, keep_data=True)))
    after = [cloud.figures(begun) for cloud in clouds]
    ready = sorted(seconds for each in seen for seconds in each["ready"])
    counted = Counter[str]()
    for each in after:
        counted.update(each["tally"])
    return Rehearsal(
        site=ctx.site.site, wanted=sum(group.wanted for group in ctx.site.groups.values()), ready=len(ready),
        left=sum(each["machines"] for each in after), p50=_quantile(ready, 0.5), p99=_quantile(ready, 0.99),
        ups=len(reports), exit_code=reports[-1].exit_code, up=up, again=again,
        one_more=one_more, one_more_calls=calls, down=down, memory=_memory(),
        spent=sum(each["spent"] for each in seen), per_hour=sum(each["money_per_hour"] for each in seen),
        counted=dict(sorted(counted.items())), failed=_failed(reports), over=_over(reports[-1], counted),
    )  # fmt: skip


def _measured(ctx: Context, act: Callable[[], object]) -> Effort:
    virtual, wall, cpu = ctx.clock.monotonic(), time.monotonic(), time.process_time()
    act()
    return Effort(ctx.clock.monotonic() - virtual, time.monotonic() - wall, time.process_time() - cpu)


def _one_more(ctx: Context) -> None:
    """The largest group of workers that may grow has one machine more."""
    grows = [
        (group.wanted, name)
        for name, group in ctx.site.groups.items()
        if group.role is Role.WORKER and (group.max is None or group.wanted < group.max)
    ]
    if grows:
        many, name = max(grows)
        with suppress(UserError):  # a budget forbids it
            commands.scale(ctx, name, many + 1)


def _changing(clouds: Sequence[SimProvider]) -> int:
    """Calls that created or destroyed something, until now."""
    tallies = [cloud.figures()["tally"] for cloud in clouds]
    return sum(int(tally.get(f"calls {verb}", 0)) for tally in tallies for verb in ("create", "destroy"))


def _memory() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _quantile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def _failed(reports: list[Report]) -> dict[str, int]:
    return dict(Counter(str(r.change.action) for report in reports for r in report.of(Ended.FAILED)))


def _final(report: Report) -> bool:
    """Only a budget stands between the site and its spec: another run changes nothing."""
    over = (Ended.FAILED, Ended.SKIPPED, Ended.INTERRUPTED)
    return all(result.change.withheld for result in report.results if result.ended in over)


def _over(report: Report, counted: Mapping[str, float]) -> tuple[str, ...]:
    """What was hit: refusals of the clouds, and the site's own budgets, which are never gone over."""
    told = [
        f"{kind}: {counted[f'refused {kind}']:.0f} calls refused"
        for kind in ("quota", "shortage")
        if counted.get(f"refused {kind}")
    ]
    held = Counter((result.change.group, result.error) for result in report.withheld)
    told += [f"group {group}: {many} machines {why}" for (group, why), many in held.items()]
    return tuple(told)


def lines(seen: Rehearsal) -> list[str]:
    """For people, the verdict last."""
    faults = [
        f"{count:.0f} {name.removeprefix('fault ').removeprefix('refused ')}"
        for name, count in seen.counted.items()
        if name.startswith(("fault ", "refused ", "lost "))
    ]
    calls = sum(count for name, count in seen.counted.items() if name.startswith("calls "))
    told = [
        f"ready      {seen.ready} of {seen.wanted} machines after {seen.ups} `up`"
        f"{'s' if seen.ups > 1 else ''}, half of them within {format_duration(seen.p50)}, 99 % within {format_duration(seen.p99)}",
        f"up         {_told(seen.up)}",
        f"up again   {_told(seen.again)}",
        f"one more   {_told(seen.one_more)}, {seen.one_more_calls} calls that change something",
        f"down       {_told(seen.down)}; {seen.left} machines left",
        f"memory     {format_size(seen.memory)}",
        f"cost       {seen.spent:.2f} until ready, {seen.per_hour:.2f} per hour from then on",
        f"calls      {calls:.0f} to the clouds",
        f"went wrong {', '.join(faults) or 'nothing'}",
        f"limits     {'; '.join(seen.over) or 'no quota or budget was hit'}",
    ]
    verdict = "would come up, and go without a trace" if seen.ok else "would NOT become what its spec says"
    return [*told, f"site {seen.site} {verdict}"]


def _told(effort: Effort) -> str:
    return f"{format_duration(effort.virtual)} (here: {effort.wall:.2f} s, {effort.cpu:.2f} s of CPU)"
