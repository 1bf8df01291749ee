"""What types cannot say: references, cycles, numbers that contradict each other. Pure.

Works on the file's plain data with defaults filled in, not on the models: a wrong type in one place
must not hide a dangling reference in another. Whatever has a wrong type is left to the models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.site import budget, cloud, farm, order
from orchestrator.site.problem import Path, Problem, choose

_ROLES = ("central", "vobox", "worker")


def check(data: Mapping[str, Any]) -> list[Problem]:
    """All contradictions in a site's plain data."""
    spec = _Spec(data)
    return [
        problem
        for judge in (_references, _cycles, _roles, _sizes, _clouds, _hosts, _ranges, _elements, _budgets)
        for problem in judge(spec)
    ]


class _Spec:
    """The parts of the data that have the right shape."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.groups = _section(data, "groups")
        self.providers = _section(data, "providers")
        self.elements = _section(data, "computing_elements")
        self.storage = _section(data, "storage_elements")
        self.repositories = _section(_mapping(data.get("software")), "repositories")
        self.roles = {name: str(group.get("role")) for name, group in self.groups.items()}
        self.needs = {name: _texts(group.get("needs")) for name, group in self.groups.items()}
        unread = len(_mapping(data.get("groups"))) - len(self.groups)
        self.unsure = unread > 0 or not set(self.roles.values()) <= set(_ROLES)
        """True when some group or role is unreadable: it may be the one that seems to be missing."""

    def of(self, role: str) -> list[str]:
        return [name for name, found in self.roles.items() if found == role]

    def limits(self, name: str) -> tuple[int, int]:
        group = self.groups[name]
        low, high, count = (_number(group.get(key)) for key in ("min", "max", "count"))
        if count is not None or (low is None and high is None):
            return (1, 1) if count is None else (count, count)
        return low or 0, max(low or 0, high or 0)

    def kind(self, group: str) -> str | None:
        found = _mapping(self.providers.get(str(self.groups[group].get("provider", "local")))).get("kind")
        return found if isinstance(found, str) else None


def _references(spec: _Spec) -> Iterator[Problem]:
    groups = _names(spec.data, "groups")
    for name, group in spec.groups.items():
        for n, need in enumerate(_list(group.get("needs"))):
            if isinstance(need, str) and need not in groups:
                yield _dangling(("groups", name, "needs", n), need, groups, "group")
        provider = group.get("provider", "local")
        if isinstance(provider, str) and provider not in _names(spec.data, "providers"):
            yield _dangling(
                ("groups", name, "provider"), provider, _names(spec.data, "providers"), "provider"
            )
        for n, other in enumerate(_list(group.get("fallback"))):
            if isinstance(other, str) and other not in _names(spec.data, "providers"):
                known = _names(spec.data, "providers")
                yield _dangling(("groups", name, "fallback", n), other, known, "provider")
    for path, owner, key in (
        *((("computing_elements", name), ce, "vobox") for name, ce in spec.elements.items()),
        *((("storage_elements", name), se, "vobox") for name, se in spec.storage.items()),
        *((("software", "repositories", fqrn), repo, "server") for fqrn, repo in spec.repositories.items()),
    ):
        vobox = owner.get(key)
        if not isinstance(vobox, str) or (
            vobox in groups and spec.roles.get(vobox) not in ("central", "worker")
        ):
            continue
        if vobox in groups:
            yield Problem(
                (*path, key),
                f"group {vobox!r} has the role {spec.roles[vobox]}, not vobox",
                choose(vobox, spec.of("vobox"), "VO-box group"),
            )
        else:
            yield _dangling((*path, key), vobox, spec.of("vobox"), "VO-box group")
    for name, ce in spec.elements.items():
        for n, se in enumerate(_list(ce.get("close_se"))):
            if isinstance(se, str) and se not in _names(spec.data, "storage_elements"):
                known = _names(spec.data, "storage_elements")
                yield _dangling(("computing_elements", name, "close_se", n), se, known, "storage element")


def _cycles(spec: _Spec) -> Iterator[Problem]:
    for (group, need), around in order.cycles(spec.roles, spec.needs):
        yield Problem(
            ("groups", group, "needs", _list(spec.groups[group].get("needs")).index(need)),
            f"these groups wait for each other: {' needs '.join(around)}",
            f"remove {need!r} here (a VO box always needs central, a worker its VO box)",
        )


def _roles(spec: _Spec) -> Iterator[Problem]:
    if not spec.unsure and spec.groups:
        if not spec.of("central"):
            yield Problem(
                ("groups",), "no group has the role central", "add `central: {role: central}`", key=True
            )
        for name in spec.of("worker") if not spec.of("vobox") else ():
            yield Problem(
                ("groups", name, "role"),
                f"workers {name!r} have no VO box to ask for work",
                "add `vobox: {role: vobox, needs: [central]}`",
            )
    for name in spec.of("central")[1:]:
        yield Problem(
            ("groups", name, "role"),
            f"a site has one central group, and {spec.of('central')[0]!r} is it",
            "give this group another role, or remove it",
        )
    for name in (*spec.of("central"), *spec.of("vobox")):
        group, role = spec.groups[name], {"central": "central", "vobox": "a VO box"}[spec.roles[name]]
        for key in ("min", "max"):
            if group.get(key) is not None:
                yield Problem(
                    ("groups", name, key), f"{role} is one machine and is not scaled", "remove it", key=True
                )
        if _number(group.get("count")) not in (None, 1):
            hint = "write a group of its own for each VO box" if role != "central" else "write `count: 1`"
            yield Problem(("groups", name, "count"), f"{role} is one machine, not {group['count']}", hint)
        if "slots" in group:
            hint = "remove it; agents run on workers and in the batch slots of computing elements"
            yield Problem(("groups", name, "slots"), "only workers have slots for agents", hint, key=True)


def _sizes(spec: _Spec) -> Iterator[Problem]:
    for name, group in spec.groups.items():
        low, high = _number(group.get("min")), _number(group.get("max"))
        for key in ("min", "max"):
            if group.get(key) is not None and group.get("count") is not None:
                yield Problem(
                    ("groups", name, key),
                    f"{key} beside count",
                    "give either count, or min and max",
                    key=True,
                )
        if low is not None and high is not None and low > high:
            yield Problem(
                ("groups", name, "min"), f"min {low} is more than max {high}", "lower min or raise max"
            )
        if low is not None and group.get("max") is None and group.get("count") is None:
            yield Problem(
                ("groups", name, "min"), "min without max", "add max, or write count instead", key=True
            )
        for key in ("image", "offering"):
            elsewhere = _texts(group.get("fallback"))  # may need what the first provider has no use for
            if group.get(key) is not None and spec.kind(name) in ("local", "ssh") and not elsewhere:
                yield Problem(
                    ("groups", name, key),
                    f"providers of kind {spec.kind(name)} have no {key}s to choose from",
                    f"remove {key}",
                    key=True,
                )


def _clouds(spec: _Spec) -> Iterator[Problem]:
    yield from cloud.problems(spec.providers, spec.groups)


def _budgets(spec: _Spec) -> Iterator[Problem]:
    """What the fewest machines that the groups want take at least: a size that is not told has one core."""
    groups = [
        budget.Wanted(
            spec.limits(name)[0],
            [str(group.get("provider", "local")), *_texts(group.get("fallback"))],
            str(group.get("offering", "")),
        )
        for name, group in spec.groups.items()
    ]
    yield from budget.problems(_mapping(spec.data.get("budgets")), groups, spec.providers)


def _ranges(spec: _Spec) -> Iterator[Problem]:
    """Of addresses and hypervisors."""
    yield from farm.problems(
        spec.providers, spec.groups, {name: spec.limits(name)[1] for name in spec.groups}
    )


def _hosts(spec: _Spec) -> Iterator[Problem]:
    for name, provider in spec.providers.items():
        hosts = provider.get("hosts")
        if provider.get("kind") != "ssh" or not isinstance(hosts, list):
            continue
        yield from _twice(name, hosts)
        left, users = len(hosts), []
        for group, settings in spec.groups.items():
            if settings.get("provider", "local") != name:
                continue
            wanted = spec.limits(group)[1]
            users.append(group)
            if wanted > left:
                who = f"group {group}" if len(users) == 1 else f"groups {', '.join(users)} together"
                keys = [key for key in ("count", "max") if settings.get(key) is not None]
                yield Problem(
                    ("groups", group, *(keys[:1] or ["provider"])),
                    f"{who} may need {len(hosts) - left + wanted} hosts, provider {name} has {len(hosts)}",
                    f"add hosts to providers.{name}.hosts, or want fewer machines",
                )
                break
            left -= wanted


def _twice(provider: str, hosts: Sequence[Any]) -> Iterator[Problem]:
    names: dict[str, int] = {}
    places: dict[tuple[str, int], int] = {}
    for n, host in enumerate(hosts):
        name, address, port = (_mapping(host).get(key) for key in ("name", "address", "port"))
        path: Path = ("providers", provider, "hosts", n)
        if isinstance(name, str) and names.setdefault(name, n) != n:
            yield Problem(
                (*path, "name"), f"host name {name!r} is given twice", "give each host its own name"
            )
        if isinstance(address, str) and (place := (address, _number(port) or 22)) not in places:
            places[place] = n
        elif isinstance(address, str):
            other = _mapping(hosts[places[place]]).get("name")
            yield Problem(
                (*path, "address"), f"the same address and port as host {other!r}", "name each host once"
            )


def _elements(spec: _Spec) -> Iterator[Problem]:
    for name, ce in spec.elements.items():
        idle, most = _number(ce.get("min_idle")) or 0, _number(ce.get("max_agents"))
        slots = _number(_mapping(ce.get("batch")).get("slots")) or 1
        path = ("computing_elements", name, "min_idle")
        if most is not None and idle > most:
            yield Problem(
                path, f"min_idle {idle} is more than max_agents {most}", "lower min_idle or raise max_agents"
            )
        elif idle > slots:
            yield Problem(
                path, f"min_idle {idle} is more than the batch's {slots} slots", "lower it, or add slots"
            )


def _dangling(path: Path, name: str, known: Sequence[str], what: str) -> Problem:
    return Problem(path, f"there is no {what} {name!r}", choose(name, known, what))


def _names(data: Mapping[str, Any], section: str) -> list[str]:
    return [name for name in _mapping(data.get(section)) if isinstance(name, str)]


def _section(data: Mapping[str, Any], name: str) -> dict[str, Mapping[str, Any]]:
    return {key: value for key, value in _mapping(data.get(name)).items() if isinstance(value, Mapping)}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: Any) -> list[str]:
    return [item for item in _list(value) if isinstance(item, str)]


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
