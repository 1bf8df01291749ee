from __future__ import annotations

import hashlib
import zlib

import pytest

from orchestrator.errors import PermanentError
from orchestrator.software.cvmfs.objects import pack, unpack


@pytest.mark.parametrize("data", [b"", b"x", b"hello " * 1000, bytes(range(256)) * 4096])
@pytest.mark.parametrize("level", [0, 1, 3])
def test_an_object_is_a_zlib_stream_named_by_its_stored_bytes(data: bytes, level: int) -> None:
    name, stored = pack(data, "C", level)
    assert zlib.decompress(stored) == data
    assert name == hashlib.sha1(stored).hexdigest() + "C"
    assert unpack(name, stored, len(data)) == data
    assert unpack(name, stored) == data


def test_streams_of_another_compressor_are_read() -> None:
    stored = zlib.compress(b"from elsewhere" * 500, 9)
    assert unpack(hashlib.sha1(stored).hexdigest(), stored) == b"from elsewhere" * 500


def test_damage_is_found() -> None:
    name, stored = pack(b"content" * 100)
    with pytest.raises(PermanentError, match="damaged"):
        unpack(name, stored[:-1] + b"\0")
    with pytest.raises(PermanentError, match="where the catalog says 3"):
        unpack(name, stored, 3)
    with pytest.raises(PermanentError, match="where the catalog says 701"):
        unpack(name, stored, 701)


@pytest.mark.parametrize("stored", [zlib.compress(b"y" * 1000)[:-2], b"no zlib at all", b""])
def test_a_stream_that_is_cut_or_none_is_refused_though_its_hash_fits(stored: bytes) -> None:
    with pytest.raises(PermanentError):
        unpack(hashlib.sha1(stored).hexdigest(), stored, 1000)
    with pytest.raises(PermanentError):
        unpack(hashlib.sha1(stored).hexdigest(), stored)


def test_a_bomb_is_not_inflated_beyond_the_stated_size() -> None:
    name, stored = pack(bytes(100_000_000))
    with pytest.raises(PermanentError, match="holds 11 bytes or more"):
        unpack(name, stored, 10)
