"""Resources that look alike are matched once, and never wrongly so."""

from __future__ import annotations

import pytest

from orchestrator.classads import Ad, Expression, matches
from orchestrator.errors import UserError
from orchestrator.tasks import matching
from orchestrator.tasks.matching import Matcher, resource_ad

CLASSES = {
    1: 'other.TTL >= 3600 && member("x", other.Packages)',
    2: "other.Memory >= 4000000000",
    3: 'other.Host == "node7" || other.Site == "Lyon"',
    4: 'stringListMember("a", other.Tags) || other.Cores > 2',
}
ADS = [
    {"Name": "a", "Host": "node1", "TTL": 7200, "Memory": 8 << 30, "Packages": ["x"], "Requirements": "true"},
    {"Name": "b", "Host": "node2", "TTL": 7200, "Memory": 8 << 30, "Packages": ["x"], "Requirements": "true"},
    {"Name": "c", "Host": "node7", "TTL": 7200, "Memory": 8 << 30, "Packages": ["x"], "Requirements": "true"},
    {"Name": "d", "Host": "node1", "TTL": 60, "Memory": 1 << 30, "Cores": 4, "Requirements": "true"},
    {"Name": "e", "Host": "node1", "TTL": 60, "Memory": 8 << 30, "Requirements": 'other.User == "bob"'},
    {"Name": "f", "Host": "node1", "TTL": 60, "Memory": 8 << 30, "Mine": 3, "Requirements": "Mine > 2"},
    {"Name": "g", "Host": "node1", "TTL": 60, "Memory": 8 << 30, "Mine": 1, "Requirements": "Mine > 2"},
]


def class_ad(number: int) -> Ad:
    return Ad({"Type": "job", "User": "ada", "Requirements": Expression.parse(CLASSES[number])})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the ClassAd library was asked."""
    found: list[object] = []

    def counted(left: Ad, right: Ad) -> bool:
        found.append((left, right))
        return matches(left, right)

    monkeypatch.setattr(matching, "matches", counted)
    return found


def test_every_verdict_is_that_of_the_library_and_those_who_look_alike_cost_one(asked: list[object]) -> None:
    matcher = Matcher()
    for number in CLASSES:
        matcher.know(number, class_ad(number).canonical())
    for given in ADS:
        accepts = matcher.judge(matcher.resource(given, "CERN"))
        for number in CLASSES:
            assert accepts(number) == matches(class_ad(number), resource_ad(given, "CERN")), (given, number)
    before = len(asked)
    for name in ("h", "i"):
        twin = matcher.resource(ADS[0] | {"Name": name}, "CERN")
        assert [matcher.judge(twin)(number) for number in CLASSES] == [True, True, False, False]
    assert len(asked) == before


def test_a_new_class_may_tell_apart_what_looked_alike() -> None:
    matcher = Matcher()
    matcher.know(2, class_ad(2).canonical())
    one, seven = (matcher.resource(ADS[n], "CERN") for n in (0, 2))
    assert matcher.judge(one)(2)
    assert matcher.judge(seven)(2)
    matcher.know(3, class_ad(3).canonical())
    assert (matcher.judge(one)(3), matcher.judge(seven)(3)) == (False, True)


def test_what_it_does_not_know_is_not_accepted_and_asked_for() -> None:
    matcher = Matcher()
    assert not matcher.judge(matcher.resource(ADS[0], "CERN"))(9)
    assert matcher.unknown([9]) == [9]


def test_a_resource_cannot_speak_for_another_site() -> None:
    assert Matcher().resource(ADS[0] | {"Site": "Lyon"}, "CERN").ad.values["Site"] == "CERN"


def test_an_ad_that_is_none_is_refused() -> None:
    with pytest.raises(UserError):
        Matcher().resource({"Requirements": "((("}, "CERN")
