"""Files: what cannot be read, whole examples, references, and anything a keyboard can produce."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from orchestrator.errors import UserError
from orchestrator.site import positions
from orchestrator.site.load import SiteError, SiteErrors, load, loads, resolve, site_name
from orchestrator.site.schema import EnvReference, FileReference, Role

EXAMPLES = Path(__file__).parents[3] / "templates/sites"
ONE_BOX = (EXAMPLES / "one-box.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "machines"),
    [
        ("laptop", {"central": 1, "vobox": 1, "workers": 2}),
        ("one-box", {"central": 1, "vobox": 1}),
        ("ssh-farm", {"central": 1, "vobox": 1, "workers": 19}),
    ],
)
def test_examples_are_valid(name: str, machines: dict[str, int]) -> None:
    site = load(EXAMPLES / f"{name}.yaml")
    assert (site.vo, site.site) == ("alice", name)
    assert {group: len(site.machine_names(group)) for group in site.ordered_groups()} == machines


def test_all_examples_are_valid() -> None:
    files = sorted(EXAMPLES.glob("*.yaml"))
    assert len(files) >= 3
    for file in files:
        assert load(file).names(Role.CENTRAL)


def test_one_box_is_what_the_first_look_needs() -> None:
    site = load(EXAMPLES / "one-box.yaml")
    fork = site.computing_elements["fork"]
    assert (fork.vobox, fork.batch.kind, fork.batch.slots, fork.min_idle) == ("vobox", "fork", 2, 1)
    assert (fork.ttl, fork.close_se) == (12 * 3600, ("disk",))
    assert site.storage_elements["disk"].vobox == "vobox"
    assert list(site.software.repositories) == ["alice.example.org"]


@pytest.mark.parametrize(
    ("file", "name"),
    [("one-box.yaml", "one-box"), ("My Site.v2.yaml", "my-site-v2"), ("2026.yml", "site-2026"), ("_.yaml", "site"),
     ("a" * 40 + ".yaml", "a" * 28)],
)  # fmt: skip
def test_site_is_named_after_its_file(tmp_path: Path, file: str, name: str) -> None:
    assert site_name(Path(file)) == name
    (tmp_path / file).write_text("vo: alice\ngroups:\n  central: {role: central}\n")
    assert load(tmp_path / file).site == name


def test_a_missing_file_names_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "one-box.yaml").write_text(ONE_BOX)
    with pytest.raises(SiteErrors, match=r"onebox.yaml:1:1: .*no such file.*did you mean 'one-box.yaml'"):
        load(tmp_path / "onebox.yaml")
    with pytest.raises(SiteErrors, match="is a directory"):
        load(tmp_path)
    with pytest.raises(SiteErrors, match="not a path"):
        load(Path("a\0b"))


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"vo: alice\n# \xff\n", r":2:3: .*not UTF-8"), (b"\xef\xbb\xbf- 1\n", ":1:1: a site spec is a mapping"),
     (b"#" * 5_000_000, "more than 4,000,000 bytes"), (b"#" * 1_500_000, "more than 1,000,000 characters"),
     (b"a: \x00", r":1:4: not YAML"), (b"[" * 5000, "nested too deeply")],
)  # fmt: skip
def test_what_is_no_text(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "site.yaml"
    file.write_bytes(content)
    with pytest.raises(SiteErrors, match=told):
        load(file)


def test_errors_are_facts_too() -> None:
    with pytest.raises(SiteErrors) as caught:
        loads("vo: alice\ngroups: {central: {role: boss}}\n", "s.yaml", "s")
    assert caught.value.exit_code == 2
    assert caught.value.facts["errors"] == [
        {
            "line": 2,
            "column": 26,
            "path": "groups.central.role",
            "message": "'boss' is not a role",
            "hint": "one of: central, vobox, worker",
        }
    ]


def test_aliases_that_explode_are_refused() -> None:
    levels = [f"{a}: &{a} [{','.join([f'*{b}'] * 10)}]" for b, a in zip("abcdefgh", "bcdefghi", strict=True)]
    tree = positions.read("\n".join(["a: &a [x,x,x,x,x,x,x,x,x,x]", *levels]))
    assert [fault[2] for fault in tree.faults] == ["too many or too deeply nested values"]


def test_places_are_those_of_ruamel() -> None:
    """Our walk gives the data that ruamel's own safe loader gives."""
    for text in (ONE_BOX, "a: [1, 0x1F, 1e3, ~, true, 'x', \"y\\n\", 2.5, -0]\nb: {c: &c [d], e: *c}\n"):
        assert positions.read(text).data == YAML(typ="safe", pure=True).load(text)


