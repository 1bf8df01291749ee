"""The catalogue from outside: calls of its API, and whole files up and down. The job agent carries it."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from orchestrator.catalogue.model import Entry, Output
from orchestrator.errors import GridError, PermanentError, TemporaryError
from orchestrator.runtime.http import Api

if TYPE_CHECKING:
    import httpx

BLOCK = 1 << 20  # bytes read or written at once
Progress = Callable[[int], None]  # told how many bytes went since the last time
Source = Path | Callable[[], BinaryIO]  # a local file, or what opens it (each time anew)


@dataclass(frozen=True)
class Sums:
    """Size in bytes and checksums of a file."""

    size: int
    md5: str
    adler32: str


@dataclass(frozen=True)
class Read:
    """Where a replica can be read, and the envelope that permits it."""

    se: str
    url: str
    envelope: str


def _opened(source: Source) -> BinaryIO:
    return source.open("rb") if isinstance(source, Path) else source()


def sums(source: Source) -> Sums:
    """Size, MD5 and Adler-32 of a local file."""
    md5, adler, size = hashlib.md5(usedforsecurity=False), 1, 0
    with _opened(source) as stream:
        while block := stream.read(BLOCK):
            md5.update(block)
            adler = zlib.adler32(block, adler)
            size += len(block)
    return Sums(size, md5.hexdigest(), f"{adler:08x}")


async def ls(api: Api, path: str) -> list[Entry]:
    """What a directory holds, or the file itself."""
    return [Entry.from_json(one) for one in await api.get("/v1/catalogue/ls", path=path)]


async def stat(api: Api, path: str) -> Entry:
    """One entry; NotFound when there is none."""
    return Entry.from_json(await api.get("/v1/catalogue/stat", path=path))


async def find(api: Api, path: str, pattern: str) -> list[Entry]:
    """Files below ``path`` whose name matches a shell pattern."""
    return [Entry.from_json(one) for one in await api.get("/v1/catalogue/find", path=path, pattern=pattern)]


async def whereis(api: Api, path: str) -> list[dict[str, Any]]:
    """se, site and pfn of every copy."""
    return list(await api.get("/v1/catalogue/whereis", path=path))


async def mkdir(api: Api, path: str) -> None:
    """The directory and those above it exist."""
    await api.post("/v1/catalogue/mkdir", {"path": path})


async def rm(api: Api, path: str, recursive: bool = False) -> int:
    """The entry is gone; returns how many went."""
    return int((await api.post("/v1/catalogue/rm", {"path": path, "recursive": recursive}))["removed"])


async def mv(api: Api, path: str, to: str) -> None:
    """The entry has a new name."""
    await api.post("/v1/catalogue/mv", {"path": path, "to": to})


async def store(api: Api, source: Source, lfn: str, se: str = "", token: str | None = None) -> Output:
    """Copy a local file to a storage element; it is not in the catalogue yet.

    ``token`` instead of the Api's own (an agent uses the job's). PermanentError when the storage
    element refuses, TemporaryError when it does not answer.
    """
    return (await store_copies(api, source, lfn, [se] if se else [], 1, token))[0]


async def store_copies(
    api: Api,
    source: Source,
    lfn: str,
    ses: Sequence[str] = (),
    copies: int = 1,
    token: str | None = None,
    progress: Progress | None = None,
) -> list[Output]:
    """Copy a local file to up to ``copies`` storage elements, those named ``ses`` first; one Output each.

    It is not in the catalogue yet. At least one copy is made: else the error of the last try.
    A storage element that was not asked for by name is replaced by another when it fails.
    """
    told = await asyncio.to_thread(sums, source)
    wanted = max(1, copies, len(ses))
    spare = 1 if wanted > len(ses) else 0
    asked = {"lfn": lfn, "size": told.size, "md5": told.md5, "se": list(ses), "copies": wanted + spare}
    place = await api.post("/v1/catalogue/write", asked, token=token)
    made: list[Output] = []
    failed: GridError = TemporaryError(f"there is no storage element for {lfn}", lfn=lfn)
    for write in place["writes"]:
        if len(made) == wanted:
            break
        try:
            await _put(api.http, write["url"], write["envelope"], source, told.size, progress)
        except (TemporaryError, PermanentError) as error:
            failed = error
            continue
        output = Output(
            place["lfn"], place["guid"], told.size, told.md5, told.adler32, write["se"], write["pfn"]
        )
        made.append(output)
    if not made:
        raise failed
    return made


async def register(api: Api, output: Output, *others: Output) -> None:
    """The stored file is in the catalogue, with this copy and ``others`` of the same file."""
    copies = [{"se": one.se, "pfn": one.pfn} for one in (output, *others)]
    await api.post("/v1/catalogue/register", {**output.to_json(), "replicas": copies})


async def put(
    api: Api, source: Path, lfn: str, se: str = "", copies: int = 1, progress: Progress | None = None
) -> list[Output]:
    """Copy a local file to storage elements (``se`` first) and register it; one Output for each copy."""
    outputs = await store_copies(api, source, lfn, [se] if se else [], copies, progress=progress)
    await register(api, *outputs)
    return outputs


async def get(
    api: Api, lfn: str, target: Path, token: str | None = None, progress: Progress | None = None
) -> Entry:
    """Copy a file of the catalogue to ``target`` (atomic), the closest replica first, checked by size and MD5."""
    told = await api.post("/v1/catalogue/read", {"lfn": lfn}, token=token)
    reads = [Read(each["se"], each["url"], each["envelope"]) for each in told["reads"]]
    await fetch(api.http, lfn, reads, (told["size"], told["md5"]), target, progress)
    return Entry.from_json(told)


async def fetch(
    http: httpx.AsyncClient,
    lfn: str,
    reads: Sequence[Read],
    wanted: tuple[int, str],
    target: Path,
    progress: Progress | None = None,
) -> None:
    """Copy the first good replica to ``target`` (atomic); ``wanted`` is size and MD5. TemporaryError if none is."""
    part = target.with_name(f".{target.name}.part")
    failures: list[str] = []
    try:
        for read in reads:
            try:
                with part.open("wb") as out:
                    found = await _download(http, read.url, read.envelope, out, progress)
            except (TemporaryError, PermanentError) as error:
                failures.append(f"{read.se}: {error.message}")
                continue
            if found == wanted:
                part.replace(target)
                return
            failures.append(f"{read.se}: has {found[0]} bytes with MD5 {found[1]}")
    finally:
        part.unlink(missing_ok=True)
    told = "; ".join(failures) or "there is none"
    raise TemporaryError(f"no replica of {lfn} could be read: {told}", lfn=lfn)


async def read_bytes(api: Api, lfn: str, most: int = 64 << 20) -> bytes:
    """The content of a small file of the catalogue; PermanentError when it is larger than ``most`` bytes."""
    import tempfile

    entry = await stat(api, lfn)
    if entry.size > most:
        raise PermanentError(f"{lfn} has {entry.size} bytes; get it as a file", lfn=lfn)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "content"
        await get(api, lfn, target)
        return target.read_bytes()


async def _put(
    http: httpx.AsyncClient, url: str, envelope: str, source: Source, size: int, progress: Progress | None
) -> None:
    import httpx

    async def blocks() -> AsyncIterator[bytes]:
        with _opened(source) as stream:
            while block := await asyncio.to_thread(stream.read, BLOCK):
                yield block
                if progress is not None:
                    progress(len(block))

    headers = {"Authorization": f"Bearer {envelope}", "Content-Length": str(size)}
    content: AsyncIterator[bytes] | bytes = blocks() if size else b""
    try:
        answer = await http.put(
            url, content=content, headers=headers, timeout=httpx.Timeout(60.0, connect=5.0)
        )
    except httpx.TransportError as error:
        raise TemporaryError(f"{url} does not answer: {type(error).__name__} {error}", url=url) from error
    _check(answer, url)


async def _download(
    http: httpx.AsyncClient, url: str, envelope: str, out: BinaryIO, progress: Progress | None
) -> tuple[int, str]:
    import httpx

    md5, size = hashlib.md5(usedforsecurity=False), 0
    headers = {"Authorization": f"Bearer {envelope}"}
    try:
        async with http.stream(
            "GET", url, headers=headers, timeout=httpx.Timeout(60.0, connect=5.0)
        ) as answer:
            if not answer.is_success:
                await answer.aread()
                _check(answer, url)
            async for block in answer.aiter_bytes(BLOCK):
                md5.update(block)
                size += len(block)
                out.write(block)
                if progress is not None:
                    progress(len(block))
    except httpx.TransportError as error:
        raise TemporaryError(f"{url} does not answer: {type(error).__name__} {error}", url=url) from error
    return size, md5.hexdigest()


def _check(answer: httpx.Response, url: str) -> None:
    if answer.is_success:
        return
    kind = TemporaryError if answer.status_code in (429, 502, 503, 504, 507) else PermanentError
    raise kind(
        f"{url} answered {answer.status_code}: {answer.text[:200]}", url=url, status=answer.status_code
    )
