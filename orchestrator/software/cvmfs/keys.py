"""The keys of one repository: the master key signs the whitelist, the certificate's key signs manifests.

Files in the caller's directory, named as cvmfs_server names them: FQRN.masterkey and FQRN.key (0600),
FQRN.pub (what clients trust) and FQRN.crt. The master key may be absent: it belongs offline.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils
from cryptography.x509.oid import NameOID

from orchestrator.errors import NotFound, PermanentError, UserError
from orchestrator.runtime.files import write_atomic
from orchestrator.software.cvmfs.model import check_fqrn

PrivateKey = rsa.RSAPrivateKey
PublicKey = rsa.RSAPublicKey
BITS = 2048
_YEAR = datetime.timedelta(days=365)


@dataclass(frozen=True)
class RepositoryKeys:
    """What a publisher holds. ``master_public`` and ``certificate`` are PEM; ``master`` is None when offline."""

    fqrn: str
    signing: PrivateKey
    certificate: bytes
    master_public: bytes
    master: PrivateKey | None = None

    def __repr__(self) -> str:
        return f"RepositoryKeys({self.fqrn!r}, {fingerprint(self.certificate)})"


def create(directory: Path, fqrn: str, now: float) -> RepositoryKeys:
    """Make and store the keys of ``fqrn`` unless they are there; return them.

    The certificate is written last, so an interrupted call is repeated from the start and never mixes
    two sets: while FQRN.crt is absent nothing was ever signed for readers.
    """
    check_fqrn(fqrn)
    if (directory / f"{fqrn}.crt").exists():
        return load(directory, fqrn)
    master = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
    signing = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
    certificate = _certificate(signing, fqrn, now)
    public = master.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(directory / f"{fqrn}.masterkey", _private_pem(master), 0o600)
    write_atomic(directory / f"{fqrn}.key", _private_pem(signing), 0o600)
    write_atomic(directory / f"{fqrn}.pub", public)
    write_atomic(directory / f"{fqrn}.crt", certificate)
    return RepositoryKeys(fqrn, signing, certificate, public, master)


def load(directory: Path, fqrn: str) -> RepositoryKeys:
    """The keys of ``fqrn`` from ``directory``; NotFound when there are none, PermanentError when unusable."""
    check_fqrn(fqrn)
    try:
        signing = (directory / f"{fqrn}.key").read_bytes()
        certificate = (directory / f"{fqrn}.crt").read_bytes()
        public = (directory / f"{fqrn}.pub").read_bytes()
    except FileNotFoundError as error:
        raise NotFound(
            f"no keys for repository {fqrn}: {error.filename} is missing; make them or name their directory",
            fqrn=fqrn,
        ) from error
    master = directory / f"{fqrn}.masterkey"
    keys = RepositoryKeys(
        fqrn,
        _private(signing, f"{fqrn}.key"),
        certificate,
        public,
        _private(master.read_bytes(), master.name) if master.exists() else None,
    )
    if certificate_key(certificate).public_numbers() != keys.signing.public_key().public_numbers():
        raise PermanentError(f"{fqrn}.crt in {directory} does not belong to {fqrn}.key", fqrn=fqrn)
    return keys


def certificate_key(certificate: bytes) -> PublicKey:
    """The RSA key in a PEM certificate. Other kinds are refused: real clients do not verify them."""
    try:
        key = x509.load_pem_x509_certificate(certificate).public_key()
    except ValueError as error:
        raise PermanentError(f"the repository's certificate cannot be read: {error}") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise PermanentError("the repository's certificate has no RSA key; CernVM-FS needs one")
    return key


def public_key(pem: bytes) -> PublicKey:
    """The RSA public key in ``pem``; UserError when it is none."""
    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError as error:
        raise UserError(f"the repository's public master key cannot be read: {error}") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise UserError("the repository's public master key is not RSA; CernVM-FS needs RSA")
    return key


def fingerprint(certificate: bytes) -> str:
    """SHA-1 of the DER certificate as "AA:BB:…": the form that whitelists hold."""
    found = x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA1())  # noqa: S303
    return found.hex(":").upper()


def sign_digest(key: PrivateKey, digest: bytes) -> bytes:
    """A manifest's signature."""
    return key.sign(digest, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303


def verify_digest(key: PublicKey, signature: bytes, digest: bytes) -> bool:
    """True when ``signature`` is a manifest's signature of ``digest``."""
    try:
        key.verify(signature, digest, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303
    except InvalidSignature:
        return False
    return True


def sign_raw(key: PrivateKey, digest: bytes) -> bytes:
    """A whitelist's signature: PKCS#1 type-1 padding around the bare digest, no DigestInfo."""
    return key.sign(digest, padding.PKCS1v15(), utils.NoDigestInfo())


def verify_raw(key: PublicKey, signature: bytes, digest: bytes) -> bool:
    """True when ``signature`` is a whitelist's signature of ``digest``."""
    try:
        return key.recover_data_from_signature(signature, padding.PKCS1v15(), None) == digest
    except InvalidSignature:
        return False


def _certificate(key: PrivateKey, fqrn: str, now: float) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{fqrn} CernVM-FS Release Managers"[:64])])
    start = datetime.datetime.fromtimestamp(now, datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - datetime.timedelta(days=1))
        .not_valid_after(start + 10 * _YEAR)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _private(pem: bytes, name: str) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise PermanentError(f"the key {name} cannot be read: {type(error).__name__}") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise PermanentError(f"the key {name} is not RSA; CernVM-FS needs RSA")
    return key
