"""What is known of the machines of a pool: where each is, what it takes, and what was last seen of it.

Kept on disk too, so that machines of a hypervisor that cannot be asked are still known. Safe for several
threads; nobody is asked here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from orchestrator.errors import TemporaryError
from orchestrator.providers._record import Record, parse_record
from orchestrator.providers.base import MachineState
from orchestrator.providers.libvirt.hypervisor import Domain
from orchestrator.providers.libvirt.place import Room, Size, choose
from orchestrator.runtime.files import read_json, write_json


@dataclass(frozen=True)
class Seen:
    """A machine of ours, where it is, and what its hypervisor last said of it."""

    host: str
    record: Record
    state: MachineState = MachineState.STOPPED


class Known:
    """All machines of ours, by name. ``ours`` tells whose a record is."""

    def __init__(self, file: Path, hosts: Collection[str], ours: Callable[[Record], bool]) -> None:
        self._file, self._ours = file, ours
        self._lock = threading.Lock()
        self._machines = _read(file, hosts)
        self._rooms: dict[str, Room] = {}
        self._others: dict[str, set[str]] = {}  # hypervisor → addresses of other sites' machines
        self._making: set[str] = set()  # machines that a call is working on now
        self._ended: dict[str, int] = {}  # machine → when a call last ended its work on it, by ``_tick``
        self._tick = 0
        self.silent: dict[str, str] = {}  # hypervisor that did not answer → why
        self.booted: set[str] = set()  # machines whose context is known to have succeeded
        self.looked = False

    def now(self) -> int:
        """The moment at which hypervisors are about to be asked."""
        return self._tick

    def all(self) -> list[Seen]:
        """By name."""
        with self._lock:
            return [seen for _, seen in sorted(self._machines.items())]

    def get(self, name: str) -> Seen | None:
        """That machine, None when it is not known."""
        return self._machines.get(name)

    def learn(self, host: str, domains: Sequence[Domain], room: Room, asked: int) -> None:
        """``host`` said this when it was asked at ``asked``; of machines that a call worked on since, it is old."""
        with self._lock:
            newer = self._making | {name for name, when in self._ended.items() if when > asked}
            before = self._rooms.get(host, room).used
            used = {name: size for name, size in room.used.items() if name not in newer}
            self._rooms[host] = Room(
                room.limit, used | {name: before[name] for name in newer & before.keys()}
            )
            self._others[host] = set()
            gone = [name for name, seen in self._machines.items() if seen.host == host and name not in newer]
            for name in gone:
                del self._machines[name]
            for domain in domains:
                record = parse_record(domain.record)
                if record is not None and not self._ours(record):
                    self._others[host].add(record.address)
                elif record is not None and domain.name not in newer:
                    self._machines[domain.name] = Seen(host, record, domain.state)
            self.silent.pop(host, None)
            self._write()

    def reserve(
        self, wanted: Size, avoid: Collection[str], addresses: Sequence[str], record: Record
    ) -> Seen | None:
        """Where the machine of ``record`` is or shall be, with its address (one of ``addresses``, "" when there
        are none to give). Written to disk before anything is made there. None when nobody has room."""
        with self._lock:
            if record.name in self._machines:
                return self._machines[record.name]
            rooms = {host: room for host, room in self._rooms.items() if host not in self.silent}
            host = choose(rooms, wanted, avoid)
            taken = {seen.record.address for seen in self._machines.values()}.union(*self._others.values())
            address = next((each for each in addresses if each not in taken), "")
            if host is None or (addresses and not address):
                return None
            placed = replace(record, address=address, tags={**record.tags, "host": host})
            self._machines[record.name] = seen = Seen(host, placed)
            self._rooms[host] = Room(rooms[host].limit, {**rooms[host].used, record.name: wanted})
            self._write()
            return seen

    def put(self, seen: Seen) -> None:
        """The machine is as told."""
        with self._lock:
            self._machines[seen.record.name] = seen

    def forget(self, name: str) -> None:
        """There is no such machine."""
        with self._lock:
            seen = self._machines.pop(name, None)
            self.booted.discard(name)
            if seen is not None and (room := self._rooms.get(seen.host)):
                used = {other: size for other, size in room.used.items() if other != name}
                self._rooms[seen.host] = Room(room.limit, used)
            self._write()

    @contextmanager
    def working(self, name: str) -> Iterator[None]:
        """A list that was begun before does not undo what is done meanwhile. TemporaryError when another call
        works on that machine."""
        with self._lock:
            if name in self._making:
                raise TemporaryError(f"{name} is being made or destroyed by another call", machine=name)
            self._making.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._making.discard(name)
                self._tick += 1
                self._ended[name] = self._tick

    def _write(self) -> None:
        kept = self._machines.items()
        write_json(
            self._file, {name: {"host": seen.host, "record": asdict(seen.record)} for name, seen in kept}
        )


def _read(file: Path, hosts: Collection[str]) -> dict[str, Seen]:
    kept = read_json(file).items() if file.exists() else ()
    return {
        name: Seen(each["host"], Record(**each["record"])) for name, each in kept if each["host"] in hosts
    }
