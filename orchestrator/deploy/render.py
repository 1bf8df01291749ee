"""What configuring would change in the files of machines, as text: ``plan --diff``."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.configure.make import masked
from orchestrator.configure.model import Renders
from orchestrator.deploy.context import Context
from orchestrator.deploy.model import Action, Target
from orchestrator.deploy.plan import Plan
from orchestrator.providers.base import HasShell, Machine, bare

Differences = Mapping[str, Mapping[str, tuple[str, str]]]
_READ = 'cd "$1" && shift && for f; do printf "\\0%s\\0" "$f"; cat "$f" 2>/dev/null; done'
_PATIENCE = 30.0  # seconds


def differences(ctx: Context, plan: Plan) -> Differences:
    """Machine → path → (as it is, as it will be), for each machine that the plan configures and that exists.

    A machine that cannot be read shows its files as new.
    """
    if not isinstance(ctx.configurator, Renders):
        return {}
    there = {machine.name: machine for machine in ctx.fleet()}
    found = {}
    for change in plan.changes:
        machine = there.get(change.object)
        if change.action is not Action.CONFIGURE or machine is None:
            continue
        wanted = ctx.configurator.rendered(Target(machine, change.role, change.group))
        now = _read(ctx, machine, list(wanted))
        changed = {
            path: (now.get(path, ""), text) for path, text in wanted.items() if now.get(path, "") != text
        }
        if changed:
            found[machine.name] = changed
    return found


def _read(ctx: Context, machine: Machine, paths: Sequence[str]) -> dict[str, str]:
    """The files of the machine, by path; passwords masked."""
    if machine.connection.get("ansible_connection") == "local":
        files = {path: Path(machine.root) / path for path in paths}
        return {path: masked(file.read_text()) for path, file in files.items() if file.is_file()}
    provider = bare(ctx.guards.get(machine.provider))
    if not isinstance(provider, HasShell):
        return {}
    argv = provider.shell(machine.name, ["sh", "-c", _READ, "sh", machine.root, *paths])
    try:
        said = subprocess.run(argv, capture_output=True, timeout=_PATIENCE, check=True, text=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    parts = said.split("\0")[1:]
    return {path: masked(text) for path, text in zip(parts[::2], parts[1::2], strict=False) if text}
