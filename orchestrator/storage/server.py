"""The program ``se``: all storage elements of a VO box, on one port, over TLS."""

from __future__ import annotations

import asyncio
from pathlib import Path

from orchestrator.auth.client import host_tokens
from orchestrator.auth.verify import verifier
from orchestrator.errors import UserError
from orchestrator.runtime import daemon, logs, web
from orchestrator.runtime.clock import SystemClock
from orchestrator.runtime.files import read_json
from orchestrator.runtime.http import Api, tls_context
from orchestrator.storage.api import StorageElement
from orchestrator.storage.daemon import Keeper
from orchestrator.storage.shelf import Shelf
from orchestrator.vobox.model import VoBoxConfig

PORT = 8447
LEFTOVER = 86400.0  # seconds after which an unfinished upload is given up


async def serve(root: Path, port: int = PORT) -> None:
    """Serve the storage elements of ROOT/etc/vobox.json from ROOT/data/se/ until SIGTERM."""
    config = VoBoxConfig.of(read_json(root / "etc/vobox.json"))
    shelves = {name: await asyncio.to_thread(_shelf, root, name, config) for name in config.storage_elements}
    stop = asyncio.Event()
    full = {name: asyncio.Event() for name in shelves}  # one each: a loop clears its own
    element = StorageElement(shelves, full)
    app = web.application(element.routes(), verifier(root / "etc/token-keys.json", config.vo))
    server = web.server(app, web.TlsFiles.of(root))
    host = f"[{config.address}]" if ":" in config.address else config.address
    with web.listen(config.address, port) as listening:
        base = f"https://{host}:{listening.getsockname()[1]}"
        tls = tls_context(root / "etc/tls/ca.pem")
        async with Api(config.clustermonitor, tls) as plain:
            token = host_tokens(plain, root, config.vo)
            async with Api(config.clustermonitor, tls, token) as catalogue:
                keepers = [
                    Keeper(shelf, catalogue, config.site, f"{base}/{name}") for name, shelf in shelves.items()
                ]
                loops = [
                    asyncio.create_task(daemon.loop(f"se {name}", each.step, stop, full[name]))
                    for name, each in zip(shelves, keepers, strict=True)
                ]
                try:
                    await server.serve([listening])
                finally:
                    stop.set()
                    for loop in loops:  # a call that is tried again would hold up the end
                        loop.cancel()
                    await asyncio.gather(*loops, return_exceptions=True)


def _shelf(root: Path, name: str, config: VoBoxConfig) -> Shelf:
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        raise UserError(f"storage element {name!r} has a name that is no directory's; rename it in site.yaml")
    capacity = config.storage_elements[name].get("capacity") or 0
    shelf = Shelf(name, root / "data/se" / name, int(capacity))
    swept = shelf.sweep(SystemClock().now() - LEFTOVER)
    logs.get("se").info("storage element", se=name, used=shelf.used, free=shelf.free(), leftovers=swept)
    return shelf
