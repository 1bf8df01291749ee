"""The job agent's composition root: ``python -m orchestrator.wiring.agent --config agent.json``."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import ssl
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from orchestrator.agent.daemon import Agent
from orchestrator.agent.model import AgentConfig
from orchestrator.agent.node import measure
from orchestrator.agent.session import Session
from orchestrator.agent.workdir import own
from orchestrator.errors import GridError, TemporaryError, UserError
from orchestrator.runtime import logs
from orchestrator.runtime.clock import SystemClock
from orchestrator.runtime.daemon import stop_on_signals
from orchestrator.runtime.files import read_json
from orchestrator.runtime.http import Api, tls_context
from orchestrator.software.install import PackageCache
from orchestrator.software.torrent.session import Session as TorrentSession


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one agent; 0 when it ended by itself or was drained."""
    parser = argparse.ArgumentParser(prog="orchestrate-agent", description="pull jobs and run them")
    parser.add_argument("--config", required=True, type=Path, help="its configuration (JSON)")
    chosen = parser.parse_args(arguments)
    try:
        config = read(chosen.config)
        logs.configure(Path(config.log) if config.log else None)
        return asyncio.run(run(config))
    except GridError as error:
        print(f"orchestrate-agent: {error.message}", file=sys.stderr)
        return error.exit_code


def read(file: Path) -> AgentConfig:
    """The configuration in ``file``; UserError says what is wrong with it."""
    try:
        config = AgentConfig.of(read_json(file))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{file} is not JSON: {error}") from error
    return replace(config, cache=config.cache or str(Path(config.workdir) / "packages"))


async def run(config: AgentConfig) -> int:
    """Work until the slot ends or SIGTERM."""
    with own(Path(config.workdir)) as workdir:
        mine = replace(config, workdir=str(workdir))
        torrents = TorrentSession(f"{config.listen}:0") if "torrent" in config.methods else None
        try:
            await _work(mine, torrents)
        finally:
            if torrents is not None:
                torrents.close()
    return 0


async def _work(config: AgentConfig, torrents: TorrentSession | None) -> None:
    node, clock = measure(config), SystemClock()
    logs.get("agent").info("starts", node=asdict(node), ce=config.ce, site=config.site, pid=os.getpid())
    async with Api(config.clustermonitor, _tls(config), patience=20.0) as api:
        session = Session(api, config, node.host, clock)
        packages = PackageCache(Path(config.cache), session=torrents, methods=config.methods)
        agent = Agent(config, node, session, packages, clock, secrets.token_hex(8))
        stop_on_signals(agent.drain)
        try:
            await _enrol(session, agent.drain)
            await agent.run()
        finally:
            packages.close()


async def _enrol(session: Session, drain: asyncio.Event) -> None:
    """The session token is there; a ClusterMonitor that is away is waited for."""
    while not drain.is_set():
        try:
            await session.token()
            return
        except TemporaryError as error:
            logs.get("agent").warning("cannot enrol yet", reason=error.message)
            await asyncio.sleep(error.retry_in)


def _tls(config: AgentConfig) -> ssl.SSLContext:
    if "BEGIN CERTIFICATE" not in config.ca:
        return tls_context(Path(config.ca))
    with tempfile.NamedTemporaryFile("w", dir=config.workdir, suffix=".pem") as file:
        file.write(config.ca)
        file.flush()
        return tls_context(Path(file.name))


if __name__ == "__main__":
    sys.exit(main())
