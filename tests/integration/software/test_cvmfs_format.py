"""The published repository, read by an oracle that shares no code with the product.

It follows the format page alone: openssl verifies both signatures, zlib inflates, the sqlite3 program
reads the databases, and the tree is walked with the checks that `cvmfs_swissknife check` makes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
import zlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from orchestrator.software.cvmfs import keys as key_files
from orchestrator.software.cvmfs.keys import RepositoryKeys
from orchestrator.software.cvmfs.model import Change
from orchestrator.software.cvmfs.publish import publish
from orchestrator.software.cvmfs.store import LocalStore

FQRN = "alice.example.org"
NOW = 1_750_000_000.0
_CATALOG = (
    "SELECT md5path_1, md5path_2, parent_1, parent_2, hardlinks, hex(hash) AS digest, size, mode, mtime, flags,"
    " name, symlink, typeof(symlink) AS kind FROM catalog"
)
EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"


def openssl(*arguments: str | Path) -> bytes:
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True).stdout


def rows(database: Path, query: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["sqlite3", "-readonly", "-json", str(database), query], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout or "[]")


def split_letter(data: bytes) -> tuple[bytes, bytes, bytes]:
    text, rest = data.split(b"--\n", 1)
    assert text.endswith(b"\n")
    assert rest[40:41] == b"\n"
    assert rest[:40] == hashlib.sha1(text).hexdigest().encode()
    return text, rest[:40], rest[41:]


def md5path(path: str) -> tuple[int, int]:
    first, second = struct.unpack("<qq", hashlib.md5(path.encode()).digest())
    return first, second


class Oracle:
    """Reads a repository directory; every assertion is a rule of the format."""

    def __init__(self, root: Path, master_public: Path, scratch: Path) -> None:
        self.root, self.master, self.scratch = root, master_public, scratch
        scratch.mkdir(exist_ok=True)

    def inflate(self, name: str) -> bytes:
        stored = (self.root / "data" / name[:2] / name[2:]).read_bytes()
        assert hashlib.sha1(stored).hexdigest() == name[:40]
        stream = zlib.decompressobj(wbits=15)  # RFC 1950 and nothing else
        data = stream.decompress(stored) + stream.flush()
        assert stream.eof
        assert stream.unused_data == b""
        return data

    def database(self, name: str, content: bytes) -> Path:
        assert content[18:20] == b"\x01\x01", "WAL mode aborts a client"
        place = self.scratch / name
        place.write_bytes(content)
        assert rows(place, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]
        return place

    def check(self) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
        """(manifest fields, entries by path) after all checks."""
        text, digest, signature = split_letter((self.root / ".cvmfspublished").read_bytes())
        fields = {line[:1]: line[1:] for line in text.decode().splitlines()}
        assert len(fields) == len(text.decode().splitlines())
        assert fields["R"] == EMPTY_MD5
        assert fields["N"] == FQRN
        assert int(fields["D"]) > 0
        certificate = self.scratch / "certificate.pem"
        certificate.write_bytes(self.inflate(fields["X"] + "X"))
        self.whitelist(certificate)
        (self.scratch / "digest").write_bytes(digest)
        (self.scratch / "signature").write_bytes(signature)
        (self.scratch / "key.pem").write_bytes(openssl("x509", "-in", certificate, "-pubkey", "-noout"))
        said = openssl(
            "dgst", "-sha1", "-verify", self.scratch / "key.pem", "-signature", self.scratch / "signature",
            self.scratch / "digest",
        )  # fmt: skip
        assert said == b"Verified OK\n"
        self.history(fields)
        self.reflog(fields)
        assert isinstance(json.loads(self.inflate(fields["M"] + "M")), dict)
        assert {p.name for p in (self.root / "data").iterdir()} == {f"{n:02x}" for n in range(256)} | {"txn"}
        return fields, self.catalog(fields)

    def whitelist(self, certificate: Path) -> None:
        text, digest, signature = split_letter((self.root / ".cvmfswhitelist").read_bytes())
        (self.scratch / "signature").write_bytes(signature)
        recovered = openssl(
            "pkeyutl", "-verifyrecover", "-pubin", "-inkey", self.master, "-in", self.scratch / "signature",
            "-pkeyopt", "rsa_padding_mode:pkcs1",
        )  # fmt: skip
        assert recovered == digest  # the bare 40 characters: no DigestInfo
        lines = text.decode().splitlines()
        assert len(lines[0]) == 14
        assert lines[1].startswith("E")
        assert len(lines[1]) == 15
        assert lines[2] == f"N{FQRN}"
        fingerprint = openssl("x509", "-in", certificate, "-fingerprint", "-sha1", "-noout").decode().strip()
        assert fingerprint.partition("=")[2] in lines[3:]

    def history(self, fields: dict[str, str]) -> None:
        tags = self.database("history", self.inflate(fields["H"] + "H"))
        trunk = rows(tags, "SELECT * FROM tags WHERE name = 'trunk'")[0]
        assert trunk["hash"] == fields["C"]
        assert str(trunk["revision"]) == fields["S"]
        assert str(trunk["size"]) == fields["B"]
        assert rows(tags, "SELECT * FROM branches") == [{"branch": "", "parent": None, "initial_revision": 0}]
        assert rows(tags, "SELECT value FROM properties WHERE key = 'fqrn'") == [{"value": FQRN}]

    def reflog(self, fields: dict[str, str]) -> None:
        content = (self.root / ".cvmfsreflog").read_bytes()
        assert hashlib.sha1(content).hexdigest() == fields["Y"]
        log = self.database("reflog", content)
        found = {(row["hash"], row["type"]) for row in rows(log, "SELECT hash, type FROM refs")}
        assert {(fields[letter], kind) for kind, letter in enumerate("CXHM")} <= found

    def catalog(self, fields: dict[str, str]) -> dict[str, dict[str, Any]]:
        content = self.inflate(fields["C"] + "C")
        assert len(content) == int(fields["B"])
        base = self.database("catalog", content)
        properties = {row["key"]: row["value"] for row in rows(base, "SELECT key, value FROM properties")}
        assert properties["schema"] == "2.5"
        assert properties["revision"] == fields["S"]
        assert "root_prefix" not in properties
        assert rows(base, "SELECT * FROM nested_catalogs UNION ALL SELECT * FROM bind_mountpoints") == []
        chunks: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
        for row in rows(
            base, "SELECT md5path_1, md5path_2, offset, size, hex(hash) AS hash FROM chunks ORDER BY offset"
        ):
            chunks[row["md5path_1"], row["md5path_2"]].append(row)
        children: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
        for row in rows(base, _CATALOG):
            assert row["kind"] == "text"
            row["chunks"] = chunks.pop((row["md5path_1"], row["md5path_2"]), [])
            children[row["parent_1"], row["parent_2"]].append(row)
        assert chunks == {}
        (top,) = children.pop((0, 0))
        assert (top["md5path_1"], top["md5path_2"]) == md5path("")
        assert top["flags"] == 1
        entries = {"": top}
        counted = Counter(dir=1)
        self.walk("", top, children, entries, counted)
        assert not children, "entries that no directory leads to"
        stored = {row["counter"]: row["value"] for row in rows(base, "SELECT counter, value FROM statistics")}
        assert len(stored) == 24
        assert {k: v for k, v in stored.items() if v} == {f"self_{k}": v for k, v in counted.items() if v}
        return entries

    def walk(
        self,
        path: str,
        directory: dict[str, Any],
        children: dict[tuple[int, int], list[dict[str, Any]]],
        entries: dict[str, dict[str, Any]],
        counted: Counter[str],
    ) -> None:
        groups: dict[int, list[dict[str, Any]]] = defaultdict(list)
        below = children.pop(md5path(path), [])
        for row in below:
            here = f"{path}/{row['name']}"
            assert (row["md5path_1"], row["md5path_2"]) == md5path(here)
            entries[here] = row
            group, links = row["hardlinks"] >> 32, row["hardlinks"] & 0xFFFFFFFF
            if row["flags"] & 1:
                assert row["mode"] & 0o170000 == 0o040000
                assert (group, row["digest"]) == (0, "")
                counted["dir"] += 1
                self.walk(here, row, children, entries, counted)
            elif row["flags"] & 8:
                assert row["flags"] & 4
                assert row["mode"] & 0o170000 == 0o120000
                assert row["size"] == len(row["symlink"].encode())
                assert row["digest"] == ""
                counted["symlink"] += 1
            else:
                assert row["mode"] & 0o170000 == 0o100000
                assert links == 1 or group > 0
                if group:
                    groups[group].append(row)
                row["content"] = self.file(row, counted)
        assert directory["hardlinks"] == 2 + sum(row["flags"] & 1 for row in below)
        for members in groups.values():
            assert all(row["hardlinks"] & 0xFFFFFFFF == len(members) for row in members)
            assert len({(row["digest"], row["size"], row["mode"], row["mtime"]) for row in members}) == 1

    def file(self, row: dict[str, Any], counted: Counter[str]) -> bytes:
        counted["regular"] += 1
        counted["file_size"] += row["size"]
        if row["flags"] & 64:
            assert row["digest"] == ""
            counted["chunked"] += 1
            counted["chunks"] += len(row["chunks"])
            counted["chunked_size"] += row["size"]
            content = b""
            for chunk in row["chunks"]:
                assert chunk["offset"] == len(content)
                piece = self.inflate(chunk["hash"].lower() + "P")
                assert len(piece) == chunk["size"]
                content += piece
        else:
            assert row["chunks"] == []
            content = self.inflate(row["digest"].lower())
        assert len(content) == row["size"]
        return content


@pytest.fixture
def keys(tmp_path: Path) -> RepositoryKeys:
    return key_files.create(tmp_path / "keys", FQRN, NOW)


@pytest.fixture
def oracle(tmp_path: Path, keys: RepositoryKeys) -> Oracle:
    return Oracle(tmp_path / FQRN, tmp_path / "keys" / f"{FQRN}.pub", tmp_path / "scratch")


def build(top: Path) -> Path:
    """A release with everything that the format has a rule for."""
    (top / "bin").mkdir(parents=True)
    (top / "bin/tool").write_text("#!/bin/sh\n")
    (top / "bin/tool").chmod(0o755)
    for name in ("alias", "alias2"):
        os.link(top / "bin/tool", top / "bin" / name)
    (top / "lib/a/b/c").mkdir(parents=True)
    (top / "lib/a/b/c/big").write_bytes(os.urandom(9_000_000))
    (top / "lib/exactly").write_bytes(b"z" * 4 * 1024 * 1024)
    (top / "lib/one-more").write_bytes(b"z" * (4 * 1024 * 1024 + 1))
    (top / "lib/empty").touch()
    (top / "lib/link").symlink_to("a/b/c/big")
    (top / "lib/dangling").symlink_to("../nowhere")
    (top / "lib/Überschrift").write_text("UTF-8")
    (top / "void").mkdir()
    for number in range(300):
        (top / f"lib/a/file{number}").write_text(f"{number % 7}")
    return top


def compare(entries: dict[str, dict[str, Any]], target: str, top: Path) -> None:
    """What the oracle saw below ``target`` is what stands on disk below ``top``."""
    on_disk = {f"{target}/{p.relative_to(top)}": p for p in top.rglob("*")} | {target: top}
    assert {path for path in entries if path == target or path.startswith(f"{target}/")} == set(on_disk)
    for path, place in on_disk.items():
        row, info = entries[path], place.lstat()
        assert (row["mode"], row["mtime"]) == (info.st_mode, int(info.st_mtime))
        if place.is_symlink():
            assert row["symlink"] == os.readlink(place)
        elif place.is_file():
            assert row["content"] == place.read_bytes()


async def test_three_revisions_obey_the_format(tmp_path: Path, keys: RepositoryKeys, oracle: Oracle) -> None:
    store = LocalStore(tmp_path / FQRN)
    release = build(tmp_path / "release")
    await publish(store, keys, FQRN, [Change(release, "/Tool/1.0")], NOW)
    fields, entries = oracle.check()
    assert fields["S"] == "1"
    compare(entries, "/Tool/1.0", release)
    assert entries["/Tool/1.0/bin/tool"]["hardlinks"] & 0xFFFFFFFF == 3
    assert [len(entries[f"/Tool/1.0/lib/{name}"]["chunks"]) for name in ("exactly", "one-more")] == [0, 2]
    first = fields["C"]

    second = tmp_path / "second"
    shutil.copytree(release, second, symlinks=True)
    shutil.rmtree(second / "lib/a/b")
    (second / "bin/tool").write_text("second\n")
    await publish(store, keys, FQRN, [Change(second, "/Tool/2.0")], NOW + 60)
    fields, entries = oracle.check()
    assert fields["S"] == "2"
    compare(entries, "/Tool/1.0", release)
    compare(entries, "/Tool/2.0", second)
    properties = rows(
        oracle.scratch / "catalog", "SELECT value FROM properties WHERE key = 'previous_revision'"
    )
    assert properties == [{"value": first}]
    previous = rows(
        oracle.scratch / "history", "SELECT hash, revision FROM tags WHERE name = 'trunk-previous'"
    )
    assert previous == [{"hash": first, "revision": 1}]

    changes = [Change(None, "/Tool/1.0"), Change(release, "/Tool/2.0"), Change(second, "/Other")]
    await publish(store, keys, FQRN, changes, NOW + 120)
    fields, entries = oracle.check()
    assert fields["S"] == "3"
    compare(entries, "/Tool/2.0", release)
    compare(entries, "/Other", second)
    assert not any(path.startswith("/Tool/1.0") for path in entries)


async def test_the_oracle_is_not_blind(tmp_path: Path, keys: RepositoryKeys, oracle: Oracle) -> None:
    """A signature over other text, a counter off by one, a byte changed: each is seen."""
    store = LocalStore(tmp_path / FQRN)
    release = build(tmp_path / "release")
    await publish(store, keys, FQRN, [Change(release, "/Tool/1.0")], NOW)
    for name in (".cvmfspublished", ".cvmfswhitelist", ".cvmfsreflog"):
        place = store.root / name
        whole = place.read_bytes()
        place.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises((AssertionError, subprocess.CalledProcessError)):
            oracle.check()
        place.write_bytes(whole)
    oracle.check()
