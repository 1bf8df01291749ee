"""The catalogue from outside: calls of its API, and whole files up and down. The job agent carries it."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.catalogue import streams
from orchestrator.catalogue.model import MOST, Entry, Output, Placed, Quota, Value
from orchestrator.catalogue.streams import Progress, Source
from orchestrator.errors import GridError, PermanentError, TemporaryError
from orchestrator.runtime.http import Api

if TYPE_CHECKING:
    import httpx


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


def sums(source: Source) -> Sums:
    """Size, MD5 and Adler-32 of a local file."""
    md5, adler, size = hashlib.md5(usedforsecurity=False), 1, 0
    with streams.opened(source) as stream:
        while block := stream.read(streams.BLOCK):
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


async def find(
    api: Api, path: str, pattern: str, condition: str = "", page: int = MOST, token: str | None = None
) -> list[Entry]:
    """Files below ``path`` whose name matches a shell pattern, all of them, asked for ``page`` at once.

    With a ``condition`` such as ``run > 1000 && pass == "p2"``: entries with such tags, directories too.
    """
    found: list[Entry] = []
    asked = {"path": path, "pattern": pattern, "where": condition or None, "limit": page}
    while True:
        after = found[-1].path if found else None
        told = await api.call("GET", "/v1/catalogue/find", params=asked | {"after": after}, token=token)
        more = [Entry.from_json(one) for one in told]
        if after is not None and more and more[0].path <= after:
            raise PermanentError("this central is older than the command and lists no more than one page")
        found += more
        if len(more) < page:
            return found


async def whereis(api: Api, path: str) -> list[dict[str, Any]]:
    """se, site and pfn of every copy."""
    return list(await api.get("/v1/catalogue/whereis", path=path))


async def lookup(api: Api, lfns: Sequence[str]) -> dict[str, Placed]:
    """The files among ``lfns`` (any number), by the spelling that was asked for; others are absent."""
    found: dict[str, Placed] = {}
    for start in range(0, len(lfns), MOST):
        told = await api.post("/v1/catalogue/lookup", {"lfns": list(lfns[start : start + MOST])})
        found |= {lfn: Placed.from_json(placed) for lfn, placed in told["files"].items()}
    return found


async def tag(api: Api, path: str, tags: Mapping[str, Value], token: str | None = None) -> dict[str, Value]:
    """The entry has these tags too; all it has then."""
    return dict(
        (await api.post("/v1/catalogue/tag", {"path": path, "tags": dict(tags)}, token=token))["tags"]
    )


async def untag(api: Api, path: str, names: Sequence[str]) -> dict[str, Value]:
    """The entry has these tags no more; those it has still."""
    return dict((await api.post("/v1/catalogue/untag", {"path": path, "names": list(names)}))["tags"])


async def quota(api: Api, user: str = "") -> Quota:
    """What a user (default: the caller) has in the catalogue and may have."""
    return Quota.from_json(await api.get("/v1/catalogue/quota", user=user or None))


async def set_quota(api: Api, user: str, most_files: int | None, most_bytes: int | None) -> Quota:
    """What a user may have (None: no limit); for admins."""
    asked = {"user": user, "most_files": most_files, "most_bytes": most_bytes}
    return Quota.from_json(await api.post("/v1/catalogue/quota", asked))


async def distances(api: Api, site: str = "") -> list[dict[str, Any]]:
    """se, site, alive, free and distance of every storage element, the closest to ``site`` first."""
    return list(await api.get("/v1/catalogue/distance", site=site or None))


async def set_distance(api: Api, site: str, se: str, distance: float | None) -> None:
    """``se`` is so far from ``site`` (None: as far as the sites tell); for admins."""
    await api.post("/v1/catalogue/distance", {"site": site, "se": se, "distance": distance})


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
            await streams.upload(api.http, write["url"], write["envelope"], source, told.size, progress)
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
    if "content" in told:  # below /proc: computed, no storage element has it
        target.write_text(told["content"], encoding="utf-8", newline="")
        return Entry.from_json(told)
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
                    found = await streams.download(http, read.url, read.envelope, out, progress)
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
