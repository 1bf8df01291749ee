"""What a payload's environment becomes when it uses releases.

A release may hold ``etc/orchestrate-env.json``: ``{"prepend": {"PYTHONPATH": ["lib/python"]},
"set": {"PYTHIA8DATA": "{root}/share/Pythia8/xmldoc"}}``. Paths under "prepend" are relative to the
release; ``{root}`` in "set" is the release's directory. Without it, ``bin`` goes first in PATH.
LD_LIBRARY_PATH is set only by a release that asks: it would reach every program of the node's too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.errors import PermanentError

ENVIRONMENT_FILE = "etc/orchestrate-env.json"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def root_variable(name: str) -> str:
    """ "AliRoot" → "ALIROOT_ROOT"; what is no letter or digit becomes "_"."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper()) + "_ROOT"


def payload_environment(releases: Sequence[tuple[str, Path]], base: Mapping[str, str]) -> dict[str, str]:
    """``base`` with the releases' (package name, directory) additions; the first named comes first.

    PermanentError when a release's environment file is wrong.
    """
    environment = dict(base)
    for name, root in reversed(releases):
        environment = apply(name, str(root), read_declaration(root), environment)
    return environment


def read_declaration(root: Path) -> dict[str, Any]:
    """The release's environment file, or {} if it has none."""
    path = root / ENVIRONMENT_FILE
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as wrong:
        raise PermanentError(f"{path} can't be read: {wrong}", path=str(path)) from wrong
    if problem := _problem(document):
        raise PermanentError(f"{path}: {problem}; publish a corrected release", path=str(path))
    return dict(document)


def apply(name: str, root: str, declared: Mapping[str, Any], base: Mapping[str, str]) -> dict[str, str]:
    """One release's additions to ``base``. Pure."""
    environment = dict(base)
    for variable, paths in ({"PATH": ["bin"]} | declared.get("prepend", {})).items():
        parts = [f"{root}/{path}" for path in paths]
        # An empty part of PATH would mean the payload's own directory.
        environment[variable] = ":".join(part for part in (*parts, environment.get(variable, "")) if part)
    for variable, value in declared.get("set", {}).items():
        environment[variable] = value.replace("{root}", root)
    environment[root_variable(name)] = root
    return environment


def _problem(document: Any) -> str:
    if not isinstance(document, dict) or not set(document) <= {"prepend", "set"}:
        return "it must be an object with 'prepend' and 'set' only"
    prepend, fixed = document.get("prepend", {}), document.get("set", {})
    if not isinstance(prepend, dict) or not isinstance(fixed, dict):
        return "'prepend' and 'set' must be objects"
    for variable in (*prepend, *fixed):
        if _VARIABLE.fullmatch(variable) is None:
            return f"{variable!r} is no name of a variable"
    for variable, paths in prepend.items():
        if not isinstance(paths, list) or not all(isinstance(path, str) and _inside(path) for path in paths):
            return f"prepend.{variable} must be a list of paths relative to the release"
    for variable, value in fixed.items():
        if not isinstance(value, str):
            return f"set.{variable} must be a text"
    return ""


def _inside(path: str) -> bool:
    return path != "" and not path.startswith("/") and ".." not in path.split("/") and ":" not in path
