"""What an expression may not do, before the library sees it: crash it, hold it for ever, or fill the memory.

Found by trying: a long chain of operators is a deep tree, on which the library's recursion ends the process
(``eval("1+1+…")`` too: it parses text that nobody has looked at). A record whose attributes refer to each other
doubles the work with each of them. ``replaceall`` and ``join`` multiply two long texts. A regular expression with a
repeated group that repeats inside takes exponential time, up to the library's limit of 0.1 s for each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Protocol

MAX_OPERATORS = 200  # of one expression, subscripts included: the library gives up at 300 to 400
MAX_CALLS = 200  # of functions, in one expression
MAX_REGEXPS = 10  # in one text
LONGEST_REGEXP = 200  # characters
FLAT = frozenset("()[]{},;=")
CONSTANTS = frozenset({"true", "false", "undefined", "error"})
REGEXPS = frozenset({"regexp", "regexpmember", "stringlist_regexpmember", "stringlistregexpmember"})
# Those whose answer depends on the ads alone (a match is remembered), is no longer than what they are
# given, and that evaluate no text.
FUNCTIONS = REGEXPS | {
    "member", "identicalmember", "ifthenelse", "isundefined", "iserror", "isstring", "isinteger", "isreal", "isboolean",
    "islist", "isclassad", "int", "real", "string", "bool", "floor", "ceiling", "round", "pow", "quantize", "size",
    "sum", "avg", "min", "max", "anycompare", "allcompare", "strcat", "substr", "strcmp", "stricmp", "toupper",
    "tolower", "split", "stringlistmember", "stringlistimember", "stringlistsize", "stringlistsum", "stringlistavg",
    "stringlistmin", "stringlistmax", "stringlistsintersect", "stringlistissubset", "versioncmp", "versioneq",
    "versiongt", "versionge", "versionlt", "versionle", "version_in_range",
}  # fmt: skip
_WORDS = ("is", "isnt")  # operators: =?= and =!= as the library prints them
_ENDS = frozenset(")]}")  # behind one of these, or a value, "[" is a subscript


class Piece(Protocol):
    """A token."""

    @property
    def kind(self) -> str: ...
    @property
    def text(self) -> str: ...


def broken(tokens: Sequence[Piece]) -> Iterator[tuple[int, str]]:
    """(index of a token, what is wrong there) of each limit that an expression breaks. Its brackets match."""
    operators = calls = 0
    solid = [place for place, token in enumerate(tokens) if token.kind not in ("space", "comment")]
    records: list[bool] = []  # of each open bracket: is it a record's?
    for place, at in enumerate(solid):
        token, text = tokens[at], tokens[at].text
        following = tokens[solid[place + 1]].text if place + 1 < len(solid) else ""
        before = tokens[solid[place - 1]] if place else None
        if token.kind == "op" or text.lower() in _WORDS:
            if text in "([{":
                ended = before is not None and before.text.lower() not in _WORDS
                value = ended and before is not None and (before.kind != "op" or before.text in _ENDS)
                operators += text == "[" and value
                records.append(text == "[" and not value)
            elif text in _ENDS:
                records.pop()
            operators += text not in FLAT
            if operators == MAX_OPERATORS + 1:
                yield at, f"an expression may have at most {MAX_OPERATORS} operators"
                return
        elif token.kind == "name" and following == "(":
            calls += 1
            if calls == MAX_CALLS + 1:
                yield at, f"an expression may have at most {MAX_CALLS} calls of functions"
                return
            if text.lower() not in FUNCTIONS:
                yield at, f"{text}( ) is no function that can be used here"
            elif text.lower() in REGEXPS and (wrong := _regexp(tokens, solid[place + 2 : place + 4])):
                yield at, f"{text}: {wrong}"
        elif (
            token.kind in ("name", "quoted")
            and any(records)
            and following != "="
            and text.lower() not in CONSTANTS
        ):
            yield at, f"{text}: what stands in a record [ … ] may not refer to anything"


def regexps(tokens: Sequence[Piece]) -> int:
    """How many regular expressions there are."""
    return sum(token.kind == "name" and token.text.lower() in REGEXPS for token in tokens)


def _regexp(tokens: Sequence[Piece], places: Sequence[int]) -> str:
    """What is wrong with the first argument of a function of regular expressions; "" when nothing is."""
    if len(places) < 2 or tokens[places[0]].kind != "string" or tokens[places[1]].text not in (",", ")"):
        return "the expression must be a text in double quotes"
    pattern = re.sub(r"\\(.)", r"\1", tokens[places[0]].text[1:-1], flags=re.DOTALL)
    if len(pattern) > LONGEST_REGEXP:
        return (
            f"an expression of {len(pattern)} characters is too long; at most {LONGEST_REGEXP} are accepted"
        )
    return "a group that is repeated may not hold repetitions or alternatives" if nested(pattern) else ""


def nested(pattern: str) -> bool:
    """Whether a repeated group of a regular expression has a repetition or an alternative inside."""
    plain = re.sub(r"\\.", "x", pattern, flags=re.DOTALL)
    plain = re.sub(r"\[\^?\]?[^\]]*\]", "x", plain)
    loose: list[bool] = []  # of each open group: does it hold one?
    for place, letter in enumerate(plain):
        following = plain[place + 1 : place + 2]
        if letter == "(":
            loose.append(False)
        elif letter == ")" and loose:
            inside = loose.pop()
            repeated = following in ("*", "+", "{") and bool(following)
            if inside and repeated:
                return True
            if loose and (inside or repeated):
                loose[-1] = True
        elif letter in "*+{|" and loose:
            loose[-1] = True
    return False
