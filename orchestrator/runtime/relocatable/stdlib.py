"""Which part of the standard library travels with the interpreter."""

from __future__ import annotations

import os
import sys
import zipfile
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


def zip_together(home: Path, plain: Collection[Path] | None = None) -> None:
    """The modules in ``home`` (lib/pythonX.Y), those of packages that are nothing but modules too, stand in one file
    beside it, where Python looks by itself: to make and to find many small files is most of unpacking a tree.
    Not compressed, since what holds the tree is; with ``plain`` all but these are: fewer bytes to unpack.
    """
    site = home / "site-packages"
    parts = [path for path in site.iterdir() if _plain(path)] if site.exists() else []
    found = {path.relative_to(site): path for part in parts for path in (part, *part.rglob("*"))}
    found |= {path.relative_to(home): path for path in home.rglob("*.pyc") if site not in path.parents}
    archive = home.with_name(f"python{sys.version_info.major}{sys.version_info.minor}.zip")
    with zipfile.ZipFile(archive, "w") as together:
        for relative, path in sorted(found.items()):
            if path.is_file():
                # An entry without a time is of 1980: the same bytes every time.
                stored = plain is None or path in plain
                how = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
                together.writestr(zipfile.ZipInfo(relative.as_posix()), path.read_bytes(), how)
                path.unlink()
    for folder in sorted((path for path in home.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()) and folder.name != "lib-dynload":  # a landmark Python looks for
            folder.rmdir()


def _plain(part: Path) -> bool:
    """Whether an entry of site-packages is nothing but modules, or words about a package."""
    if part.is_dir():
        return part.suffix == ".dist-info" or all(
            path.suffix == ".pyc" for path in part.rglob("*") if path.is_file()
        )
    return part.suffix == ".pyc"
