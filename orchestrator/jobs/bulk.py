"""Many jobs by one request: submitted from one JDL, or killed, resubmitted, held and released together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from orchestrator.errors import GridError, NotAllowed, TemporaryError, UserError
from orchestrator.jobs import archived, many, model, store
from orchestrator.jobs.jdl import JobSpec
from orchestrator.jobs.service import Jobs, Who
from orchestrator.jobs.store import Choice
from orchestrator.tasks import store as tasks
from orchestrator.tasks.store import New

Json = dict[str, Any]
MOST_JOBS: Final = 10_000  # of one submission
PAGE: Final = 500  # jobs that one request of a verb may name, or of a choice handles
_AT_ONCE = 250  # jobs read while the database inserts those before,
_LONGEST = 0.05  # or seconds: central has others to serve
_SOON: Final = 8.0  # seconds after which a request answers with what is done; the caller asks for the rest


@dataclass(frozen=True)
class Done:
    """What happened to one job of many."""

    job: int
    ok: bool
    state: str = ""  # afterwards
    message: str = ""  # why not
    code: int = 0  # the exit code of the error


async def submit(jobs: Jobs, who: Who, text: str, lists: Sequence[Sequence[str]], request: str) -> Json:
    """{tasks: ids in the order of ``lists``, warnings}: all are made, or none.

    The same ``request`` again gives the same jobs. UserError names the list of arguments that is wrong.
    """
    if not lists:
        raise UserError(
            "a bulk submission needs at least one list of arguments ([[]] is one job without any)"
        )
    if len(lists) > MOST_JOBS:
        raise UserError(f"{len(lists)} jobs are too many for one submission; send at most {MOST_JOBS}")
    made: list[int] = []
    first: JobSpec | None = None
    async with jobs.database.transaction() as connection:
        number = await store.open_submission(connection, who.user, request or None, text)
        if number is None:
            return {"tasks": await store.submitted_before(connection, who.user, request), "warnings": []}

        async def insert(new: Sequence[New]) -> None:
            if new:
                made.extend(
                    await tasks.submit(connection, model.KIND, who.user, model.INSERTING, new, actor=who.user)
                )

        inserting = asyncio.ensure_future(insert([]))
        try:
            read = many.read(text, lists, jobs.defaults, lambda spec: jobs.check(who, spec))
            for start, specs in _portions(read):
                first = first or specs[0]
                given = lists[start : start + len(specs)]
                new = [_new(number, *each) for each in zip(given, specs, strict=True)]
                await inserting
                inserting = asyncio.ensure_future(insert(new))
                await asyncio.sleep(0)  # it is sent, and others are served, before the next are made ready
            await inserting
        finally:
            await asyncio.gather(inserting, return_exceptions=True)
        await store.close_submission(connection, number, made)
        await tasks.notify(connection, "optimize", str(made[0]))
        warnings = await jobs.warnings(connection, first) if first is not None else []
    return {"tasks": made, "warnings": warnings}


def _new(submission: int, arguments: Sequence[str], spec: JobSpec) -> New:
    told = {
        "submission": submission,
        "arguments": list(arguments),
        "jdl": spec.attributes,
        "own": spec.requirements,
    }
    return New(told, None, float(spec.attributes["Price"]))


def _portions(specs: Iterator[JobSpec]) -> Iterator[tuple[int, list[JobSpec]]]:
    """(place of the first, specs)."""
    clock = asyncio.get_running_loop().time
    portion: list[JobSpec] = []
    start, until = 0, clock() + _LONGEST
    for spec in specs:
        portion.append(spec)
        if len(portion) == _AT_ONCE or clock() > until:
            yield start, portion
            start, portion, until = start + len(portion), [], clock() + _LONGEST
    if portion:
        yield start, portion


async def by_ids(jobs: Jobs, who: Who, verb: str, ids: Sequence[int]) -> Json:
    """{results: [Done], next}: the same verb on each, in order; one that refuses does not keep the others back.

    ``next``: how many were handled when time was up (ask again with the rest), else null.
    """
    act = _verb(jobs, who, verb)
    if not ids:
        raise UserError(f"{verb}: an empty list of jobs never means all; name them, or choose by a filter")
    if len(ids) > PAGE:
        raise UserError(f"{verb}: {len(ids)} jobs are too many for one request; name at most {PAGE}")
    results = await _each(act, ids)
    return {
        "results": [asdict(each) for each in results],
        "next": len(results) if len(results) < len(ids) else None,
    }


async def by_choice(jobs: Jobs, who: Who, verb: str, choice: Choice, after: int) -> Json:
    """{results: [Done], next}: the verb on the jobs of ``choice`` above the number ``after``, a page of them.

    ``next``: ask again with this ``after``; null when there are no more. Without an owner the choice is
    among the caller's own jobs; those of others (``all``: of everybody) are for admins.
    UserError when nothing is chosen by: an empty filter never means all.
    """
    act = _verb(jobs, who, verb)
    if all(value in (None, "", []) for value in asdict(choice).values()):
        raise UserError(
            f"{verb}: an empty filter never means all; give a state, owner, master, tag, site or since"
        )
    owner = choice.owner or who.user
    if owner != who.user and not who.admin:
        raise NotAllowed(f"only an admin may {verb} jobs of {owner}")
    possible = model.VERBS[verb]
    states = sorted(possible & set(choice.states)) if choice.states else sorted(possible)
    if not states:
        said = f"{verb} can do nothing with jobs that are {', '.join(choice.states or ())}"
        raise UserError(f"{said}; it can with {', '.join(sorted(possible))}")
    narrowed = replace(choice, states=states, owner=None if owner == "all" else owner)
    async with jobs.database.transaction() as connection:
        ids = await archived.chosen(connection, narrowed, after, PAGE)
    results = await _each(act, ids)
    more = len(results) < len(ids) or len(ids) == PAGE
    return {
        "results": [asdict(each) for each in results],
        "next": results[-1].job if more and results else None,
    }


Act = Callable[[int], Awaitable[str]]


def _verb(jobs: Jobs, who: Who, verb: str) -> Act:
    async def shifted(move: Callable[[Who, int], Awaitable[Json]], job: int) -> str:
        while (answer := await move(who, job)).get("more"):
            pass
        return str(answer["state"])

    known: Mapping[str, Act] = {
        "kill": lambda job: jobs.kill(who, job),
        "resubmit": lambda job: jobs.resubmit(who, job),
        "hold": lambda job: shifted(jobs.hold, job),
        "release": lambda job: shifted(jobs.release, job),
    }
    if verb not in known:
        raise UserError(f"{verb} is no verb for many jobs; there are {', '.join(known)}")
    return known[verb]


async def _each(act: Act, ids: Sequence[int]) -> list[Done]:
    """What happened to each, as far as the time goes; at least to the first."""
    until = asyncio.get_running_loop().time() + _SOON
    done = []
    for job in ids:
        try:
            done.append(Done(job, True, await act(job)))
        except TemporaryError:
            if not done:
                raise
            break  # the caller asks for the rest, and waits if it must
        except GridError as error:
            done.append(Done(job, False, "", error.message, error.exit_code))
        if asyncio.get_running_loop().time() > until:
            break
    return done
