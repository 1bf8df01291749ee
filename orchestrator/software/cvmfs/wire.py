"""Many objects in one body: for each a line "NAME SIZE" and then SIZE bytes; the body's end is the end. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.errors import UserError
from orchestrator.software.cvmfs.model import check_object

MAX_OBJECT = 256 * 1024 * 1024  # bytes; only catalogs come near
MAX_NAMES = 100_000
_HEAD = 64  # bytes; 41 for the name, a space, a number, a newline


def frame(objects: Iterable[tuple[str, bytes]]) -> bytes:
    """The body that carries ``objects``."""
    return b"".join(part for name, stored in objects for part in (f"{name} {len(stored)}\n".encode(), stored))


class Unframe:
    """Takes a body in pieces of any size, gives whole objects; holds at most one object's bytes and a piece."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._name = ""
        self._size = -1

    def feed(self, piece: bytes) -> list[tuple[str, bytes]]:
        """The objects that ``piece`` completes; UserError when the body is malformed."""
        self._held += piece
        done: list[tuple[str, bytes]] = []
        at = 0
        while True:
            if self._size < 0:
                end = self._held.find(b"\n", at, at + _HEAD)
                if end < 0:
                    if len(self._held) - at >= _HEAD:
                        raise UserError("the body is malformed: no line 'NAME SIZE' where one must be")
                    break
                self._head(bytes(self._held[at:end]))
                at = end + 1
            if len(self._held) - at < self._size:
                break
            done.append((self._name, bytes(self._held[at : at + self._size])))
            at += self._size
            self._size = -1
        del self._held[:at]
        return done

    def end(self) -> None:
        """UserError when the body stopped inside an object."""
        if self._held or self._size >= 0:
            raise UserError("the body ends inside an object; send it again")

    def _head(self, line: bytes) -> None:
        name, _, size = line.decode("ascii", "replace").partition(" ")
        check_object(name)
        if not size.isdecimal() or int(size) > MAX_OBJECT:
            raise UserError(f"object {name} has the size {size!r}; at most {MAX_OBJECT} bytes are taken")
        self._name, self._size = name, int(size)
