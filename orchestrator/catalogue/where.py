"""Conditions on tags: ``run > 1000 && pass == "p2"`` as a predicate of PostgreSQL's jsonpath. Pure.

    either = both ("||" both)*
    both   = one ("&&" one)*
    one    = "!" one | "(" either ")" | NAME ("==" | "!=" | "<" | "<=" | ">" | ">=") VALUE
    VALUE  = a number | "text" with JSON's escapes | true | false

A comparison with a tag that an entry lacks is false. What comes out goes to the database as one
parameter, and holds nothing of the text but names, numbers and quoted strings.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable

from orchestrator.errors import UserError

LONGEST = 4096  # characters
MOST_COMPARISONS = 50
DEEPEST = 20
_TOKEN = re.compile(
    r"""\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_.]*)|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    |(?P<text>"(?:[^"\\]|\\.)*")|(?P<op>==|!=|<=|>=|<|>|&&|\|\||!|\(|\))|(?P<bad>\S)|(?P<end>$))""",
    re.VERBOSE,
)
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


def compiled(text: str) -> str:
    """The jsonpath predicate of a condition; UserError says where it is wrong, or that it is too long."""
    if len(text) > LONGEST:
        raise UserError(f"the condition has {len(text)} characters; at most {LONGEST} are taken")
    return _Reader(text).whole()


def number(text: str) -> int | float:
    """A number of a condition or tag; ValueError when it is none, or too large for its kind."""
    value = int(text) if re.fullmatch(r"-?\d{1,18}", text) else float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value


class _Reader:
    """Recursive descent over the tokens of one condition."""

    def __init__(self, text: str) -> None:
        self.tokens = [
            (str(m.lastgroup), m[m.lastgroup], m.end()) for m in _TOKEN.finditer(text) if m.lastgroup
        ]
        self.at = 0
        self.comparisons = 0

    def whole(self) -> str:
        found = self.either(0)
        if self.kind != "end":
            raise self.wrong("&& or || is missing before")
        return found

    @property
    def kind(self) -> str:
        return self.tokens[self.at][0]

    @property
    def word(self) -> str:
        return self.tokens[self.at][1]

    def wrong(self, what: str) -> UserError:
        _, word, end = self.tokens[self.at]
        shown = repr(word[:40]) if word else "its end"
        return UserError(
            f"the condition is wrong at column {end - len(word) + 1}: {what} {shown}; "
            'write for example: run > 1000 && pass == "p2"'
        )

    def take(self) -> str:
        word = self.word
        self.at += 1
        return word

    def either(self, depth: int) -> str:
        if depth > DEEPEST:
            raise UserError(f"the condition has brackets more than {DEEPEST} deep")
        return self.chain("||", lambda: self.chain("&&", lambda: self.one(depth)))

    def chain(self, op: str, part: Callable[[], str]) -> str:
        parts = [part()]
        while self.word == op and self.kind == "op":
            self.take()
            parts.append(part())
        return parts[0] if len(parts) == 1 else "(" + f" {op} ".join(parts) + ")"

    def one(self, depth: int) -> str:
        if self.kind == "op" and self.word == "!":
            self.take()
            if depth > DEEPEST:
                raise UserError(f"the condition has more than {DEEPEST} ! in a row")
            return f"!({self.one(depth + 1)})"
        if self.kind == "op" and self.word == "(":
            self.take()
            inner = self.either(depth + 1)
            if self.word != ")":
                raise self.wrong("a ) is missing before")
            self.take()
            return inner
        return self.comparison()

    def comparison(self) -> str:
        self.comparisons += 1
        if self.comparisons > MOST_COMPARISONS:
            raise UserError(f"the condition has more than {MOST_COMPARISONS} comparisons")
        if self.kind != "name":
            raise self.wrong("a tag's name is expected, not")
        name = self.take()
        if self.word not in _COMPARISONS or self.kind != "op":
            raise self.wrong(f"one of {' '.join(_COMPARISONS)} is expected, not")
        op = self.take()
        value = self.value()
        if isinstance(value, bool) and op not in ("==", "!="):
            raise UserError(
                f"{name} {op} {str(value).lower()}: true and false are compared by == and != alone"
            )
        return f"($.{json.dumps(name)} {op} {json.dumps(value, ensure_ascii=False)})"

    def value(self) -> str | int | float | bool:
        if self.kind == "name" and self.word in ("true", "false"):
            return self.take() == "true"
        if self.kind == "number":
            try:
                found: str | int | float = number(self.word)
            except ValueError as error:
                raise self.wrong("a number that large is not taken:") from error
        elif self.kind == "text":
            try:
                found = str(json.loads(self.word))
            except ValueError as error:
                raise self.wrong("no text, by the rules of JSON, is") from error
            if any(ord(char) < 32 or 0xD800 <= ord(char) < 0xE000 for char in found):
                raise self.wrong("a control character or half a character is in")
        else:
            raise self.wrong('a number, "text", true or false is expected, not')
        self.take()
        return found
