"""The manifest `.cvmfspublished`: which catalog is the present revision, signed. Pure but for the keys' use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.errors import PermanentError
from orchestrator.software.cvmfs import signed
from orchestrator.software.cvmfs.keys import PrivateKey, certificate_key, sign_digest, verify_digest

ROOT_MD5 = "d41d8cd98f00b204e9800998ecf8427e"  # of the empty path; a client insists on it
TTL = 240  # seconds


@dataclass(frozen=True)
class Manifest:
    """The fields of a manifest; hashes are hex without suffix, ``published`` seconds since the epoch.

    ``extra`` keeps lines that this program does not know, so a repository made elsewhere loses nothing.
    """

    fqrn: str
    catalog: str
    catalog_size: int
    revision: int
    certificate: str
    published: int
    history: str = ""
    metainfo: str = ""
    reflog: str = ""
    ttl: int = TTL
    collectable: bool = True
    extra: tuple[str, ...] = ()

    def text(self) -> bytes:
        """The lines that are signed."""
        lines = [
            f"C{self.catalog}",
            f"B{self.catalog_size}",
            f"R{ROOT_MD5}",
            f"D{self.ttl}",
            f"S{self.revision}",
            f"G{'yes' if self.collectable else 'no'}",
            "Ano",
            f"N{self.fqrn}",
            f"X{self.certificate}",
            *([f"H{self.history}"] if self.history else []),
            f"T{self.published}",
            *([f"M{self.metainfo}"] if self.metainfo else []),
            *([f"Y{self.reflog}"] if self.reflog else []),
            *self.extra,
        ]
        return "".join(f"{line}\n" for line in lines).encode()


def sign(manifest: Manifest, key: PrivateKey) -> bytes:
    """The file: RSASSA-PKCS1-v1_5 with SHA-1 over the 40 hex characters (a real client refuses SHA-256)."""
    text = manifest.text()
    return signed.seal(text, sign_digest(key, signed.digest_of(text)))


def parse(data: bytes) -> Manifest:
    """The manifest in ``data``, its signature *not* checked; PermanentError when malformed."""
    letter = signed.unseal(data, "the manifest")
    lines = letter.text.decode("utf-8", "surrogateescape").splitlines()
    fields = {line[:1]: line[1:] for line in lines}
    try:
        return Manifest(
            fqrn=fields["N"],
            catalog=_hash(fields, "C"),
            catalog_size=int(fields.get("B", "0")),
            revision=int(fields["S"]),
            certificate=_hash(fields, "X"),
            published=int(fields.get("T", "0")),
            history=_hash(fields, "H") if "H" in fields else "",
            metainfo=_hash(fields, "M") if "M" in fields else "",
            reflog=_hash(fields, "Y") if "Y" in fields else "",
            ttl=int(fields["D"]),
            collectable=fields.get("G") == "yes",
            extra=tuple(line for line in lines if line[:1] not in set("CBRDSGANXHTMY")),
        )
    except (KeyError, ValueError) as error:
        raise PermanentError(f"the manifest is malformed at {error}", field=str(error)) from error


def verify(data: bytes, certificate: bytes, fqrn: str) -> Manifest:
    """The manifest in ``data`` when ``certificate`` (PEM) signed it for ``fqrn``; PermanentError otherwise."""
    letter = signed.unseal(data, f"the manifest of {fqrn}")
    if not verify_digest(certificate_key(certificate), letter.signature, letter.digest):
        raise PermanentError(f"the manifest of {fqrn} is not signed by its certificate", fqrn=fqrn)
    found = parse(data)
    if found.fqrn != fqrn:
        raise PermanentError(f"the manifest is of {found.fqrn}, not of {fqrn}", fqrn=fqrn, found=found.fqrn)
    return found


def _hash(fields: Mapping[str, str], letter: str) -> str:
    value = fields[letter]
    if len(value) != 40 or set(value) - set("0123456789abcdef"):
        raise ValueError(f"{letter}{value}")
    return value
