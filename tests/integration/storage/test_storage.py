"""A storage element as a real process beside a real catalogue: up and down, refusals, removals, crashes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from orchestrator.catalogue import client
from orchestrator.errors import TemporaryError, UserError
from orchestrator.runtime.files import write_json
from orchestrator.runtime.http import tls_context
from tests.support.same import same
from tests.support.until import until

from ..catalogue.conftest import VO, Central

HOME = f"/{VO}/user/a/ada"
CAPACITY = 8 << 20


@dataclass
class Element:
    """The program ``se`` of one VO box, with two storage elements: ``disk`` and ``tiny`` (100 bytes)."""

    root: Path
    address: str
    central: Central
    http: httpx.AsyncClient
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.root / "data/se"

    def start(self) -> None:
        command = [sys.executable, "-m", "orchestrator.wiring.vobox", "se", "--root", str(self.root)]
        self.process = subprocess.Popen(command)

    def stop(self, how: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(10)
        self.process = None
        return code

    async def known(self, count: int = 2) -> None:
        async def all_there() -> bool:
            found = await self.central.rows(
                "SELECT name FROM grid.storage_element WHERE seen > now() - interval '9 s'"
            )
            return len(found) == count

        await until(all_there)

    def url(self, guid: str, se: str = "disk") -> str:
        return f"https://{self.address}:8447/{se}/{guid[:2]}/{guid}"

    def envelope(
        self, guid: str, method: str, data: bytes, se: str = "disk", seconds: float = 60.0
    ) -> dict[str, str]:
        md5 = hashlib.md5(data).hexdigest()
        pfn = f"{se}:/{guid[:2]}/{guid}"
        return {
            "Authorization": f"Bearer {self.central.issuer.envelope(pfn, method, len(data), md5, seconds)}"
        }

    async def put(
        self, guid: str, data: bytes, sent: bytes | None = None, se: str = "disk"
    ) -> httpx.Response:
        """``data`` is permitted, ``sent`` (default the same) is what goes."""
        headers = self.envelope(guid, "PUT", data, se)
        return await self.http.put(
            self.url(guid, se), content=data if sent is None else sent, headers=headers
        )

    def files(self) -> list[str]:
        return sorted(file.name for file in self.data.rglob("*") if file.is_file())


@pytest.fixture
def address() -> str:
    return f"127.{random.randint(1, 250)}.{random.randint(1, 250)}.{random.randint(2, 250)}"


@pytest.fixture
async def element(central: Central, tmp_path: Path, address: str) -> AsyncIterator[Element]:
    root = central.machine(tmp_path / "vobox", address)
    ses = [{"name": "disk", "capacity": CAPACITY}, {"name": "tiny", "capacity": 100}]
    names = {"vo": VO, "site": "here", "machine": "vobox", "address": address, "broker": central.url}
    # The ClusterMonitor forwards these calls as they are; central itself stands for it here.
    write_json(
        root / "etc/vobox.json",
        names | {"central": central.url, "clustermonitor": central.url, "storage_elements": ses},
    )
    async with httpx.AsyncClient(verify=tls_context(root / "etc/tls/ca.pem"), trust_env=False) as http:
        here = Element(root, address, central, http)
        here.start()
        try:
            await here.known()
            yield here
        finally:
            if here.process is not None:
                here.stop()


@pytest.fixture
def guid() -> str:
    return str(uuid.uuid4())


async def test_a_file_goes_up_and_down_whole_and_in_parts(element: Element, guid: str) -> None:
    data = os.urandom((3 << 20) + 17)
    assert (await element.put(guid, data)).status_code == 201
    assert (await element.put(guid, data)).status_code == 200
    reading = element.envelope(guid, "GET", data)
    whole = await element.http.get(element.url(guid), headers=reading)
    assert (whole.status_code, whole.content) == (200, data)
    part = await element.http.get(element.url(guid), headers={**reading, "Range": "bytes=1000000-1999999"})
    assert (part.status_code, part.content) == (206, data[1000000:2000000])
    head = await element.http.head(element.url(guid), headers=reading)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(data)))
    gone = await element.http.delete(element.url(guid), headers=element.envelope(guid, "DELETE", data))
    assert gone.json() == {"removed": True}
    assert (await element.http.get(element.url(guid), headers=reading)).status_code == 404
    assert (element.data.stat().st_mode & 0o777, element.files()) != (0o777, [guid])


async def test_an_empty_file(element: Element, guid: str) -> None:
    assert (await element.put(guid, b"")).status_code == 201
    found = await element.http.get(element.url(guid), headers=element.envelope(guid, "GET", b""))
    assert (found.status_code, found.content) == (200, b"")


async def test_only_what_the_envelope_permits(element: Element, guid: str) -> None:
    data, other = b"payload", str(uuid.uuid4())
    url, put, get = element.url(guid), *(element.envelope(guid, each, data) for each in ("PUT", "GET"))

    async def status(method: str, where: str, headers: dict[str, str]) -> int:
        return (await element.http.request(method, where, content=data, headers=headers)).status_code

    session = element.central.issuer.signer.sign({"sub": "user:ada", "roles": ["user"]}, time.time(), 60)
    assert await status("PUT", url, {}) == 403
    assert await status("PUT", url, {"Authorization": f"Bearer {session}"}) == 403
    assert await status("PUT", url, {"Authorization": put["Authorization"][:-4] + "AAAA"}) == 403
    assert await status("PUT", url, get) == 403
    assert await status("PUT", element.url(other), put) == 403
    assert await status("PUT", element.url(guid, "tiny"), put) == 403
    assert await status("PUT", url, element.envelope(guid, "PUT", data, seconds=-10)) == 403
    assert await status("PUT", element.url(guid, "none"), put) == 404
    assert element.files() == []
    assert await status("PUT", url, put) == 201
    assert await status("GET", url, put) == 403
    assert await status("DELETE", url, get) == 403
    assert await status("GET", url, get) == 200


@pytest.mark.parametrize(
    "path", ["disk/../etc", "disk/%2e%2e/machine.json", "disk/..%2f..%2f/x", "disk/ab/%2e%2e%2fx"]
)
async def test_no_path_leads_outside(element: Element, path: str) -> None:
    base = f"https://{element.address}:8447"
    permit = element.central.issuer.envelope(path.replace("/", ":", 1), "GET", 1, "0" * 32)
    url = httpx.URL(base).copy_with(raw_path=f"/{path}".encode())
    found = await element.http.get(url, headers={"Authorization": f"Bearer {permit}"})
    assert found.status_code == 404


async def test_wrong_content_leaves_nothing(element: Element, guid: str) -> None:
    data = os.urandom(3 << 20)
    for sent in (data[:-1], data + b"x", os.urandom(len(data))):
        assert (await element.put(guid, data, sent)).status_code == 400
    assert element.files() == []
    assert (await element.put(guid, data)).status_code == 201
    other = await element.put(guid, b"other")
    assert (other.status_code, other.json()["error"]["kind"]) == (409, "OtherContent")
    assert same(element.data / "disk" / guid[:2] / guid, data)


async def test_a_full_storage_element(element: Element, guid: str) -> None:
    full = await element.put(guid, b"x" * 101, se="tiny")
    assert full.status_code == 507
    assert "free" in full.json()["error"]["message"]
    assert (await element.put(guid, b"x" * 60, se="tiny")).status_code == 201
    assert (await element.put(str(uuid.uuid4()), b"x" * 60, se="tiny")).status_code == 507

    async def free() -> bool:
        rows = await element.central.rows("SELECT free FROM grid.storage_element WHERE name = 'tiny'")
        return rows[0]["free"] == 40

    await until(free)  # told at once, so that the catalogue chooses another


async def test_many_at_once_are_not_promised_more_than_there_is(element: Element) -> None:
    data = [os.urandom(1 << 20) for _ in range(12)]
    answers = await asyncio.gather(*(element.put(str(uuid.uuid4()), each) for each in data))
    codes = [answer.status_code for answer in answers]
    assert set(codes) == {201, 507}
    assert codes.count(201) == CAPACITY >> 20
    assert len(element.files()) == CAPACITY >> 20


async def test_an_upload_that_breaks_off_leaves_nothing(element: Element, guid: str) -> None:
    data = os.urandom(4 << 20)

    async def half() -> AsyncIterator[bytes]:
        yield data[: 2 << 20]
        await until(lambda: any((element.data / "disk/.incoming").iterdir()))
        raise RuntimeError("the sender dies")

    headers = element.envelope(guid, "PUT", data) | {"Content-Length": str(len(data))}
    with contextlib.suppress(RuntimeError, httpx.TransportError):
        await element.http.put(element.url(guid), content=half(), headers=headers)
    await until(lambda: element.files() == [])
    assert (await element.put(guid, data)).status_code == 201


async def test_killed_and_started_again(element: Element, guid: str) -> None:
    data = os.urandom(6 << 20)
    assert (await element.put(guid, data)).status_code == 201
    element.stop(signal.SIGKILL)
    old, new = (element.data / "disk/.incoming" / name for name in ("old", "new"))
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    await element.central.rows("DELETE FROM grid.storage_element")
    element.start()
    await element.known()
    assert element.files() == sorted([guid, "new"])
    found = await element.http.get(element.url(guid), headers=element.envelope(guid, "GET", data))
    assert found.content == data
    assert (await element.put(str(uuid.uuid4()), os.urandom(3 << 20))).status_code == 507
    assert element.stop() == 0


async def test_from_the_catalogue_and_back(element: Element, tmp_path: Path) -> None:
    """put, get, a second copy, a broken copy, rm: and the bytes are gone."""
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"sixty bytes, so that both storage elements have room for it!")
    async with element.central.user("ada") as ada:
        made = await client.put(ada, source, f"{HOME}/d/file", copies=2)
        assert sorted(each.se for each in made) == ["disk", "tiny"]
        assert len({each.guid for each in made}) == 1
        steps: list[int] = []
        entry = await client.get(ada, f"{HOME}/d/file", target, progress=steps.append)
        assert (target.read_bytes(), sum(steps), entry.owner) == (source.read_bytes(), 60, "ada")
        (element.data / "disk" / made[0].pfn[1:]).write_bytes(b"broken")
        await client.get(ada, f"{HOME}/d/file", target)
        assert same(target, source)
        (element.data / "tiny" / made[0].pfn[1:]).unlink()
        with pytest.raises(
            TemporaryError, match=r"disk: has 6 bytes.*tiny: .*404|tiny: .*404.*disk: has 6 bytes"
        ):
            await client.get(ada, f"{HOME}/d/file", target)
        assert sorted(file.name for file in tmp_path.iterdir() if file.name.startswith(".")) == []
        assert await client.rm(ada, f"{HOME}/d", recursive=True) == 2
        element.stop()
        element.start()  # looks at once what there is to remove
        await until(lambda: element.files() == [])
        await until(lambda: _nothing_left(element.central))
        with pytest.raises(UserError, match="none is known"):
            await client.put(ada, source, f"{HOME}/d/file", "none")


async def test_another_storage_element_takes_what_one_refuses(element: Element, tmp_path: Path) -> None:
    """The catalogue thinks that a dead one has most room: the file lands on the next."""
    source = tmp_path / "in"
    source.write_bytes(b"x" * 1000)
    await element.central.rows(
        """INSERT INTO grid.storage_element (name, site, url, free)
           VALUES ('dead', 'here', 'https://127.0.0.1:9/dead', 9000000000000)"""
    )
    async with element.central.user("ada") as ada:
        made = await client.put(ada, source, f"{HOME}/file")
        assert [each.se for each in made] == ["disk"]
        with pytest.raises(TemporaryError, match="does not answer"):
            await client.put(ada, source, f"{HOME}/other", "dead")


async def _nothing_left(central: Central) -> bool:
    return await central.rows("SELECT pfn FROM grid.removal WHERE at <= now()") == []
