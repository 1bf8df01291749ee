"""One libvirt daemon, local or remote. The SDK and its errors stop here.

Everything goes through libvirt's connection, files too (streams of a storage pool): a hypervisor needs
nothing of ours.
"""

from __future__ import annotations

import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache

import libvirt

from orchestrator.errors import GridError, PermanentError, TemporaryError
from orchestrator.providers.base import MachineState
from orchestrator.providers.libvirt import text
from orchestrator.providers.libvirt.place import Room, Size

_KEEPALIVE = (5, 4)  # seconds between questions, and answers missed until the connection counts as broken
_BLOCK = 256 * 1024  # bytes of one stream message (libvirt's limit)
_STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: MachineState.STOPPED,
    libvirt.VIR_DOMAIN_RUNNING: MachineState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: MachineState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: MachineState.STOPPED,
    libvirt.VIR_DOMAIN_SHUTDOWN: MachineState.RUNNING,
    libvirt.VIR_DOMAIN_SHUTOFF: MachineState.STOPPED,
    libvirt.VIR_DOMAIN_CRASHED: MachineState.FAILED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: MachineState.STOPPED,
}
_SILENT = {  # the daemon does not answer, or the way to it is broken
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_INVALID_CONN,
    libvirt.VIR_ERR_GNUTLS_ERROR,
    libvirt.VIR_ERR_LIBSSH,
}
_FOR_EVER = {  # somebody must change something: the site spec, or the hypervisor
    libvirt.VIR_ERR_AUTH_CANCELLED,
    libvirt.VIR_ERR_AUTH_FAILED,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE,
    libvirt.VIR_ERR_ACCESS_DENIED,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
    libvirt.VIR_ERR_INVALID_ARG,
    libvirt.VIR_ERR_NO_NETWORK,
    libvirt.VIR_ERR_NO_STORAGE_POOL,
    libvirt.VIR_ERR_NO_STORAGE_VOL,
    libvirt.VIR_ERR_NO_SUPPORT,
    libvirt.VIR_ERR_OPERATION_DENIED,
    libvirt.VIR_ERR_XML_DETAIL,
    libvirt.VIR_ERR_XML_ERROR,
}


class Unreachable(TemporaryError):
    """The hypervisor cannot be asked; what runs there may well be running."""


@dataclass(frozen=True)
class Domain:
    """A domain, ours or not (``record`` is "" then)."""

    name: str
    state: MachineState
    size: Size
    record: str


