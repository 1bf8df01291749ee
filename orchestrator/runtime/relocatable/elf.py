"""Just enough of the ELF format (System V gABI, 64-bit little-endian) to copy programs and libraries.

What a loader needs is described by the program headers alone. Sections without the ALLOC flag
(symbol table, DWARF) and the section table lie behind them, so cutting the file after its last
segment strips it: no ``strip`` program is needed and the result does not depend on the host.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import PermanentError

MAGIC = b"\x7fELF"
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<qQ")
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 0, 5, 15, 29


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size: int


def is_elf(path: Path) -> bool:
    """Whether the file at ``path`` starts as an ELF object."""
    with path.open("rb") as source:
        return source.read(4) == MAGIC


def interpreter(path: Path) -> Path:
    """The dynamic loader that the program ``path`` asks for; PermanentError when it asks for none."""
    data = path.read_bytes()
    for segment in _segments(data, path):
        if segment.kind == _PT_INTERP:
            return Path(data[segment.offset : segment.offset + segment.size].rstrip(b"\0").decode())
    raise PermanentError(f"{path} is not a dynamically linked program; use a Python that is", path=str(path))


def is_program(path: Path) -> bool:
    """Whether the ELF object at ``path`` asks for a dynamic loader: it is to be run, not to be loaded."""
    return any(segment.kind == _PT_INTERP for segment in _segments(path.read_bytes(), path))


def slim(data: bytes, origin: Path) -> bytes:
    """``data`` without symbols, debug information and search paths that only its build host has.

    Search paths relative to the object ($ORIGIN) stay. ``origin`` is named in errors.
    """
    segments = _segments(data, origin)
    end = max(s.offset + s.size for s in segments)
    out = bytearray(data[:end])
    head = list(_HEADER.unpack_from(out))
    head[6] = head[12] = head[13] = 0  # e_shoff, e_shnum, e_shstrndx: the section table is gone
    _HEADER.pack_into(out, 0, *head)
    for segment in segments:
        if segment.kind == _PT_DYNAMIC:
            _drop_absolute_search_paths(out, segment, segments)
    return bytes(out)


def _segments(data: bytes, origin: Path) -> list[_Segment]:
    if len(data) < _HEADER.size or data[:6] != MAGIC + b"\x02\x01":
        raise PermanentError(f"{origin} is not a 64-bit little-endian ELF file", path=str(origin))
    head = _HEADER.unpack_from(data)
    offset, size, count = head[5], head[9], head[10]
    found = []
    for index in range(count):
        kind, _, at, address, _, length, _, _ = _SEGMENT.unpack_from(data, offset + index * size)
        found.append(_Segment(kind, at, address, length))
    if not any(s.kind == _PT_LOAD for s in found):
        raise PermanentError(f"{origin} has nothing to load", path=str(origin))
    return found


def _drop_absolute_search_paths(out: bytearray, table: _Segment, segments: list[_Segment]) -> None:
    entries = []
    for at in range(table.offset, table.offset + table.size, _DYNAMIC.size):
        entries.append(_DYNAMIC.unpack_from(out, at))
    address = next((value for tag, value in entries if tag == _DT_STRTAB), None)
    home = next(
        (
            s
            for s in segments
            if address is not None and s.kind == _PT_LOAD and 0 <= address - s.address < s.size
        ),
        None,
    )
    if address is None or home is None:
        return
    strings = home.offset + address - home.address

    def keep(tag: int, value: int) -> bool:
        if tag not in (_DT_RPATH, _DT_RUNPATH):
            return True
        start = strings + value
        return b"$ORIGIN" in out[start : out.index(b"\0", start)]

    kept = [entry for entry in entries if keep(*entry)]
    kept += [(_DT_NULL, 0)] * (len(entries) - len(kept))
    for index, entry in enumerate(kept):
        _DYNAMIC.pack_into(out, table.offset + index * _DYNAMIC.size, *entry)
