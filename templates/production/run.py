"""The whole of it in one command: a grid on this host, PYTHIA 8 published to it, a production run on it.

    python templates/production/run.py [DIRECTORY]

Works in DIRECTORY (default ./production), where site.yaml, the plot and the table are afterwards.
Every step is a command of `orchestrate`, printed before it runs, and can be repeated by hand.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from orchestrator.catalogue import client as catalogue
from orchestrator.errors import GridError, NotFound, PermanentError, UserError
from orchestrator.jobs import client as jobs
from orchestrator.jobs import model
from orchestrator.wiring.grid import Connection, connect

HERE = Path(__file__).resolve().parent
FQRN, NAME, VERSION = "alice.example.org", "PYTHIA", "8.317"
FILES = ("generate.py", "merge.py", "merge.jdl")
FOLDER, OUTPUT = "/alice/pythia", "/alice/sim/pythia"
PATIENCE = 1800.0  # seconds for the production to end
console = Console(highlight=False, soft_wrap=True)


def step(*words: str) -> None:
    """Run `orchestrate words`, shown as a user would type it; PermanentError when it fails."""
    console.print(f"\n[bold cyan]$ orchestrate {' '.join(words)}[/]")
    sys.stdout.flush()
    done = subprocess.run([sys.executable, "-m", "orchestrator.cli.main", *words], check=False)
    if done.returncode:
        raise PermanentError(f"`orchestrate {' '.join(words)}` ended with {done.returncode}; see above")


def release(directory: Path) -> Path:
    """The folder of the PYTHIA release, built when it is missing."""
    out = directory / f"{NAME}-{VERSION}"
    if not out.exists():
        begun = time.monotonic()
        console.print(f"\npacks PYTHIA and the Python it needs as a relocatable release: {out}")
        subprocess.run([sys.executable, str(HERE / "build_release.py"), str(out)], check=True)
        console.print(f"packed in {time.monotonic() - begun:.1f} s")
    return out


async def put_files(grid: Connection) -> None:
    """The production's scripts are in the catalogue as they are here."""
    for name in FILES:
        lfn, source = f"{FOLDER}/{name}", HERE / name
        try:
            known = (await catalogue.stat(grid.central, lfn)).md5
        except NotFound:
            known = ""
        if known != hashlib.md5(source.read_bytes(), usedforsecurity=False).hexdigest():
            if known:
                await catalogue.rm(grid.central, lfn)
            console.print(f"[bold cyan]$ orchestrate file put {name} {lfn}[/]")
            await catalogue.put(grid.central, source, lfn)


async def next_run(grid: Connection) -> int:
    """The number of this production: one more than the last."""
    try:
        found = await catalogue.ls(grid.central, OUTPUT)
    except NotFound:
        return 1
    return 1 + max((int(each.name[3:]) for each in found if each.name[3:].isdigit()), default=0)


async def submit(grid: Connection, run: int) -> int:
    """Submit the production; returns the master's number."""
    console.print(f"\n[bold cyan]$ orchestrate job submit production.jdl {run} --watch[/]")
    made = await jobs.submit(grid.central, (HERE / "production.jdl").read_text(), [str(run)])
    return int(made["task"])


def line(master: dict[str, Any], parts: list[dict[str, Any]], seconds: float) -> Text:
    """One line that says how far the production is."""
    count = Counter(part["state"] for part in parts)
    states = "  ".join(f"{number} {state}" for state, number in sorted(count.items()))
    return Text(f"job {master['id']} {master['state']:<9} {seconds:5.1f} s   {states}", "bold")


async def follow(grid: Connection, number: int) -> None:
    """Show the master and its parts until it is final; PermanentError unless it is DONE."""
    begun, last = time.monotonic(), ""
    with Live(console=console, transient=True, auto_refresh=False) as live:
        while True:
            master = await jobs.show(grid.central, number)
            parts = await jobs.listing(grid.central, master=number)
            seconds = time.monotonic() - begun
            told = line(master, parts, seconds)
            if console.is_terminal:
                live.update(told, refresh=True)
            elif told.plain.split(" s ", 1)[1] != last:
                last = told.plain.split(" s ", 1)[1]
                console.print(told)
            if master["state"] in model.FINAL:
                break
            if seconds > PATIENCE:
                raise PermanentError(f"job {number} is still {master['state']} after {seconds:.0f} s")
            await asyncio.sleep(0.5)
    console.print(line(master, parts, time.monotonic() - begun))
    if master["state"] != model.DONE:
        raise PermanentError(
            f"job {number} is {master['state']}: {master['reason']}; see `orchestrate job show {number}`"
        )


async def produce(site: Path, directory: Path) -> Path:
    """Run one production; returns the merged result, fetched from the catalogue."""
    async with connect(site, patience=60.0) as grid:
        await put_files(grid)
        run = await next_run(grid)
        number = await submit(grid, run)
        await follow(grid, number)
        lfn, target = f"{OUTPUT}/run{run}/merged/merged.json", directory / f"run{run}.json"
        console.print(f"\n[bold cyan]$ orchestrate file get {lfn} {target.name}[/]")
        await catalogue.get(grid.central, lfn, target)
        return target


def main(arguments: list[str]) -> int:
    """0 when the plot and the table are there."""
    begun = time.monotonic()
    directory = Path(arguments[0] if arguments else "production").resolve()
    directory.mkdir(parents=True, exist_ok=True)
    site = directory / "site.yaml"
    if not site.exists():
        shutil.copyfile(HERE.parent / "sites/one-box.yaml", site)
    os.chdir(directory)
    try:
        step("up", "site.yaml")
        step("software", "publish", FQRN, NAME, VERSION, str(release(directory)))
        ready = time.monotonic() - begun
        console.print(f"\nthe grid is up and PYTHIA published after {ready:.1f} s")
        merged = asyncio.run(produce(site, directory))
        plot, table = merged.with_suffix(".png"), merged.with_suffix(".txt")
        subprocess.run(
            [sys.executable, str(HERE / "plot.py"), str(merged), str(plot), str(table)], check=True
        )
    except (GridError, subprocess.CalledProcessError) as error:
        console.print(f"\n[bold red]error:[/] {error}")
        return error.exit_code if isinstance(error, GridError) else 1
    where = directory.name if directory.parent == Path(os.environ.get("PWD", "")) else str(directory)
    console.print(f"\nthe whole took {time.monotonic() - begun:.1f} s")
    console.print(f"plot   {where}/{plot.name}\ntable  {where}/{table.name}\n")
    console.print("Where to look next:")
    console.print(f"  cd {where}; . ../.venv/bin/activate" if where == directory.name else f"  cd {where}")
    for command, what in (
        ("orchestrate status", "the machines and whether they do their work"),
        ("orchestrate job ps -a", "the jobs; `orchestrate job show 1` tells one's story"),
        ("orchestrate file find /alice/sim", "the files that the parts and the merge registered"),
        ("orchestrate software list", "what is published"),
        ("orchestrate down", "remove all of it (or `make down`)"),
    ):
        console.print(f"  {command:<36} {what}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        console.print("\nstopped; the grid stays up. `make up` goes on, `make down` removes it")
        sys.exit(130)
    except UserError as error:
        console.print(f"error: {error}")
        sys.exit(error.exit_code)
