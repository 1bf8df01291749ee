"""The whole publication against real processes: PostgreSQL, central, ClusterMonitor, PackMan, web, seeder."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

import orchestrator
from orchestrator.auth.authority import Authority
from orchestrator.cli import software as verbs
from orchestrator.errors import NotAllowed, NotFound, PermanentError, TemporaryError, UserError
from orchestrator.runtime.clock import SystemClock
from orchestrator.runtime.files import write_json
from orchestrator.runtime.http import tls_context
from orchestrator.software import client
from orchestrator.software.cvmfs.read import materialise
from orchestrator.software.cvmfs.store import http_fetch
from orchestrator.software.model import Package, PackageName
from orchestrator.software.publish import Ports, Published, publish
from orchestrator.software.steps import Progress, Step
from orchestrator.software.torrent.fetch import fetch
from orchestrator.software.torrent.patience import Patience
from orchestrator.software.torrent.session import Session
from orchestrator.wiring import grid as wiring

CHECKOUT = Path(orchestrator.__file__).parent.parent
VO, FQRN = "testvo", "testvo.example.org"
PROGRAMS = {
    "central": ("postgres", "central"),
    "vobox": ("clustermonitor", "packman", "web", "seeder"),
}


@dataclass
class Box:
    """Central and a VO box in one root, all programs running."""

    root: Path
    state: Path
    address: str
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, role: str, program: str) -> None:
        command = [sys.executable, "-m", f"orchestrator.wiring.{role}", program, "--root", str(self.root)]
        self.running[program] = subprocess.Popen(command, start_new_session=True)

    def stop(self, program: str) -> None:
        process = self.running.pop(program)
        # PostgreSQL waits for its clients after SIGTERM.
        process.send_signal(signal.SIGINT if program == "postgres" else signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def ready(self, port: int, scheme: str = "https") -> None:
        tls = tls_context(self.root / "etc/tls/ca.pem")
        give_up = time.monotonic() + 30
        with httpx.Client(verify=tls, trust_env=False) as http:
            while True:
                try:
                    if http.get(f"{scheme}://{self.address}:{port}/healthz").is_success:
                        return
                except httpx.TransportError:
                    assert time.monotonic() < give_up, self.log()
                    time.sleep(0.05)

    def log(self) -> str:
        return "\n".join(f"{file.name}: {file.read_text()[-2000:]}" for file in self.root.glob("log/*.log"))

    def identity(self, user: str = "admin") -> wiring.Identity:
        authority = Authority(self.state / "keys", VO)
        pair = authority.user(user, time.time())
        return wiring.Identity(
            VO, user, f"https://{self.address}:8443", authority.ca.read_text(),
            pair.certificate.decode(), pair.key.decode(), {FQRN: self.address},
        )  # fmt: skip

    @property
    def releases(self) -> Path:
        return self.root / "data/www/releases"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    root, state = tmp_path_factory.mktemp("box"), tmp_path_factory.mktemp("state")
    address = f"127.{random.randint(10, 250)}.{random.randint(1, 250)}.{random.randint(1, 250)}"
    authority = Authority(state / "keys", VO)
    authority.ensure(time.time())
    host = authority.host("box", address, "vobox", "testsite", time.time())
    for folder in ("etc/tls", "log", "run", "data"):
        (root / folder).mkdir(parents=True)
    shutil.copy(host.ca, root / "etc/tls/ca.pem")
    shutil.copy(host.certificate, root / "etc/tls/host.pem")
    shutil.copy(host.key, root / "etc/tls/host.key")
    shutil.copy(host.token_keys, root / "etc/token-keys.json")
    shutil.copy(state / "keys/token-signing.json", root / "etc/token-signing.json")
    write_json(root / "etc/central.json", {
        "vo": VO, "site": "testsite", "machine": "box", "address": address, "database": None,
        "admins": ["admin"], "token_lifetime": 3600, "ports": {"central": 8443, "broker": 8444},
    })  # fmt: skip
    write_json(root / "etc/vobox.json", {
        "vo": VO, "site": "testsite", "machine": "box", "address": address,
        "central": f"https://{address}:8443", "broker": f"https://{address}:8444",
        "repositories": [FQRN], "method": "torrent",
    })  # fmt: skip
    found = Box(root, state, address)
    try:
        for role, programs in PROGRAMS.items():
            for program in programs:
                found.start(role, program)
        for port, scheme in ((8443, "https"), (8445, "https"), (8446, "https"), (8080, "http")):
            found.ready(port, scheme)
        yield found
    finally:
        for program in reversed(list(found.running)):
            found.stop(program)


@dataclass
class Manager:
    """A release manager with their own state directory."""

    ports: Ports
    state: Path
    events: list[Progress] = field(default_factory=list)

    async def publish(self, name: str, version: str, directory: Path, fqrn: str = FQRN) -> Published:
        self.events.clear()
        return await publish(
            self.ports, fqrn, name, version, directory, keys=self.state / "keys", work=self.state / "work",
            clock=SystemClock(), progress=self.events.append,
        )  # fmt: skip

    @property
    def ended(self) -> list[Step]:
        return [event.step for event in self.events if event.ended]


@asynccontextmanager
async def acting(box: Box, state: Path, user: str = "admin") -> AsyncIterator[Manager]:
    async with wiring.connected(box.identity(user), state / "secrets", patience=2.0) as grid:
        async with grid.packman(FQRN) as packman:
            packman.patience = 2.0
            yield Manager(Ports(grid.central, packman, grid.web_url(FQRN)), state)


@pytest.fixture
async def manager(box: Box) -> AsyncIterator[Manager]:
    """The one that has the repository's keys."""
    async with acting(box, box.state) as found:
        yield found


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """A release of 6 MB: an executable, a link, a large file of its own content."""
    top = tmp_path / "tool"
    (top / "bin").mkdir(parents=True)
    (top / "bin/tool").write_text("#!/bin/sh\necho tool\n")
    (top / "bin/tool").chmod(0o755)
    (top / "bin/same").symlink_to("tool")
    (top / "data").write_bytes(os.urandom(6_000_000))
    return top


