"""Makes a job ready to wait: finds its files in the catalogue, states its requirements, names its class."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.catalogue.model import Placed
from orchestrator.errors import UserError
from orchestrator.jobs.jdl import Defaults
from orchestrator.jobs.kind import Catalogue
from orchestrator.jobs.model import KIND
from orchestrator.jobs.modes import lfn_of
from orchestrator.jobs.requirements import Condition, class_values, conditions, near, task_ad
from orchestrator.runtime.sql import Connection
from orchestrator.tasks import store
from orchestrator.tasks.store import New

Json = dict[str, Any]


def default_dir(vo: str, user: str, job: int) -> str:
    """Where outputs go when the JDL does not say: /<vo>/user/<first letter>/<user>/jobs/<id>."""
    return f"/{vo}/user/{user[0]}/{user}/jobs/{job}"


class Preparer:
    """One use per transaction: it remembers what the catalogue and the classes said."""

    def __init__(self, connection: Connection, catalogue: Catalogue, owner: str, defaults: Defaults) -> None:
        self.connection = connection
        self.catalogue = catalogue
        self.owner = owner
        self.defaults = defaults
        self._placed: dict[str, Placed | None] = {}
        self._classes: dict[str, int] = {}

    async def files(self, lfns: Iterable[str]) -> dict[str, Placed]:
        """What the catalogue knows of these files, by one statement; UserError when one is missing."""
        wanted = list(dict.fromkeys(lfns))
        await self._learn(wanted)
        found = {lfn: placed for lfn in wanted if (placed := self._placed[lfn]) is not None}
        if missing := [lfn for lfn in wanted if lfn not in found]:
            more = f" (nor are {len(missing) - 1} others)" if len(missing) > 1 else ""
            raise UserError(f"input {missing[0]} is not a file of the catalogue{more}")
        return found

    async def prepare(
        self, attributes: Mapping[str, Any], requirements: str, directory: str, sites: Sequence[str] = ()
    ) -> New:
        """The job as it waits; ``sites``: where it must run for its input data (``requirements.near``).

        UserError when an input is not in the catalogue or two inputs share a name.
        """
        jdl = dict(attributes) | {"OutputDir": attributes.get("OutputDir", directory)}
        data = [lfn_of(text) for text in jdl.get("InputData", ())]
        program = str(jdl["Executable"]).removeprefix("LF:")
        known = {each["lfn"] for each in jdl.get("Inputs", ())}
        box = [lfn_of(text) for text in jdl.get("InputFile", ()) if lfn_of(text) not in known]
        await self._learn([*box, *data, *([program] if program.startswith("/") else [])])
        placed = await self.files([*box, *data])
        inputs = [*jdl.get("Inputs", ()), *downloads(jdl, known)]
        if program.startswith("/") and self._placed[program] is not None:
            name = program.rpartition("/")[2]
            inputs.append({"lfn": program, "name": name, "executable": True})
            program = f"./{name}"
        elif str(jdl["Executable"]).startswith("LF:"):
            raise UserError(f"Executable {program} is not a file of the catalogue; `orchestrate file put` it")
        _no_double(inputs)
        jdl |= {"Inputs": inputs, "Executable": program}
        if "JDLVariables" in jdl:
            jdl["Variables"] = variables(jdl)
        close = near([placed[lfn] for lfn in dict.fromkeys(data)], sites)
        spec = {
            "jdl": jdl,
            "own": requirements,
            "conditions": [each.to_json() for each in conditions(jdl, requirements, close)],
        }
        if data:
            spec["near"] = close.expression if close else ""
        return New(spec, await self._class(jdl, requirements, close), float(jdl["Price"]))

    async def _learn(self, lfns: Sequence[str]) -> None:
        if new := [lfn for lfn in lfns if lfn not in self._placed]:
            found = await self.catalogue.placed(self.connection, new)
            self._placed |= {lfn: found.get(lfn) for lfn in new}

    async def _class(self, jdl: Mapping[str, Any], requirements: str, close: Condition | None) -> int:
        values = class_values(jdl, requirements)
        key = json.dumps([values, requirements, close.expression if close else ""], sort_keys=True)
        if key not in self._classes:
            ad = task_ad(jdl, self.owner, requirements, close)
            self._classes[key] = await store.class_id(self.connection, KIND, self.owner, ad)
        return self._classes[key]


def variables(jdl: Mapping[str, Any]) -> dict[str, str]:
    """What JDLVariables puts into the payload's environment: ALIEN_JDL_<NAME>, lists joined by ``##``.

    An attribute that the job does not have makes none (as in JAliEn).
    """
    lower = {name.lower(): value for name, value in jdl.items()}
    wanted = {name: lower[name.lower()] for name in jdl["JDLVariables"] if name.lower() in lower}
    return {f"ALIEN_JDL_{name.upper()}": _as_text(value) for name, value in wanted.items()}


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return "##".join(map(_as_text, value))
    return value if isinstance(value, str) else json.dumps(value)


def downloads(jdl: Mapping[str, Any], known: set[str]) -> list[Json]:
    """The files to put into the work directory, by their names there, without those of ``known``.

    Input data of one name from several directories keep their path below the directory they share.
    """
    found: dict[str, str] = {}
    for attribute in ("InputFile", "InputData"):
        texts = [str(text).partition(",") for text in jdl.get(attribute, ())]
        wanted = [lfn for lfn, _, option in texts if option.strip().lower() != "nodownload"]
        names = {lfn: lfn.rpartition("/")[2] for lfn in wanted if lfn not in known and lfn not in found}
        if attribute == "InputData" and len(set(names.values())) < len(names):
            shared = posixpath.commonpath([posixpath.dirname(lfn) for lfn in names])
            names = {lfn: posixpath.relpath(lfn, shared) for lfn in names}
        found |= names
    return [{"lfn": lfn, "name": name} for lfn, name in found.items()]


def _no_double(inputs: Sequence[Json]) -> None:
    seen: set[str] = set()
    for each in inputs:
        if each["name"] in seen:
            raise UserError(f"two inputs would both be named {each['name']} in the work directory")
        seen.add(each["name"])
