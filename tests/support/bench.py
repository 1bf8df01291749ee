"""`make bench AREA=…`: every file of an area, one after the other, and one table of all figures at the end.

    python -m tests.support.bench AREA

An area is a file or a folder of tests/benchmarks. Their lines ``figure NAME VALUE UNIT [goal OP LIMIT]`` are shown as
they come. The exit code is 1 when a goal is missed or a file fails.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2] / "tests/benchmarks"
_FIGURE = re.compile(r"figure (\S+) (\S+) (.*?)(?: goal (<=|>=) (\S+))?$")


@dataclass(frozen=True)
class Figure:
    """One line. ``of_goal``: how many times the limit the value is."""

    name: str
    value: str
    unit: str
    operator: str
    limit: str

    @property
    def of_goal(self) -> str:
        return f"{float(self.value) / float(self.limit):.2f}" if self.limit and float(self.limit) else ""

    @property
    def met(self) -> str:
        if not self.limit:
            return ""
        value, limit = float(self.value), float(self.limit)
        return "yes" if (value <= limit if self.operator == "<=" else value >= limit) else "NO"


def read(line: str) -> Figure | None:
    """The figure that a line tells."""
    found = _FIGURE.match(line.rstrip())
    return Figure(*(each or "" for each in found.groups())) if found else None


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side; numbers stand to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    right = (False, False, True, False, True, True, False)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if side else cell.ljust(width)
            for cell, width, side in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    )


def files(area: str) -> list[Path]:
    """What belongs to an area, in order; empty when there is none of that name."""
    single = ROOT / f"{area}.py"
    return [single] if single.is_file() else sorted((ROOT / area).glob("*.py"))


def run(file: Path) -> tuple[list[Figure], bool]:
    """Its figures, and whether it ended well; what it says is passed on."""
    with subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = []
        for line in process.stdout:
            print(line, end="", flush=True)
            if (figure := read(line)) is not None:
                found.append(figure)
    return found, process.returncode == 0


def main(arguments: Sequence[str]) -> int:
    names = sorted(
        {each.stem for each in ROOT.glob("*.py")} | {each.parent.name for each in ROOT.glob("*/*.py")}
    )
    if len(arguments) != 1 or arguments[0] not in names:
        print(
            f"which one? make bench AREA={'|'.join(names)} (tests/benchmarks/README.md lists them)",
            file=sys.stderr,
        )
        return 2
    rows, good = [("file", "figure", "value", "unit", "goal", "of it", "met")], True
    begin = time.monotonic()
    for file in files(arguments[0]):
        print(f"-- {file.relative_to(ROOT)}", flush=True)
        figures, well = run(file)
        good = good and well
        rows += [
            (
                file.stem,
                each.name,
                each.value,
                each.unit,
                f"{each.operator} {each.limit}".strip(),
                each.of_goal,
                each.met,
            )
            for each in figures
        ]
        if not well and not any(each.met == "NO" for each in figures):
            rows.append((file.stem, "it failed", "", "", "", "", "NO"))
    print(f"\n{table(rows)}\n\n{(time.monotonic() - begin) / 60:.0f} min", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
