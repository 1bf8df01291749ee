"""Conditions on tags: what is taken, what is refused with its place, and that nothing but quoted words comes out."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.catalogue import where
from orchestrator.errors import UserError

_STRING = r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt])*"'
_NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_COMPARED = rf"\(\$\.{_STRING} (?:==|!=|<=|>=|<|>) (?:{_NUMBER}|{_STRING}|true|false)\)"
_WORDS = ["run", "a.b", "_x", "==", "!=", "<", ">=", "&&", "||", "!", "(", ")", "1", "-2.5", "1e3", '"p2"']
_WORDS += ['"\\""', "true", "'", ";", "--", "$", "@", "%s", "%(x)s", "like_regex", '"', "\\", "\0", "é", " "]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("run==7", '($."run" == 7)'),
        ('run > 1000 && pass == "p2"', '(($."run" > 1000) && ($."pass" == "p2"))'),
        ("a<1||b<2&&c<3", '(($."a" < 1) || (($."b" < 2) && ($."c" < 3)))'),
        ("(a<1||b<2)&&c<3", '((($."a" < 1) || ($."b" < 2)) && ($."c" < 3))'),
        ("!a.b!=true", '!(($."a.b" != true))'),
        ("!!(x<=-1.5e3)", '!(!(($."x" <= -1500.0)))'),
        ('x=="a\\"b\\\\"', '($."x" == "a\\"b\\\\")'),
        ("x==007", '($."x" == 7)'),
        ("x==12345678901234567890", '($."x" == 1.2345678901234567e+19)'),
    ],
)
def test_taken(said: str, meant: str) -> None:
    assert where.compiled(said) == meant


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("", "column 1: a tag's name"),
        ("run", "column 4: one of =="),
        ("run = 7", "column 5: one of =="),
        ("run ==", "column 7: a number"),
        ("run == p2", "column 8: a number"),
        ('"run" == 1', "column 1: a tag's name"),
        ("run == 1 pass == 2", r"column 10: && or \|\|"),
        ("(run == 1", "column 10: a \\) is missing"),
        ("run == 1)", r"column 9: && or"),
        ("run == 1e999", "column 8: a number that large"),
        ('run == "\\u0000"', "control character"),
        ('run == "\\ud800"', "half a character"),
        ('run == "\\x"', "rules of JSON"),
        ("run < true", "== and != alone"),
        ("$.run == 1", "column 1"),
        ("(" * 22 + "a==1" + ")" * 22, "20 deep"),
        ("!" * 5000 + "a==1", "4096 are taken"),
        ("!" * 100 + "a==1", "in a row"),
        (" && ".join(["a==1"] * 51), "50 comparisons"),
    ],
)
def test_refused(said: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        where.compiled(said)


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(_WORDS), max_size=20).map("".join)))
def test_whatever_is_said_only_quoted_words_come_out(said: str) -> None:
    try:
        found = where.compiled(said)
    except UserError:
        return
    assert not re.sub(_COMPARED, "", found).strip("()!&| ")
