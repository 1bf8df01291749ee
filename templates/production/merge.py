"""Add the histograms of a production's parts.

    pythia8-python merge.py OUT.json [IN.json ...]

Without inputs it takes every */histograms.json below the working directory: that is how a merge job
finds its parts. All sums are integers, so neither order nor grouping of the parts matters. A seed that
comes twice means that one part was counted twice: nothing is written then, and the exit code is 1.
"""

from __future__ import annotations

import json
import sys
from itertools import zip_longest
from pathlib import Path
from typing import Any

FORMAT = "orchestrate-pythia-1"
SAME = ("format", "generator", "process", "selection", "pt_edges")
SUMS = ("events", "sum_n", "sum_n2", "sum_pt_kev", "pt_overflow")


class Refused(Exception):
    """The parts cannot be added."""


def merge(parts: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """The sum of ``parts`` (name for messages, histograms), in the same form; Refused when it has none."""
    if not parts:
        raise Refused("no part given, and no */histograms.json here")
    first_name, first = parts[0]
    origin: dict[int, str] = {}
    for name, part in parts:
        for key in SAME:
            if part.get(key) != first.get(key) or part.get("format") != FORMAT:
                raise Refused(f"{name}: {key} is {part.get(key)!r}, but {first_name} has {first.get(key)!r}")
        for seed in part["seeds"]:
            if seed in origin:
                raise Refused(f"seed {seed} is in {origin[seed]} and in {name}: a part would count twice")
            origin[seed] = name
        if sum(part["multiplicity"]) != part["events"]:
            raise Refused(
                f"{name}: {part['events']} events, but {sum(part['multiplicity'])} in the histogram"
            )
    content = [part for _, part in parts]
    return {
        **{key: first[key] for key in SAME},
        **{key: sum(part[key] for part in content) for key in SUMS},
        "seeds": sorted(origin),
        "multiplicity": _add([part["multiplicity"] for part in content]),
        "pt": _add([part["pt"] for part in content]),
    }


def _add(lists: list[list[int]]) -> list[int]:
    return [sum(column) for column in zip_longest(*lists, fillvalue=0)]


def main(arguments: list[str]) -> int:
    """Write the sum; exit code 2: wrong arguments; 1: the parts cannot be added."""
    if not arguments:
        print("usage: merge.py OUT.json [IN.json ...]", file=sys.stderr)
        return 2
    names = arguments[1:] or sorted(str(path) for path in Path().glob("*/histograms.json"))
    try:
        result = merge([(name, json.loads(Path(name).read_text())) for name in names])
    except (Refused, OSError, ValueError, KeyError) as error:
        print(f"merge: {error}", file=sys.stderr)
        return 1
    Path(arguments[0]).write_text(json.dumps(result, sort_keys=True) + "\n")
    print(f"{len(names)} parts, {result['events']} events, seeds {result['seeds']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
