"""A seeder that outlives being killed: its list is on disk, and whole files are not hashed again.

Blocking: a daemon calls it in a thread.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator.errors import GridError, UserError
from orchestrator.software.torrent.session import Session, Torrent, file_of, info_hash_of


@dataclass(frozen=True, slots=True)
class Seed:
    """One line of the list. ``verified``: all pieces were right when size and mtime were these."""

    info_hash: str
    archive: str
    size: int
    mtime_ns: int
    verified: bool


class Seeder:
    """Seeds archives listed in ``root`` through a session that the caller owns and closes."""

    def __init__(self, root: Path, session: Session, *, trackers: Sequence[str] = ()) -> None:
        self._root = root
        self._session = session
        self._trackers = tuple(trackers)
        self._seeds: dict[str, Seed] = {}
        self._joined: dict[str, Torrent] = {}
        self._adopted: dict[Path, int] = {}

    def start(self) -> dict[str, str]:
        """Everything on the list is seeded again; gives the problems (info-hash → what is wrong)."""
        self._root.mkdir(parents=True, exist_ok=True)
        for entry in sorted(self._root.glob("*.json")):
            seed = Seed(**json.loads(entry.read_text()))
            self._seeds[seed.info_hash] = seed
        return self.maintain()

    def add(self, archive: Path, torrent: bytes, *, verified: bool = False) -> str:
        """The archive is on the list and seeded; gives the info-hash. Adding it again changes nothing.

        ``verified`` when the caller has just made or checked the file; else it is hashed once.
        UserError if the archive is not what the torrent describes.
        """
        name, size = file_of(torrent)
        archive = archive.absolute()
        if not archive.is_file() or archive.name != name or archive.stat().st_size != size:
            raise UserError(
                f"{archive} is not the file of the torrent: {name}, {size} bytes", path=str(archive)
            )
        mtime_ns = archive.stat().st_mtime_ns
        info_hash = info_hash_of(torrent)
        for other in list(self._seeds.values()):
            same = other.info_hash == info_hash
            if same and other.archive == str(archive) and other.mtime_ns == mtime_ns:
                self._look_after(other)
                return info_hash
            if same or other.archive == str(archive):
                self.drop(other.info_hash)  # moved, or replaced by another content
        # The torrent first, its line second: a line without torrent can't be seeded after a kill.
        _write(self._root / f"{info_hash}.torrent", torrent)
        seed = Seed(info_hash, str(archive), size, mtime_ns, verified)
        self._record(seed)
        self._look_after(seed)
        return info_hash

    def adopt(self, directory: Path) -> dict[str, str]:
        """Every FILE in the directory with FILE.torrent beside it is seeded; gives the problems.

        To be called now and then: a torrent file is read again only when it changed.
        """
        problems = {}
        for torrent in sorted(directory.glob("*.torrent")):
            mtime_ns = torrent.stat().st_mtime_ns
            if self._adopted.get(torrent) == mtime_ns:
                continue
            try:
                self.add(torrent.with_suffix(""), torrent.read_bytes())
            except GridError as wrong:
                problems[torrent.name] = wrong.message
            else:
                self._adopted[torrent] = mtime_ns
        return problems

    def drop(self, info_hash: str) -> None:
        """It is no longer seeded nor on the list; the archive stays."""
        (self._root / f"{info_hash}.json").unlink(missing_ok=True)
        (self._root / f"{info_hash}.torrent").unlink(missing_ok=True)
        self._seeds.pop(info_hash, None)
        if joined := self._joined.pop(info_hash, None):
            self._session.remove(joined)

    def maintain(self) -> dict[str, str]:
        """To be called now and then: what was checked is noted, what changed is checked again.

        Gives the problems, info-hash → what is wrong; a file that comes back is seeded again.
        """
        problems = {}
        for seed in list(self._seeds.values()):
            if wrong := self._look_after(seed):
                problems[seed.info_hash] = wrong
        return problems

    def seeds(self) -> list[Seed]:
        """The list."""
        return sorted(self._seeds.values(), key=lambda seed: seed.archive)

    def ready(self) -> bool:
        """Everything on the list is being seeded whole."""
        return all(
            seed.info_hash in self._joined and self._joined[seed.info_hash].standing().complete
            for seed in self._seeds.values()
        )

    def uploaded(self) -> int:
        """Payload bytes given to others since the start."""
        return sum(joined.uploaded() for joined in self._joined.values())

    def _look_after(self, seed: Seed) -> str:
        archive, joined = Path(seed.archive), self._joined.get(seed.info_hash)
        facts = archive.stat() if archive.is_file() else None
        if facts is None or facts.st_size != seed.size:
            if joined is not None:
                self._session.remove(self._joined.pop(seed.info_hash))
            return (
                f"{archive} is missing"
                if facts is None
                else f"{archive} has {facts.st_size} bytes, not {seed.size}"
            )
        if facts.st_mtime_ns != seed.mtime_ns:
            seed = Seed(**asdict(seed) | {"mtime_ns": facts.st_mtime_ns, "verified": False})
            self._record(seed)
            if joined is not None:
                joined.recheck()
        if joined is None:
            joined = self._joined[seed.info_hash] = self._session.add(
                (self._root / f"{seed.info_hash}.torrent").read_bytes(),
                archive.parent,
                verified=seed.verified,
                upload_only=True,
                trackers=self._trackers,
            )
        standing = joined.standing()
        if standing.complete and not seed.verified:
            self._record(Seed(**asdict(seed) | {"verified": True}))
        if standing.error:
            return f"{archive}: {standing.error}"
        if not standing.complete and not standing.checking:
            return f"{archive} is damaged: {standing.done} of {standing.total} bytes are right"
        return ""

    def _record(self, seed: Seed) -> None:
        _write(self._root / f"{seed.info_hash}.json", json.dumps(asdict(seed)).encode())
        self._seeds[seed.info_hash] = seed


def _write(path: Path, data: bytes) -> None:
    """Atomic and durable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(name, path)
