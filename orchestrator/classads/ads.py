"""Ads, expressions and matching: the only importer of the HTCondor ClassAd library."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import classad2

from orchestrator.classads.text import MAX_TEXT, Attribute, Problem, read_expression, scan
from orchestrator.errors import UserError


@dataclass(frozen=True)
class Expression:
    """A ClassAd expression in the library's own spelling, on one line."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Read one expression, reversed ``member`` calls put right; UserError when it is none."""
        return cls(repr(_tree(read_expression(text))).strip())


class Ad:
    """One ClassAd made of plain values; ``Requirements`` (and any Expression) stays an expression."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = {name: _checked(name, value) for name, value in values.items()}
        self.values.setdefault("Requirements", Expression("true"))
        size = len(self.canonical())
        if size > MAX_TEXT:
            raise UserError(f"an ad of {size} bytes is too large; at most {MAX_TEXT} are accepted")
        self.native = classad2.ClassAd()
        for name, value in self.values.items():
            self.native[name] = _tree(value.text) if isinstance(value, Expression) else value

    def canonical(self) -> str:
        """The same text for equal ads: JSON with sorted names, expressions marked."""
        plain = {k: {"expr": v.text} if isinstance(v, Expression) else v for k, v in self.values.items()}
        return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def restore(cls, canonical: str) -> Ad:
        """The ad that ``canonical`` was made of."""
        plain = json.loads(canonical)
        return cls({k: Expression(v["expr"]) if isinstance(v, dict) else v for k, v in plain.items()})

    def digest(self) -> str:
        """Equal for equal ads."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:32]

    def accepts(self, other: Ad) -> bool:
        """My Requirements are true with ``other`` as the other side: Undefined and Error are not."""
        try:
            return other.native.matches(self.native) is True  # evaluates the argument's Requirements
        except classad2.ClassAdException:  # too deep to evaluate
            return False


def matches(left: Ad, right: Ad) -> bool:
    """Both sides' Requirements are true for each other."""
    try:
        return left.native.symmetricMatch(right.native) is True
    except classad2.ClassAdException:  # too deep to evaluate
        return False


def quote(text: str) -> str:
    """``text`` as a string literal of the ClassAd language."""
    return str(classad2.quote(text))


def parse(text: str) -> tuple[dict[str, Any], dict[str, Attribute], list[Problem]]:
    """Read JDL text: values by name, where each stands, and all problems.

    Brackets around the whole are optional; ``//``, ``/* */`` and lines that start with ``#`` are
    comments. Every attribute is evaluated to a Python value, on its own: one that refers to another
    has no value (references among them could make evaluation endless). Requirements is kept as an
    Expression. Attribute names keep the user's spelling; two that differ in case only are the same.
    """
    attributes, problems = scan(text)
    alone = classad2.ClassAd()
    trees: dict[str, Any] = {}
    found: dict[str, Attribute] = {}
    lower: dict[str, Attribute] = {}
    for each in attributes:
        first = lower.setdefault(each.name.lower(), each)
        if first is not each:
            said = f"{each.name} is given twice (first in line {first.line}); keep one"
            problems.append(Problem(each.line, each.column, said))
            continue
        try:
            trees[each.name] = _tree(each.expression)
        except UserError as error:
            problems.append(Problem(each.line, each.column, f"{each.name}: {error.message}"))
            continue
        found[each.name] = each
    values: dict[str, Any] = {}
    for name, each in found.items():
        if name.lower() == "requirements":
            values[name] = Expression(repr(trees[name]).strip())
            continue
        try:
            value = _plain(trees[name].eval(alone), alone)
        except classad2.ClassAdException:
            value = None
        if value is None:
            said = f"{name} has no value: write it without referring to anything else"
            problems.append(Problem(each.line, each.column, said))
        else:
            values[name] = value
    return values, found, problems


def _tree(text: str) -> Any:
    try:
        return classad2.ExprTree(text)
    except (classad2.ClassAdException, ValueError, AssertionError) as error:
        raise UserError(f"{text.strip()[:80]!r} is not a ClassAd expression") from error


def _checked(name: str, value: Any) -> Any:
    for text in (name, *(value if isinstance(value, list | tuple) else [value])):
        if isinstance(text, str) and ("\0" in text or text != text.encode("utf-8", "replace").decode()):
            raise UserError(f"attribute {name!r:.80} of an ad has characters that no text has")
    if isinstance(value, Expression):
        return value
    if name == "Requirements":
        return Expression.parse(str(value))
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(each, bool | int | float | str) for each in value):
        return list(value)
    raise UserError(
        f"attribute {name} of an ad must be text, a number, a boolean or a list of them, not {value!r:.80}"
    )


def _plain(value: Any, scope: Any) -> Any:
    """A Python value, or None for Undefined and Error."""
    if isinstance(value, classad2.ExprTree):
        value = value.eval(scope)
    if isinstance(value, list):
        items = [_plain(each, scope) for each in value]
        return None if any(each is None for each in items) else items
    if isinstance(value, classad2.ClassAd):
        return {name: _plain(value.eval(name), value) for name in value}
    return None if isinstance(value, classad2.Value) else value
