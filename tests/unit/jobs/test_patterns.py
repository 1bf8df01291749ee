"""Patterns as a table: text in, text out; hostile expressions are refused or end at once."""

from __future__ import annotations

import shlex
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import UserError
from orchestrator.jobs import patterns
from orchestrator.jobs.patterns import Facts, check, filled, filled_words

FILES = ("/v/run7/002/AliESDs.root", "/v/run7/010/galice.root")
FACTS = Facts(7, "v", FILES, (101, 200))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("#alien_counter#", "7"),
        ("x#alien_counter_03i#y", "x007y"),
        ("#alien_counter_3i#", "  7"),
        ("#alien_split#-#alien_counter_02i#", "v-07"),
        ("#alien_split_05i#", "v"),
        ("#alien_first_event#-#alien_last_event#", "101-200"),
        ("#alien_other# #counter# #alien_counter_100i#", "#alien_other# #counter# #alien_counter_100i#"),
        (["a#alien_counter#", "b"], ["a7", "b"]),
        ("#alienfulldir#", FILES[0]),
        ("#alienfirstfulldir#", FILES[0]),
        ("#alienlastfulldir#", FILES[1]),
        ("#alienallfulldir#", ",".join(FILES)),
        ("#aliendir#", "002"),
        ("#alienlastdir#", "010"),
        ("#alienalldir#", "002,010"),
        ("#alienfirstdirdir#", "run7"),
        ("#alienfirstdirdirdir#", "v"),
        ("#alienfirstdirdirdirdirdir#", ""),
        ("#alienfirstfilename#", "AliESDs.root"),
        ("#ALIENLASTFILENAME#", "galice.root"),
        ("#alienallfilename#", "AliESDs.root,galice.root"),
        (r"#alienfirstfilename/\.root$/.hist/#", "AliESDs.hist"),
        ("#alienfirstfilename/.root//#", "AliESDs"),
        (r"#alienallfilename/(.*)\.root/\1_\1.txt/#", "AliESDs_AliESDs.txt,galice_galice.txt"),
        ("#alienfirstfilename/s/S/#", "AliESDS.root".replace("ESDS", "ESDS")),
        ("#alienfirstfilename/nothing/x/#", "AliESDs.root"),
        ("/out/#alienfirstdir#/#alien_counter_04i#", "/out/002/0007"),
    ],
)
def test_filled(text: object, wanted: object) -> None:
    assert filled(text, FACTS) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#alienfirstfilename/(/x/#", "not a regular expression"),
        ("#alienfirstfilename/a**/x/#", "not a regular expression"),
        (r"#alienfirstfilename/(a)\1/x/#", "not a regular expression"),  # RE2 has no back references
        ("#alienfirstfilename/(?=a)/x/#", "not a regular expression"),
        ("#alienfirstfilename/((((a{99}){99}){99}){99})/x/#", "not a regular expression"),
        (f"#alienfirstfilename/{'a' * 201}/x/#", "at most 200"),
        ("#alienfirstfilename/a\ud800/x/#", "printable"),
        (r"#alienfirstfilename/(a)/\2/#", "group 2"),
    ],
)
def test_a_wrong_expression_is_told_before_any_file_is_known(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(["fine", text])


@pytest.mark.parametrize("text", ["#alienfirstfilename#", "#alienalldir#"])
def test_no_input_file(text: str) -> None:
    with pytest.raises(UserError, match="has no InputData"):
        filled(text, Facts(1, "1"))


def test_no_events() -> None:
    with pytest.raises(UserError, match="asks for events"):
        filled("#alien_first_event#", Facts(1, "1"))


@pytest.mark.parametrize(
    "expression", ["(a+)+$", "(a|aa)+$", "(a|a)*b", "(.*)*x", "(a*)*(a*)*(a*)*b", "(x+x+)+y"]
)
def test_what_hangs_a_backtracking_matcher_ends_at_once(expression: str) -> None:
    facts = Facts(1, "1", ["/v/" + "a" * 900 + "!"])
    started = time.monotonic()
    for _ in range(100):
        filled(f"#alienfirstfilename/{expression}/z/#", facts)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("--in #alienfirstfilename#", ["--in", "a b's.root"]),
        ("--in='#alienfirstfilename#'", ["--in=a b's.root"]),
        ("'x y' #alienfirstfilename/\\.root/.out/#", ["x y", "a b's.out"]),
    ],
)
def test_a_name_with_blanks_and_quotes_stays_in_its_word(text: str, wanted: list[str]) -> None:
    assert shlex.split(filled_words(text, Facts(1, "1", ["/v/a b's.root"]))) == wanted


def test_arguments_keep_their_spelling_where_names_are_plain() -> None:
    assert filled_words("'a  b'   #alien_counter#", FACTS) == "'a  b'   7"


NAMES = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/#"), min_size=1, max_size=30
)


@given(NAMES, NAMES)
def test_any_two_names_are_two_words(first: str, last: str) -> None:
    facts = Facts(1, "1", [f"/v/{first}", f"/v/{last}"])
    text = "run #alienfirstfilename# x#alienlastfilename#y"
    assert shlex.split(filled_words(text, facts)) == ["run", first, f"x{last}y"]


@given(st.text(max_size=60), st.text(max_size=20), NAMES)
def test_any_expression_is_refused_or_works(expression: str, replacement: str, name: str) -> None:
    text = f"#alienfirstfilename/{expression}/{replacement}/#"
    try:
        check(text)
    except UserError:
        return
    assert isinstance(filled(text, Facts(1, "1", [f"/v/{name}"])), str)
    assert patterns.without("a#alien_counter#b") == "axb"
