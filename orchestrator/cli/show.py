"""Plans, status and explanations as text for people: aligned columns, the same in a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from orchestrator.cli.live import waiting_for
from orchestrator.deploy.explain import Status, Why
from orchestrator.deploy.holder import told
from orchestrator.deploy.model import Action
from orchestrator.deploy.order import predicted
from orchestrator.deploy.plan import Plan
from orchestrator.providers.base import Machine
from orchestrator.units import format_duration

_SIGNS = {
    Action.CREATE: "+", Action.ADOPT: "=", Action.CONFIGURE: "~", Action.REPLACE: "±", Action.DESTROY: "-",
    Action.DRAIN: "↓", Action.VERIFY: "?", Action.NONE: " ",
}  # fmt: skip


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as lines whose columns stand below each other; the last column may be any long."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def plan(made: Plan) -> Iterator[str]:
    """Each change with its reason, and the sum."""
    if not made.changes:
        yield f"site {made.site}: nothing to do"
        yield from made.notes
        return
    rows = [
        (_SIGNS[change.action], str(change.action), change.object, change.reason, waiting_for(change))
        for change in made.changes
    ]
    for change, line in zip(made.changes, columns(rows), strict=True):
        yield f"  {line}"
        for field in change.fields:
            yield f"        {field.name}: {field.old or 'none'} → {field.new or 'none'}"
        if change.jobs:
            yield f"        ends {len(change.jobs)} running jobs: {', '.join(map(str, change.jobs[:10]))}"
    yield from made.notes
    lost = made.destroys_data
    if lost:
        yield f"destroys the data of: {', '.join(change.object for change in lost)}"
    yield f"site {made.site}: {len(made.work)} changes, about {format_duration(predicted(made.work))}"


def status(now: Status) -> Iterator[str]:
    """Groups with their counts, machines with their state, and what is left to do."""
    there = [row.group for row in now.machines if row.state != "missing"]
    rows = [("GROUP", "ROLE", "WANTED", "EXISTS")]
    rows += [
        (name, now.roles[name], str(count), str(there.count(name))) for name, count in now.wanted.items()
    ]
    yield from columns(rows)
    yield ""
    machines = [("MACHINE", "PROVIDER", "STATE", "ADDRESS", "HEALTH")]
    machines += [(m.name, m.provider, m.state, m.address or "-", m.health or "-") for m in now.machines]
    yield from columns(machines)
    yield ""
    if now.lease is not None:
        holder, since, _ = now.lease
        yield f"{told(holder)} works on it since {_at(since)}"
    if now.ok:
        yield f"site {now.site}: all is as it should be"
    else:
        yield f"site {now.site}: {len(now.pending)} changes to be made; see `orchestrate plan`"


def why(story: Why) -> Iterator[str]:
    """What is, what will be, what was decided and done; newest first."""
    if story.machine is not None:
        health = "" if story.health is None else ", works" if story.health.ok else f", {story.health.what}"
        yield f"{story.name} is {story.machine.state} at {story.machine.provider}{health}"
    if story.record is not None:
        yield f"{story.name} is {story.record.stage} since {_at(story.record.at)} (by the ledger)"
    for change in story.pending:
        yield f"next: {change.action} {change.object}, because {change.reason}"
    if story.decisions:
        yield "decided:"
        rows = [(_at(d.at), str(d.action), d.object, d.reason) for d in story.decisions]
        yield from (f"  {line}" for line in columns(rows))
    if story.intents:
        yield "done:"
        rows = [
            (_at(i.opened), str(i.action), i.object, f"{i.state} {i.error}".strip()) for i in story.intents
        ]
        yield from (f"  {line}" for line in columns(rows))
    if not story.known:
        yield f"{story.name}: nothing was ever done"


def machines(listed: Sequence[Machine]) -> Iterator[str]:
    """One line a machine."""
    rows = [("MACHINE", "GROUP", "ROLE", "PROVIDER", "STATE", "ADDRESS")]
    rows += [(m.name, m.group, m.role, m.provider, str(m.state), m.address or "-") for m in listed]
    yield from columns(rows)


def inventory(listed: Sequence[Machine]) -> dict[str, object]:
    """Ansible's dynamic inventory (``--list``): a group for each group and each role."""
    groups: dict[str, list[str]] = {}
    for machine in listed:
        for group in dict.fromkeys((machine.group, machine.role)):
            groups.setdefault(group.replace("-", "_"), []).append(machine.name)
    variables = {
        m.name: dict(m.connection) | {"orchestrate_root": m.root, "orchestrate_address": m.address}
        for m in listed
    }
    return {"_meta": {"hostvars": variables}, **{name: {"hosts": hosts} for name, hosts in groups.items()}}


def _at(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
