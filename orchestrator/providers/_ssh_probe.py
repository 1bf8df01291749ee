"""What one look at a host (remote/probe.sh) printed, as data. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.providers._record import Applied, Record, parse_applied, parse_record


@dataclass(frozen=True)
class Probe:
    """One host, as it was when it answered. ``sums``: managed file → SHA-256, names as in applied.json."""

    record: Record | None
    facts: Mapping[str, str]
    applied: Applied | None
    sums: Mapping[str, str]


def parse(text: str, root: str) -> Probe:
    """The probe in what the script printed; a damaged part counts as missing."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("=== "):
            lines = sections.setdefault(line[4:], [])
        else:
            lines.append(line)
    facts = dict(line.split(" ", 1) for line in sections.get("facts", ()) if " " in line)
    sums = {}
    for line in sections.get("sums", ()):
        sha, _, name = line.partition("  ")
        sums[name.removeprefix(f"{root}/")] = sha
    return Probe(
        record=parse_record("\n".join(sections.get("record", ()))),
        facts=facts,
        applied=parse_applied("\n".join(sections.get("applied", ()))),
        sums=sums,
    )