def same(left: Path, right: Path) -> bool:
    return subprocess.run(["diff", "-r", left, right]).returncode == 0


async def test_one_command_puts_a_release_everywhere(
    box: Box, manager: Manager, tool: Path, tmp_path: Path
) -> None:
    made = await manager.publish("Tool", "1", tool)
    package = made.package
    assert (made.new, made.files, made.size, made.warning) == (True, 2, 6_000_020, "")
    assert manager.ended == list(Step)
    uploads = [event.done for event in manager.events if event.step is Step.UPLOAD]
    assert (uploads[-1], sorted(uploads)) == (package.size, uploads)
    # Central has the entry, with who and when.
    (listed,) = await client.listing(manager.ports.central, "Tool")
    assert (listed["version"], listed["by"], "torrent" in listed) == ("1", "admin", False)
    assert abs(listed["made"] - time.time()) < 60
    assert await client.entry(manager.ports.central, PackageName("Tool", "1")) == package
    # A node gets it from the seeder, found by the tracker in the torrent.
    told = await manager.ports.packman.get("/v1/packages/Tool/1")
    (tmp_path / "node").mkdir()
    with Session(f"{box.address}:0") as session:
        got = await fetch(
            base64.b64decode(told["torrent"]), tmp_path / "node", session=session, sha256=package.sha256,
            patience=Patience(web_after=20, http_after=30), timeout=40,
        )  # fmt: skip
    assert got.from_peers == package.size
    (tmp_path / "unpacked").mkdir()
    shutil.unpack_archive(got.path, tmp_path / "unpacked", "gztar", filter="data")
    assert same(tool, tmp_path / "unpacked")
    # A node without torrents gets it by HTTP from the web seed, another from the repository.
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(told["urls"][0])).content == got.path.read_bytes()
        seen = await materialise(
            http_fetch(http, f"{manager.ports.web}/cvmfs/{FQRN}"), FQRN,
            (box.state / f"keys/{FQRN}.pub").read_bytes(), "/Tool/1", tmp_path / "mounted", time.time(),
        )  # fmt: skip
    assert seen.number == package.revision
    assert same(tool, tmp_path / "mounted")
    # Nothing secret is readable by others, nothing large stays behind.
    assert (box.state / f"keys/{FQRN}.masterkey").stat().st_mode & 0o777 == 0o600
    assert list((box.state / "work").glob("*.tar.gz")) == []


