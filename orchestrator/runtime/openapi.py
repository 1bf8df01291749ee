"""An OpenAPI 3.1 document of an application, made from its routes and from the code that answers them.

Nothing is written by hand: paths and methods are the routes', summaries are the handlers' docstrings, and
parameters and bodies are what a handler reads (``value_of(body, "jdl", str, …)``, ``web.number(request, "limit", …)``,
``request.query_params.get("host")``). What a handler reads by another way is not told.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute, Route

Json = dict[str, Any]
SOURCE = ".source"  # a module's text, beside what Python made of it, on hosts that have no sources
_TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
}
_FIELDS = ("value_of", "_text", "text", "list_of")  # (body, name, type, what, default)
_PLACE = re.compile(r"\{(\w+)(?::(\w+))?\}")
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {name: {"type": kind} for name, kind in (("kind", "string"), ("message", "string"), ("facts", "object"))},
            "required": ["kind", "message", "facts"],
        }
    },
    "required": ["error"],
}  # fmt: skip


def document(title: str, routes: Sequence[BaseRoute]) -> Json:
    """The document of all plain routes; each has an operation for each of its methods."""
    paths: dict[str, Json] = {}
    for route in routes:
        if isinstance(route, Route):
            path = _PLACE.sub(r"{\1}", route.path)
            for method in sorted(route.methods or ()):
                if method != "HEAD":
                    paths.setdefault(path, {})[method.lower()] = _operation(method, route)
    error = {"description": "What went wrong, and what to do.", "content": _json(_ERROR)}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1"},
        "paths": paths,
        "components": {
            "responses": {"Error": error},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
        "security": [{"token": []}],
    }


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _operation(method: str, route: Route) -> Json:
    handler = inspect.unwrap(route.endpoint)
    told = inspect.getdoc(handler) or ""
    query, body = _reads(handler)
    name = re.sub(r"\W+", "_", f"{method.lower()}{route.path}").strip("_")
    parameters = [
        {"name": each, "in": "path", "required": True, "schema": {"type": "integer" if kind == "int" else "string"}}
        for each, kind in _PLACE.findall(route.path)
    ]  # fmt: skip
    parameters += [{"name": each, "in": "query", "schema": schema} for each, schema in query.items()]
    found: Json = {
        "operationId": name,
        "summary": told.partition("\n")[0] or f"{method} {route.path}",
        "tags": [part for part in route.path.split("/") if part and part != "v1"][:1],
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done.", "content": _json({})},
            "default": {"$ref": "#/components/responses/Error"},
        },
    }
    if told.partition("\n")[2].strip():
        found["description"] = told
    if body:
        properties = {each: schema for each, (schema, _) in body.items()}
        needed = [each for each, (_, required) in body.items() if required]
        schema: Json = {"type": "object", "properties": properties}
        found["requestBody"] = {
            "required": True,
            "content": _json(schema | ({"required": needed} if needed else {})),
        }
    return found


def _reads(handler: Callable[..., Any]) -> tuple[dict[str, Json], dict[str, tuple[Json, bool]]]:
    """What a handler reads of the query, and of the body (and whether it must be there)."""
    query: dict[str, Json] = {}
    body: dict[str, tuple[Json, bool]] = {}
    for call in _calls(handler):
        called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        names = [each.value for each in call.args if isinstance(each, ast.Constant)]
        if not names or not isinstance(names[0], str):
            continue
        if called in _FIELDS and len(call.args) >= 2:
            kind = (
                "list"
                if called == "list_of"
                else getattr(call.args[2], "id", "")
                if len(call.args) > 2
                else "str"
            )
            schema: Json = {"type": _TYPES[kind]} if kind in _TYPES else {}
            body.setdefault(names[0], (schema, len(call.args) <= 4))
        elif called == "number" and len(call.args) >= 2:
            query.setdefault(names[0], {"type": "number"})
        elif (
            called == "get"
            and isinstance(call.func, ast.Attribute)
            and "query_params" in ast.unparse(call.func.value)
        ):
            query.setdefault(names[0], {"type": "string"})
    return query, body


def _calls(handler: Callable[..., Any]) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(textwrap.dedent(_text_of(handler)))):
        if isinstance(node, ast.Call):
            yield node


def _text_of(handler: Callable[..., Any]) -> str:
    """The handler's source; "" where there is none."""
    try:
        return inspect.getsource(handler)
    except OSError:
        beside = Path(sys.modules[handler.__module__].__file__ or "").with_suffix(SOURCE)
        if not beside.exists():
            return ""
        lines = beside.read_text(encoding="utf-8").splitlines(keepends=True)
        return "".join(inspect.getblock(lines[handler.__code__.co_firstlineno - 1 :]))
