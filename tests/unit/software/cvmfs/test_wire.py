from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import UserError
from orchestrator.software.cvmfs.objects import pack
from orchestrator.software.cvmfs.wire import MAX_OBJECT, Unframe, frame


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=8), st.integers(1, 97))
def test_whatever_the_cuts_the_objects_come_out(contents: list[bytes], step: int) -> None:
    objects = [pack(data, "P") for data in contents]
    body = frame(objects)
    parser = Unframe()
    found = [item for at in range(0, len(body), step) for item in parser.feed(body[at : at + step])]
    parser.end()
    assert found == objects


@pytest.mark.parametrize(
    "body",
    [
        b"x" * 100,
        b"../../etc/passwd 3\nabc",
        b"a" * 40 + b" -1\n",
        b"a" * 40 + b" \n",
        b"a" * 40 + f" {MAX_OBJECT + 1}\n".encode(),
        b"a" * 40 + b" 10\nshort",
        b"a" * 20,
    ],
)
def test_a_malformed_body_is_refused(body: bytes) -> None:
    def take() -> None:
        parser = Unframe()
        parser.feed(body)
        parser.end()

    with pytest.raises(UserError):
        take()
