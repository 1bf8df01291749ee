"""The job agent's composition root: ``python -m orchestrator.wiring.agent --config agent.json``."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import secrets
import ssl
import sys
import tempfile
from collections.abc import Callable, Sequence
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
from orchestrator.runtime.files import read_json, write_json
from orchestrator.runtime.http import Api, tls_context
from orchestrator.wiring.packages import NodePackages

_SET_DUMPABLE = 4  # <linux/prctl.h>


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one agent; 0 when it ended by itself or was drained."""
    parser = argparse.ArgumentParser(prog="orchestrate-agent", description="pull jobs and run them")
    parser.add_argument("--config", required=True, type=Path, help="its configuration (JSON)")
    chosen = parser.parse_args(arguments)
    try:
        config = read(chosen.config)
        logs.configure(Path(config.log) if config.log else None)
        _close_ourselves()
        return asyncio.run(run(config, lambda: forget_token(chosen.config, config)))
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


def forget_token(file: Path, config: AgentConfig) -> None:
    """The enrolment token, which is spent, stands nowhere any more."""
    try:
        if config.token:
            write_json(file, {**read_json(file), "token": ""}, 0o600)
        if config.token_file:
            Path(config.token_file).unlink(missing_ok=True)
    except OSError as error:
        logs.get("agent").warning("the spent enrolment token cannot be removed", reason=str(error))


def _close_ourselves() -> None:
    """What this process holds in memory and environment is not for jobs, not even those of the same account."""
    if os.geteuid() == 0:
        os.umask(0o022)  # packages are read by other accounts; secrets have modes of their own
    if "ORCHESTRATE_MACHINE" not in os.environ:  # a local machine's processes are found by their environment
        ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0)


async def run(config: AgentConfig, enrolled: Callable[[], None]) -> int:
    """Work until the slot ends or SIGTERM. ``enrolled`` is called once there is a session."""
    with own(Path(config.workdir)) as workdir:
        await _work(replace(config, workdir=str(workdir)), enrolled)
    return 0


async def _work(config: AgentConfig, enrolled: Callable[[], None]) -> None:
    node, clock = measure(config), SystemClock()
    logs.get("agent").info("starts", node=asdict(node), ce=config.ce, site=config.site, pid=os.getpid())
    async with Api(config.clustermonitor, _tls(config), patience=20.0) as api:
        session = Session(api, config, node.host, clock)
        Path(config.cache).mkdir(parents=True, exist_ok=True)
        packages = NodePackages(Path(config.cache), config.listen, config.methods)
        agent = Agent(config, node, session, packages, clock, secrets.token_hex(8))
        stop_on_signals(agent.drain)
        try:
            await _enrol(session, agent.drain)
            enrolled()
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
