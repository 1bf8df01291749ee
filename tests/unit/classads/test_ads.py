"""The library's traps, and texts that are hostile."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from orchestrator.classads import Ad, Expression, matches, parse, quote, scan
from orchestrator.errors import UserError

WORDS = some.text(some.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@pytest.mark.parametrize(
    ("left", "right", "wanted"),
    [
        ({}, {}, True),  # no Requirements accepts everything
        ({"Requirements": "other.X > 1"}, {}, False),  # Undefined is not true
        ({"Requirements": "other.X > 1"}, {"X": "text"}, False),  # Error is not true
        ({"Requirements": '"yes"'}, {}, False),
        ({"Requirements": "other.X > 1"}, {"X": 2}, True),
        ({"Requirements": "other.X > 1"}, {"X": 2, "Requirements": "false"}, False),
        ({"Requirements": 'member("A", other.L)'}, {"L": ["a"]}, True),  # == and member ignore case
        ({"Requirements": 'identicalMember("A", other.L)'}, {"L": ["a"]}, False),
        ({"Requirements": 'member(other.Packages, "a")'}, {"Packages": ["a"]}, True),  # AliEn's order
        ({"Requirements": 'identicalMember(other.CloseSE, "a")'}, {"CloseSE": ["a"]}, True),
        ({"Requirements": 'member("a", other.Missing) || true'}, {}, True),
        ({"Requirements": "other.X == X", "X": 1}, {"X": 1}, True),
    ],
)
def test_two_sided_match(left: dict[str, Any], right: dict[str, Any], wanted: bool) -> None:
    assert matches(Ad(left), Ad(right)) is wanted
    assert matches(Ad(right), Ad(left)) is wanted


def test_accepts_asks_my_requirements_only() -> None:
    picky, easy = Ad({"Requirements": "other.X > 1"}), Ad({"X": 2, "Requirements": "false"})
    assert picky.accepts(easy)
    assert not easy.accepts(picky)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ('member(other.Packages, "a")', 'member("a",other.Packages)'),
        ('member("a", other.Packages)', 'member("a",other.Packages)'),
        ('x || !member( other . CloseSE /* c */ , "a,b)" )', 'x ||  !member("a,b)",other.CloseSE)'),
        ('member({"a"}, member(other.Packages, "b"))', 'member(member("b",other.Packages),{ "a" })'),
        ("stringListMember(other.Packages, 1)", "stringListMember(other.Packages,1)"),
        ("member(other.Packages)", "member(other.Packages)"),
    ],
)
def test_member_order(given: str, wanted: str) -> None:
    assert Expression.parse(given).text == wanted


@pytest.mark.parametrize(
    "text", ["", "1 +", "a = 1", "a; b", "(", ")", "{1,,2}", '"open', "1 // x\n2", "\0", "$1"]
)
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(UserError):
        Expression.parse(text)


@given(
    some.dictionaries(
        some.from_regex(r"[A-Z][a-z]{3,9}z", fullmatch=True),
        WORDS | some.integers(-(2**62), 2**62) | some.booleans() | some.lists(WORDS),
    )
)
@settings(max_examples=150, deadline=None)
def test_ads_survive_their_text(values: dict[str, Any]) -> None:
    ad = Ad(values)
    again = Ad.restore(ad.canonical())
    assert again.digest() == ad.digest()
    for name, value in values.items():
        assert again.native.eval(name) == value


@given(WORDS)
@settings(max_examples=150, deadline=None)
def test_quoted_text_is_read_back(text: str) -> None:
    values, _, problems = parse(f"A = {quote(text)};")
    assert (values, problems) == ({"A": text}, [])


@given(some.text(some.sampled_from("AB=;{}[]()\",1+ \n/*#\\'$")) | some.text(max_size=40))
@settings(max_examples=500, deadline=None)
def test_any_text_is_answered(text: str) -> None:
    values, places, problems = parse(text)
    assert set(values) <= set(places)
    for problem in problems:
        assert 1 <= problem.line <= text.count("\n") + 1
        assert problem.column >= 1


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "A = " + "(" * 200_000 + ")" * 200_000,
        "/*" * 200_000,
        '"' * 300_001,
        "A" * 500_000,
        "A=1;" * 400 * 300,
        "A = {" + "1," * 200_000 + "1};",
        "A = " + "member(" * 50_000,
        "A = " + "!" * 200_000 + "true;",
        "A = " + "1+" * 200_000 + "1;",
        "A = " + "a." * 200_000 + "b;",
        "A = " + "1+" * 190 + "1;",
        "A0 = 1;" + "".join(f"A{n} = A{n - 1} + A{n - 1};" for n in range(1, 400)),
    ],
    ids=[
        "brackets",
        "parentheses",
        "comments",
        "quotes",
        "name",
        "attributes",
        "list",
        "members",
        "nots",
        "sum",
        "dots",
        "small sum",
        "doubling",
    ],
)
def test_hostile_text_is_answered_soon(text: str) -> None:
    began = time.process_time()
    with contextlib.suppress(UserError):
        parse(text)
    assert time.process_time() - began < 3


@pytest.mark.parametrize("value", [None, {"a": 1}, [[1]], "a\0b", "\ud800", object()])
def test_an_ad_holds_plain_values_only(value: object) -> None:
    with pytest.raises(UserError, match="attribute"):
        Ad({"X": value})


def test_places_are_those_of_the_names() -> None:
    found, problems = scan("\n  A = 1;\n\tB = {\n 1 };  C=2")
    assert problems == []
    assert [(each.name, each.line, each.column) for each in found] == [("A", 2, 3), ("B", 3, 2), ("C", 4, 8)]