def test_references_are_resolved(tmp_path: Path) -> None:
    url = "postgresql://grid:geheim@db/grid"
    (tmp_path / "url").write_text(url + "\n")
    assert resolve(FileReference(file="url"), {}, tmp_path) == url
    assert resolve(EnvReference(env="DB"), {"DB": url}, tmp_path) == url
    assert resolve("postgresql://db/grid", {}, tmp_path) == "postgresql://db/grid"
    for reference in (EnvReference(env="DB"), EnvReference(env="BAD"), FileReference(file="none")):
        with pytest.raises(UserError) as caught:
            resolve(reference, {"BAD": "geheim"}, tmp_path)
        assert "geheim" not in str(caught.value)


def judge(text: str) -> tuple[SiteError, ...]:
    try:
        loads(text, "site.yaml", "x")
    except SiteErrors as errors:
        return errors.errors
    return ()


@settings(max_examples=150, deadline=None)
@given(
    st.text(alphabet=st.sampled_from("ab:-,[]{}&*!|>%@#'\"?<~01 .\n\t\\\x00\x85\u2028é\ud800"), max_size=60)
)
def test_any_text_is_judged(text: str) -> None:
    judge(text)


WORDS = st.sampled_from(
    ["vo", "alice", "groups", "central", "vobox", "worker", "role", "needs", "count", "min", "max", "provider",
     "providers", "kind", "ssh", "local", "hosts", "name", "address", "computing_elements", "storage_elements",
     "batch", "fork", "slots", "software", "repositories", "server", "database", "env", "12 h", "close_se", "[key]"]
)  # fmt: skip
SCALARS = WORDS | st.integers() | st.floats() | st.booleans() | st.none() | st.text(max_size=5)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=25,
)


def written(value: object) -> str:
    """YAML's flow style, which JSON mostly is."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(key)}: {written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, str):
        return value if value.isalpha() and value.isascii() else "'" + value.replace("'", "''") + "'"
    return (
        {None: "null", True: "true", False: "false"}.get(value, str(value))
        if not isinstance(value, float)
        else str(value)
    )  # type: ignore[call-overload, no-any-return]


@settings(max_examples=300, deadline=None)
@given(TREES)
def test_any_yaml_is_judged(tree: object) -> None:
    judge(written(tree))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(positions.read(ONE_BOX).values.items())), SCALARS)
def test_any_value_in_a_good_file_is_judged_at_its_place(
    place: tuple[positions.Path, positions.Mark], value: object
) -> None:
    """One value of a valid site is replaced; if that is wrong, some error is on an existing line."""
    path, mark = place
    lines = ONE_BOX.split("\n")
    if mark.width == 1:  # a mapping or list begins here
        return
    line = lines[mark.line - 1]
    lines[mark.line - 1] = line[: mark.column - 1] + written(value) + line[mark.column - 1 + mark.width :]
    errors = judge("\n".join(lines))
    assert all(1 <= error.mark.line <= len(lines) for error in errors)
    assert all(error.line for error in errors), path


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, len(ONE_BOX) - 1),
    st.sampled_from(["", ":", " ", "\n", "{", "]", "'", "\t", "-", "&", "*", "#"]),
)
def test_a_slip_of_the_finger_is_judged(at: int, typed: str) -> None:
    judge(ONE_BOX[:at] + typed + ONE_BOX[at + 1 :])
