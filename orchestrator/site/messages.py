"""What pydantic found, in words for the writer of a site spec. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic_core import ErrorDetails

from orchestrator.site.fields import ADDRESSES, ENDPOINT, FQRN, HOST_NAME, IPV4, NAME, VARIABLE
from orchestrator.site.problem import Path, Problem, choose, show
from orchestrator.site.schema import Site

# pydantic puts the branch it took in a union into the location; the document has no such key.
_BRANCHES = (("providers", "*"), ("database",), ("ledger",))
_REFERENCE = "write a postgresql:// URL without password, {env: NAME} or {file: PATH}"
_PATTERNS = {
    NAME: ("a name", "1 to 28 of a-z, 0-9 and '-', a letter first"),
    HOST_NAME: ("a host name or address", "letters, digits, '.' and '-'"),
    VARIABLE: ("the name of a variable", "letters, digits and '_'"),
    ENDPOINT: (
        "the URL of an API",
        "https://HOST[:PORT][/PATH] without user or password (http:// to this host alone)",
    ),
    IPV4: ("an IPv4 address", "four numbers, as 10.1.0.1"),
    ADDRESSES: ("a range of addresses", "the first and the last IPv4 address, as 10.1.0.10-10.1.0.99"),
    FQRN: ("a repository name", "lower-case words with dots between, as alice.example.org"),
}
_WANTED = {
    "model_type": ("a mapping", "write keys and values: `{key: value}` or indented lines"),
    "model_attributes_type": ("a mapping", "write keys and values: `{key: value}` or indented lines"),
    "dict_type": ("a mapping", "write names and settings: `{name: {…}}` or indented lines"),
    "mapping_type": ("a mapping", "write names and settings: `{name: {…}}` or indented lines"),
    "tuple_type": ("a list", "write `[a, b]`, or one `- item` a line"),
    "string_type": ("text", "write text; put quotes around what looks like a number"),
    "int_type": ("a whole number", "write a whole number without quotes"),
    "float_type": ("a number", "write a number without quotes"),
    "float_parsing": ("a number", "write a number without quotes"),
    "finite_number": ("a number", "write a number"),
}


def problem(error: ErrorDetails, data: Mapping[str, Any]) -> Problem | None:
    """One of pydantic's errors as a problem at a path of the document ``data``; None when it is only
    the consequence of others."""
    path, key = _path(error["loc"], error["type"] != "extra_forbidden")
    if error["type"] == "too_short" and error["input"]:
        return None  # pydantic counts only the valid items
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    last = str(path[-1]) if path else ""
    if kind == "extra_forbidden":
        known = keys_at(path[:-1], data)
        known = [name for name in known if name not in _at(path[:-1], data)] or known
        hint = _REFERENCE if path[0] in ("database", "ledger") else choose(last, known, "key")
        return Problem(path, f"unknown key {last!r}", hint, key=True)
    if kind == "missing":
        hint = f"add `{last}: …`: {_description(path, data)}"
        return Problem(
            path, f"{last!r} is missing", _REFERENCE if path[0] in ("database", "ledger") else hint, True
        )
    if kind == "union_tag_not_found":
        known = sorted(_at_schema(path, data).get("discriminator", {}).get("mapping", ()))
        return Problem(
            (*path, "kind"), "'kind' is missing", f"add `kind: …`, one of {', '.join(known)}", True
        )
    if kind in ("enum", "literal_error", "union_tag_invalid"):
        words = context.get("expected") or context.get("expected_tags") or ""
        known = [word.strip(" '") for word in words.replace(" or ", ",").split(",")]
        name, path = ("kind", (*path, "kind")) if kind == "union_tag_invalid" else (last, path)
        found = context.get("tag", value)
        return Problem(path, f"{show(found)} is not a {name}", _choice(str(found), known, name))
    if kind == "model_type" and path[0] in ("database", "ledger"):
        return Problem(path, f"expected a URL or a mapping, found {show(value)}", _REFERENCE)
    return Problem(path, *_value(kind, value, context, last), key=key)


def _value(kind: str, value: Any, context: Mapping[str, Any], last: str) -> tuple[str, str]:
    if kind == "string_pattern_mismatch" and context["pattern"] in _PATTERNS:
        what, rule = _PATTERNS[context["pattern"]]
        return f"{show(value)} is not {what}", f"use {rule}"
    if kind == "string_pattern_mismatch" and "postgres" in context["pattern"]:
        return "this is not a postgresql:// URL", _REFERENCE
    if kind == "quantity":
        wrong = value is None or isinstance(value, bool | dict | list)
        message = (
            f"expected a {context['what']}, found {show(value)}"
            if wrong
            else f"{show(value)} is not a {context['what']}"
        )
        return message, f"write for example `{last}: {context['example']}`"
    if kind in _WANTED:
        what, hint = _WANTED[kind]
        return f"expected {what}, found {show(value)}", hint
    if kind == "too_short":
        return f"{last!r} is empty", f"add at least {context.get('min_length', 1)}"
    for bound, words in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than")):
        if bound in context:
            return f"{show(value)} is out of range", f"{last} is {words} {context[bound]}"
    if kind.startswith("string_"):
        return f"{show(value)} cannot be used here", "write 1 to 4096 printable characters on one line"
    return f"{show(value)}: {kind.replace('_', ' ')}", "compare with `orchestrate schema`"


def _choice(found: str, known: list[str], name: str) -> str:
    near = choose(found, known, name)
    listed = f"one of: {', '.join(known)}"
    return f"{near} ({listed})" if near.startswith("did") else listed


def _path(location: Path, marked: bool) -> tuple[Path, bool]:
    """The path, and whether its key is at fault: pydantic then adds "[key]" (which may also be a real key)."""
    parts = list(location)
    for branch in _BRANCHES:
        here = len(branch)
        if len(parts) > here and all(want in ("*", part) for want, part in zip(branch, parts, strict=False)):
            if not (marked and parts[here] == "[key]"):
                del parts[here]
            break
    if marked and parts and parts[-1] == "[key]":
        return tuple(parts[:-1]), True
    return tuple(parts), False


def keys_at(path: Path, data: Mapping[str, Any]) -> list[str]:
    """The keys that the schema knows in the mapping at ``path``."""
    return list(_at_schema(path, data).get("properties", ()))


def _description(path: Path, data: Mapping[str, Any]) -> str:
    found = _at_schema(path[:-1], data).get("properties", {}).get(str(path[-1]), {})
    return str(found.get("description", "required")).rstrip(".")


@cache
def _schema() -> dict[str, Any]:
    return Site.model_json_schema()


def _at_schema(path: Path, data: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of the place; the branch of a union is chosen by ``kind`` in the data."""
    here = _schema()
    for depth in range(len(path) + 1):
        here = _resolved(here, _at(path[:depth], data) if depth < len(path) or "oneOf" in here else {})
        if depth == len(path):
            break
        part = path[depth]
        if isinstance(part, int):
            here = here.get("items", {})
        else:
            names = {**here.get("patternProperties", {}), "": here.get("additionalProperties")}
            others = next((found for found in names.values() if isinstance(found, dict)), {})
            here = here.get("properties", {}).get(part) or others
    return here


def _resolved(schema: dict[str, Any], value: Any) -> dict[str, Any]:
    if "$ref" in schema:
        return _resolved(_schema()["$defs"][schema["$ref"].rsplit("/", 1)[1]], value)
    chosen = schema.get("discriminator", {}).get("mapping", {}).get(str(_get(value, "kind")))
    return _resolved({"$ref": chosen}, value) if chosen else schema


def _at(path: Path, data: Any) -> Any:
    for part in path:
        data = _get(data, part)
    return {} if data is None else data


def _get(value: Any, part: str | int) -> Any:
    if isinstance(value, Mapping):
        return value.get(str(part))
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return None
