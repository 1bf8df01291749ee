"""Cuts JDL text into attributes and expressions, knowing lines and columns. No library here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from orchestrator.classads import limits
from orchestrator.errors import UserError

MAX_TEXT = 512 * 1024  # bytes of one ad or JDL
MAX_ATTRIBUTES = 500
MAX_DEPTH = 40  # nested brackets
_LISTS = frozenset({"packages", "closese", "gridpartitions", "installmethods"})
_PAIRS = {")": "(", "]": "[", "}": "{"}
_TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<comment>//[^\n]*|/\*.*?\*/)|(?P<string>"(?:[^"\\]|\\.)*")|(?P<quoted>'(?:[^'\\]|\\.)*')
    |(?P<cut>/\*|["'])|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<number>\d[0-9a-zA-Z.]*(?:(?<=[eE])[+-]\d+)?)
    |(?P<hash>\#[^\n]*)|(?P<op>=\?=|=!=|==|<=|>=|!=|&&|\|\||<<|>>>?|[\[\]{}();,=<>+\-*/%!?:.~&|^])|(?P<bad>.)""",
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True)
class Problem:
    """Something wrong in a text, where a person can find it (both counted from 1)."""

    line: int
    column: int
    message: str

    def shortened(self, most: int = 400) -> Problem:
        """A message that holds the user's own long text is cut."""
        return self if len(self.message) <= most else replace(self, message=self.message[:most] + " …")


def refuse(problems: Sequence[Problem], what: str = "the JDL") -> UserError:
    """One error that names every problem; ``facts["problems"]`` holds them as data."""
    told = sorted((each.shortened() for each in problems), key=lambda each: (each.line, each.column))
    lines = "\n".join(f"  {each.line}:{each.column}: {each.message}" for each in told)
    count = "1 problem" if len(told) == 1 else f"{len(told)} problems"
    return UserError(f"{what} has {count}:\n{lines}", problems=[asdict(each) for each in told])


class Token(NamedTuple):
    kind: str
    text: str
    at: int


@dataclass(frozen=True)
class Attribute:
    """``name = expression`` of a JDL and where the name stands."""

    name: str
    expression: str
    line: int
    column: int


def scan(text: str) -> tuple[list[Attribute], list[Problem]]:
    """Cut JDL text into attributes without evaluating anything."""
    if len(text) > MAX_TEXT:
        raise UserError(f"a JDL of {len(text)} characters is too long; at most {MAX_TEXT} are accepted")
    tokens, problems = _tokens(text)
    problems += _balance(tokens, text)
    problems += _many_regexps(tokens)
    if problems:
        return [], problems
    body = [token for token in tokens if token.kind not in ("space", "comment")]
    while len(body) > 1 and body[0].text == "[" and body[-1].text == ";":
        body.pop()
    if body and body[0].text == "[" and body[-1].text == "]":
        inner = tokens[tokens.index(body[0]) + 1 : len(tokens) - 1 - tokens[::-1].index(body[-1])]
        if not _balance(inner, text):
            tokens = inner
    attributes: list[Attribute] = []
    for piece in _pieces(tokens, ";"):
        solid = [token for token in piece if token.kind not in ("space", "comment")]
        if not solid:
            continue
        if len(attributes) == MAX_ATTRIBUTES:
            raise UserError(f"a JDL may have at most {MAX_ATTRIBUTES} attributes")
        line, column = _place(text, solid[0].at)
        if len(solid) < 3 or solid[0].kind not in ("name", "quoted") or solid[1].text != "=":
            shown = " ".join(token.text for token in solid[:3])
            problems.append(Problem(line, column, f"expected `Name = value;` but found {shown[:40]!r}"))
            continue
        rest = piece[piece.index(solid[1]) + 1 :]
        if stray := _stray(rest):
            before = next((t for t in reversed(rest[: rest.index(stray)]) if t.kind == "name"), stray)
            problems.append(Problem(*_place(text, before.at), f"a ';' is missing before {before.text!r}"))
            continue
        if wrong := _limits(rest, text):
            problems += wrong
            continue
        value = "".join(" " if token.kind == "comment" else token.text for token in member_order(rest))
        attributes.append(Attribute(solid[0].text.strip("'"), value.strip(), line, column))
    return attributes, problems


