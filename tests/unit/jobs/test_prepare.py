"""Collections, the payload's environment, and where inputs go in the work directory."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import UserError
from orchestrator.jobs import collection
from orchestrator.jobs.prepare import downloads, variables

XML = """<?xml version="1.0"?>
<alien><!-- made by find --><collection name="tag">
 <event name="1"><file name="a" lfn="/v/1/a" guid="x" size="3" turl="alien:///v/1/a"/></event>
 <event name="2"><file name="b" turl="alien:///v/2/b"/><file lfn="/v/a &amp; b"/></event>
</collection></alien>"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/v/a\n", ["/v/a"]),
        ("# two\r\n\r\n  LF:/v/a  \r\n/v//b,NODOWNLOAD", ["/v/a", "/v/b,nodownload"]),
        (XML, ["/v/1/a", "/v/2/b", "/v/a & b"]),
    ],
)
def test_collections(text: str, wanted: list[str]) -> None:
    assert collection.read("/v/set", text) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "/v/set names no file"),
        ("<alien/>", "names no file"),
        ("<alien><file/></alien>", "must be a list"),
        ("a/b", "'a/b' is not an LFN"),
        ("/v/../b", "has .."),
        ("/v/a,upload", "only ,nodownload"),
        ("<alien>", "not well-formed"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a/>', "DOCTYPE"),
        ("<a><![CDATA[x]]></a>", "CDATA"),
    ],
)
def test_wrong_collections(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        collection.read("/v/set", text)
    assert "/v/set" in caught.value.message
    assert message in caught.value.message


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    for each in (text, f"<{text}", f"<alien>{text}</alien>"):
        with contextlib.suppress(UserError):
            assert collection.read("/v/set", each)


def test_collections_come_behind_the_files_that_are_named() -> None:
    given_ = {"InputData": ["/v/0"], "InputDataCollection": ["/s/1", "/s/2,nodownload"], "TTL": 1}
    found = collection.expanded(given_, {"/s/1": "/v/1", "/s/2": "/v/2\n/v/3,nodownload"})
    assert found == {"InputData": ["/v/0", "/v/1", "/v/2,nodownload", "/v/3,nodownload"], "TTL": 1}
    assert collection.wanted(given_) == {"/s/1", "/s/2"}
    with pytest.raises(UserError, match="away"):
        collection.expanded(given_, {"/s/1": UserError("away"), "/s/2": ""})


def test_variables() -> None:
    jdl = {"JDLVariables": ["Run", "ttl", "None", "Good", "Packages"], "Run": "7", "TTL": 60, "Good": True}
    assert variables(jdl | {"Packages": ["a::1", "b::2"]}) == {
        "ALIEN_JDL_RUN": "7", "ALIEN_JDL_TTL": "60", "ALIEN_JDL_GOOD": "true", "ALIEN_JDL_PACKAGES": "a::1##b::2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("jdl", "wanted"),
    [
        ({"InputFile": ["/v/a"], "InputData": ["/w/b"]}, {"/v/a": "a", "/w/b": "b"}),
        ({"InputData": ["/w/a,nodownload", "/w/b"]}, {"/w/b": "b"}),
        ({"InputData": ["/w/1/a", "/w/2/a", "/w/2/c"]}, {"/w/1/a": "1/a", "/w/2/a": "2/a", "/w/2/c": "2/c"}),
        ({"InputData": ["/w/a", "/w/a"]}, {"/w/a": "a"}),
        ({"InputData": ["/w/a", "/w/x/a"]}, {"/w/a": "a", "/w/x/a": "x/a"}),
        ({"InputData": ["/w/1/a", "/w/12/a"]}, {"/w/1/a": "1/a", "/w/12/a": "12/a"}),
        ({"InputData": ["/1/a", "/2/a"]}, {"/1/a": "1/a", "/2/a": "2/a"}),
        ({"InputFile": ["/v/a"], "InputData": ["/v/a"]}, {"/v/a": "a"}),
    ],
)
def test_names_in_the_work_directory(jdl: dict[str, Any], wanted: dict[str, str]) -> None:
    assert {each["lfn"]: each["name"] for each in downloads(jdl, set())} == wanted


LFNS = st.lists(st.builds("/v/{}/{}".format, st.integers(1, 4), st.integers(1, 4)), unique=True)


@given(LFNS)
def test_no_two_input_files_have_the_same_name(lfns: list[str]) -> None:
    found = downloads({"InputData": lfns}, set())
    assert [each["lfn"] for each in found] == lfns
    assert len({each["name"] for each in found}) == len(lfns)
