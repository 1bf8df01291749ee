"""What every Mover must do, on each adapter: the contract suite."""

from __future__ import annotations

import hashlib
import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

from orchestrator.errors import GridError, PermanentError, TemporaryError
from orchestrator.transfers.accounting import Accounting
from orchestrator.transfers.ends import Files
from orchestrator.transfers.model import Content, Place
from orchestrator.transfers.mover import Mover, Streams

from .conftest import World

DATA = os.urandom((3 << 20) + 11)


def content(data: bytes) -> Content:
    return Content(len(data), hashlib.md5(data).hexdigest())


class Ground(Protocol):
    """Two storage elements, and a mover that reaches them."""

    mover: Mover

    async def source(self, data: bytes, announced: bytes | None = None) -> Place:
        """A copy of ``data`` to read; the place is made out for ``announced`` (the same by default)."""
        ...

    async def target(self, announced: bytes) -> Place:
        """A place to write ``announced`` to."""
        ...


@dataclass
class OnFiles:
    folder: Path
    mover: Mover = field(init=False)

    def __post_init__(self) -> None:
        files = Files(self.folder)
        self.mover = Streams({"file": files}, pause=0.01)

    def _place(self, se: str) -> tuple[Place, Path]:
        path = self.folder / se / uuid.uuid4().hex
        return Place(se, path.as_uri()), path

    async def source(self, data: bytes, announced: bytes | None = None) -> Place:
        place, path = self._place("a")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return place

    async def target(self, announced: bytes) -> Place:
        return self._place("b")[0]


@dataclass
class OnStorage:
    world: World
    mover: Mover = field(init=False)

    def __post_init__(self) -> None:
        self.mover = self.world.mover()

    def _place(self, se: str, guid: str, announced: bytes, verb: str) -> Place:
        pfn, told = f"/{guid[:2]}/{guid}", content(announced)
        envelope = self.world.central.issuer.envelope(f"{se}:{pfn}", verb, told.size, told.md5)
        site = self.world.sites["here" if se == "a" else "there"]
        return Place(se, f"https://{site.address}:8447/{se}{pfn}", envelope)

    async def source(self, data: bytes, announced: bytes | None = None) -> Place:
        guid = str(uuid.uuid4())
        path = self.world.sites["here"].file("a", guid)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return self._place("a", guid, data if announced is None else announced, "GET")

    async def target(self, announced: bytes) -> Place:
        return self._place("b", str(uuid.uuid4()), announced, "PUT")


@dataclass
class OnPaper:
    mover: Accounting = field(default_factory=Accounting)

    async def source(self, data: bytes, announced: bytes | None = None) -> Place:
        place = Place("a", f"sim:a/{uuid.uuid4()}")
        self.mover.copies[place.url] = content(data)
        return place

    async def target(self, announced: bytes) -> Place:
        return Place("b", f"sim:b/{uuid.uuid4()}")


class Told:
    def __init__(self) -> None:
        self.bytes = 0

    def __call__(self, count: int) -> None:
        self.bytes += count


async def check_contract(ground: Ground) -> None:
    """All of the contract, in one go: to make the ground costs more than to use it."""
    mover = ground.mover
    for data in (DATA, b"x", b""):
        wanted, told = content(data), Told()
        source, target = await ground.source(data), await ground.target(data)
        assert not await mover.holds(target, wanted)
        await mover.move(source, target, wanted, told)
        assert (await mover.holds(target, wanted), told.bytes) == (True, len(data))
        await mover.move(source, target, wanted, Told())  # again is harmless
        assert await mover.holds(target, wanted)

    # Nobody is told that other content is the right one.
    other = content(DATA[:-1] + b"?")
    there = await ground.source(DATA, DATA)
    assert await mover.holds(there, content(DATA))
    assert not await mover.holds(there, other)

    # A source that is corrupt, shorter, longer or absent leaves nothing, and is blamed.
    wanted = content(DATA)
    absent = await ground.source(DATA)
    absent = Place(absent.se, absent.url[:-12] + "0" * 12, absent.envelope)
    bad = [await ground.source(each, DATA) for each in (DATA[:-1] + b"?", DATA[:-9], DATA + b"x")]
    for source in (*bad, absent):
        target = await ground.target(DATA)
        with pytest.raises(PermanentError) as caught:
            await mover.move(source, target, wanted, Told())
        assert caught.value.facts["blame"] == "source", caught.value.message
        assert not await mover.holds(target, wanted)
        good = await ground.source(DATA)
        await mover.move(good, target, wanted, Told())  # and the next source is not hindered
        assert await mover.holds(target, wanted)


async def check_removal(ground: Ground, place: Place) -> None:
    await ground.mover.remove(place)
    await ground.mover.remove(place)


async def test_files(tmp_path: Path) -> None:
    ground = OnFiles(tmp_path)
    await check_contract(ground)
    source = await ground.source(b"x")
    await check_removal(ground, source)
    assert not await ground.mover.holds(source, content(b"x"))


async def test_accounting() -> None:
    ground = OnPaper()
    await check_contract(ground)
    source = await ground.source(b"x")
    await check_removal(ground, source)
    assert not await ground.mover.holds(source, content(b"x"))
    ground.mover.speed = lambda source, target: 2.0 if (source, target) == ("a", "b") else 1.0
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    ground.mover.sleep = sleep
    source, target = await ground.source(b"0123456789"), await ground.target(b"")
    await ground.mover.move(source, target, content(b"0123456789"), Told())
    assert (slept, ground.mover.moved[-1]) == ([5.0], ("a", "b", 10))


async def test_storage_elements(world: World) -> None:
    here, there = await world.site("here", "a"), await world.site("there", "b")
    ground = OnStorage(world)
    await check_contract(ground)
    # A storage element tells what is on its disk now.
    source = await ground.source(b"right", b"right")
    assert await ground.mover.holds(source, content(b"right"))
    here.file("a", source.url[-36:]).write_bytes(b"wrong")
    assert not await ground.mover.holds(source, content(b"right"))
    gone = ground._place("a", source.url[-36:], b"right", "DELETE")
    await check_removal(ground, gone)
    assert not here.file("a", source.url[-36:]).exists()
    # Without permission, and without an answer.
    target = await ground.target(b"right")
    with pytest.raises(PermanentError, match="answered 403") as caught:
        await ground.mover.holds(Place(target.se, target.url, gone.envelope), content(b"right"))
    await there.stop("se")
    with pytest.raises(TemporaryError, match="b does not answer") as silent:
        await ground.mover.holds(target, content(b"right"))
    with pytest.raises(TemporaryError) as broken:
        await ground.mover.move(await ground.source(b"right"), target, content(b"right"), Told())
    assert {each.value.facts["blame"] for each in (caught, silent, broken)} == {"destination"}
    home = ground._place("a", str(uuid.uuid4()), b"right", "PUT")
    with pytest.raises(TemporaryError, match="b does not answer") as unread:
        await ground.mover.move(target, home, content(b"right"), Told())
    assert unread.value.facts["blame"] == "source"


async def test_a_path_outside_the_root_is_refused(tmp_path: Path) -> None:
    files = Files(tmp_path / "root")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/link").symlink_to(tmp_path)
    (tmp_path / "secret").write_bytes(b"x")
    for url in (
        f"file://{tmp_path}/secret",
        f"file://{tmp_path}/root/../secret",
        f"file://{tmp_path}/root/link/secret",
    ):
        with pytest.raises(GridError, match="does not lie below"):
            await files.holds(Place("a", url), content(b"x"))
