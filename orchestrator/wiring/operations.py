"""Backup and restore: the programs that run on the machine of central, and the verbs that start them from anywhere.

The programs need nothing but what was delivered to that machine, and reach the database as central does: the embedded
one or any other. The backup is their standard output or input, so it passes through whatever reaches the machine (a
local process, ssh). On standard error they say how far they are, in lines of JSON: ``{"table", "rows"}``, at the end
``{"done": …}`` or ``{"error": message, "code": exit code}``.
"""

from __future__ import annotations

import importlib.metadata as metadata
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, BinaryIO

from orchestrator.errors import GridError, PermanentError, TemporaryError, UserError

Tell = Callable[[str, int], None]  # (table, its rows so far)
_BLOCK = 1 << 18  # bytes
_KINDS = {kind.exit_code: kind for kind in (UserError, TemporaryError, PermanentError)}


def _say(**what: Any) -> None:
    print(json.dumps(what), file=sys.__stderr__, flush=True)  # sys.stderr is the program's log


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except GridError as error:
        _say(error=error.message, code=error.exit_code)
        raise


async def backup(url: str, vo: str) -> None:
    """The database is on standard output."""
    from orchestrator.operations import backup as made
    from orchestrator.runtime.sql import Database

    with _told(), open(1, "wb", closefd=False) as out:
        async with Database(url, size=1) as database:
            counts = await made.write(database, vo, _version(), out.write, _said)
    _say(done={"rows": counts})


async def restore(url: str, vo: str, components: Sequence[Path]) -> None:
    """The database is what standard input holds."""
    from orchestrator.operations import restore as put_back
    from orchestrator.operations.backup import Reader
    from orchestrator.runtime.sql import Database, migrate

    with _told():
        reader = Reader(sys.stdin.buffer)
        async with Database(url, size=2) as database:
            await migrate(database, components)
            done = await put_back.restore(database, reader, vo, components, _said)
    _say(done=asdict(done))


def _said(table: str, rows: int) -> None:
    _say(table=table, rows=rows)


def _version() -> str:
    """Of this installation; "" in a delivered runtime, which has our modules alone."""
    try:
        return metadata.version("orchestrator")
    except metadata.PackageNotFoundError:
        return ""


def program(name: str) -> list[str]:
    """The command, in the root directory of central's machine."""
    return ["bin/python", "-m", "orchestrator.wiring.central", name, "--root", "."]


def save(command: Sequence[str], file: Path, tell: Tell) -> dict[str, Any]:
    """What ``command`` (a backup) writes is in ``file`` (0600), whole and read back, or ``file`` is as it was.

    Returns its header and the rows of each table. The program's error, or PermanentError when it died.
    """
    from orchestrator.operations.backup import verify

    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w+b") as out:
            os.fchmod(descriptor, 0o600)
            _run(command, tell, stdin=subprocess.DEVNULL, stdout=out)
            os.fsync(descriptor)
            out.seek(0)
            header, counts = verify(out)
        part.replace(file)
        _sync(file.parent)
    finally:
        part.unlink(missing_ok=True)
    return header.to_json() | {"rows": counts, "size": file.stat().st_size}


def put_back(command: Sequence[str], file: Path, tell: Tell, step: Callable[[int], None]) -> dict[str, Any]:
    """``command`` (a restore) has read ``file``; ``step`` is called with the bytes it has taken since the last time."""
    with file.open("rb") as stream:

        def feed(into: IO[bytes]) -> None:
            while block := stream.read(_BLOCK):
                into.write(block)
                step(len(block))

        return _run(command, tell, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, feed=feed)


def _run(
    command: Sequence[str],
    tell: Tell,
    stdin: int,
    stdout: int | BinaryIO,
    feed: Callable[[IO[bytes]], None] | None = None,
) -> dict[str, Any]:
    """What the program says when it is done."""
    process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)
    heard: dict[str, Any] = {}
    rest: list[str] = []

    def listen() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            try:
                said = json.loads(line)
                heard.update(said)
            except (ValueError, TypeError):
                rest.append(line.decode(errors="replace").strip())
                continue
            if "table" in said:
                tell(said["table"], said["rows"])

    listening = threading.Thread(target=listen, daemon=True)
    listening.start()
    try:
        if feed is not None and process.stdin is not None:
            try:
                feed(process.stdin)
                process.stdin.close()
            except BrokenPipeError:
                pass  # it ended before: it says why
        code = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        listening.join(5)
    if "error" in heard:
        raise _KINDS.get(heard.get("code", 0), PermanentError)(str(heard["error"]))
    if code or "done" not in heard:
        said = " ".join(rest[-3:]) or "its log has the reason: `orchestrate logs central`"
        raise PermanentError(f"the program on central's machine ended with code {code}; {said}")
    return dict(heard["done"])


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
