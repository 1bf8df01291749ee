"""The one place that makes a libtorrent session: our settings, and nothing that would leak or wait.

Every method may be called from any thread; those that wait say so.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libtorrent as lt

from orchestrator.errors import PermanentError, TemporaryError, UserError

_BLOCKED = 1
_ALL_IPV4 = ("0.0.0.0", "255.255.255.255")  # noqa: S104 (a range, not a listener)
_ALL_IPV6 = ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
_WEB_SEED_KINDS = (lt.peer_info.web_seed, lt.peer_info.http_seed)


@dataclass(frozen=True, slots=True)
class Standing:
    """How one torrent does: bytes it has, whether it is complete, and the error that stopped it."""

    done: int
    total: int
    complete: bool
    checking: bool
    error: str


@dataclass(frozen=True, slots=True)
class Source:
    """Payload bytes one connected peer or web seed has given (``web``), by address."""

    address: str
    port: int
    web: bool
    received: int


class Torrent:
    """One torrent of a session."""

    def __init__(self, handle: lt.torrent_handle, name: str, info_hash: str) -> None:
        self._handle = handle
        self.name = name
        self.info_hash = info_hash

    def standing(self) -> Standing:
        """Its state now. Blocks for the session's thread, a millisecond as a rule."""
        status = self._handle.status(0)
        checking = status.state in (lt.torrent_status.checking_files, lt.torrent_status.checking_resume_data)
        return Standing(
            done=status.total_wanted_done,
            total=status.total_wanted,
            complete=status.is_seeding and not checking,
            checking=checking,
            error=status.errc.message() if status.errc.value() else "",
        )

    def sources(self) -> list[Source]:
        """Who is connected and what each has given so far. Blocks as standing does."""
        return [
            Source(info.ip[0], info.ip[1], info.connection_type in _WEB_SEED_KINDS, info.total_download)
            for info in self._handle.get_peer_info()
        ]

    def add_web_seeds(self, urls: Sequence[str]) -> None:
        """Web seeds (BEP 19) help from now on."""
        for url in urls:
            self._handle.add_url_seed(url)

    def uploaded(self) -> int:
        """Payload bytes given to others since it was added. Blocks as standing does."""
        return int(self._handle.status(0).total_payload_upload)

    def recheck(self) -> None:
        """All pieces are read and hashed again."""
        self._handle.force_recheck()


