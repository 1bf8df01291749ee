"""The VO's keys on the admin's side: its CA, its token key, the certificates it issued.

They live in ``<state>/keys`` (0700, files 0600), made by the first `orchestrate up`. This is the
one place of the deploy plane that holds secrets; ledger, plans and logs never do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from orchestrator.runtime.files import read_json, write_atomic, write_json
from orchestrator.runtime.security import (
    Identity,
    Pair,
    create_ca,
    identity_of,
    issue,
    new_token_key,
    public_keys,
)


@dataclass(frozen=True)
class HostFiles:
    """Where the files of one host lie, to be delivered to it; ``token_signing`` only for central."""

    ca: Path
    certificate: Path
    key: Path
    token_keys: Path
    token_signing: Path | None


@dataclass(frozen=True)
class Authority:
    """The VO's CA and keys in ``directory``; ``lifetime`` of certificates in seconds."""

    directory: Path
    vo: str
    lifetime: float = 30 * 86400.0

    def ensure(self, now: float) -> None:
        """Make what is missing; nothing that exists is changed."""
        self.directory.mkdir(parents=True, exist_ok=True)
        os.chmod(self.directory, 0o700)
        if not (self.directory / "ca.pem").exists():
            pair = create_ca(self.vo, now)
            write_atomic(self.directory / "ca.key", pair.key, 0o600)
            write_atomic(
                self.directory / "ca.pem", pair.certificate
            )  # last: its presence says both are there
        if not (self.directory / "token-keys.json").exists():
            private = new_token_key()
            write_json(self.directory / "token-signing.json", private, 0o600)
            write_json(self.directory / "token-keys.json", public_keys(private))

    @property
    def ca(self) -> Path:
        """The CA's certificate."""
        return self.directory / "ca.pem"

    def host(self, name: str, address: str, role: str, site: str, now: float) -> HostFiles:
        """The files of host ``name``; its certificate is renewed when a third of its life is left."""
        pair = self._pair(self.directory / "hosts" / name, role, name, (name, address), now, site)
        signing = self.directory / "token-signing.json" if role == "central" else None
        return HostFiles(self.ca, *pair, self.directory / "token-keys.json", signing)

    def user(self, name: str, now: float) -> Pair:
        """The certificate of user ``name``."""
        certificate, key = self._pair(self.directory / "users" / name, "user", name, (), now)
        return Pair(certificate.read_bytes(), key.read_bytes())

    def _pair(
        self, folder: Path, role: str, name: str, addresses: tuple[str, ...], now: float, site: str = ""
    ) -> tuple[Path, Path]:
        certificate, key, made_for = folder / "cert.pem", folder / "key.pem", folder / "for.json"
        wanted = [role, name, site, *addresses]
        known = certificate.exists() and made_for.exists() and read_json(made_for) == wanted
        if known and identity_of(certificate.read_bytes()).expires - now > self.lifetime / 3:
            return certificate, key
        ca = Pair(self.ca.read_bytes(), (self.directory / "ca.key").read_bytes())
        pair = issue(ca, Identity(self.vo, role, name, now + self.lifetime, site), addresses, now)
        made_for.unlink(missing_ok=True)  # an interrupted renewal is made again
        write_atomic(key, pair.key, 0o600)
        write_atomic(certificate, pair.certificate)
        write_json(made_for, wanted)
        return certificate, key
