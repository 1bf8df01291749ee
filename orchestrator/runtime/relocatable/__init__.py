"""A Python with its packages and libraries in one folder that needs nothing of its host but a kernel."""

from __future__ import annotations

from orchestrator.runtime.relocatable.build import Tree, build, native_inputs
from orchestrator.runtime.relocatable.closure import Closure, closure
from orchestrator.runtime.relocatable.launcher import ISOLATED, Launcher
from orchestrator.runtime.relocatable.pack import digest_of, pack
from orchestrator.runtime.relocatable.packages import outside, requirements
from orchestrator.runtime.relocatable.remembered import remembered
from orchestrator.runtime.relocatable.stdlib import EXCLUDE

__all__ = [
    "EXCLUDE",
    "ISOLATED",
    "Closure",
    "Launcher",
    "Tree",
    "build",
    "closure",
    "digest_of",
    "native_inputs",
    "outside",
    "pack",
    "remembered",
    "requirements",
]
