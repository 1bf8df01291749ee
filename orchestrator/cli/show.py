"""Plans, status and explanations as text for people: aligned columns, the same in a pipe."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator, Mapping, Sequence

from orchestrator.cli.live import waiting_for
from orchestrator.deploy.explain import Status, Why
from orchestrator.deploy.holder import told
from orchestrator.deploy.model import Action, Intent
from orchestrator.deploy.order import predicted
from orchestrator.deploy.plan import Change, Plan
from orchestrator.deploy.signature import signature
from orchestrator.deploy.tidy import Claim
from orchestrator.providers.base import Machine
from orchestrator.units import format_duration

_SIGNS = {
    Action.CREATE: "+", Action.ADOPT: "=", Action.CONFIGURE: "~", Action.REPLACE: "±", Action.DESTROY: "-",
    Action.DRAIN: "↓", Action.UNDRAIN: "↑", Action.VERIFY: "?", Action.NONE: " ",
}  # fmt: skip


_FEW = 10
_MANY = 40  # changes; above that those alike share a line


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as lines whose columns stand below each other; the last column may be any long."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def plan(made: Plan) -> Iterator[str]:
    """Each change with its reason (many alike in one line), and the sum."""
    if not made.changes:
        yield f"site {made.site}: nothing to do"
        yield from made.notes
        return
    alike: dict[tuple[object, ...], list[Change]] = {}
    for change in made.changes:
        key = (change.action, change.group, change.reason, change.fields)
        alike.setdefault(key if len(made.changes) > _MANY else (change.id,), []).append(change)
    rows = [
        (_SIGNS[some[0].action], str(some[0].action), _names(some), some[0].reason, waiting_for(some[0]))
        for some in alike.values()
    ]
    for some, line in zip(alike.values(), columns(rows), strict=True):
        yield f"  {line}"
        for field in some[0].fields:
            yield f"        {field.name}: {field.old or 'none'} → {field.new or 'none'} ({field.how})"
        jobs = sorted({task for change in some for task in change.jobs})
        if jobs and some[0].action is not Action.DRAIN:
            yield f"        {len(jobs)} running jobs finish first: {', '.join(map(str, jobs[:10]))}"
    yield from made.notes
    lost = made.destroys_data
    if lost:
        yield f"destroys the data of: {', '.join(change.object for change in lost)}"
    cost = f", {made.cost:+.2f} per hour to {made.per_hour:.2f}" if made.cost else ""
    yield f"site {made.site}: {len(made.work)} changes, about {format_duration(predicted(made.work))}{cost}"


def _error(alike: Sequence[Intent], text: str) -> str:
    return alike[0].error if len(alike) == 1 else text


def _names(alike: Sequence[Change] | Sequence[Intent]) -> str:
    first, last = alike[0].object, alike[-1].object
    return first if len(alike) == 1 else f"{first} … {last} ({len(alike)})"


def differences(files: Mapping[str, Mapping[str, tuple[str, str]]]) -> Iterator[str]:
    """Unified diffs of files that configuring would change: machine → path → (as it is, as it will be)."""
    for machine, changed in files.items():
        for path, (old, new) in changed.items():
            names = (f"{machine}:{path}", f"{machine}:{path} (wanted)")
            yield from (
                line.rstrip("\n")
                for line in difflib.unified_diff(old.splitlines(True), new.splitlines(True), *names)
            )


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
    if story.machine is None and story.record is None and story.decisions:
        last = story.decisions[0]
        if last.object == story.name and last.group != story.name:
            word = "is gone" if last.action is Action.DESTROY else "does not exist"
            yield f"{story.name} {word}: {last.reason}"
    alike: dict[tuple[Action, str], list[Change]] = {}
    for change in story.pending:
        alike.setdefault((change.action, change.reason), []).append(change)
    for (action, reason), some in list(alike.items())[:_FEW]:
        yield f"next: {action} {_names(some)}, because {reason}"
    if len(alike) > _FEW:
        yield f"next: … and {len(alike) - _FEW} kinds more; see `orchestrate plan`"
    if story.decisions:
        yield "decided:"
        rows = [(_at(d.at), str(d.action), d.object, d.reason) for d in story.decisions]
        yield from (f"  {line}" for line in columns(rows))
    if story.intents:
        yield "done:"
        done: dict[tuple[Action, str, str], list[Intent]] = {}
        for intent in story.intents:
            text = signature(intent.error, (intent.object,)) if intent.error else ""
            done.setdefault((intent.action, str(intent.state), text), []).append(intent)
        rows = [
            (_at(some[0].opened), str(action), _names(some[::-1]), f"{state} {_error(some, text)}".strip())
            for (action, state, text), some in done.items()
        ]
        yield from (f"  {line}" for line in columns(rows))
    yield from (f"evidence: {file}" for file in story.evidence)
    if not story.known:
        yield f"{story.name}: nothing was ever done"


def claims(site: str, providers: Sequence[str], found: Sequence[Claim]) -> Iterator[str]:
    """Every object of ours with the reason why it is there, what does not belong marked; and the verdict."""
    if found:
        rows = [("", "PROVIDER", "KIND", "OBJECT", "WHY")]
        rows += [(" " if c.belongs else "✗", c.provider, c.object.kind, c.object.id, c.why) for c in found]
        yield from columns(rows)
    left = sum(not claim.belongs for claim in found)
    where = f"{len(found)} objects at {', '.join(providers)}"
    verdict = f"{left} do not belong to it; `orchestrate gc` removes them" if left else "nothing is left over"
    yield f"site {site}: {where}; {verdict}"


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
