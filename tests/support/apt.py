"""Debian packages of the tests: which are missing, and their installation in one go.

Run as a program (``python -m tests.support.apt``) it installs what tests/apt-packages.txt names, if it
may; else it says what is missing, and the tests concerned are skipped by name (``needs_apt``). Then comes
what pip can only build with them.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

LIST = Path(__file__).parents[1] / "apt-packages.txt"
_SYSTEM = ["/usr/local/sbin", "/usr/sbin", "/sbin"]  # not on everybody's path


def packages() -> dict[str, str]:
    """Program → the package that holds it."""
    lines = (line.split("#")[0].split() for line in LIST.read_text().splitlines())
    return {words[0]: words[1] for words in lines if words}


def program(name: str) -> str | None:
    """Where the program (or, by its path, any file) lies; None if it is not installed."""
    if name.startswith("/"):
        return name if os.path.exists(name) else None
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *_SYSTEM]))


def missing() -> list[str]:
    """Packages to install, each once."""
    return sorted({package for name, package in packages().items() if program(name) is None})


def install(wanted: list[str]) -> None:
    """Install them with apt-get, waiting for another apt to end. CalledProcessError when it fails."""
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=600", "-qq"]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run([*apt, "update"], check=True, env=environment, stdout=subprocess.DEVNULL)
    command = [*apt, "install", "-y", "--no-install-recommends", *wanted]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def build() -> None:
    """libvirt-python, which has no wheel: built where libvirt's headers are, and the extra's version allows it."""
    if importlib.util.find_spec("libvirt") is None and program("/usr/include/libvirt/libvirt.h"):
        print("pip install orchestrator[libvirt]", flush=True)
        pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
        subprocess.run([*pip, "-e", f"{LIST.parents[1]}[libvirt]"], check=True, timeout=600)


def main() -> int:
    """Exit code 0 also when packages stay missing: their tests say so."""
    _packages()
    build()
    return 0


def _packages() -> None:
    wanted = missing()
    if not wanted:
        return
    names = " ".join(wanted)
    if os.geteuid() != 0 or program("apt-get") is None:
        print(f"missing, so their tests are skipped: {names} (as root: apt-get install {names})")
        return
    print(f"apt-get install {names}", flush=True)
    try:
        install(wanted)
    except subprocess.CalledProcessError as error:
        print(f"apt-get failed ({error.returncode}); the tests that need {names} are skipped")


if __name__ == "__main__":
    sys.exit(main())
