"""The whitelist: which certificates may sign for a repository, until when, signed by the master key."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.errors import PermanentError
from orchestrator.software.cvmfs import signed
from orchestrator.software.cvmfs.keys import PrivateKey, fingerprint, public_key, sign_raw, verify_raw

LIFETIME = 30 * 86400  # seconds
_FORM = "%Y%m%d%H%M%S"


@dataclass(frozen=True)
class Whitelist:
    """A verified whitelist; ``expires`` in seconds since the epoch, cut to whole hours as clients do."""

    fqrn: str
    expires: float
    fingerprints: frozenset[str]

    def lists(self, certificate: bytes) -> bool:
        """True when ``certificate`` (PEM) may sign manifests."""
        return fingerprint(certificate) in self.fingerprints


def make(
    master: PrivateKey, fqrn: str, certificates: Sequence[bytes], now: float, lifetime: float = LIFETIME
) -> bytes:
    """A whitelist of ``certificates`` (PEM), valid from ``now`` for ``lifetime`` seconds. Renewing is making anew."""
    lines = [
        _stamp(now),
        f"E{_stamp(now + lifetime)}",
        f"N{fqrn}",
        *(fingerprint(certificate) for certificate in certificates),
    ]
    text = "".join(f"{line}\n" for line in lines).encode()
    return signed.seal(text, sign_raw(master, signed.digest_of(text)))


def verify(data: bytes, master_public: bytes, fqrn: str, now: float | None) -> Whitelist:
    """The whitelist in ``data`` when the master key signed it for ``fqrn`` and it is valid at ``now``.

    ``now`` None skips the expiry (a publisher that is about to renew). PermanentError otherwise.
    """
    letter = signed.unseal(data, f"the whitelist of {fqrn}")
    if not verify_raw(public_key(master_public), letter.signature, letter.digest):
        raise PermanentError(
            f"the whitelist of {fqrn} is not signed by the master key that this side trusts", fqrn=fqrn
        )
    lines = letter.text.decode("ascii", "replace").splitlines()
    try:
        expires = datetime.datetime.strptime(lines[1], "E" + _FORM).replace(tzinfo=datetime.UTC)
        name = lines[2]
    except (IndexError, ValueError) as error:
        raise PermanentError(f"the whitelist of {fqrn} is malformed", fqrn=fqrn) from error
    if name != f"N{fqrn}":
        raise PermanentError(f"the whitelist is of {name[1:]}, not of {fqrn}", fqrn=fqrn)
    end = expires.replace(minute=0, second=0).timestamp()
    if now is not None and now >= end:
        raise PermanentError(
            f"the whitelist of {fqrn} expired at {expires:%Y-%m-%d %H:00} UTC; renew it with the master key",
            fqrn=fqrn,
            expired=end,
        )
    listed = frozenset(line.split()[0].upper() for line in lines[3:] if ":" in line)
    return Whitelist(fqrn, end, listed)


def _stamp(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime(_FORM)
