"""Texts that would crash the library, hold it for ever or fill the memory; and the library as oracle of the rest."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from typing import Any

import classad2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from orchestrator.classads import Ad, Expression, Problem, limits, matches, parse, quote
from orchestrator.errors import UserError


def said(text: str) -> str:
    """The first problem of ``A = text;``."""
    _, _, problems = parse(f"A = {text};")
    assert problems, f"{text[:60]} is accepted"
    return problems[0].message


def doubling(first: str, each: str, count: int) -> str:
    steps = "".join(f"a{n} = {each.replace('?', f'a{n - 1}')}; " for n in range(1, count))
    return f"[a0 = {first}; {steps}].a{count - 1}"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('eval("' + "1+" * 200_000 + '1")', "eval"),  # ended the process
        ("eval(other.X)", "eval"),
        (doubling("1", "?+?", 60), "may not refer"),  # 2⁵⁹ additions
        (doubling('"xxxxxxxxxx"', "strcat(?,?)", 60), "may not refer"),  # 10 · 2⁵⁹ characters
        (doubling("{1}", "{?,?}", 60), "may not refer"),
        ("[x = 'y'; 'y' = 1].x", "may not refer"),
        ("[x = [y = x]]", "may not refer"),
        ("{[a = other.B]}", "may not refer"),
        ('replaceall("a", "' + "a" * 200_000 + '", "' + "b" * 200_000 + '")', "replaceall"),
        ('join("' + "b" * 200_000 + '", split("' + "a," * 100_000 + '"))', "join"),
        ('regexp("(a+)+$", "' + "a" * 40 + 'b")', "repeated"),
        ('regexp("(a|aa)*$", "x")', "repeated"),
        ('regexp("((a*)b)*", "x")', "repeated"),
        ('regexp("([^)]+){1,9}", "x")', "repeated"),
        ('regexp("' + "a?" * 150 + '", "x")', "too long"),
        ('regexp(strcat("(a+", ")+$"), "x")', "in double quotes"),
        ('regexp("a" + "b", "x")', "in double quotes"),
        ("{" + 'regexp("a.*b", "x"),' * 11 + "1}", "at most 10 regular"),
        ("{1}" + "[0]" * 100_000, "operators"),
        ("a" + ".b" * 100_000, "operators"),
        ("{" + "size({1})," * 300 + "1}", "calls"),
        ("size(" * 60 + "1" + ")" * 60, "nested deeper"),
        ('userHome("root")', "userHome"),
        ("time()", "time"),
        ("random()", "random"),
    ],
    ids=lambda each: each[:24],
)
def test_what_is_refused_with_a_reason(text: str, wanted: str) -> None:
    began = time.process_time()
    assert wanted in said(text)
    with pytest.raises(UserError):
        Expression.parse(text)
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    "text",
    [
        'regexp("^node[0-9]+\\\\.cern\\\\.ch$", other.Host)',
        'regexp("(abc)+x(d|e)?", other.Host, "i")',
        'regexpMember("a[(+]*b", {"x"})',
        'other.Version =?= undefined || versionGT(other.Version, "1.2")',
        "ifThenElse(isUndefined(other.X), false, other.X[0] > 1)",
    ],
)
def test_what_people_write_is_accepted(text: str) -> None:
    assert Ad({"Requirements": text}).accepts(Ad({"Host": "x"})) in (True, False)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('[Split = "a"; n = 1; t = true]', {"Split": "a", "n": 1, "t": True}),
        ('{[a = "x"], [a = "y"; b = {1, 2}]}', [{"a": "x"}, {"a": "y", "b": [1, 2]}]),
        ("[a = [b = size({1}) + 1]]", {"a": {"b": 2}}),
    ],
)
def test_records_of_plain_values_are_values(text: str, wanted: Any) -> None:
    values, _, problems = parse(f"A = {text};")
    assert problems == []
    assert values["A"] == wanted


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Requirements", "true"),
        ("other.Requirements || other.Requirements", "other.Requirements || other.Requirements"),
        ("my.Requirements && other.Requirements", "!other.Requirements"),
        ("(Requirements || Requirements) && (Requirements || Requirements)", "true"),
        (" && ".join(["other.Requirements"] * 100), " || ".join(["other.Requirements"] * 100)),
        ("other.Requirements =!= undefined", "other.Requirements"),
    ],
)
def test_requirements_that_refer_to_themselves_match_nothing_and_soon(left: str, right: str) -> None:
    began = time.process_time()
    one, other = Ad({"Requirements": left}), Ad({"Requirements": right})
    assert matches(one, other) is False
    one.accepts(other)
    other.accepts(one)
    assert time.process_time() - began < 1


def test_the_worst_that_is_accepted_is_bounded_in_memory_and_time() -> None:
    """In a process of its own: a text of full length, in less than 1 GB and 5 s."""
    code = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
from orchestrator.classads import parse, Ad, MAX_TEXT
worst = [
    "A = {" + ",".join(["{1,{2,\\"x\\"}}"] * 40_000) + "};",
    "A = strcat(" + ",".join(['"xxxx"'] * 70_000) + ");",
    'A = split("' + "a," * 250_000 + '");',
    "".join(f"A{n} = " + "!" * 200 + "true;" for n in range(400)),
    "".join(f"A{n} = " + "size(" * 39 + "{1}" + ")" * 39 + ";" for n in range(400)),
    "A = {" + ",".join(['regexp("(.*)(.*)(.*)(.*)x", "' + "a" * 20_000 + '")'] * 10) + "};",
]
for text in worst:
    assert len(text) <= MAX_TEXT, len(text)
    parse(text)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-500:]
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1 << 20  # KiB


# Property tests with the library as oracle.
NAMES = some.sampled_from(["other.A", "B", "other.Packages", "my.C"])
TEXTS = some.text(some.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
ATOMS = (
    some.integers(0, 2**40).map(str)
    | some.floats(0, 1e9, allow_nan=False).map(repr)
    | TEXTS.map(quote)
    | some.sampled_from(["true", "false", "undefined"])
    | NAMES
)


def grown(inner: some.SearchStrategy[str]) -> some.SearchStrategy[str]:
    operators = some.sampled_from(["+", "-", "*", "==", "!=", "<", ">=", "&&", "||", "=?=", "=!="])
    return (
        some.tuples(inner, operators, inner).map(lambda each: f"({each[0]} {each[1]} {each[2]})")
        | inner.map(lambda each: f"!{each}")
        | some.lists(inner, max_size=3).map(lambda each: "{" + ", ".join(each) + "}")
        | some.tuples(inner, inner, inner).map(lambda each: f"ifThenElse({', '.join(each)})")
        | some.tuples(inner, inner, inner).map(lambda each: f"({each[0]} ? {each[1]} : {each[2]})")
        | inner.map(lambda each: f"size({each})")
        | some.tuples(TEXTS.map(quote), some.just("other.Packages")).map(
            lambda each: f"member({each[0]}, {each[1]})"
        )
    )


EXPRESSIONS = some.recursive(ATOMS, grown, max_leaves=20)


@given(EXPRESSIONS)
@example("!!!({} =?= (0 + 0))")  # the library prints =?= as a word
@settings(max_examples=300, deadline=None)
def test_our_reading_of_an_expression_is_the_librarys(text: str) -> None:
    """Through the scanner, the limits and the printed form it is the tree that the library reads itself."""
    ours = Expression.parse(text)
    assert ours.text == repr(classad2.ExprTree(text)).strip()
    assert Expression.parse(ours.text) == ours  # printed and read again it is the same
    ad, plain = Ad({"A": 3, "Packages": ["x"], "Requirements": ours.text}), classad2.ClassAd()
    plain["A"], plain["Packages"] = 3, ["x"]
    plain["Requirements"] = classad2.ExprTree(text)
    other = Ad({"A": 1, "B": 2, "Packages": ["x", "y"]})
    assert ad.accepts(other) is (other.native.matches(plain) is True)


PLAIN = some.recursive(
    TEXTS | some.integers(-(2**40), 2**40) | some.booleans(),
    lambda inner: some.lists(inner, max_size=4),
    max_leaves=10,
)


def printed(value: Any) -> str:
    if isinstance(value, list):
        return "{" + ", ".join(printed(each) for each in value) + "}"
    return quote(value) if isinstance(value, str) else str(value).lower()


@given(
    some.dictionaries(some.from_regex(r"[A-Z][A-Za-z]{2,6}_", fullmatch=True), PLAIN, max_size=5),
    some.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_a_jdl_is_read_as_the_library_reads_it(values: dict[str, Any], brackets: bool) -> None:
    if len({name.lower() for name in values}) < len(values):
        return
    body = "\n".join(f"{name} = {printed(value)}; // said" for name, value in values.items())
    read, _, problems = parse(f"[{body}\n]" if brackets else body)
    assert problems == []
    oracle = classad2.parseOne("[" + "".join(f"{n} = {printed(v)};" for n, v in values.items()) + "]")
    assert read == values
    assert {name: plain(oracle.eval(name)) for name in values} == read


def plain(value: Any) -> Any:
    if isinstance(value, classad2.ExprTree):
        value = value.eval()
    return [plain(each) for each in value] if isinstance(value, list) else value


@given(some.text(some.sampled_from("a(b|c)*+?{1,2}[^x]\\.$"), max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_regular_expression_is_judged(pattern: str) -> None:
    assert limits.nested(pattern) in (True, False)
    _, _, problems = parse(f'A = regexp({quote(pattern)}, "aaaa");')
    assert all(isinstance(each, Problem) for each in problems)
