"""What has come already is not asked for twice: sources that break off, parts that were kept."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.errors import TemporaryError
from orchestrator.transfers.ends import Files, Https
from orchestrator.transfers.model import Content, Place
from orchestrator.transfers.mover import Streams

from .conftest import World
from .test_movers import DATA, OnFiles, OnStorage, Told, content


@dataclass
class Breaking(Files):
    """A source that breaks off after ``every`` bytes of each answer."""

    root: Path
    every: int
    offsets: list[int] = field(default_factory=list)

    async def read(self, place: Place, content: Content, offset: int) -> AsyncGenerator[bytes, None]:
        self.offsets.append(offset)
        left = self.every
        async for block in super().read(place, content, offset):
            yield block[:left]
            left -= len(block[:left])
            if left <= 0:
                raise TemporaryError("the line broke")


async def test_a_source_that_breaks_off_is_asked_for_the_rest(tmp_path: Path) -> None:
    ground, breaking = OnFiles(tmp_path), Breaking(tmp_path, 1 << 20)
    mover = Streams({"file": breaking}, pause=0.001)
    source, target, told = await ground.source(DATA), await ground.target(DATA), Told()
    await mover.move(source, target, content(DATA), told)
    assert breaking.offsets == [0, 1 << 20, 2 << 20, 3 << 20]
    assert (await mover.holds(target, content(DATA)), told.bytes) == (True, len(DATA))


async def test_a_part_that_was_kept_is_gone_on_from(tmp_path: Path) -> None:
    ground, breaking = OnFiles(tmp_path), Breaking(tmp_path, 300_000)
    source, target = await ground.source(DATA), await ground.target(DATA)
    with pytest.raises(TemporaryError) as caught:
        await Streams({"file": breaking}, pause=0.001).move(source, target, content(DATA), Told())
    assert caught.value.facts["blame"] == "source"
    assert not await ground.mover.holds(target, content(DATA))
    told = Told()
    await ground.mover.move(source, target, content(DATA), told)
    assert await ground.mover.holds(target, content(DATA))
    assert 0 < told.bytes < len(DATA)


async def test_a_kept_part_that_is_wrong_costs_time_and_no_more(tmp_path: Path) -> None:
    ground = OnFiles(tmp_path)
    source, target = await ground.source(DATA), await ground.target(DATA)
    path = Path(target.url.removeprefix("file://"))
    path.parent.mkdir(exist_ok=True)
    path.with_name(f".{path.name}.part").write_bytes(b"?" * 1000)
    await ground.mover.move(source, target, content(DATA), Told())
    assert await ground.mover.holds(target, content(DATA))
    assert os.listdir(path.parent) == [path.name]


async def test_https_goes_on_by_range_where_the_connection_breaks(world: World) -> None:
    """The storage element is killed while it sends, and started again."""
    here = await world.site("here", "a")
    await world.site("there", "b")
    data = os.urandom(48 << 20)
    ground = OnStorage(world)
    source, target = await ground.source(data), await ground.target(data)
    asked: list[int] = []
    restart = asyncio.Event()

    class Watched(Https):
        async def read(self, place: Place, wanted: Content, offset: int) -> AsyncGenerator[bytes, None]:
            asked.append(offset)
            async for block in super().read(place, wanted, offset):
                yield block

    def progress(count: int) -> None:
        if not restart.is_set() and len(asked) == 1:
            restart.set()
            here.process.kill()

    async def again() -> None:
        await restart.wait()
        await here.stop("se")
        here.start()

    starting = asyncio.create_task(again())
    mover = Streams({"https": Watched(world.http)}, pause=0.3)
    await mover.move(source, target, content(data), progress)
    await starting
    assert await mover.holds(target, content(data))
    assert asked[0] == 0
    assert asked[-1] > 0
