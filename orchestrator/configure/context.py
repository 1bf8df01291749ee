"""The context of a worker machine: user data that turns any Linux with a shell into a worker. Pure but
for reading the template.

The result is one /bin/sh script, which cloud-init takes as user data, and the providers ``ssh`` and
``local`` run as it is. It holds a single-use token, so it is made only when a machine is really made.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any

import jinja2

from orchestrator.runtime.files import shipped


@dataclass(frozen=True)
class AgentSource:
    """Where a machine gets the agent file: ``file://`` and its path as it is, or ``http://…``; its hex SHA-256."""

    url: str
    sha256: str


def worker(name: str, site: str, config: dict[str, Any], ca: str, agent: AgentSource) -> str:
    """The script for the machine ``name``; ``config`` is agent.json, in which @ROOT@ and @ADDRESS@ stand
    for what only the machine knows; ``ca`` the PEM text of the VO's CA."""
    text = (shipped("templates") / "cloud-init/worker.sh.j2").read_text()
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)  # noqa: S701  # fmt: skip
    return environment.from_string(text).render(
        name=name,
        site=site,
        config=json.dumps(config, indent=1, sort_keys=True),
        ca=ca.strip(),
        agent_url=shlex.quote(agent.url),
        agent_sha256=agent.sha256,
    )
