"""InputDataCollection: files of the catalogue that list LFNs.

Either plain text, one ``LFN[,nodownload]`` a line (blank lines and those that begin with ``#`` do not
count), or AliEn's XML collection: ``<alien><collection><event><file lfn="…"/>…``, of which only the
``lfn`` of each ``file`` is read (its ``turl``, ``alien:///…``, when it has none). ``,nodownload`` behind the
collection's own name holds for all of its files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from xml.etree import ElementTree

from orchestrator.errors import GridError, TemporaryError, UserError
from orchestrator.jobs.attributes import converted
from orchestrator.jobs.kind import Catalogue
from orchestrator.jobs.modes import lfn_of

_TURL = "alien://"
Texts = Mapping[str, str | GridError]  # what each collection holds, or why it could not be read


def wanted(attributes: Mapping[str, Any]) -> set[str]:
    """The LFNs of the collections that a job names."""
    return {lfn_of(text) for text in attributes.get("InputDataCollection", ())}


async def fetched(catalogue: Catalogue, lfns: Collection[str]) -> Texts:
    """The collections, read outside of any transaction. TemporaryError when they may be readable later."""
    texts: dict[str, str | GridError] = {}
    for lfn in sorted(lfns):
        try:
            texts[lfn] = await catalogue.read_text(lfn)
        except TemporaryError:
            raise
        except GridError as error:
            texts[lfn] = error
    return texts


def expanded(attributes: Mapping[str, Any], texts: Texts) -> dict[str, Any]:
    """The attributes with the files of all collections in InputData instead.

    Why one could not be read is raised here. UserError when a collection names no file, or something that is none.
    """
    if not attributes.get("InputDataCollection"):
        return dict(attributes)
    files = list(attributes.get("InputData", ()))
    for spelt in attributes["InputDataCollection"]:
        lfn, comma, option = spelt.partition(",")
        if isinstance(held := texts[lfn], GridError):
            raise held
        files += [text if "," in text else f"{text}{comma}{option}" for text in read(lfn, held)]
    rest = {name: value for name, value in attributes.items() if name != "InputDataCollection"}
    return rest | {"InputData": files}


def read(name: str, text: str) -> list[str]:
    """The texts of a collection, as InputData spells them; ``name`` is for the error."""
    found = _xml(name, text) if text.lstrip().startswith("<") else _lines(text)
    if not found:
        raise UserError(f"collection {name} names no file")
    try:
        return [str(text) for text in converted("InputData", found)]
    except UserError as error:
        raise UserError(f"collection {name}: {error.message}") from error


def _lines(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _xml(name: str, text: str) -> list[str]:
    if "<!" in text.replace("<!--", ""):  # entities can grow without bound; a collection has no use for any
        raise UserError(f"collection {name} has a DOCTYPE or CDATA, which none needs")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - no DOCTYPE, so no entities
    except ElementTree.ParseError as error:
        raise UserError(f"collection {name} is not well-formed XML: {error}") from error
    files = root.iter("file")
    return [each.get("lfn") or each.get("turl", "").removeprefix(_TURL) for each in files]