async def test_the_same_again_is_quick_and_touches_nothing(
    box: Box, manager: Manager, tool: Path, tmp_path: Path
) -> None:
    first = await manager.publish("Again", "1", tool)
    files = {file: file.stat().st_mtime_ns for file in (box.root / "data/www").rglob("*") if file.is_file()}
    again = await manager.publish("Again", "1", tool)
    assert (again.new, again.package) == (False, first.package)
    assert manager.ended == [Step.CHECK, Step.REPOSITORY, Step.SEED]
    assert {
        file: file.stat().st_mtime_ns for file in (box.root / "data/www").rglob("*") if file.is_file()
    } == files
    # A copy made elsewhere, published by somebody without that memory, is the same package too.
    shutil.copytree(tool, tmp_path / "copy", symlinks=True)
    shutil.rmtree(box.state / "work")
    other = await manager.publish("Again", "1", tmp_path / "copy")
    assert (other.new, other.package) == (False, first.package)
    assert Step.UPLOAD not in manager.ended


async def test_other_contents_are_refused_before_anything_is_touched(
    box: Box, manager: Manager, tool: Path
) -> None:
    first = await manager.publish("Fixed", "1", tool)
    before = sorted(box.releases.iterdir())
    (tool / "bin/tool").write_text("#!/bin/sh\necho other\n")
    with pytest.raises(PermanentError, match=r"Fixed::1 is published with other contents.*another version"):
        await manager.publish("Fixed", "1", tool)
    assert manager.ended == [Step.CHECK, Step.ARCHIVE]
    assert sorted(box.releases.iterdir()) == before
    second = await manager.publish("Fixed", "2", tool)
    assert second.package.revision > first.package.revision
    listed = await client.listing(manager.ports.central, "Fixed")
    assert [each["version"] for each in listed] == ["2", "1"]


@pytest.mark.parametrize("last", [Step.ARCHIVE, Step.REPOSITORY, Step.TORRENT, Step.UPLOAD])
async def test_what_broke_after_any_step_is_finished_by_the_same_command(
    box: Box, manager: Manager, tool: Path, last: Step
) -> None:
    """As Ctrl-C does: the task is cancelled at the end of a step, and once in the middle of the upload."""
    name = f"Broken{last.value}"
    doing: list[asyncio.Task[Published]] = []

    def cancel(progress: Progress) -> None:
        middle = last is Step.UPLOAD and progress.step is last and progress.done
        if progress.step is last and (progress.ended or middle):
            doing[0].cancel()

    doing.append(asyncio.create_task(publish(
        manager.ports, FQRN, name, "1", tool, keys=box.state / "keys", work=box.state / "work",
        clock=SystemClock(), progress=cancel,
    )))  # fmt: skip
    with pytest.raises(asyncio.CancelledError):
        await doing[0]
    assert await client.listing(manager.ports.central, name) == []
    made = await manager.publish(name, "1", tool)
    assert made.new
    assert Step.ARCHIVE not in manager.ended, "it was packed already"
    assert (await manager.ports.packman.get(f"/v1/packages/{name}/1"))["sha256"] == made.package.sha256
    assert [file for file in box.releases.iterdir() if file.name.startswith(f".{name}")] == []


async def test_a_lost_archive_is_brought_back(box: Box, manager: Manager, tool: Path) -> None:
    made = await manager.publish("Lost", "1", tool)
    (file,) = (
        file for file in box.releases.iterdir() if file.name.startswith("Lost") and file.suffix == ".gz"
    )
    content = file.read_bytes()
    file.unlink()
    again = await manager.publish("Lost", "1", tool)
    assert (again.new, again.package, file.read_bytes()) == (False, made.package, content)


