"""Certificates of the VO's own CA, and signed tokens. Primitives only; who may do what is ``auth``.

Keys are ECDSA P-256. Tokens are JWTs signed with ES256 (RFC 7519, RFC 7518). An *assertion* is a
JWT signed by the key of a certificate, which travels in its ``x5c`` header (RFC 7515, RFC 7523):
it proves possession of that key without anything long-lived being shared.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from orchestrator.errors import NotAllowed

ALGORITHM = "ES256"
LONGEST_ASSERTION = 300  # seconds; its number is remembered so long, and 5 minutes more
CLOCK_SKEW = 60.0  # seconds that clocks of two machines may differ


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True)
class Identity:
    """What a certificate says: O=vo, L=site (hosts), OU=role, CN=name."""

    vo: str
    role: str
    name: str
    expires: float  # seconds since the epoch
    site: str = ""


def _utc(now: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(now, datetime.UTC)


def _name(vo: str, role: str, name: str, site: str = "") -> x509.Name:
    parts = (
        (NameOID.ORGANIZATION_NAME, vo),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, role),
        (NameOID.COMMON_NAME, name),
    )
    place = ((NameOID.LOCALITY_NAME, site),) if site else ()
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in (*parts, *place)])


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def create_ca(vo: str, now: float, lifetime: float = 10 * 365 * 86400.0) -> Pair:
    """A new self-signed CA of ``vo``, valid ``lifetime`` seconds from an hour before ``now``."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(vo, "ca", f"{vo} CA")
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(_utc(now - 3600))
        .not_valid_after(_utc(now + lifetime))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def issue(ca: Pair, identity: Identity, addresses: Sequence[str], now: float) -> Pair:
    """A certificate for ``identity`` with ``addresses`` (names or IP addresses) as its SAN."""
    authority = x509.load_pem_x509_certificate(ca.certificate)
    signer = serialization.load_pem_private_key(ca.key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = []
    for address in addresses:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError:
            names.append(x509.DNSName(address))
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if names else [])]
    builder = (
        x509.CertificateBuilder(
            authority.subject,
            _name(identity.vo, identity.role, identity.name, identity.site),
            key.public_key(),
            x509.random_serial_number(),
        )
        .not_valid_before(_utc(now - 3600))
        .not_valid_after(min(_utc(identity.expires), authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def identity_of(certificate: bytes) -> Identity:
    """What a PEM certificate says of its owner (nothing is verified)."""
    return _identity(x509.load_pem_x509_certificate(certificate))


def _identity(certificate: x509.Certificate) -> Identity:
    def one(oid: x509.ObjectIdentifier) -> str:
        found = certificate.subject.get_attributes_for_oid(oid)
        return str(found[0].value) if found else ""

    return Identity(
        one(NameOID.ORGANIZATION_NAME),
        one(NameOID.ORGANIZATIONAL_UNIT_NAME),
        one(NameOID.COMMON_NAME),
        certificate.not_valid_after_utc.timestamp(),
        one(NameOID.LOCALITY_NAME),
    )


def new_token_key() -> dict[str, Any]:
    """A new private signing key as a JWK; ``public_keys`` gives its public half."""
    return dict(
        ECKey.generate_key("P-256", {"use": "sig", "alg": ALGORITHM}, auto_kid=True).as_dict(private=True)
    )


def public_keys(private: Mapping[str, Any]) -> dict[str, Any]:
    """The JWKS that verifies what ``private`` signs."""
    return {"keys": [ECKey.import_key(dict(private)).as_dict(private=False)]}


class TokenVerifier:
    """Verifies tokens of one VO with the public keys alone."""

    def __init__(self, vo: str, jwks: Mapping[str, Any]) -> None:
        self.vo = vo
        self._keys = KeySet.import_key_set(dict(jwks))  # type: ignore[arg-type]

    def verify(self, token: str, now: float) -> dict[str, Any]:
        """The claims of ``token``; NotAllowed when it is forged, of another VO, or expired."""
        try:
            claims = jwt.decode(token, self._keys, algorithms=[ALGORITHM]).claims
        except (JoseError, ValueError) as error:
            raise NotAllowed(f"the token is not one of VO {self.vo}: {error}") from error
        if claims.get("iss") != self.vo:
            raise NotAllowed(f"the token was issued by {claims.get('iss')}, not by VO {self.vo}")
        if now > float(claims.get("exp", 0)):
            raise NotAllowed("the token has expired; run `orchestrate login`", expired=claims.get("exp"))
        return dict(claims)


def make_assertion(pair: Pair, audience: str, nonce: str, now: float) -> str:
    """A 60 s proof, for ``audience`` alone, that the caller holds the key of ``pair``."""
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    chain = [base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()]
    claims = {"aud": audience, "iat": int(now), "exp": int(now + 60), "jti": nonce}
    return jwt.encode({"alg": ALGORITHM, "x5c": chain}, claims, ECKey.import_key(pair.key))


def check_assertion(assertion: str, ca: bytes, audience: str, now: float) -> tuple[Identity, dict[str, Any]]:
    """Who made ``assertion``, by a certificate that ``ca`` (PEM) signed, and its claims; NotAllowed otherwise."""
    from joserfc import jws

    registry = jws.JWSRegistry(algorithms=[ALGORITHM])
    registry.max_header_length = 8192  # the certificate travels in the header; the library's limit is 512
    authority = x509.load_pem_x509_certificate(ca)
    try:
        header = jws.extract_compact(assertion.encode(), registry=registry).headers()
        certificate = x509.load_der_x509_certificate(base64.b64decode(header["x5c"][0]))
        certificate.verify_directly_issued_by(authority)
        public = certificate.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        key = ECKey.import_key(public)
        claims = jwt.decode(assertion, key, algorithms=[ALGORITHM], registry=registry).claims
    except (JoseError, ValueError, KeyError, IndexError, TypeError, InvalidSignature) as error:
        raise NotAllowed(f"the assertion does not hold: {error}") from error
    if not certificate.not_valid_before_utc <= _utc(now) <= certificate.not_valid_after_utc:
        raise NotAllowed("the certificate has expired; run `orchestrate up` to renew it")
    made, ends, number = (claims.get(name) for name in ("iat", "exp", "jti"))
    if not isinstance(made, int) or not isinstance(ends, int) or not isinstance(number, str):
        raise NotAllowed("the assertion lacks its times or its number")
    if not 0 <= ends - made <= LONGEST_ASSERTION or not 0 < len(number) <= 100 or not number.isprintable():
        raise NotAllowed(f"an assertion may hold {LONGEST_ASSERTION} s at most, and have a number of its own")
    fresh = made - CLOCK_SKEW <= now <= ends + CLOCK_SKEW
    if claims.get("aud") != audience or not fresh:
        raise NotAllowed("the assertion is for another service or too old; are the clocks right?")
    return _identity(certificate), dict(claims)
