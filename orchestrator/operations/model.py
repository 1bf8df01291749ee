"""What a backup says of itself. Pure.

A backup is one gzip stream of text: a line of JSON (``Header``), then for each table a line of JSON that names it,
its rows as ``COPY … TO STDOUT`` writes them (text format: PostgreSQL's manual, COPY, File Formats) and a line ``\\.``,
and at the end a line of JSON with the number of rows of each table. What has no such last line was cut off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from orchestrator.errors import UserError

FORMAT: Final = "orchestrate central backup"
VERSION: Final = 1
END: Final = b"\\.\n"


@dataclass(frozen=True)
class Table:
    """A table of schema ``grid``: its columns, and the tables that its rows refer to."""

    name: str
    columns: tuple[str, ...]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Partition:
    """A partition as PostgreSQL describes it: of which table, for which rows, and how it is divided itself."""

    name: str
    parent: str
    bound: str
    key: str = ""


@dataclass(frozen=True)
class Header:
    """The first line of a backup."""

    vo: str
    made: float  # seconds since the epoch, by the database's clock: everything in it is of that moment
    by: str  # the version of orchestrate, "" where it is not known
    server: str  # the version of PostgreSQL
    migrations: tuple[str, ...]
    tables: tuple[Table, ...]  # each after those that it needs
    partitions: tuple[Partition, ...] = ()
    sequences: Mapping[str, int] = field(default_factory=dict)  # the highest number that each has given out
    format: str = FORMAT
    version: int = VERSION

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """UserError when it is not the first line of a backup that this version can read."""
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise UserError("it is no backup of central")
        if data.get("version") != VERSION:
            raise UserError(
                f"it has format {data.get('version')}, and this orchestrate reads format {VERSION}; "
                "use the version that made it"
            )
        try:
            return cls(
                str(data["vo"]),
                float(data["made"]),
                str(data["by"]),
                str(data["server"]),
                tuple(map(str, data["migrations"])),
                tuple(
                    Table(each["name"], tuple(each["columns"]), tuple(each["needs"]))
                    for each in data["tables"]
                ),
                tuple(Partition(**each) for each in data["partitions"]),
                {str(name): int(last) for name, last in data["sequences"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"its first line is damaged: {error!r}") from error


@dataclass(frozen=True)
class Mode:
    """Whether central is read-only: why, since when (seconds since the epoch), and by whom."""

    on: bool
    reason: str = ""
    by: str = ""
    since: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check(header: Header, vo: str, known: Sequence[str]) -> None:
    """UserError when this backup must not be put back into the central of ``vo`` whose migrations are ``known``."""
    if header.vo != vo:
        raise UserError(f"it is a backup of VO {header.vo}, and this is the central of VO {vo}")
    if newer := sorted({*header.migrations} - {*known}):
        raise UserError(
            f"it was made by a newer version of orchestrate: this one does not know the migrations "
            f"{', '.join(newer[:5])}; update central first"
        )


def next_number(last: int, seconds: float) -> int:
    """A number above all that a sequence has given out when it was at ``last`` so many seconds ago.

    Nobody makes 100,000 tasks a second. Rounded up to a million, which people can read.
    """
    million = 1_000_000
    return -(-(last + 100_000 * int(max(0.0, seconds)) + million) // million) * million


def first_attempt(highest: int, seconds: float) -> int:
    """A number above those of all attempts when the highest was ``highest`` so many seconds ago.

    No task has a thousand attempts, and for long none has more than one a second: each travels to a resource and back.
    """
    return (highest + int(max(0.0, seconds)) + 1000) // 1000 * 1000 + 1000
