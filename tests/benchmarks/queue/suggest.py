"""What a round of the job optimizer's suggestions costs while a million jobs wait, all of them for their data.

    python tests/benchmarks/queue/suggest.py [--waiting 1000000]

CLASSES classes wait near storage elements of SITES sites that are busy; half of the sites have free resources and not
the data, so that every class is worth a suggestion: the worst case. A round looks at a page of the classes; all pages are
one look, which is made once a minute. The optimizer starts with the first one, knowing nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import psycopg
import uvloop

sys.path.insert(0, str(Path(__file__).parent / "lab"))
sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))
import world
from peers.figures import Figures

from orchestrator.catalogue.model import Placed
from orchestrator.jobs import suggestions
from orchestrator.jobs.advice import Advice, Advisor
from orchestrator.jobs.requirements import conditions, near, task_ad
from orchestrator.runtime.sql import Database
from orchestrator.transfers.kind import TransferKind
from orchestrator.wiring.files import CatalogueFiles
from orchestrator.wiring.replicas import CatalogueReplicas
from orchestrator.wiring.surroundings import GridSurroundings

CLASSES, SITES, AGENTS, FILES = 1000, 50, 200, 50  # agents of a site, files of a class
SIZE = 2 * 10**9
ROUND = 0.5  # seconds: the goal for the longest round


def fill(url: str, waiting: int) -> None:
    """The jobs, their files, the storage elements and the agents, half of which run a job."""
    with psycopg.connect(url) as connection:
        connection.execute("TRUNCATE grid.task_event, grid.task, grid.task_class, grid.resource CASCADE")
        connection.cursor().executemany(
            "INSERT INTO grid.storage_element (name, site, url, free) VALUES (%s, %s, '', 1000000000000000)",
            [(f"site{number}::SE", f"site{number}") for number in range(SITES)],
        )
        connection.execute(
            "INSERT INTO grid.entry (path, parent, owner, mode) VALUES ('', NULL, 'root', 493), ('/data', '', 'root', 493)"
        )
        lines = [_class(connection, number) for number in range(CLASSES)]
        columns = "(kind, owner, state, priority, class, spec, deadline, submitted)"
        with connection.cursor().copy(f"COPY grid.task {columns} FROM STDIN (FREEZE)") as copy:
            for turn in range(waiting // CLASSES):
                copy.write("".join(line.replace("FILE", f"{turn % FILES:03d}") for line in lines))
        for site in range(SITES):
            _agents(connection, site)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def _class(connection: psycopg.Connection[Any], number: int) -> str:
    """A class with its files in the catalogue; the row of a member, whose file is still to be named."""
    folder, se = f"/data/run{number:04d}", f"site{number % (SITES // 2)}::SE"
    guids = [str(uuid.uuid4()) for _ in range(FILES)]
    connection.execute(
        "INSERT INTO grid.entry (path, parent, owner, mode) VALUES (%s, '/data', 'root', 493)", (folder,)
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO grid.entry (path, parent, owner, mode, guid, size, md5, adler32) VALUES (%s, %s, 'root', 420, %s, %s, '', '')",
            [(f"{folder}/{place:03d}", folder, guid, SIZE) for place, guid in enumerate(guids)],
        )
        cursor.executemany(
            "INSERT INTO grid.replica (guid, se, pfn) VALUES (%s, %s, '/x')", [(guid, se) for guid in guids]
        )
    jdl = world.jdl(number) | {"CPUCores": 1, "InputData": [f"{folder}/FILE"]}
    close = near([Placed(f"{folder}/000", guids[0], SIZE, "", (se,))])
    assert close is not None
    ad, owner = task_ad(jdl, jdl["User"], "", close), jdl["User"]
    row = connection.execute(
        "INSERT INTO grid.task_class (kind, owner, site, digest, ad, waiting, best_priority, oldest)"
        " VALUES ('job', %s, '', %s, %s, 1000, 1, now() - interval '1 hour') RETURNING id",
        (owner, ad.digest(), ad.canonical()),
    ).fetchone()
    assert row is not None
    told = [each.to_json() for each in conditions(jdl, "", close)]
    spec = json.dumps({"jdl": jdl, "own": "", "conditions": told, "near": close.expression})
    text = spec.replace("\\", "\\\\")
    return f"job\t{owner}\tWAITING\t1\t{row[0]}\t{text}\t2030-01-01\t2026-01-01\n"


def _agents(connection: psycopg.Connection[Any], site: int) -> None:
    """Agents of a site with as many different times left; those near the data are busy, and half of the others."""
    name = f"site{site}"
    rows = []
    for number in range(AGENTS):
        ad = world.ad(number) | {
            "Site": name, "CloseSE": [f"{name}::SE"], "TTL": 86_400 - 60 * number, "Name": f"{name}-{number}/1",
            "Packages": ["AliRoot::v5-00"],
        }  # fmt: skip
        stored = ad | {"Requirements": {"expr": str(ad["Requirements"])}}
        rows.append((f"{name}-{number}/1", name, json.dumps(stored, sort_keys=True)))
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO grid.resource (name, site, ad) VALUES (%s, %s, %s)", rows)
        cursor.executemany(
            "INSERT INTO grid.task (kind, owner, state, spec, resource, site, changed)"
            " VALUES ('job', 'ada', 'RUNNING', '{}', %s, %s, now())",
            [(agent, name) for agent, _, _ in rows[:: 1 if site < SITES // 2 else 2]],
        )
        cursor.executemany(
            "INSERT INTO grid.package (name, version, fqrn, path, revision, size, sha256, info_hash, torrent, by)"
            " VALUES ('AliRoot', %s, '', '', 0, 1, '', '', '', 'rose') ON CONFLICT DO NOTHING",
            [(f"v5-{number:02d}",) for number in range(10)],
        )


async def measure(url: str, figure: Figures) -> None:
    async with Database(url, size=4) as database:
        kind = TransferKind(CatalogueReplicas())
        files = CatalogueFiles(database, lambda *_: "", ssl.create_default_context(), world.VO, "root")
        advisor = Advisor(database, files, Advice(GridSurroundings.over(database, kind), "root"))
        now = 0.0
        for look in ("first", "second"):
            took, cpu, after = [], time.process_time(), 0
            while not took or after:
                now += 1e6
                begin = time.perf_counter()
                await advisor.step(now)
                took.append(time.perf_counter() - begin)
                after = advisor._after
            figure(f"suggest.{look}.longest_round", max(took), "s", ROUND)
            figure(f"suggest.{look}.whole_look", sum(took), "s")
            figure(f"suggest.{look}.optimizer_cpu", time.process_time() - cpu, "s")
        found = await database.rows(
            "SELECT kind, count(*) AS count FROM grid.suggestion GROUP BY kind ORDER BY kind"
        )
        for each in found:
            figure(f"suggest.rows.{each['kind']}", float(each["count"]), "rows")
        begin = time.perf_counter()
        async with database.transaction() as connection:
            listed = await suggestions.listing(connection)
        figure("suggest.listing", 1000 * (time.perf_counter() - begin), "ms", 100.0)
        assert listed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, default=1_000_000)
    chosen = parser.parse_args()
    figure = Figures()
    with world.server() as server:
        url = asyncio.run(world.database(server, "suggest"))
        begin = time.perf_counter()
        fill(url, chosen.waiting)
        print(
            f"{chosen.waiting} jobs in {CLASSES} classes, {SITES * AGENTS} agents; filled in {time.perf_counter() - begin:.0f} s"
        )
        uvloop.run(measure(url, figure))
    return figure.end()


if __name__ == "__main__":
    sys.exit(main())
