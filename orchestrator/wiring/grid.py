"""How a person's commands reach the central services: whose certificate, which central, which token.

An *identity* is one JSON file (0600): VO, user, central's URL, the VO's CA, certificate and key.
The site admin's is made from ``<state>/keys``; everybody else gets one from their admin
(`orchestrate user add`) and keeps it by `orchestrate login FILE`.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.auth.authority import Authority
from orchestrator.auth.client import certificate_tokens
from orchestrator.errors import NotFound, UserError
from orchestrator.providers.base import Machine
from orchestrator.runtime.clock import SystemClock
from orchestrator.runtime.files import read_json, write_json
from orchestrator.runtime.http import Api, TokenSource
from orchestrator.runtime.security import Pair
from orchestrator.site.load import load
from orchestrator.site.schema import Role, Site
from orchestrator.wiring.configure import admins_of
from orchestrator.wiring.sites import providers, state_directory

KEPT = 300.0  # seconds; shorter than the life of any token
PORTS = {"central": 8443, "broker": 8444, "clustermonitor": 8445, "packman": 8446, "se": 8447, "web": 8080}


@dataclass(frozen=True)
class Identity:
    """Who a person is in a VO, and where its central services are. PEM texts."""

    vo: str
    user: str
    central: str
    ca: str
    certificate: str
    key: str
    web: dict[str, str]  # repository → URL of its PackMan

    @property
    def pair(self) -> Pair:
        return Pair(self.certificate.encode(), self.key.encode())


@dataclass(frozen=True)
class Connection:
    """A person's line to the grid."""

    central: Api
    vo: str
    user: str
    token: TokenSource
    tls: ssl.SSLContext
    state: Path  # where this person's secrets of the VO lie
    addresses: dict[str, str]  # repository → address of the VO box that serves it

    def _address(self, fqrn: str) -> str:
        if fqrn not in self.addresses:
            known = ", ".join(sorted(self.addresses)) or "none"
            raise NotFound(f"repository {fqrn} is not one of this site; there is: {known}", fqrn=fqrn)
        return self.addresses[fqrn]

    def packman(self, fqrn: str) -> Api:
        """The PackMan that serves a repository; open it with ``async with``."""
        return Api(f"https://{self._address(fqrn)}:{PORTS['packman']}", self.tls, self.token, patience=30.0)

    def web_url(self, fqrn: str) -> str:
        """Where that VO box serves signed public content in clear."""
        return f"http://{self._address(fqrn)}:{PORTS['web']}"


def identities() -> Path:
    """The folder of identities that `orchestrate login FILE` kept."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "orchestrate"


def site_addresses(site: Site, state: Path) -> dict[str, str]:
    """Group of central or VO boxes → address of its first machine, as the providers list them."""
    homes = {group.provider for group in site.groups.values() if group.role is not Role.WORKER}
    listed = [provider.list() for name, provider in providers(site, state).items() if name in homes]
    return first_addresses(machine for machines in listed for machine in machines)


def first_addresses(machines: Iterable[Machine]) -> dict[str, str]:
    """Group → address of its first machine."""
    found: dict[str, str] = {}
    for machine in sorted(machines, key=lambda each: each.name):
        if machine.address:
            found.setdefault(machine.group, machine.address)
    return found


def identity_of(
    site: Site, state: Path, user: str = "", addresses: Mapping[str, str] | None = None
) -> Identity:
    """The identity of ``user`` (the site's first admin when empty), made with the keys in ``state``.

    ``addresses``: group → address of its first machine, by who has just listed them.
    """
    addresses = site_addresses(site, state) if addresses is None else addresses
    central = next((addresses[group] for group in site.names(Role.CENTRAL) if group in addresses), None)
    if central is None or not (state / "keys/ca.pem").exists():
        raise UserError(f"site {site.site} has no central services yet; run `orchestrate up` first")
    name = user or admins_of(state, False)[0]
    now = SystemClock().now()
    authority = Authority(state / "keys", site.vo, float(site.security.certificate_lifetime))
    pair = authority.user(name, now)
    repositories = {
        fqrn: addresses[each.server]
        for fqrn, each in site.software.repositories.items()
        if each.server in addresses
    }
    return Identity(
        site.vo,
        name,
        f"https://{central}:{PORTS['central']}",
        authority.ca.read_text(),
        pair.certificate.decode(),
        pair.key.decode(),
        repositories,
    )


def save(identity: Identity, file: Path) -> None:
    """Write an identity file (0600)."""
    write_json(file, asdict(identity), 0o600)


def read(file: Path) -> Identity:
    """Read an identity file; UserError says what is wrong with it."""
    try:
        return Identity(**read_json(file))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{file} is not an identity file of orchestrate: {error}") from error


def find(site_file: Path | None) -> tuple[Identity, Path]:
    """The identity to use and the folder of its secrets: of the site spec if it is up, else the kept one."""
    chosen = site_file or Path("site.yaml")
    if chosen.exists():
        site = load(chosen)
        state = state_directory(chosen, site)
        if state.exists() or site_file is not None:
            return identity_of(site, state), state / "keys"
    kept = sorted(identities().glob("*.json"))
    wanted = os.environ.get("ORCHESTRATE_VO")
    mine = [file for file in kept if not wanted or file.stem == wanted]
    if len(mine) == 1:
        return read(mine[0]), identities()
    if site_file is not None:
        raise UserError(f"{site_file} does not exist")
    hint = (
        "run it beside a site.yaml, add --site FILE, or `orchestrate login FILE` with the file of your admin"
    )
    several = f"you belong to {', '.join(file.stem for file in kept)}: set ORCHESTRATE_VO to one of them"
    raise UserError(several if len(mine) > 1 else f"which grid? {hint}")


@contextlib.asynccontextmanager
async def connect(site_file: Path | None = None, *, patience: float = 10.0) -> AsyncIterator[Connection]:
    """A connection of the person to the central services; the token is fetched with the first call."""
    identity, secrets = find(site_file)
    async with connected(identity, secrets, patience=patience) as connection:
        yield connection


@contextlib.asynccontextmanager
async def connected(
    identity: Identity, secrets: Path, *, patience: float = 10.0
) -> AsyncIterator[Connection]:
    """A connection of ``identity``; its token is kept in ``secrets`` (0600) from one command to the next."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.load_verify_locations(cadata=identity.ca)
    async with Api(identity.central, tls, patience=patience) as plain:
        fresh = certificate_tokens(plain, identity.pair, identity.vo)
        token = _kept(fresh, secrets / "tokens" / f"{identity.vo}-{identity.user}.json")
        async with Api(identity.central, tls, token, patience=patience) as central:
            yield Connection(central, identity.vo, identity.user, token, tls, secrets, identity.web)


def _kept(fresh: TokenSource, file: Path) -> TokenSource:
    """The token in ``file`` for five minutes, then a fresh one, which is kept there."""
    clock = SystemClock()
    held: dict[str, Any] = {"renew": 0.0}

    async def token() -> str:
        if held["renew"] <= clock.now():
            known = read_json(file) if file.exists() else held
            if float(known.get("renew", 0)) <= clock.now():
                known = {"token": await fresh(), "renew": clock.now() + KEPT}
                write_json(file, known, 0o600)
            held.update(known)
        return str(held["token"])

    return token
