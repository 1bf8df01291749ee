"""Compile Python sources to code files that depend on nothing but the sources and the interpreter.

Run as a program, in a process of its own with PYTHONHASHSEED=0: reads a JSON list of [source, target,
name shown in tracebacks] from its standard input. A separate, always equal process because the
order of constants in sets depends on the hash seed, and reference marks in the marshal format on
which strings the process holds already. Only the standard library may be imported here.
"""

from __future__ import annotations

import importlib._bootstrap_external as machinery
import json
import sys


def main() -> int:
    """Write each target as an unchecked hash-based code file (PEP 552): valid whatever its time stamp."""
    for source, target, shown in json.load(sys.stdin):
        with open(source, "rb") as text:
            content = text.read()
        code = compile(content, shown, "exec", dont_inherit=True, optimize=0)
        pack = machinery._code_to_hash_pyc  # type: ignore[attr-defined]
        with open(target, "wb") as out:
            out.write(pack(code, b"\0" * 8, False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
