from __future__ import annotations

import pytest

from orchestrator.errors import UserError
from orchestrator.software.cvmfs.model import (
    check_fqrn,
    check_object,
    md5path,
    object_path,
    parent_key,
    target_path,
)


def test_md5path_is_two_little_endian_signed_numbers() -> None:
    # md5("") = d41d8cd98f00b204 e9800998ecf8427e
    assert md5path("") == (
        int.from_bytes(bytes.fromhex("d41d8cd98f00b204"), "little", signed=True),
        int.from_bytes(bytes.fromhex("e9800998ecf8427e"), "little", signed=True),
    )
    assert parent_key("/a/b") == md5path("/a")
    assert parent_key("/a") == md5path("")
    assert parent_key("") == (0, 0)


def test_object_path() -> None:
    assert object_path("ab" + "0" * 38 + "C") == "data/ab/" + "0" * 38 + "C"


@pytest.mark.parametrize("name", ["alice.example.org", "a.b", "sft-nightlies.cern.ch"])
def test_repository_names(name: str) -> None:
    assert check_fqrn(name) == name


@pytest.mark.parametrize(
    "name", ["", "alice", "../etc", "a..b", "A.example.org", "a.b/c", ".a.b", "a.b.", "a" * 300]
)
def test_odd_repository_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="is not a repository name"):
        check_fqrn(name)


@pytest.mark.parametrize(
    "name", ["", "../../../etc/passwd", "a" * 40 + "Z", "A" * 40, "a" * 39, "a" * 40 + "\n"]
)
def test_odd_object_names_are_refused(name: str) -> None:
    with pytest.raises(UserError):
        check_object(name)


def test_target_paths() -> None:
    assert target_path("PYTHIA/8.317/") == "/PYTHIA/8.317"
    for odd in ("", "/", "/a//b", "/a/../b", "/a/./b", "/.cvmfs/x", "/" + "x" * 256):
        with pytest.raises(UserError):
            target_path(odd)
