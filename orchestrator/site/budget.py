"""Whether the smallest site that a spec allows is within its budgets. Pure; on plain data, like ``check``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.site.problem import Problem

_SLACK = 1e-9  # sums of prices are not exact


@dataclass(frozen=True)
class Wanted:
    """A group: the fewest machines it wants, the providers that may make them, and their size."""

    least: int
    providers: Sequence[str]
    offering: str


def problems(
    budgets: Mapping[str, Any], groups: Sequence[Wanted], providers: Mapping[str, Mapping[str, Any]]
) -> Iterator[Problem]:
    """A problem for each budget that is too small for the cheapest choice among the prices in the spec."""
    machines = sum(group.least for group in groups)
    cores = sum(group.least * _least(group, providers, "cores", 1.0) for group in groups)
    money = sum(group.least * _least(group, providers, "price", 0.0) for group in groups)
    for key, least, told, unit in (
        ("machines", float(machines), str(machines), "machines"),
        ("cores", cores, f"{cores:.0f}", "cores"),
        ("money_per_hour", money, f"{money:.2f}", "per hour"),
    ):
        most = _number(budgets.get(key))
        if most is not None and least > most + _SLACK and most >= 0:
            yield Problem(
                ("budgets", key), f"the groups want at least {told} {unit}, more than {most:g}",
                f"allow {told}, or make the groups smaller",
            )  # fmt: skip


def _least(group: Wanted, providers: Mapping[str, Mapping[str, Any]], key: str, default: float) -> float:
    return min(_size(providers.get(name, {}), group.offering, key, default) for name in group.providers)


def _size(provider: Mapping[str, Any], offering: str, key: str, default: float) -> float:
    offerings = provider.get("offerings")
    size = offerings.get(offering) if isinstance(offerings, Mapping) else None
    found = _number(size.get(key)) if isinstance(size, Mapping) else None
    return default if found is None else found


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
