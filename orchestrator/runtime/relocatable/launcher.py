"""The text of the small programs in ``bin/`` of a relocatable tree, and of its ``sitecustomize``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

# -I: neither the environment nor the working directory of the host gets into the interpreter;
# utf8: the same text encoding whatever locale the host has.
ISOLATED = ("-I", "-X", "utf8")


@dataclass(frozen=True, slots=True)
class Launcher:
    """How ``bin/NAME`` starts the interpreter: its flags, and variables whose values are paths in the tree."""

    flags: tuple[str, ...] = ISOLATED
    variables: Mapping[str, str] = field(default_factory=dict)


def script(launcher: Launcher, loader: str) -> str:
    """A POSIX shell program that finds its own tree and starts the Python in it by the tree's ``loader``.

    No variable is set that would reach a program which this Python starts later (PYTHONHOME and
    LD_LIBRARY_PATH would break the host's own programs): the loader takes the library path as an
    argument, and Python finds its library beside itself. ``readlink`` is used only when this program
    was started through a symbolic link.
    """
    exports = "".join(
        f'export {name}="$_tree"/{shlex.quote(value)}\n' for name, value in sorted(launcher.variables.items())
    )
    flags = " ".join(shlex.quote(flag) for flag in launcher.flags)
    return f"""#!/bin/sh
_self=$0
case $_self in */*) ;; *) if [ -f "./$_self" ]; then _self=./$_self; else _self=$(command -v -- "$_self"); fi ;; esac
while [ -L "$_self" ]; do
  _link=$(readlink "$_self") || break
  case $_link in /*) _self=$_link ;; *) _self=${{_self%/*}}/$_link ;; esac
done
_tree=$(CDPATH= cd -P -- "${{_self%/*}}/.." && pwd -P) || exit 127
{exports}exec "$_tree/lib/{loader}" --inhibit-cache --library-path "$_tree/lib" "$_tree/libexec/python" {flags} "$@"
"""


def sitecustomize(stdlib: str, program: str) -> str:
    """Runs at each start: ``sys.executable`` is the launcher, so child interpreters start as this one did."""
    return f"""import sys
sys.executable = sys._base_executable = sys.prefix + {"/bin/" + program!r}
if (packages := sys.prefix + {"/" + stdlib + "/site-packages"!r}) not in sys.path:
    sys.path.append(packages)
"""
