"""Makes a job ready to wait: finds its files in the catalogue, states its requirements, names its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from orchestrator.errors import UserError
from orchestrator.jobs.jdl import Defaults
from orchestrator.jobs.kind import Catalogue
from orchestrator.jobs.model import KIND
from orchestrator.jobs.requirements import conditions, task_ad
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
        self._exists: dict[str, bool] = {}
        self._classes: dict[str, int] = {}

    async def prepare(self, attributes: Mapping[str, Any], requirements: str, directory: str) -> New:
        """The job as it waits; UserError when an input is not in the catalogue or two inputs share a name."""
        jdl = dict(attributes) | {"OutputDir": attributes.get("OutputDir", directory)}
        inputs = [*jdl.get("Inputs", ()), *await self._inputs(jdl)]
        program = str(jdl["Executable"]).removeprefix("LF:")
        if program.startswith("/") and await self._is_file(program):
            name = PurePosixPath(program).name
            inputs.append({"lfn": program, "name": name, "executable": True})
            program = f"./{name}"
        elif str(jdl["Executable"]).startswith("LF:"):
            raise UserError(f"Executable {program} is not a file of the catalogue; `orchestrate file put` it")
        names = [each["name"] for each in inputs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"two inputs would both be named {twice[0]} in the work directory")
        jdl |= {"Inputs": inputs, "Executable": program}
        spec = {
            "jdl": jdl,
            "own": requirements,
            "conditions": [each.to_json() for each in conditions(jdl, requirements)],
        }
        return New(spec, await self._class(jdl, requirements), float(jdl["Price"]))

    async def _inputs(self, jdl: Mapping[str, Any]) -> list[Json]:
        given: Sequence[Mapping[str, Any]] = jdl.get("Inputs", ())
        known = {each["lfn"] for each in given}
        found = []
        for text in (*jdl.get("InputFile", ()), *jdl.get("InputData", ())):
            lfn, _, option = str(text).partition(",")
            if lfn in known:
                continue
            if not await self._is_file(lfn):
                raise UserError(f"input {lfn} is not a file of the catalogue")
            if option.strip().lower() != "nodownload":
                found.append({"lfn": lfn, "name": PurePosixPath(lfn).name})
        return found

    async def _is_file(self, lfn: str) -> bool:
        if lfn not in self._exists:
            self._exists[lfn] = await self.catalogue.exists(self.connection, lfn)
        return self._exists[lfn]

    async def _class(self, jdl: Mapping[str, Any], requirements: str) -> int:
        ad = task_ad(jdl, self.owner, requirements)
        digest = ad.digest()
        if digest not in self._classes:
            self._classes[digest] = await store.class_id(self.connection, KIND, self.owner, ad)
        return self._classes[digest]