async def test_two_publishers_of_different_contents_of_one_version(
    box: Box, manager: Manager, tool: Path, tmp_path: Path
) -> None:
    """One wins, and what it published stays whole."""
    shutil.copytree(tool, tmp_path / "other", symlinks=True)
    (tmp_path / "other/data").write_bytes(os.urandom(6_000_000))
    keys = box.state / "keys"

    async def run(directory: Path, work: str) -> Published:
        return await publish(
            manager.ports, FQRN, "Race", "1", directory, keys=keys, work=tmp_path / work,
            clock=SystemClock(), progress=lambda _: None,
        )  # fmt: skip

    ends = await asyncio.gather(run(tool, "a"), run(tmp_path / "other", "b"), return_exceptions=True)
    (won,) = (end for end in ends if isinstance(end, Published))
    (lost,) = (end for end in ends if not isinstance(end, Published))
    assert isinstance(lost, PermanentError)
    winner = (tool, tmp_path / "other")[ends.index(won)]
    again = await run(winner, "c")  # the repository may have the loser's content until then
    assert (again.new, again.package.sha256) == (False, won.package.sha256)
    async with httpx.AsyncClient(trust_env=False) as http:
        await materialise(
            http_fetch(http, f"{manager.ports.web}/cvmfs/{FQRN}"), FQRN,
            (keys / f"{FQRN}.pub").read_bytes(), "/Race/1", tmp_path / "out", time.time(),
        )  # fmt: skip
    assert same(winner, tmp_path / "out")


async def test_who_may_do_what(box: Box, manager: Manager, tool: Path, tmp_path: Path) -> None:
    made = (await manager.publish("Rights", "1", tool)).package
    await manager.ports.central.post("/v1/auth/users", {"name": "ada", "roles": ["user"]})
    async with acting(box, tmp_path / "ada", "ada") as ada:
        assert await client.entry(ada.ports.central, PackageName("Rights", "1")) == made
        with pytest.raises(NotAllowed, match="no role release"):
            await client.publish(ada.ports.central, made)
        with pytest.raises(NotAllowed):
            await ada.publish("Mine", "1", tool)
    await manager.ports.central.post("/v1/auth/users", {"name": "rose", "roles": ["release", "user"]})
    async with acting(box, tmp_path / "rose", "rose") as rose:
        with pytest.raises(NotFound, match=rf"its keys are not in .*copy {FQRN}\.key"):
            await rose.publish("Hers", "1", tool)
        assert list((tmp_path / "rose/keys").glob("*.key")) == [], "no keys that would only be refused"


async def test_the_entry_is_checked_at_central(manager: Manager, tool: Path) -> None:
    made = (await manager.publish("Entry", "1", tool)).package
    central = manager.ports.central
    assert await client.publish(central, made) == made
    moved = replace(made, revision=made.revision + 7)
    assert await client.publish(central, moved) == moved
    with pytest.raises(PermanentError, match="Entry::1 is published with other contents"):
        await client.publish(central, replace(made, sha256="0" * 64))
    wrong = replace(made, version="2", size=made.size + 1)
    with pytest.raises(UserError, match="its torrent has info-hash"):
        await client.publish(central, wrong)
    for body in ({}, made.to_json() | {"torrent": "?"}, made.to_json() | {"name": "../x"}):
        with pytest.raises(UserError):
            await central.post("/v1/packages", body)
    assert await client.entry(central, PackageName("Entry", "2")) is None
    (full,) = await central.get("/v1/packages", name="Entry", version="1")
    assert Package.from_json(full) == moved


async def test_a_vobox_that_is_away_is_told_and_waited_for(box: Box, manager: Manager, tool: Path) -> None:
    box.stop("packman")
    try:
        with pytest.raises(TemporaryError, match="8446 does not answer"):
            await manager.publish("Away", "1", tool)
    finally:
        box.start("vobox", "packman")
        await asyncio.to_thread(box.ready, 8446)
    assert (await manager.publish("Away", "1", tool)).new


