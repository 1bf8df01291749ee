"""The text of the small programs in ``bin/`` of a relocatable tree, of its ``sitecustomize``, and of what stands
for a folded extension module."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# -I: neither the environment nor the working directory of the host gets into the interpreter;
# utf8: the same text encoding whatever locale the host has.
ISOLATED = ("-I", "-X", "utf8")


@dataclass(frozen=True, slots=True)
class Launcher:
    """How ``bin/NAME`` starts the interpreter: its flags, and variables whose values are paths in the tree."""

    flags: tuple[str, ...] = ISOLATED
    variables: Mapping[str, str] = field(default_factory=dict)


_FIND_SELF = """#!/bin/sh
_self=$0
case $_self in */*) ;; *) if [ -f "./$_self" ]; then _self=./$_self; else _self=$(command -v -- "$_self"); fi ;; esac
while [ -L "$_self" ]; do
  _link=$(readlink "$_self") || break
  case $_link in /*) _self=$_link ;; *) _self=${_self%/*}/$_link ;; esac
done
"""


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
    return f"""{_FIND_SELF}_tree=$(CDPATH= cd -P -- "${{_self%/*}}/.." && pwd -P) || exit 127
{exports}exec "$_tree/lib/{loader}" --inhibit-cache --library-path "$_tree/lib" "$_tree/libexec/python" {flags} "$@"
"""


def wrapper(relative: str, loader: str) -> str:
    """A POSIX shell program, at ``relative`` in the tree, that starts the ELF program beside it (its own name
    with .elf) by the tree's ``loader``. The program sees the wrapper's path as its own (its argv[0]): what
    it looks for beside itself, and starts from there, it finds (--argv0 wants glibc 2.33 in the tree).
    """
    up = "/".join([".."] * relative.count("/"))
    return f"""{_FIND_SELF}_here=$(CDPATH= cd -P -- "${{_self%/*}}" && pwd -P) || exit 127
_self=$_here/${{_self##*/}}
exec "$_here/{up}/lib/{loader}" --inhibit-cache --library-path "$_here/{up}/lib" --argv0 "$_self" "$_self.elf" "$@"
"""


def sitecustomize(stdlib: str, program: str) -> str:
    """Runs at each start: ``sys.executable`` is the launcher, so child interpreters start as this one did."""
    return f"""import sys
sys.executable = sys._base_executable = sys.prefix + {"/bin/" + program!r}
if (packages := sys.prefix + {"/" + stdlib + "/site-packages"!r}) not in sys.path:
    sys.path.append(packages)
"""


def unfolding(packed: str, libraries: Sequence[str]) -> str:
    """Stands for an extension module kept in the file ``packed`` (xz) beside it: the first import unpacks it and the
    ``libraries`` that it alone needs (packed files in ``lib/``) there, so that they are found by themselves from
    then on, and loads it. Where nothing can be written, they are unpacked for this process alone. Many may
    import it at once.
    """
    return f"""import ctypes, lzma, os, shutil, sys, tempfile
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location

def _unfolded(packed, load):
    whole = packed.removesuffix(".xz")
    try:
        part = tempfile.mkstemp(dir=os.path.dirname(packed))
    except OSError:
        part = tempfile.mkstemp()
        whole = part[1]
    try:
        with lzma.open(packed) as content, open(part[0], "wb") as out:
            shutil.copyfileobj(content, out, 2**20)
            os.fchmod(out.fileno(), 0o755)
            os.fsync(out.fileno())
        os.replace(part[1], whole)
        return load(whole)
    finally:
        if os.path.exists(part[1]):
            os.unlink(part[1])

def _load(path):
    loader = ExtensionFileLoader(__name__, path)
    spec = spec_from_file_location(__name__, path, loader=loader)
    module = sys.modules[__name__] = module_from_spec(spec)
    loader.exec_module(module)

for _library in {list(libraries)!r}:
    if not os.path.exists(os.path.join(sys.prefix, "lib", _library.removesuffix(".xz"))):
        _unfolded(os.path.join(sys.prefix, "lib", _library), ctypes.CDLL)
_unfolded(os.path.join(os.path.dirname(__file__), {packed!r}), _load)
"""