def read_expression(text: str) -> str:
    """One expression ready for the library: comments gone, ``member`` put right; UserError when it cannot be one."""
    if len(text) > MAX_TEXT:
        raise UserError(
            f"an expression of {len(text)} characters is too long; at most {MAX_TEXT} are accepted"
        )
    tokens, problems = _tokens(text)
    problems += _balance(tokens, text)
    if not problems and (wrong := _stray(tokens)):
        problems.append(Problem(*_place(text, wrong.at), f"{wrong.text!r} is not expected here"))
    problems = problems or _many_regexps(tokens) or _limits(tokens, text)
    if problems:
        raise refuse(problems, "the expression")
    return "".join(" " if token.kind == "comment" else token.text for token in member_order(tokens))


def _many_regexps(tokens: Sequence[Token]) -> list[Problem]:
    many = limits.regexps(tokens) > limits.MAX_REGEXPS
    return [Problem(1, 1, f"at most {limits.MAX_REGEXPS} regular expressions are accepted")] if many else []


def _limits(tokens: Sequence[Token], text: str) -> list[Problem]:
    return [Problem(*_place(text, tokens[at].at), said) for at, said in limits.broken(tokens)][:10]


def member_order(tokens: Sequence[Token]) -> list[Token]:
    """``member(list, item)``, AliEn's order, becomes the library's ``member(item, list)``, however deep it stands."""
    out: list[Token] = []
    index = 0
    while index < len(tokens):
        token = tokens[index]
        out.append(token)
        index += 1
        if token.kind != "name" or token.text.lower() not in ("member", "identicalmember"):
            continue
        while index < len(tokens) and tokens[index].kind in ("space", "comment"):
            index += 1
        if index == len(tokens) or tokens[index].text != "(":
            continue
        end = _closing(tokens, index)
        sides = [member_order(side) for side in _pieces(tokens[index + 1 : end], ",")]
        if len(sides) == 2 and _is_list(sides[0]) and not _is_list(sides[1]):
            sides.reverse()
        joined = [part for side in sides for part in (Token("op", ",", -1), *side)]
        out += [tokens[index], *joined[1:], *tokens[end : end + 1]]
        index = end + 1
    return out


def _is_list(side: Sequence[Token]) -> bool:
    solid = [token for token in side if token.kind not in ("space", "comment")]
    return bool(solid) and (solid[0].text == "{" or solid[-1].text.lower() in _LISTS)


def _closing(tokens: Sequence[Token], start: int) -> int:
    depth = 0
    for index in range(start, len(tokens)):
        depth += (tokens[index].text in "([{") - (tokens[index].text in ")]}")
        if depth == 0:
            return index
    return len(tokens)


def _pieces(tokens: Sequence[Token], mark: str) -> Iterator[list[Token]]:
    depth, piece = 0, list[Token]()
    for token in tokens:
        depth += (token.text in ("(", "[", "{")) - (token.text in (")", "]", "}"))
        if token.text == mark and depth == 0:
            yield piece
            piece = []
        else:
            piece.append(token)
    yield piece


def _stray(tokens: Sequence[Token]) -> Token | None:
    """A ``=`` or ``;`` outside every bracket: two attributes that ran together."""
    flat = (token for piece in _pieces(tokens, "") for token in piece)
    depth = 0
    for token in flat:
        depth += (token.text in ("(", "[", "{")) - (token.text in (")", "]", "}"))
        if depth == 0 and token.text in ("=", ";"):
            return token
    return None


def _tokens(text: str) -> tuple[list[Token], list[Problem]]:
    tokens: list[Token] = []
    for match in _TOKEN.finditer(text):
        token = Token(str(match.lastgroup), match[0], match.start())
        if token.kind == "hash" and not text[text.rfind("\n", 0, token.at) + 1 : token.at].strip():
            continue
        if token.kind in ("cut", "bad", "hash"):
            wrong = "is not closed" if token.kind == "cut" else "is not part of the ClassAd language"
            return tokens, [
                Problem(
                    *_place(text, token.at),
                    f"{token.text[:1] if token.kind != 'cut' else token.text} {wrong}",
                )
            ]
        tokens.append(token)
    return tokens, []


def _balance(tokens: Sequence[Token], text: str) -> list[Problem]:
    open_: list[Token] = []
    for token in tokens:
        if token.kind != "op":
            continue
        if token.text in _PAIRS.values():
            open_.append(token)
            if len(open_) > MAX_DEPTH:
                return [Problem(*_place(text, token.at), f"nested deeper than {MAX_DEPTH} brackets")]
        elif token.text in _PAIRS and (not open_ or open_.pop().text != _PAIRS[token.text]):
            return [Problem(*_place(text, token.at), f"{token.text} closes nothing")]
    return [Problem(*_place(text, token.at), f"{token.text} is not closed") for token in open_[-1:]]


def _place(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
