"""Manifest, whitelist, keys: what verifies and what does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import GridError, NotFound, PermanentError
from orchestrator.software.cvmfs import keys as key_files
from orchestrator.software.cvmfs import manifest, whitelist
from orchestrator.software.cvmfs.keys import RepositoryKeys
from orchestrator.software.cvmfs.manifest import Manifest

FQRN = "alice.example.org"
NOW = 1_750_000_000.0
A, B, C, D = ("a" * 40, "b" * 40, "c" * 40, "d" * 40)
SAMPLE = Manifest(FQRN, A, 4096, 7, B, 1_750_000_000, C, D, A)


def test_a_manifest_has_the_lines_of_the_format_and_comes_back(keys: RepositoryKeys) -> None:
    data = manifest.sign(SAMPLE, keys.signing)
    lines = data.split(b"--\n")[0].decode().splitlines()
    assert lines[:9] == [
        f"C{A}",
        "B4096",
        "Rd41d8cd98f00b204e9800998ecf8427e",
        "D240",
        "S7",
        "Gyes",
        "Ano",
        f"N{FQRN}",
        f"X{B}",
    ]
    assert manifest.parse(data) == SAMPLE
    assert manifest.verify(data, keys.certificate, FQRN) == SAMPLE
    assert len(data.split(b"--\n", 1)[1]) == 41 + 256  # hash, newline, a 2048-bit signature, nothing more


def test_lines_from_elsewhere_are_kept(keys: RepositoryKeys) -> None:
    odd = replace(SAMPLE, extra=("L" + A,))
    assert manifest.parse(manifest.sign(odd, keys.signing)) == odd


def test_a_manifest_that_does_not_verify(keys: RepositoryKeys, other_keys: RepositoryKeys) -> None:
    data = manifest.sign(SAMPLE, keys.signing)
    with pytest.raises(PermanentError, match="not signed by its certificate"):
        manifest.verify(data, other_keys.certificate, FQRN)
    with pytest.raises(PermanentError, match="not of bob"):
        manifest.verify(data, keys.certificate, "bob.example.org")
    with pytest.raises(PermanentError, match="damaged"):
        manifest.verify(data.replace(b"S7", b"S8"), keys.certificate, FQRN)
    with pytest.raises(PermanentError, match="not signed"):
        manifest.verify(data + b"\n", keys.certificate, FQRN)


@pytest.mark.parametrize("line", [f"C{A}", f"X{B}", "S7", "D240", f"N{FQRN}"])
def test_a_manifest_without_a_required_line_is_malformed(keys: RepositoryKeys, line: str) -> None:
    class Short(Manifest):
        def text(self) -> bytes:
            return SAMPLE.text().replace(f"{line}\n".encode(), b"")

    data = manifest.sign(Short(FQRN, A, 1, 1, B, 1), keys.signing)
    with pytest.raises(PermanentError, match="malformed"):
        manifest.parse(data)


@pytest.mark.parametrize("data", [b"", b"--\n", b"C1\n--\n", b"C1\n--\n" + b"0" * 40 + b"\nx", b"\0" * 500])
def test_what_is_no_signed_file_is_refused(data: bytes) -> None:
    with pytest.raises(PermanentError):
        manifest.parse(data)


def test_a_whitelist_verifies_until_it_expires_in_whole_hours(keys: RepositoryKeys) -> None:
    assert keys.master is not None
    data = whitelist.make(keys.master, FQRN, [keys.certificate], NOW)
    found = whitelist.verify(data, keys.master_public, FQRN, NOW)
    assert found.lists(keys.certificate)
    assert found.expires == (NOW + 30 * 86400) // 3600 * 3600
    assert whitelist.verify(data, keys.master_public, FQRN, found.expires - 1)
    with pytest.raises(PermanentError, match="expired at"):
        whitelist.verify(data, keys.master_public, FQRN, found.expires)
    assert whitelist.verify(data, keys.master_public, FQRN, None) == found


def test_a_whitelist_of_another_master_repository_or_text_is_refused(
    keys: RepositoryKeys, other_keys: RepositoryKeys
) -> None:
    assert keys.master is not None
    data = whitelist.make(keys.master, FQRN, [keys.certificate], NOW)
    assert not whitelist.verify(data, keys.master_public, FQRN, NOW).lists(other_keys.certificate)
    with pytest.raises(PermanentError, match="not signed by the master key"):
        whitelist.verify(data, other_keys.master_public, FQRN, NOW)
    with pytest.raises(PermanentError, match="not of bob"):
        whitelist.verify(data, keys.master_public, "bob.example.org", NOW)
    with pytest.raises(PermanentError, match="not signed"):
        whitelist.verify(data + b"\n", keys.master_public, FQRN, NOW)


def test_a_manifest_signature_is_no_whitelist_signature(keys: RepositoryKeys) -> None:
    digest = b"0" * 40
    assert not key_files.verify_raw(
        keys.signing.public_key(), key_files.sign_digest(keys.signing, digest), digest
    )
    assert not key_files.verify_digest(
        keys.signing.public_key(), key_files.sign_raw(keys.signing, digest), digest
    )


def test_keys_are_made_once_and_private(tmp_path: Path, keys: RepositoryKeys) -> None:
    place = tmp_path / "keys"
    made = key_files.create(place, FQRN, NOW)
    again = key_files.create(place, FQRN, NOW + 1)
    assert again.certificate == made.certificate
    assert again.master is not None
    modes = {path.name: path.stat().st_mode & 0o777 for path in place.iterdir()}
    assert modes == {
        f"{FQRN}.masterkey": 0o600,
        f"{FQRN}.key": 0o600,
        f"{FQRN}.pub": 0o644,
        f"{FQRN}.crt": 0o644,
    }
    assert place.stat().st_mode & 0o777 == 0o700
    assert "PRIVATE" not in repr(made)
    (place / f"{FQRN}.masterkey").unlink()
    assert key_files.load(place, FQRN).master is None
    (place / f"{FQRN}.crt").write_bytes(keys.certificate)
    with pytest.raises(PermanentError, match="does not belong"):
        key_files.load(place, FQRN)
    (place / f"{FQRN}.key").write_text("garbage")
    with pytest.raises(GridError, match="cannot be read"):
        key_files.load(place, FQRN)


def test_absent_keys_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"alice\.example\.org\.key"):
        key_files.load(tmp_path, FQRN)
