"""Publish a release everywhere by one call: repository revision, archive and torrent, then the package entry.

Everything local comes first, so a version that exists with other contents is refused before anything
is touched. The entry at central is the commit point: until it is there, no job sees the release.
Each step finds out by itself whether it is done, so the same call again finishes a broken one.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.errors import NotFound, TemporaryError, UserError
from orchestrator.runtime.clock import Clock
from orchestrator.runtime.http import Api
from orchestrator.software import client, release
from orchestrator.software.cvmfs import keys as key_files
from orchestrator.software.cvmfs import manifest as manifests
from orchestrator.software.cvmfs.keys import RepositoryKeys
from orchestrator.software.cvmfs.model import MANIFEST, Change
from orchestrator.software.cvmfs.publish import publish as publish_revision
from orchestrator.software.cvmfs.store import HttpsStore
from orchestrator.software.locks import FileLock
from orchestrator.software.model import Package, PackageName, other_contents
from orchestrator.software.release import Record, Seen, Shelf
from orchestrator.software.steps import Meter, Sink, Step
from orchestrator.units import format_size


@dataclass(frozen=True)
class Ports:
    """Where a release goes: clients of central and of the VO box's PackMan, and the URL of that box's web."""

    central: Api
    packman: Api
    web: str


@dataclass(frozen=True, slots=True)
class Published:
    """``new`` is False when it was published already. ``warning``: what is not as it should be all the same."""

    package: Package
    new: bool
    files: int
    size: int
    seconds: float
    warning: str = ""


async def publish(
    ports: Ports,
    fqrn: str,
    name: str,
    version: str,
    directory: Path,
    *,
    keys: Path,
    work: Path,
    clock: Clock,
    progress: Sink,
) -> Published:
    """NAME::VERSION with the content of ``directory`` is in ``fqrn``, at the VO box, and known at central.

    ``keys``: directory of the repository's keys, made at the first publication; ``work``: where archives wait
    and runs remember. UserError names every problem of the input before anything is touched; PermanentError
    when the version has other contents; TemporaryError when a service is away: run it again.
    """
    started = clock.monotonic()
    meter = Meter(clock, progress)
    seen = await meter.time(
        Step.CHECK,
        asyncio.to_thread(release.look, directory, fqrn, name, version),
        lambda seen: (0, f"{seen.files} files, {format_size(seen.size)}"),
    )
    package = PackageName(name, version)
    shelf = Shelf(work, package)
    lock = FileLock(shelf.lock)
    if not lock.try_exclusive():
        raise TemporaryError(
            f"another publication of {package} runs from here; wait for its end", retry_in=5.0
        )
    try:
        run = _Run(ports, fqrn, package, directory, keys, shelf, clock, meter)
        made, new, warning = await run.all(seen)
    finally:
        lock.release()
    return Published(made, new, seen.files, seen.size, clock.monotonic() - started, warning)


@dataclass(frozen=True)
class _Run:
    ports: Ports
    fqrn: str
    package: PackageName
    directory: Path
    keys: Path
    shelf: Shelf
    clock: Clock
    meter: Meter

    async def all(self, seen: Seen) -> tuple[Package, bool, str]:
        known = await client.entry(self.ports.central, self.package)
        record = self.shelf.recall(seen) or (await self._pack(seen))[1]
        if known is not None and known.sha256 != record.sha256:
            self.shelf.clear(record)
            raise other_contents(str(self.package), known.sha256, record.sha256)
        record, revision, _ = await self.meter.time(
            Step.REPOSITORY,
            self._repository(record, known),
            lambda made: (seen.size if made[2] else 0, f"{self.fqrn} revision {made[1]}" + _unless(made[2])),
        )
        made = await self._deliver(seen, record, known, revision)
        if await asyncio.to_thread(release.fingerprint, self.directory) != seen.fingerprint:
            raise UserError(
                f"{self.directory} changed while it was published; publish again when the build has ended"
            )
        if made != known:
            made = await self.meter.time(
                Step.ENTRY,
                client.publish(self.ports.central, made),
                lambda _: (0, f"{self.package} is published"),
            )
        self.shelf.keep(record)
        self.shelf.clear(record)
        return made, known is None, await self._seed()

    async def _pack(self, seen: Seen) -> tuple[Path, Record]:
        return await self.meter.time(
            Step.ARCHIVE,
            asyncio.to_thread(self.shelf.pack, self.directory, seen, os.cpu_count() or 1),
            lambda made: (seen.size, f"{made[0].name}, {format_size(made[1].size)}"),
        )

    async def _repository(self, record: Record, known: Package | None) -> tuple[Record, int, bool]:
        """The record with the root that has the release, a revision with it, and whether it is a new one."""
        store = HttpsStore(self.ports.packman, self.fqrn)
        content = await store.get(MANIFEST)
        present = manifests.parse(content) if content is not None else None
        if present and (record.fqrn, record.root) == (self.fqrn, present.catalog):
            return record, _first(known, self.fqrn, present.revision), False
        change = Change(self.directory, f"/{self.package.name}/{self.package.version}")
        made = await publish_revision(
            store,
            await self._keys(exists=present is not None),
            self.fqrn,
            [change],
            self.clock.now(),
            progress=self.meter.within(Step.REPOSITORY),
        )
        record = replace(record, fqrn=self.fqrn, root=made.root)
        self.shelf.keep(record)
        revision = made.number if made.changed else _first(known, self.fqrn, made.number)
        return record, revision, made.changed

    async def _keys(self, *, exists: bool) -> RepositoryKeys:
        self.keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(self.keys / f".{self.fqrn}.lock")
        await lock.exclusive()
        try:
            return await asyncio.to_thread(key_files.load, self.keys, self.fqrn)
        except NotFound as error:
            if exists:  # new keys would only be refused, and then stand in the way of the right ones
                raise NotFound(
                    f"repository {self.fqrn} exists, but its keys are not in {self.keys}; copy "
                    f"{self.fqrn}.key, .crt and .pub there from the machine that published first",
                    fqrn=self.fqrn,
                ) from error
            return await asyncio.to_thread(key_files.create, self.keys, self.fqrn, self.clock.now())
        finally:
            lock.release()

    async def _deliver(self, seen: Seen, record: Record, known: Package | None, revision: int) -> Package:
        """The archive is at the VO box; the entry that says so."""
        from orchestrator.software.torrent import make
        from orchestrator.software.torrent.session import file_of

        file = file_of(known.torrent)[0] if known else self.shelf.file_name(record.sha256)
        url, tracker = f"{self.ports.web}/releases/{file}", f"{self.ports.web}/announce"
        there = await client.is_at(url, record.size)
        archive = self.shelf.archive(record)
        if archive is None and (known is None or not there):
            archive, again = await self._pack(seen)
            if again.sha256 != record.sha256:  # another release of the compressor
                raise TemporaryError(f"the archive of {self.package} came out differently; publish again")
        if known is not None:
            torrent = await asyncio.to_thread(
                make.readdress, known.torrent, trackers=[tracker], web_seeds=[url]
            )
        else:
            assert archive is not None
            torrent = await self.meter.time(
                Step.TORRENT,
                asyncio.to_thread(make.make, archive, trackers=[tracker], web_seeds=[url]),
                lambda made: (record.size, f"info-hash {made.info_hash}"),
            )
        if not there:
            assert archive is not None
            await self.meter.time(
                Step.UPLOAD,
                client.upload(
                    self.ports.packman,
                    self.package,
                    archive,
                    file,
                    record.sha256,
                    self.meter.within(Step.UPLOAD),
                ),
                lambda _: (record.size, url),
            )
        return Package(
            name=self.package.name,
            version=self.package.version,
            fqrn=self.fqrn,
            path=f"{self.package.name}/{self.package.version}",
            revision=revision,
            size=record.size,
            sha256=record.sha256,
            info_hash=torrent.info_hash,
            torrent=torrent.data,
        )

    async def _seed(self) -> str:
        """PackMan has laid the torrent where the seeder looks; what is wrong otherwise: it is published all the same."""
        path = f"/v1/packages/{self.package.name}/{self.package.version}"
        try:
            await self.meter.time(
                Step.SEED, self.ports.packman.get(path, timeout=60), lambda _: (0, "the VO box seeds it")
            )
        except (TemporaryError, NotFound) as error:
            return f"the VO box does not seed {self.package} yet: {error.message}"
        return ""


def _first(known: Package | None, fqrn: str, revision: int) -> int:
    """The revision that the entry names already, when it is one of the same repository."""
    return known.revision if known is not None and known.fqrn == fqrn else revision


def _unless(new: bool) -> str:
    return "" if new else " has it"
