"""The routes of a storage element: ``/<se>/ab/<guid>``, each call permitted by an envelope of the catalogue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse
from starlette.routing import Route

from orchestrator.errors import GridError, NotFound, TemporaryError, UserError
from orchestrator.runtime.web import Answer, caller, route
from orchestrator.storage import model
from orchestrator.storage.model import NoRoom, Permit
from orchestrator.storage.shelf import Shelf

_BLOCK = 1 << 20
_DRAINED = 1 << 20  # bytes of a refused body that are read, so that its sender hears the refusal


class _File(FileResponse):
    chunk_size = _BLOCK


class StorageElement:
    """The storage elements of one machine by name; the event in ``full`` is set when that one had to refuse a file."""

    def __init__(self, shelves: Mapping[str, Shelf], full: Mapping[str, asyncio.Event]) -> None:
        self.shelves = shelves
        self._full = full

    def routes(self) -> list[Route]:
        """PUT, GET (with Range), HEAD and DELETE of a file."""
        path = "/{se}/{folder}/{guid}"
        return [
            route("PUT", path, self.put),
            route("GET", path, self.get),  # and HEAD
            route("DELETE", path, self.delete),
        ]

    async def get(self, request: Request) -> Any:
        """The file, or the range of it that was asked for (RFC 9110, section 14); HEAD tells its MD5 (RFC 9530)."""
        shelf, permit = self._permitted(request)
        path: Path = await asyncio.to_thread(shelf.find, permit.pfn)
        headers = {}
        if request.method == "HEAD" and "md5" in request.headers.get("Want-Repr-Digest", ""):
            headers["Repr-Digest"] = f"md5=:{await asyncio.to_thread(shelf.digest, permit.pfn)}:"
        return _File(path, media_type="application/octet-stream", headers=headers)

    async def put(self, request: Request) -> Any:
        """201: the file is here, whole and on disk. 200: it already was."""
        body = request.stream()
        try:
            shelf, permit = self._permitted(request)
            announced = request.headers.get("Content-Length")
            if announced is not None and announced != str(permit.size):
                raise UserError(f"{announced} bytes are announced, the envelope is for {permit.size}")
            if await asyncio.to_thread(shelf.holds, permit):
                await _drain(body, permit.size)
                return Answer({"pfn": permit.pfn}, status_code=200)
            new = await self._receive(shelf, permit, body)
        except ClientDisconnect as error:
            raise TemporaryError("the sender hung up; send it again") from error
        except GridError as error:
            if isinstance(error, NoRoom):
                self._full[request.path_params["se"]].set()
            await _drain(body, _DRAINED)
            raise
        return Answer({"pfn": permit.pfn}, status_code=201 if new else 200)

    async def delete(self, request: Request) -> Any:
        """The file is not here (any more)."""
        shelf, permit = self._permitted(request)
        return {"removed": await asyncio.to_thread(shelf.remove, permit.pfn)}

    async def _receive(self, shelf: Shelf, permit: Permit, body: AsyncIterator[bytes]) -> bool:
        incoming = await asyncio.to_thread(shelf.begin, permit)
        held = bytearray()
        try:
            async for data in body:
                held += data
                if len(held) >= _BLOCK:
                    await asyncio.to_thread(shelf.add, incoming, bytes(held))
                    held.clear()
            await asyncio.to_thread(shelf.add, incoming, bytes(held))
            return await asyncio.to_thread(shelf.finish, incoming)
        finally:
            shelf.end(incoming)

    def _permitted(self, request: Request) -> tuple[Shelf, Permit]:
        who, names = caller(request), request.path_params
        shelf = self.shelves.get(names["se"])
        if shelf is None:
            raise NotFound(f"there is no storage element {names['se']} here", se=names["se"])
        pfn = model.pfn_of(names["folder"], names["guid"])
        return shelf, model.permit(who.claims, request.method, shelf.name, pfn)


async def _drain(body: AsyncIterator[bytes], most: int) -> None:
    """Read and forget up to ``most`` bytes."""
    try:
        async for data in body:
            most -= len(data)
            if most < 0:
                return
    except ClientDisconnect:
        return