Run = Callable[..., "asyncio.Future[Result]"]
PROGRAM = """
import typer
from orchestrator.cli import software
app = typer.Typer()
app.callback()(lambda: None)
software.register(app)
app()
"""


@pytest.fixture
def home(box: Box, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of somebody who has logged in, with the repository's keys."""
    mine = tmp_path / "config/orchestrate"
    wiring.save(box.identity(), mine / f"{VO}.json")
    shutil.copytree(box.state / "keys", mine / "cvmfs", ignore=lambda _, names: {
        name for name in names if not name.startswith(FQRN)
    })  # fmt: skip
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("ORCHESTRATE_SITE", raising=False)
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.chdir(tmp_path)
    return mine


@pytest.fixture
def run(home: Path) -> Run:
    """Run ``orchestrate software …`` in a thread of its own."""
    app = typer.Typer()
    app.callback()(lambda: None)
    verbs.register(app)

    async def invoke(*arguments: object) -> Result:
        words = ["software", *(str(each) for each in arguments)]
        return await asyncio.to_thread(CliRunner().invoke, app, words)

    return invoke  # type: ignore[return-value]


async def test_ctrl_c_leaves_nothing_half_visible(
    home: Path, manager: Manager, tool: Path, tmp_path: Path
) -> None:
    (tool / "large").write_bytes(os.urandom(60_000_000))
    command = [sys.executable, "-c", PROGRAM, "software", "publish", FQRN, "Stopped", "1", str(tool)]
    process = subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(CHECKOUT)}, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    await asyncio.to_thread(lambda: next(line for line in lines if " archive " in line))
    process.send_signal(signal.SIGINT)
    told = await asyncio.to_thread(lambda: list(lines))
    assert await asyncio.to_thread(process.wait, 20) == 130
    process.stderr.close()
    assert told[-1] == ("Stopped::1 is not published or not whole; the same command again finishes it\n"), (
        told
    )
    assert await client.listing(manager.ports.central, "Stopped") == []
    again = await asyncio.to_thread(
        subprocess.run,
        command,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr
    assert "Stopped::1 published" in again.stdout


async def test_the_command_line(run: Run, tool: Path, tmp_path: Path) -> None:
    done = await run("publish", FQRN, "Cli", "v1-0", tool)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Cli::v1-0 published: 2 files, 5.72 MiB, archive ")
    assert 'Packages = {"Cli::v1-0"};' in done.stdout
    assert [line.split()[1] for line in done.stderr.splitlines()] == [
        "check", "archive", "repository", "torrent", "upload", "entry", "seed",
    ]  # fmt: skip
    assert "/s" in done.stderr.splitlines()[4]
    again = await run("publish", FQRN, "Cli", "v1-0", tool)
    assert again.stdout.startswith("Cli::v1-0 already published: 2 files")
    told = json.loads((await run("publish", FQRN, "Cli", "v1-0", tool, "--json")).stdout)
    assert (told["new"], told["name"], told["files"]) == (False, "Cli", 2)
    listed = (await run("list", "Cli")).stdout.splitlines()
    assert listed[1].split()[:2] == ["Cli", "v1-0"]
    assert "info_hash" in json.loads((await run("list", "Cli", "--json")).stdout)[0]
    shown = (await run("show", "Cli")).stdout
    assert f"/cvmfs/{FQRN}/Cli/v1-0" in shown
    for words, message in (
        (("show", "Clj"), "no package Clj is published; did you mean 'Cli'?"),
        (("show", "Cli::v1-1"), "Cli is not published in version v1-1; did you mean 'v1-0'?"),
        (("publish", "testvo.example.com", "Cli", "2", tool), f"did you mean '{FQRN}'?"),
        (("publish", FQRN, "C li", "2", tmp_path / "none"), "name one that exists"),
    ):
        refused = await run(*words)
        assert isinstance(refused.exception, UserError), refused.output
        assert message in refused.exception.message