class Session:
    """A libtorrent session that listens on one address; use ``close`` (or ``with``) to end it.

    ``listen`` is "address:port"; port 0 takes a free one. Peers see connections from that address
    too. ``lsd`` looks for peers by multicast inside the site (BEP 14). ``allow`` names the only
    networks peers and web seeds may be in; none means all. ``upload_limit`` in bytes per second,
    0 for none. ``seeder``: it only gives, so many connect and those that are complete are let go.
    """

    def __init__(
        self,
        listen: str,
        *,
        lsd: bool = False,
        allow: Sequence[str] = (),
        upload_limit: int = 0,
        seeder: bool = False,
    ) -> None:
        address = listen.rpartition(":")[0].strip("[]")
        settings: Any = {
            "user_agent": "orchestrate/0.1",
            "listen_interfaces": listen,
            # Without it, connections leave from the route's address: two nodes of one host look
            # alike, and a tracker that goes by address puts them into the wrong site.
            "outgoing_interfaces": "" if ipaddress.ip_address(address).is_unspecified else address,
            # uTP is slow inside a site: 300 MB on loopback in 15 s instead of 2 s.
            "enable_outgoing_utp": False,
            "enable_incoming_utp": False,
            "enable_dht": False,
            "enable_lsd": lsd,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_ip_notifier": False,
            # A package's swarm is small and trusted by hash: several agents may share a node.
            "allow_multiple_connections_per_ip": True,
            "apply_ip_filter_to_trackers": False,
            "announce_to_all_trackers": True,
            "announce_to_all_tiers": True,
            "active_limit": -1,
            "active_seeds": -1,
            "active_downloads": -1,
            "active_tracker_limit": -1,
            "active_lsd_limit": -1,
            "connections_limit": 4000 if seeder else 400,
            "unchoke_slots_limit": 32,
            "torrent_connect_boost": 50,
            "min_reconnect_time": 2,
            "tracker_completion_timeout": 10,
            "tracker_receive_timeout": 5,
            "stop_tracker_timeout": 1,
            "urlseed_wait_retry": 2,
            # A node that finished keeps its sources, so that fetch can count what each gave.
            "close_redundant_connections": seeder,
            "upload_rate_limit": upload_limit,
            "alert_mask": lt.alert_category.storage,  # few; ``write_out`` waits for one of them
        }
        self._session = lt.session(lt.session_params(settings))
        if upload_limit:
            # By default libtorrent limits nothing to private addresses: all our nodes.
            everybody = lt.ip_filter()
            everybody.add_rule(*_ALL_IPV4, 1 << lt.session.global_peer_class_id)
            everybody.add_rule(*_ALL_IPV6, 1 << lt.session.global_peer_class_id)
            self._session.set_peer_class_filter(everybody)
        if allow:
            self._session.set_ip_filter(_only(allow))
        self._closed = False
        self._alerts = threading.Lock()

    def port(self) -> int:
        """The port it listens on; TemporaryError if it could not bind any."""
        port = int(self._session.listen_port())
        if port == 0:
            raise TemporaryError("the torrent session has no port to listen on", retry_in=5)
        return port

    def add(
        self,
        torrent: bytes,
        directory: Path,
        *,
        verified: bool = False,
        upload_only: bool = False,
        trackers: Sequence[str] = (),
        web_seeds: bool = True,
    ) -> Torrent:
        """The torrent is joined; its file stands (or will) in ``directory``.

        ``verified``: the file is known to be whole, no hashing. ``upload_only``: never write to
        the file. ``trackers`` are asked beside those the torrent names; ``web_seeds=False`` leaves
        the torrent's own web seeds out. Adding a second time gives the same torrent.
        """
        try:
            parameters = lt.load_torrent_buffer(torrent)
            parameters.save_path = str(directory)
            flags = lt.torrent_flags
            parameters.flags &= ~(flags.auto_managed | flags.paused | flags.duplicate_is_error)
            parameters.flags |= flags.update_subscribe
            if verified:
                parameters.flags |= flags.seed_mode
            if upload_only:
                parameters.flags |= flags.upload_mode
            if trackers:
                parameters.trackers = [*dict.fromkeys([*parameters.trackers, *trackers])]
                parameters.tracker_tiers = [0] * len(parameters.trackers)
            if not web_seeds:
                parameters.url_seeds = []
                parameters.flags |= flags.override_web_seeds
            handle = self._session.add_torrent(parameters)
        except (RuntimeError, ValueError) as wrong:
            raise PermanentError(f"libtorrent refuses the torrent: {wrong}") from wrong
        info = parameters.ti
        if info is None:
            raise PermanentError("the torrent names no files")
        return Torrent(handle, info.name(), str(parameters.info_hashes.v1))

    def remove(self, torrent: Torrent) -> None:
        """The torrent is left; its file stays."""
        if torrent._handle.is_valid():
            self._session.remove_torrent(torrent._handle)

    def write_out(self, torrent: Torrent, seconds: float = 60.0) -> None:
        """All that has come of it is in its file. Blocks; TemporaryError when the disk takes longer.

        A piece counts as soon as it was hashed, which libtorrent does before it writes it.
        """
        with self._alerts:
            torrent._handle.flush_cache()
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                self._session.wait_for_alert(100)
                for alert in self._session.pop_alerts():
                    if isinstance(alert, lt.cache_flushed_alert) and alert.handle == torrent._handle:
                        return
        raise TemporaryError(f"{torrent.name} was not written to disk within {seconds:.0f} s", retry_in=5)

    def close(self) -> None:
        """Every torrent is left, trackers are told, the port is free. Waits up to about a second."""
        if self._closed:
            return
        self._closed = True
        # The destructor would hold Python's lock until trackers have answered, so they are told
        # before: a paused session says "stopped" to each, and we count the answers.
        self._session.apply_settings({"alert_mask": lt.alert_category.tracker})
        self._session.pause()
        deadline, owed = time.monotonic() + 1.0, 0
        while time.monotonic() < deadline:
            if not self._session.wait_for_alert(50) and owed <= 0:
                break
            for alert in self._session.pop_alerts():
                owed += isinstance(alert, lt.tracker_announce_alert)
                owed -= isinstance(alert, lt.tracker_reply_alert | lt.tracker_error_alert)
        del self._session

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def web_seeds_of(torrent: bytes) -> list[str]:
    """The URLs of web seeds the torrent itself names."""
    return list(lt.load_torrent_buffer(torrent).url_seeds)


def info_hash_of(torrent: bytes) -> str:
    """The v1 info-hash, 40 hex digits; UserError if the bytes are no torrent."""
    try:
        return str(lt.load_torrent_buffer(torrent).info_hashes.v1)
    except (RuntimeError, ValueError) as wrong:
        raise UserError(f"these {len(torrent)} bytes are no torrent: {wrong}") from wrong


def file_of(torrent: bytes) -> tuple[str, int]:
    """Name and size in bytes of its only file; PermanentError if it holds something else."""
    try:
        info = lt.load_torrent_buffer(torrent).ti
    except (RuntimeError, ValueError) as wrong:
        raise PermanentError(f"the torrent can't be read: {wrong}") from wrong
    if info is None or info.num_files() != 1 or "/" in info.name() or info.name() in ("", ".", ".."):
        raise PermanentError("the torrent does not hold exactly one file")
    return info.name(), info.total_size()


def _only(networks: Sequence[str]) -> lt.ip_filter:
    rules = lt.ip_filter()
    rules.add_rule(*_ALL_IPV4, _BLOCKED)
    rules.add_rule(*_ALL_IPV6, _BLOCKED)
    for text in networks:
        network = ipaddress.ip_network(text, strict=False)
        rules.add_rule(str(network[0]), str(network[-1]), 0)
    return rules
