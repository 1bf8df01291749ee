"""A MariaDB server in a temporary folder, with one empty database: what DIRAC keeps its queues in."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support import apt

PACKAGES = {  # the server, and what DIRAC's bindings of its client library and of OpenSSL are built with
    "mariadbd": "mariadb-server-core",
    "my_print_defaults": "mariadb-client-core",
    "mariadb_config": "libmariadb-dev",
    "swig": "swig",
    "/usr/include/openssl/ssl.h": "libssl-dev",
    "gcc": "gcc",
}
_SETTINGS = (  # as much memory as our PostgreSQL has; every commit is on disk (the default)
    "--innodb-buffer-pool-size=256M",
    "--innodb-flush-log-at-trx-commit=1",
    "--skip-log-bin",
    "--skip-networking",
)


def install() -> None:
    """The server and its client's headers are installed; CalledProcessError when they cannot be."""
    if wanted := sorted(package for name, package in PACKAGES.items() if apt.program(name) is None):
        apt.install(wanted)


@contextlib.contextmanager
def server(name: str, user: str) -> Iterator[Path]:
    """The socket of a server with the database ``name``, which belongs to ``user`` (the password too)."""
    with tempfile.TemporaryDirectory(prefix="mariadb.") as text:
        folder, run_as = Path(text), list[str]()
        if os.geteuid() == 0:  # it refuses root
            person = pwd.getpwnam("nobody")
            os.chown(folder, person.pw_uid, person.pw_gid)
            run_as = ["--user=nobody"]
        begin = folder / "begin.sql"
        begin.write_text(
            f"CREATE DATABASE {name};\nCREATE USER {user}@localhost IDENTIFIED BY '{user}';\n"
            f"GRANT ALL ON {name}.* TO {user}@localhost;\n"
        )
        begin.chmod(0o644)
        data = ["--no-defaults", f"--datadir={folder}/data", *run_as]
        made = [
            *_program("mariadb-install-db"),
            *data,
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL, timeout=120)
        files = [f"--init-file={begin}", f"--socket={folder}/socket", f"--pid-file={folder}/pid"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*_program("mariadbd"), *data, *files, *_SETTINGS], stdout=log, stderr=log
            )
        try:
            _wait(process, folder)
            yield folder / "socket"
        finally:
            process.terminate()
            process.wait(60)


def _program(name: str) -> list[str]:
    found = apt.program(name)
    assert found is not None, f"{name} is not installed"
    return [found]


def _wait(process: subprocess.Popen[bytes], folder: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(folder / "socket"))
            return
        time.sleep(0.1)
    raise SystemExit(f"mariadbd does not answer: {(folder / 'log').read_text()[-2000:]}")
