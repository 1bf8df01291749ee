"""site.yaml → Site, or everything that is wrong with it, each with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import UserError
from orchestrator.site import positions
from orchestrator.site.check import check
from orchestrator.site.defaults import filled
from orchestrator.site.messages import problem
from orchestrator.site.positions import Mark, Tree
from orchestrator.site.problem import Problem, choose, dotted
from orchestrator.site.schema import EnvReference, Reference, Site
from orchestrator.site.secrets import hidden, secrets

MAX_BYTES = 4 * positions.MAX_TEXT


@dataclass(frozen=True, order=True)
class SiteError:
    """One mistake: its place, the key path, what is wrong and what to do."""

    mark: Mark
    path: str
    message: str
    hint: str
    line: str
    """The line of the file, what looks like a secret replaced by stars."""


class SiteErrors(UserError):
    """All that is wrong with one site spec, in the order of the file."""

    def __init__(self, file: str, errors: tuple[SiteError, ...]) -> None:
        super().__init__("\n".join(_text(file, error) for error in errors), file=file, errors=_facts(errors))
        self.file = file
        self.errors = errors


def load(path: Path) -> Site:
    """The site of that file. SiteErrors tells all mistakes at once; nothing is touched."""
    try:
        with path.open("rb") as source:
            raw = source.read(MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        near = f" ({choose(path.name, _specs(path.parent), 'site spec')})"
        raise _single(
            str(path), f"the site spec cannot be read: {reason}", "give the path of a site.yaml" + near
        ) from error
    except ValueError as error:  # a NUL in the path
        raise _single(str(path), "this is not a path", "give the path of a site.yaml") from error
    if len(raw) > MAX_BYTES:
        raise _single(str(path), f"the file has more than {MAX_BYTES:,} bytes", "is it a site spec?")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise _single(
            str(path), "the file is not UTF-8 text", "save it as UTF-8", Mark(line, column)
        ) from error
    return loads(text, str(path), site_name(path))


def loads(text: str, file: str, site: str) -> Site:
    """The site in ``text``; ``file`` is what errors call it, ``site`` its name if the text has none."""
    tree = positions.read(text)
    errors = [_error(tree, text, Problem(path, what, hint), mark) for mark, path, what, hint in tree.faults]
    result: Site | None = None
    if not tree.broken:
        result, problems = _judge(tree.data, site)
        told = {path for _, path, _, _ in tree.faults}
        errors += [_error(tree, text, found) for found in problems if found.path not in told]
    if result is None or errors:
        # Through an alias one mistake is found at several paths; it is told once.
        once = {(error.mark, error.message): error for error in sorted(errors, reverse=True)}
        raise SiteErrors(file, tuple(sorted(once.values())))
    return result


def _judge(data: Any, site: str) -> tuple[Site | None, list[Problem]]:
    if data is None:
        return None, [Problem((), "the file is empty", "copy an example from templates/sites and change it")]
    if not isinstance(data, Mapping):
        return None, [Problem((), "a site spec is a mapping of keys and values", "begin with `vo: NAME`")]
    found = list(secrets(data))
    told = {problem.path for problem in found}
    result: Site | None = None
    try:
        result = Site.model_validate({"site": site, **data})
    except ValidationError as error:
        translated = (problem(detail, data) for detail in error.errors(include_url=False))
        found += [one for one in translated if one is not None and one.path not in told]
    return result, found + check(filled(data))


def site_name(path: Path) -> str:
    """The name of a site whose file has no ``site:`` key: the file's stem, made a valid name."""
    stem = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:28].rstrip("-")
    return stem if stem[:1].isalpha() else f"site-{stem}"[:28].rstrip("-")


def resolve(reference: Reference, environment: Mapping[str, str], directory: Path) -> str:
    """The URL a reference stands for; paths are relative to ``directory``. UserError when there is none."""
    if isinstance(reference, str):
        return reference
    if isinstance(reference, EnvReference):
        source, url = f"environment variable {reference.env}", environment.get(reference.env, "").strip()
    else:
        path = directory / Path(reference.file).expanduser()
        source = f"file {path}"
        try:
            url = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            url = ""
    if not re.match(r"postgres(ql)?://\S+$", url):
        raise UserError(
            f"{source}: not set, or no postgresql:// URL; put the database's URL there", source=source
        )
    return url


def _error(tree: Tree, text: str, found: Problem, mark: Mark | None = None) -> SiteError:
    mark = mark or tree.mark(found.path, key=found.key)
    lines = positions.lines(text)
    line = hidden(lines[mark.line - 1]) if mark.line <= len(lines) else ""
    return SiteError(mark, dotted(found.path), hidden(found.message), found.hint, line)


def _single(file: str, message: str, hint: str, mark: Mark = Mark(1, 1)) -> SiteErrors:
    return SiteErrors(file, (SiteError(mark, "", message, hint, ""),))


def _text(file: str, error: SiteError) -> str:
    path = f"{error.path}: " if error.path else ""
    return f"{file}:{error.mark.line}:{error.mark.column}: {path}{error.message}; {error.hint}"


def _facts(errors: tuple[SiteError, ...]) -> list[dict[str, Any]]:
    return [
        {
            "line": error.mark.line,
            "column": error.mark.column,
            "path": error.path,
            "message": error.message,
            "hint": error.hint,
        }
        for error in errors
    ]


def _specs(directory: Path) -> list[str]:
    try:
        return sorted(path.name for path in directory.glob("*.yaml"))
    except OSError:
        return []
