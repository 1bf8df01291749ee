"""The agent file: one executable that brings its own Python, packages and libraries.

What goes in follows from what the entry module imports, so it cannot drift from the code.
"""

from __future__ import annotations

import hashlib
import importlib.metadata as metadata
import os
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.runtime import relocatable

ENTRY = "orchestrator.wiring.agent"
# What an agent may import from outside; with what these require. Each costs every worker node its bytes.
ALLOWED = ("h11", "httpx", "libtorrent", "isal")
# Used by jobs with packages only: no other job waits for their unpacking.
FOLDED = ("libtorrent", "isal")
# Of the standard library, beside what no tree of ours holds: what neither the agent nor its packages import.
UNUSED = (
    "sqlite3", "_sqlite3", "decimal", "_decimal", "_pydecimal", "fractions", "statistics", "zoneinfo", "_zoneinfo",
    "xml", "xmlrpc", "pyexpat", "_elementtree", "plistlib", "html", "cmath", "_multibytecodec",
    "_lsprof", "_multiprocessing", "_posixshmem", "_statistics",
    "unittest", "doctest", "pydoc", "pdb", "bdb", "cmd", "code", "codeop", "trace", "profile", "cProfile", "pstats",
    "multiprocessing", "socketserver", "ftplib", "imaplib", "smtplib", "poplib", "mailbox", "asyncore", "asynchat",
    "optparse", "difflib", "pickletools", "modulefinder", "wave", "colorsys", "webbrowser", "_pyio", "turtle",
    "filecmp", "fileinput", "mailcap", "rlcompleter", "pipes", "sched", "shelve", "tabnanny", "configparser",
    "compileall", "symtable", "imp", "timeit", "pyclbr", "zipapp", "robotparser", "tomllib", "tracemalloc",
    "windows_events", "windows_utils", "proactor_events", "wintypes", "_aix", "macholib", "_osx_support", "_aix_support",
)  # fmt: skip
_COMPLETE = "complete"  # its last member proves that it was unpacked to the end
_HERE = Path(__file__).resolve().parent
_SOURCES = _HERE.parent.parent


@dataclass(frozen=True, slots=True)
class AgentFile:
    """A built agent file: where it is, its bytes, and the hex SHA-256 of its content."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Contents:
    modules: dict[str, Path]  # path in site-packages → source
    packages: list[str]
    entry: str


def agent_file(cache_dir: Path, *, entry: str = ENTRY, roots: Sequence[Path] = ()) -> AgentFile:
    """The agent file of the present code, from ``cache_dir`` when it was built from the same inputs before.

    Several processes may ask at once. Errors as ``build_agent``.
    """

    def made_of() -> str:
        return _digest(_contents(entry, roots))

    usual = entry == ENTRY and not roots
    digest = relocatable.remembered(cache_dir / "agent-digest.json", made_of) if usual else made_of()
    path = cache_dir / f"orchestrate-agent-{digest[:16]}"
    return _describe(path) if path.exists() else _build(path, _contents(entry, roots))


def build_agent(out: Path, *, entry: str = ENTRY, roots: Sequence[Path] = ()) -> AgentFile:
    """Write the agent file to ``out``, whole or not at all; the same inputs give the same bytes.

    It runs ``python -m entry`` with its arguments. Our own modules are looked for where this package
    is, and in ``roots``. UserError when ``entry`` imports, at once and not inside a function,
    a package that is not in ALLOWED: the message has the chain of imports.
    """
    return _build(out, _contents(entry, roots))


def _contents(entry: str, roots: Sequence[Path]) -> _Contents:
    ours = {entry.partition(".")[0], "orchestrator"}
    found = relocatable.closure(entry, [*roots, _SOURCES], ours)
    allowed = set(relocatable.requirements(ALLOWED))
    providers = metadata.packages_distributions()

    def distribution(top: str) -> str:
        return providers.get(top, [top])[0].lower().replace("_", "-")

    for top, chain in found.always.items():
        if distribution(top) not in allowed:
            raise UserError(
                f"the agent file may not hold {top}, which {' → '.join(chain)} imports; import it inside the "
                "function that needs it, or in a module the agent does not import",
                package=top,
                chain=list(chain),
            )
    wanted = {distribution(top) for top in (*found.always, *found.sometimes)} & allowed
    modules = {}
    for name, path in found.modules.items():
        base = name.replace(".", "/")
        modules[f"{base}/__init__.py" if path.name == "__init__.py" else f"{base}.py"] = path
    return _Contents(modules, relocatable.requirements(wanted), entry)


def _digest(contents: _Contents) -> str:
    builders = [Path(__file__), _HERE / "header.sh"]
    return relocatable.digest_of(contents.modules, contents.packages, builders, contents.entry)


def _build(out: Path, contents: _Contents) -> AgentFile:
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".agent.", dir=out.parent) as scratch:
        tree = relocatable.build(
            Path(scratch, "tree"),
            packages=contents.packages,
            extra_sources=contents.modules,
            stdlib_exclude=relocatable.EXCLUDE | set(UNUSED),
            exclude=("*/tests/*", "*/_trio.py", "*/pytest_plugin.py", "isal/isa-l/*.md", "isal/isa-l/*.txt"),
            folded=FOLDED,
            entry=contents.entry,
        )
        payload = Path(scratch, "payload")
        (tree.path / _COMPLETE).touch()
        relocatable.pack(tree.path, payload, 6, last=_COMPLETE)
        with payload.open("rb") as packed:
            digest = hashlib.file_digest(packed, "sha256").hexdigest()
        part = Path(scratch, "agent")
        header = _header(digest[:32], contents.entry, tree.size)
        with part.open("wb") as result:
            result.write(header)
            result.write(payload.read_bytes())
            result.flush()
            os.fsync(result.fileno())
        part.chmod(0o755)
        part.replace(out)
    return _describe(out)


def _header(digest: str, entry: str, size: int) -> bytes:
    text = (_HERE / "header.sh").read_text()
    for key, value in {
        "@DIGEST@": digest,
        "@ENTRY@": entry,
        "@MACHINE@": platform.machine(),
        "@MEBIBYTES@": str(-(-size // 2**20)),
    }.items():
        text = text.replace(key, value)
    # The offset (tail counts from 1) is padded to the placeholder's width, so it does not move itself.
    width = len("@OFFSET@")
    return text.replace("@OFFSET@", str(len(text.encode()) + 1).ljust(width)).encode()


def _describe(path: Path) -> AgentFile:
    with path.open("rb") as content:
        return AgentFile(path, path.stat().st_size, hashlib.file_digest(content, "sha256").hexdigest())
