"""The port ``Provider`` over many hypervisors. A machine is a domain that carries our record as metadata.

What was last seen of each hypervisor is kept in the state directory, so the machines of one that cannot be
asked are still known: unreachable is not dead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from orchestrator.errors import GridError, PermanentError, TemporaryError
from orchestrator.providers import _record
from orchestrator.providers.base import Machine, MachineSpec, MachineState, Object, Offering, QuotaExceeded
from orchestrator.providers.libvirt import text
from orchestrator.providers.libvirt.hypervisor import Domain, Hypervisor, Unreachable
from orchestrator.providers.libvirt.known import Known, Seen
from orchestrator.providers.libvirt.place import Room, Size
from orchestrator.providers.libvirt.seed import SECTOR, Address, done, seed
from orchestrator.site.schema import LibvirtProvider as Settings
from orchestrator.site.schema import Site, VirtualSize
from orchestrator.site.virtual import addresses_of

_CONSOLE = 16_000  # bytes
_TO_RUN = "user-data"  # tag of a machine that has user data to run
_AT_ONCE = 32  # hypervisors asked at the same time


class LibvirtProvider:
    """The port ``Provider``, with consoles, objects and offerings."""

    def __init__(self, name: str, settings: Settings, site: Site, state_dir: Path) -> None:
        self.name = name
        self._site, self._settings = site, settings
        self._tag = text.Tag(site.vo, site.site, name)
        self._root = f"/opt/orchestrate/{site.site}"
        self._hypervisors = {
            each.name: Hypervisor(each.name, each.uri, settings.pool, Size(each.cores or 0, each.memory or 0))
            for each in settings.hypervisors
        }
        self._known = Known(state_dir.resolve() / "libvirt" / f"{name}.json", self._hypervisors, self._ours)

    def list(self) -> Sequence[Machine]:
        """The domains that carry our record, by name; the hypervisors are asked in parallel."""
        asked = self._known.now()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            answers = dict(
                zip(self._hypervisors, pool.map(self._ask, self._hypervisors.values()), strict=True)
            )
        for host, (answer, room) in answers.items():
            if isinstance(answer, Unreachable):
                self._known.silent[host] = answer.message
            else:
                self._known.learn(host, answer, room, asked)
        self._known.looked = True
        return [self._machine(self._booting(seen)) for seen in self._known.all()]

    def create(self, spec: MachineSpec) -> Machine:
        """The domain is defined and was started, on the hypervisor with the most room.

        QuotaExceeded when no hypervisor has room, Unreachable when the machine's own cannot be asked,
        PermanentError when the name is taken by a domain that is not this machine.
        """
        size = self._size(spec)
        with self._known.working(spec.name):
            seen = self._reserve(spec, size)
            host = self._hypervisors[seen.host]
            domain = next((each for each in host.domains() if each.name == spec.name), None)
            try:
                if domain is None:
                    self._build(host, spec, seen.record, size)
                else:
                    seen = replace(seen, record=self._same(domain, spec))
                    if domain.state is MachineState.STOPPED:
                        self._seed(host, spec, seen.record)
                host.start(spec.name)
            except GridError:
                if domain is None:
                    self._give_up(host, spec.name)
                raise
            seen = replace(seen, state=MachineState.RUNNING)
            self._known.put(seen)
            return self._machine(self._booting(seen))

    def destroy(self, name: str, *, keep_data: bool = False) -> None:  # noqa: ARG002  a worker keeps nothing
        """The domain and its volumes are gone, wherever they were; TemporaryError when the machine's own
        hypervisor cannot be asked."""
        if not self._known.looked:
            self.list()
        with self._known.working(name):
            seen = self._known.get(name)
            for host in [self._hypervisors[seen.host]] if seen else self._hypervisors.values():
                if seen is None and host.name in self._known.silent:
                    continue  # what may be left there is seen by ``objects``
                self._remove(host, name)
            self._known.forget(name)

    def console(self, name: str) -> str:
        """The end of what the machine printed on its serial line."""
        seen = self._known.get(name)
        if seen is None:
            return ""
        kept = self._hypervisors[seen.host].tail(self._tag.volume(name, "log"), _CONSOLE)
        return kept.decode(errors="replace")

    def objects(self) -> Sequence[Object]:
        """Every volume that carries our tag, on the hypervisors that answer."""
        found = []
        for host in self._hypervisors.values():
            with suppress(Unreachable):
                for volume in host.volumes():
                    if owner := self._tag.owner(volume):
                        found.append(Object(owner[1], f"{host.name}/{volume}", owner[0]))
        return found

    def remove(self, thing: Object) -> None:
        """The volume is gone."""
        host, _, volume = thing.id.partition("/")
        if host in self._hypervisors:
            self._hypervisors[host].remove_volume(volume)

    def offerings(self) -> Mapping[str, Offering]:
        """The sizes that the site spec names."""
        named = self._settings.offerings.items()
        return {name: Offering(size.cores, int(size.memory)) for name, size in named}

    # --- one machine

    def _build(self, host: Hypervisor, spec: MachineSpec, record: _record.Record, size: VirtualSize) -> None:
        """Disk and seed first: a domain that is defined lacks nothing."""
        if not spec.image:
            raise PermanentError(
                f"{spec.name}: machines of provider {self.name} boot an image; name one (`image` of the group)",
                machine=spec.name,
            )
        disk = host.make_disk(self._tag.volume(spec.name, "disk"), spec.image, int(size.disk or 0))
        network = self._settings.network
        description = text.domain(
            spec.name,
            record.dump(),
            Size(size.cores, int(size.memory)),
            self._settings.type,
            text.Wiring(network.libvirt or "", network.bridge or ""),
            disk,
            self._seed(host, spec, record),
            host.put(self._tag.volume(spec.name, "log"), b""),
        )
        host.define(description)

    def _booting(self, seen: Seen) -> Seen:
        """A machine boots until its context succeeded, which wipes the user data from its seed."""
        name, tags = seen.record.name, seen.record.tags
        known = name in self._known.booted or seen.host in self._known.silent
        if seen.state is not MachineState.RUNNING or _TO_RUN not in tags or known:
            return seen
        try:
            wiped = done(self._hypervisors[seen.host].tail(self._tag.volume(name, "seed"), SECTOR))
        except TemporaryError:  # the next list asks again
            wiped = False
        if not wiped:
            return replace(seen, state=MachineState.BOOTING)
        self._known.booted.add(name)
        return seen

    def _seed(self, host: Hypervisor, spec: MachineSpec, record: _record.Record) -> str:
        network = self._settings.network
        dns = tuple(map(str, network.dns))
        address = None
        if network.addresses:
            address = Address(record.address, network.prefix, str(network.gateway or ""), dns)
        self._known.booted.discard(spec.name)
        content = seed(spec.name, self._root, record.dump(), spec.user_data, address)
        return host.put(self._tag.volume(spec.name, "seed"), content)

    def _same(self, domain: Domain, spec: MachineSpec) -> _record.Record:
        found = _record.parse_record(domain.record)
        if found is None or not self._ours(found):
            self._known.forget(spec.name)
            raise PermanentError(
                f"{spec.name}: a domain of that name exists and is not ours; rename the site or that domain",
                machine=spec.name,
            )
        if (found.role, found.group) != (spec.role, spec.group):
            raise PermanentError(
                f"{spec.name} exists as {found.role} of group {found.group}; destroy it first",
                machine=spec.name,
            )
        return found

    # --- where it is, and what is taken

    def _reserve(self, spec: MachineSpec, size: VirtualSize) -> Seen:
        if not self._known.looked:
            self.list()
        wanted, given = Size(size.cores, int(size.memory)), self._settings.network.addresses
        tags = {**spec.tags, "provider": self.name} | ({_TO_RUN: "yes"} if spec.user_data else {})
        site = self._site
        record = _record.Record(spec.name, spec.group, spec.role, site.vo, site.site, "", tags)
        seen = self._known.reserve(wanted, spec.avoid, addresses_of(given) if given else (), record)
        if seen is None:
            silent = dict(self._known.silent)
            raise QuotaExceeded(
                f"provider {self.name}: no hypervisor has room for {wanted.cores} cores and {wanted.memory >> 20} MiB"
                f"{f', or no address of {given} is free' if given else ''} ({len(self._hypervisors)} in the pool). "
                f"{'; '.join(silent.values())}".strip(),
                retry_in=30.0,
                provider=self.name,
                silent=silent,
            )
        return seen

    def _size(self, spec: MachineSpec) -> VirtualSize:
        if not spec.offering:
            return VirtualSize()
        if spec.offering not in self._settings.offerings:
            raise PermanentError(
                f"{spec.name}: provider {self.name} has no offering {spec.offering}", machine=spec.name
            )
        return self._settings.offerings[spec.offering]

    def _give_up(self, host: Hypervisor, name: str) -> None:
        """Nothing is left of a machine that never ran; what cannot be removed now is still known."""
        with suppress(GridError):
            self._remove(host, name)
            self._known.forget(name)

    def _remove(self, host: Hypervisor, name: str) -> None:
        """The domain, if it is ours, then its volumes."""
        host.remove(name, lambda tag: (found := _record.parse_record(tag)) is not None and self._ours(found))
        for volume in host.volumes():
            owner = self._tag.owner(volume)
            if owner and owner[0] == name:
                host.remove_volume(volume)

    def _ask(self, host: Hypervisor) -> tuple[Sequence[Domain] | Unreachable, Room]:
        try:
            domains = host.domains()
            return domains, host.room(domains)
        except Unreachable as error:
            return error, Room(Size(0, 0))

    def _ours(self, record: _record.Record) -> bool:
        found = (record.vo, record.site, record.tags.get("provider"))
        return found == (self._site.vo, self._site.site, self.name)

    def _machine(self, seen: Seen) -> Machine:
        record = seen.record
        silent = seen.host in self._known.silent
        return Machine(
            name=record.name,
            group=record.group,
            role=record.role,
            provider=self.name,
            state=MachineState.UNREACHABLE if silent else seen.state,
            address=record.address,
            root=self._root,
            tags=record.tags,
            place=seen.host,
        )