class Hypervisor:
    """Verbs on one daemon. Safe for several threads; the connection is made when it is first needed."""

    def __init__(self, name: str, uri: str, pool: str, limit: Size) -> None:
        self.name = name
        self._uri, self._pool_name, self._limit = uri, pool, limit
        self._mutex = threading.Lock()
        self._files = threading.Lock()  # libvirt refuses to look through a pool while it writes a volume
        self._open: libvirt.virConnect | None = None

    def domains(self) -> list[Domain]:
        """All domains there, anybody's."""
        with self._translated() as connection:
            found = []
            for each in connection.listAllDomains():
                with _unless(libvirt.VIR_ERR_NO_DOMAIN):  # gone since it was listed
                    state, memory, _, cores, _ = each.info()
                    size = Size(cores, memory * 1024)
                    found.append(
                        Domain(each.name(), _STATES.get(state, MachineState.STOPPED), size, _tag(each))
                    )
            return found

    def limit(self) -> Size:
        """What its machines may use: what the site spec says, else what the hardware has."""
        if self._limit.cores and self._limit.memory:
            return self._limit
        with self._translated() as connection:
            _, megabytes, processors, *_ = connection.getInfo()
        return Size(self._limit.cores or processors, self._limit.memory or megabytes << 20)

    def room(self, domains: list[Domain]) -> Room:
        """What there is and what ``domains`` use of it."""
        return Room(self.limit(), {domain.name: domain.size for domain in domains})

    def volumes(self) -> list[str]:
        """The names of all volumes in the pool."""
        with self._files, self._translated() as connection:
            pool = self._pool(connection)
            pool.refresh()  # others write files there too
            return [str(name) for name in pool.listVolumes()]

    def make_disk(self, name: str, image: str, least: int) -> str:
        """The path of a new disk over the volume ``image``, of at least ``least`` bytes. One of that name
        is replaced. PermanentError when the pool has no such image."""
        with self._files, self._translated() as connection:
            pool = self._pool(connection)
            base = self._volume(pool, image)
            if base is None:
                pool.refresh()  # somebody may just have put it there
                base = self._volume(pool, image)
            if base is None:
                raise PermanentError(
                    f"hypervisor {self.name}: storage pool {self._pool_name} has no image {image}; "
                    "images/README.md tells how one is made and put there",
                    hypervisor=self.name,
                    image=image,
                )
            described = ET.fromstring(base.XMLDesc())  # noqa: S314  our own hypervisor's answer
            kind = described.find("target/format")
            backing = (base.path(), kind.get("type", "raw") if kind is not None else "raw")
            size = max(int(base.info()[1]), least)
            return str(self._made(pool, name, text.volume(name, size, backing)).path())

    def put(self, name: str, content: bytes) -> str:
        """The path of a new raw volume with that content. One of that name is replaced."""
        with self._files, self._translated() as connection:
            made = self._made(self._pool(connection), name, text.volume(name, len(content)))
            if content:
                stream = connection.newStream()
                made.upload(stream, 0, len(content))
                for start in range(0, len(content), _BLOCK):
                    stream.send(content[start : start + _BLOCK])
                stream.finish()
            return str(made.path())

    def tail(self, name: str, size: int) -> bytes:
        """The last ``size`` bytes of a volume; none when there is no such volume."""
        with self._translated() as connection:
            found = self._volume(self._pool(connection), name)
            total = int(found.info()[1]) if found is not None else 0
            if found is None or total == 0:
                return b""
            stream = connection.newStream()
            found.download(stream, max(0, total - size), min(size, total))
            content = b""
            while block := stream.recv(_BLOCK):
                content += block
            stream.finish()
            return content

    def define(self, description: str) -> None:
        """That domain is known there, and comes back with the hypervisor; it does not run yet."""
        with self._translated() as connection:
            connection.defineXML(description).setAutostart(1)

    def start(self, name: str) -> None:
        """The domain runs."""
        with self._translated() as connection:
            found = connection.lookupByName(name)
            if not found.isActive():
                with _unless(libvirt.VIR_ERR_OPERATION_INVALID):  # somebody else was faster
                    found.create()

    def remove(self, name: str, ours: Callable[[str], bool]) -> None:
        """No domain of that name whose record is ``ours`` is there: it was cut off, and is forgotten."""
        with self._translated() as connection, _unless(libvirt.VIR_ERR_NO_DOMAIN):
            found = connection.lookupByName(name)
            if not ours(_tag(found)):
                return
            if found.isActive():
                with _unless(libvirt.VIR_ERR_OPERATION_INVALID):  # it ended by itself
                    found.destroy()
            found.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)

    def remove_volume(self, name: str) -> None:
        """No such volume is in the pool."""
        with self._translated() as connection:
            found = self._volume(self._pool(connection), name)
            if found is not None:
                with _unless(libvirt.VIR_ERR_NO_STORAGE_VOL):
                    found.delete()

    def _made(self, pool: libvirt.virStoragePool, name: str, description: str) -> libvirt.virStorageVol:
        old = self._volume(pool, name)
        if old is not None:
            old.delete()
        return pool.createXML(description)

    def _volume(self, pool: libvirt.virStoragePool, name: str) -> libvirt.virStorageVol | None:
        with _unless(libvirt.VIR_ERR_NO_STORAGE_VOL):
            return pool.storageVolLookupByName(name)
        return None

    def _pool(self, connection: libvirt.virConnect) -> libvirt.virStoragePool:
        return connection.storagePoolLookupByName(self._pool_name)

    @contextmanager
    def _translated(self) -> Iterator[libvirt.virConnect]:
        """The connection; what libvirt raises inside becomes one of our errors."""
        try:
            yield self._connection()
        except libvirt.libvirtError as error:
            raise self._error(error) from error

    def _connection(self) -> libvirt.virConnect:
        with self._mutex:
            if self._open is not None and self._open.isAlive():
                return self._open
            _prepare()
            self._open = libvirt.open(self._uri)
            with suppress(libvirt.libvirtError):  # not every driver has it
                self._open.setKeepAlive(*_KEEPALIVE)
            return self._open

    def _error(self, error: libvirt.libvirtError) -> GridError:
        code = error.get_error_code()
        message = f"hypervisor {self.name}: {error.get_error_message()}"
        if code in _SILENT:
            return Unreachable(message, retry_in=10.0, hypervisor=self.name)
        kind = PermanentError if code in _FOR_EVER else TemporaryError
        return kind(message, hypervisor=self.name)


def _tag(domain: libvirt.virDomain) -> str:
    with _unless(libvirt.VIR_ERR_NO_DOMAIN_METADATA):
        kept = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text.NAMESPACE)
        return ET.fromstring(kept).text or ""  # noqa: S314  our own hypervisor's answer
    return ""


class _unless:
    """libvirt's error of that code is no error inside."""

    def __init__(self, code: int) -> None:
        self._code = code

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, libvirt.libvirtError) and error.get_error_code() == self._code


@cache
def _prepare() -> None:
    """Errors are not printed, and a thread answers the keep-alives of all connections."""
    libvirt.registerErrorHandler(lambda *_: None, None)
    libvirt.virEventRegisterDefaultImpl()

    def answer() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=answer, name="libvirt-events", daemon=True).start()
