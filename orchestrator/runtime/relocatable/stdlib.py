"""Which part of the standard library travels with the interpreter."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

# Development, graphical and interactive parts, and things that only make sense on the build host.
EXCLUDE: frozenset[str] = frozenset(
    [
        "test",
        "tests",
        "idle_test",
        "tkinter",
        "_tkinter",
        "turtle",
        "turtledemo",
        "idlelib",
        "ensurepip",
        "venv",
        "lib2to3",
        "distutils",
        "pydoc_data",
        "curses",
        "_curses",
        "_curses_panel",
        "readline",
        "_dbm",
        "_gdbm",
        "dbm",
        "nis",
        "ossaudiodev",
        "spwd",
        "crypt",
        "_crypt",
        "audioop",
        "_codecs_cn",
        "_codecs_hk",
        "_codecs_iso2022",
        "_codecs_jp",
        "_codecs_kr",
        "_codecs_tw",
        "_ctypes_test",
        "_testbuffer",
        "_testcapi",
        "_testclinic",
        "_testimportmultiple",
        "_testinternalcapi",
        "_testmultiphase",
        "_xxtestfuzz",
        "_xxsubinterpreters",
        "xxlimited",
        "xxlimited_35",
        "xxsubtype",
        "sitecustomize",
        "usercustomize",
        "site-packages",
        "dist-packages",
        "__phello__",
        "antigravity",
        "this",
        "cgi",
        "cgitb",
        "wsgiref",
        "msilib",
        "xdrlib",
        "nntplib",
        "telnetlib",
        "smtpd",
        "imghdr",
        "sndhdr",
        "sunau",
        "chunk",
        "aifc",
    ]
)


def files(root: Path, exclude: Collection[str]) -> Iterator[Path]:
    """The sources and extension modules of the standard library at ``root``, sorted, without ``exclude``.

    A name in ``exclude`` is that of a folder, a module, or an extension module, wherever it stands.
    """
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if wanted(f, exclude))
        for name in sorted(names):
            if name.endswith((".py", ".so")) and wanted(name, exclude):
                yield Path(folder, name)


def wanted(name: str, exclude: Collection[str]) -> bool:
    """Whether a file or folder called ``name`` travels."""
    stem = name.split(".", 1)[0]
    return stem not in exclude and name != "__pycache__" and not name.startswith(("config-3.", "LICENSE"))
