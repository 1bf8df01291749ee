"""What a commit from elsewhere must fulfil before it becomes the present revision."""

from __future__ import annotations

from orchestrator.errors import PermanentError
from orchestrator.software.cvmfs import manifest as manifests
from orchestrator.software.cvmfs import whitelist as whitelists
from orchestrator.software.cvmfs.catalog import Catalog
from orchestrator.software.cvmfs.manifest import Manifest
from orchestrator.software.cvmfs.model import (
    CATALOG,
    CERTIFICATE,
    HISTORY,
    MANIFEST,
    METAINFO,
    object_path,
)
from orchestrator.software.cvmfs.objects import digest, unpack
from orchestrator.software.cvmfs.store import Commit, LocalStore


def check_commit(store: LocalStore, fqrn: str, commit: Commit, master_public: bytes, now: float) -> int:
    """The revision's number when ``commit`` may replace what ``store`` holds; PermanentError otherwise.

    Whitelist signed by ``master_public`` and valid; manifest signed by a listed certificate, for this
    repository, revision exactly one more than the present; every object that it newly refers to is stored.
    """
    whitelist = whitelists.verify(commit.whitelist, master_public, fqrn, now)
    claimed = manifests.parse(commit.manifest)
    certificate = unpack(claimed.certificate, _stored(store, claimed.certificate + CERTIFICATE))
    if not whitelist.lists(certificate):
        raise PermanentError(
            f"the certificate that signed this revision of {fqrn} is not whitelisted", fqrn=fqrn
        )
    made = manifests.verify(commit.manifest, certificate, fqrn)
    present = store.read(MANIFEST)
    if present == commit.manifest:
        return made.revision
    old = manifests.parse(present) if present is not None else None
    if commit.base != (old.catalog if old else ""):
        raise PermanentError(
            f"{fqrn} is at revision {old.revision if old else 0} already; publish again",
            moved=True,
            revision=old.revision if old else 0,
        )
    _follows(made, old, commit)
    catalog = _catalog(store, made)
    if catalog.properties.get("revision") != str(made.revision):
        raise PermanentError(
            f"the catalog is of revision {catalog.properties.get('revision')}, not {made.revision}"
        )
    tops = ((made.history, HISTORY), (made.metainfo, METAINFO))
    wanted = {name + suffix for name, suffix in tops if name} | _named(catalog)
    if old is not None:
        wanted -= _named(_catalog(store, old))
    absent = sorted(store.absent(wanted))
    if absent:
        raise PermanentError(
            f"{len(absent)} objects of this revision are not here, the first is {absent[0]}; send them first",
            missing=absent[:100],
        )
    return made.revision


def _follows(made: Manifest, old: Manifest | None, commit: Commit) -> None:
    expected = old.revision + 1 if old else 1
    if made.revision != expected:
        raise PermanentError(
            f"revision {made.revision} cannot come now; the next is {expected}", next=expected
        )
    if old is not None and made.published < old.published:
        raise PermanentError("this revision is dated before the present one; clients would ignore it")
    if made.reflog != digest(commit.reflog):
        raise PermanentError("the reflog is not the one that the manifest names")


def _catalog(store: LocalStore, manifest: Manifest) -> Catalog:
    name = manifest.catalog + CATALOG
    content = unpack(name, _stored(store, name), manifest.catalog_size or None)
    return Catalog.load(content, f"catalog {name}")


def _named(catalog: Catalog) -> set[str]:
    return catalog.objects() | {name + CATALOG for _, name, _ in catalog.nested()}


def _stored(store: LocalStore, name: str) -> bytes:
    found = store.read(object_path(name))
    if found is None:
        raise PermanentError(f"object {name} of this revision is not here; send it first", missing=[name])
    return found
