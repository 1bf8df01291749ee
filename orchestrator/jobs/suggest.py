"""What would let waiting jobs run: a copy of their data, a package. Pure.

The AliEn paper (section 5) lists both among the strategies of a job optimizer: replicating data so that jobs can be
executed, and requesting the installation of packages.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from orchestrator.catalogue.model import Placed
from orchestrator.units import format_size

COPY: Final = "copy"  # of input data, to a storage element near free resources
FETCH: Final = "fetch"  # the site's PackMan gets the release before the first job asks for it
INSTALL: Final = "install"  # no resource can get the package by itself
PUBLISH: Final = "publish"  # the VO does not have it

KINDS: Final = (COPY, FETCH, INSTALL, PUBLISH)
MOST_FILES = 1000  # of one suggestion: as many as one request for transfers names


@dataclass(frozen=True)
class Policy:
    """When data is worth a copy. Sizes in bytes, times in seconds."""

    patience: float = 600.0  # so long a class waits before a copy is suggested
    most_bytes: int = 10**12  # of one suggestion
    spare: float = 0.05  # share of a storage element's free space that is left alone


@dataclass(frozen=True)
class Look:
    """A resource that stands for others of its site. ``free``: 0 when it is busy, else how many of the site are free."""

    site: str
    close: tuple[str, ...]  # CloseSE
    packages: frozenset[str]  # installed
    fetches: bool  # its agents get packages from the site's PackMan
    free: int = 0


@dataclass(frozen=True)
class Element:
    """A storage element; ``free`` in bytes."""

    name: str
    free: int
    alive: bool = True


@dataclass(frozen=True)
class Stuck:
    """A class of waiting jobs, and which looks (their places in the list of all) would take it.

    ``able``: as it is; ``elsewhere``: if its data were near; ``unequipped``: if its packages were there.
    ``jobs``: input files of the members that are next in line.
    """

    number: int
    waiting: int
    waited: float  # seconds
    packages: tuple[str, ...] = ()
    able: tuple[int, ...] = ()
    elsewhere: tuple[int, ...] = ()
    unequipped: tuple[int, ...] = ()
    jobs: Sequence[Sequence[Placed]] = ()


@dataclass(frozen=True)
class Suggestion:
    """One thing to do for ``jobs`` members of a class."""

    kind: str
    subject: str
    target: str
    site: str
    jobs: int
    bytes: int = 0
    files: tuple[str, ...] = field(default=())
    reason: str = ""


def decide(
    each: Stuck,
    looks: Sequence[Look],
    storage: Mapping[str, Element],
    published: Collection[str],
    policy: Policy,
) -> list[Suggestion]:
    """What would help the class; nothing when resources that could take it are free, or when none is anywhere."""
    if missing := [name for name in each.packages if name not in published]:
        reason = "no release of that name and version is published in the VO"
        return [Suggestion(PUBLISH, name, "", "", each.waiting, reason=reason) for name in missing]
    if each.able:
        ahead = _ahead(each, looks)
        if each.waited < policy.patience or any(looks[place].free for place in each.able):
            return ahead
        return ahead + _copy(each, looks, storage, policy)
    if each.unequipped:
        return _install(each, looks)
    return _copy(each, looks, storage, policy) if each.waited >= policy.patience else []


def _ahead(each: Stuck, looks: Sequence[Look]) -> list[Suggestion]:
    """Packages that no resource of a site has yet which could run the class."""
    sites = sorted({looks[place].site for place in each.able if looks[place].fetches})
    have = {site: set[str]() for site in sites}
    for look in looks:
        if look.site in have:
            have[look.site] |= look.packages
    reason = "no resource of the site has it yet; its PackMan gets it before the first job asks"
    return [
        Suggestion(FETCH, name, site, site, each.waiting, reason=reason)
        for name in each.packages
        for site in sites
        if name not in have[site]
    ]


def _install(each: Stuck, looks: Sequence[Look]) -> list[Suggestion]:
    """The packages that the site with most free resources lacks, and cannot get by itself."""
    best = min(each.unequipped, key=lambda place: (-looks[place].free, looks[place].site))
    site, have = looks[best].site, looks[best].packages
    reason = "no resource seen lately has it or can install it"
    return [
        Suggestion(INSTALL, name, site, site, each.waiting, reason=reason)
        for name in each.packages
        if name not in have
    ]


def _copy(
    each: Stuck, looks: Sequence[Look], storage: Mapping[str, Element], policy: Policy
) -> list[Suggestion]:
    """Copies of the files of the next members on one storage element near free resources: where most of these are
    useful, then where most bytes are already."""
    there = Counter[str]()
    for file in {file.lfn: file for files in each.jobs for file in files}.values():
        there.update(dict.fromkeys(file.ses, file.size))
    useful = [
        (-min(looks[place].free, len(each.jobs)), -there[name], name, looks[place].site)
        for place in each.elsewhere
        for name in (looks[place].close if looks[place].free else ())
        if name in storage and storage[name].alive
    ]
    for _, _, name, site in sorted(useful):
        room = min(policy.most_bytes, int(storage[name].free * (1 - policy.spare)))
        files, helped = _wanted(each.jobs, name, room)
        if files:
            size, lfns = sum(file.size for file in files), tuple(file.lfn for file in files)
            busy = "the resources near it are busy" if each.able else "no resource near it has asked lately"
            return [Suggestion(COPY, _subject(files), name, site, helped, size, lfns, busy)]
    return []


def _wanted(jobs: Sequence[Sequence[Placed]], se: str, room: int) -> tuple[list[Placed], int]:
    """The files that ``se`` lacks for as many of the jobs, in order, as there is room for; and how many jobs that is.

    A job of which a file has no copy anywhere cannot be helped, one whose files are all there needs none.
    """
    wanted: dict[str, Placed] = {}
    helped = size = 0
    for files in jobs:
        lacking = {file.lfn: file for file in files if se not in file.ses}
        if not lacking or not all(file.ses for file in files):
            continue
        more = {lfn: file for lfn, file in lacking.items() if lfn not in wanted}
        much = sum(file.size for file in more.values())
        if size + much > room or len(wanted) + len(more) > MOST_FILES:
            break
        wanted |= more
        size += much
        helped += 1
    return list(wanted.values()), helped


def _subject(files: Sequence[Placed]) -> str:
    """The file, or the directory that holds them all."""
    if len(files) == 1:
        return files[0].lfn
    return posixpath.commonpath([posixpath.dirname(file.lfn) for file in files])


def text(each: Mapping[str, Any]) -> str:
    """What a suggestion (a row of the listing) says to a person."""
    kind, subject, target = each["kind"], each["subject"], each["target"]
    if kind == COPY:
        many = "it" if each["files"] == 1 else f"the {each['files']} files of it that they need"
        size = format_size(each["bytes"])
        said = f"{each['reason']}: a copy of {many} ({size}) at {target} would let {_jobs(each)} run at {each['site']}"
        return f"{subject}: {said}"
    if kind == FETCH:
        return f"{subject} is fetched to {target} ahead of {_jobs(each)} that may run there"
    if kind == INSTALL:
        return f"{subject} should be installed at {target}, for {_jobs(each)}: {each['reason']}"
    return f"{subject} is not published, and {_jobs(each)} ask{'s' if each['jobs'] == 1 else ''} for it"


def advice(each: Mapping[str, Any]) -> str:
    """What the person can do about it; "" where nothing is to be done."""
    if each["kind"] == COPY:
        if each["accepted"]:
            return f"{each['accepted']} has asked for it; see `orchestrate transfer ps --to {each['target']} --user all`"
        return f"`orchestrate job suggestions --accept {each['id']}` asks for the transfers"
    if each["kind"] == PUBLISH:
        name, _, version = each["subject"].partition("::")
        return f"`orchestrate software publish REPOSITORY {name} {version} DIRECTORY`"
    if each["kind"] == INSTALL:
        return "its admin allows a method of installation (`software: method:` in the site spec) or mounts CernVM-FS"
    return ""


def _jobs(each: Mapping[str, Any]) -> str:
    return "1 waiting job" if each["jobs"] == 1 else f"{each['jobs']} waiting jobs"
