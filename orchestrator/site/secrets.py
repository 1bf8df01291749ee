"""Secrets are never in a site spec: find those that are, and hide them in what we print. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.site.problem import Path, Problem

_WORDS = r"password|passwd|passphrase|pwd|secret|secret[-_]?key|token|api[-_]?key|access[-_]?key|private[-_]?key|credentials?"
_KEY = re.compile(rf"(?:.*[-_.])?(?:{_WORDS})", re.IGNORECASE)
_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://[^\s/@:]*):(?P<secret>\S+)@", re.IGNORECASE)
_PARAMETER = re.compile(r"[?&](?:password|sslpassword|passfile_content)=(?P<secret>[^\s&]+)", re.IGNORECASE)
_PEM = re.compile(r"-----BEGIN[A-Z ]*PRIVATE KEY-----")
_WRITTEN = re.compile(
    rf"(?<![\w.-])(?:[\w.-]*[-_.])?(?:{_WORDS})[\"']?\s*:\s*(?P<secret>\"[^\"]*\"?|'[^']*'?|[^\s,\[{{}}\]#][^,}}\]#]*)",
    re.I,
)
_NAME_IT = "remove it; secrets stay outside, a site spec only names them: {env: NAME} or {file: PATH}"
_NAME_URL = "keep the URL in an environment variable or a file and write {env: NAME} or {file: PATH} here"


def secrets(data: Any, path: Path = ()) -> Iterator[Problem]:
    """A problem for each literal secret in plain data; the messages do not repeat it."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            here = (*path, str(key))
            literal = isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""
            if literal and _KEY.fullmatch(str(key)):
                yield Problem(here, f"a secret ({key}) is written into the file", _NAME_IT)
            else:
                yield from secrets(value, here)
    elif isinstance(data, list):
        for n, item in enumerate(data):
            yield from secrets(item, (*path, n))
    elif isinstance(data, str):
        if _PEM.search(data):
            yield Problem(
                path, "a private key is written into the file", "write the path of the key's file instead"
            )
        elif _URL.search(data) or _PARAMETER.search(data):
            yield Problem(path, "a URL with a password is written into the file", _NAME_URL)


def hidden(line: str) -> str:
    """The line with what looks like a secret replaced by as many stars."""
    if _PEM.search(line) or re.fullmatch(r"\s*[A-Za-z0-9+/=]{40,}\s*", line):
        return "*" * len(line)
    for pattern in (_URL, _PARAMETER, _WRITTEN):
        line = pattern.sub(_starred, line)
    return line


def _starred(match: re.Match[str]) -> str:
    start, end = (place - match.start() for place in match.span("secret"))
    text = match[0]
    return text[:start] + "*" * (end - start) + text[end:]
