"""Pack PYTHIA 8 (the installed ``pythia8mc`` wheel) as a release that worker nodes run as it is.

    python templates/production/build_release.py OUT

    OUT/bin/pythia8-python   a Python that has the module pythia8mc; the command that jobs name
    OUT/share/Pythia8        settings, tunes and particle data (all), parton densities (PYTHIA's defaults only)

The Python, every library and the C library travel along: worker nodes need a kernel and /bin/sh.
"""

from __future__ import annotations

import sys
from pathlib import Path

from orchestrator.errors import GridError, UserError
from orchestrator.runtime import relocatable

PACKAGE = "pythia8mc"
# What the default proton and pomeron read. The other sets are 50 MB that no default uses; add names
# here for jobs that choose another PDF:pSet.
PARTON_DENSITIES = ("NNPDF23_lo_as_0130_qed_0000.dat", "pomH1FitBlo.data")
# A generator opens no connection and no database: without these, OpenSSL and SQLite stay at home.
NOT_NEEDED = frozenset(
    ["_ssl", "_hashlib", "ssl", "_sqlite3", "sqlite3", "asyncio", "_asyncio", "unittest", "xmlrpc"]
)
# A job's script may have modules beside it, so its folder stays on the path (-I would remove it).
FLAGS = ("-E", "-s", "-X", "utf8")


def build_pythia_release(out: Path) -> relocatable.Tree:
    """Make the folder ``out``, whole or not at all. UserError: it exists, or the wheel is not installed."""
    launcher = relocatable.Launcher(FLAGS, {"PYTHIA8DATA": "share/Pythia8/xmldoc"})
    return relocatable.build(
        out,
        packages=[PACKAGE],
        extra_files=_data(),
        stdlib_exclude=relocatable.EXCLUDE | NOT_NEEDED,
        launchers={"pythia8-python": launcher},
    )


def _data() -> dict[str, Path]:
    """PYTHIA's data files, by their path in the release."""
    chosen = {}
    for path in relocatable.outside(PACKAGE):
        if "Pythia8" not in path.parts:
            continue
        relative = Path(*path.parts[len(path.parts) - 1 - path.parts[::-1].index("Pythia8") :])
        kind = relative.parent.name
        data = (kind == "xmldoc" and path.suffix in (".xml", ".dat")) or kind == "tunes"
        if data or path.name in (*PARTON_DENSITIES, "COPYING"):
            chosen[f"share/{relative.as_posix()}"] = path
    missing = {*PARTON_DENSITIES, "Index.xml"} - {Path(name).name for name in chosen}
    if missing:
        raise UserError(f"the installed {PACKAGE} lacks {', '.join(sorted(missing))}; install 8.317.0")
    return chosen


def main(arguments: list[str]) -> int:
    """Exit code 2 with a message when the arguments or the environment are wrong."""
    if len(arguments) != 1:
        print("usage: build_release.py OUT", file=sys.stderr)
        return 2
    try:
        tree = build_pythia_release(Path(arguments[0]))
    except GridError as error:
        print(f"build_release: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{tree.path}: {tree.files} files, {tree.size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
