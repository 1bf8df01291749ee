"""Who a member may be."""

from __future__ import annotations

import pytest

from orchestrator.auth.issuer import person_from
from orchestrator.auth.model import Person
from orchestrator.errors import UserError


def test_person() -> None:
    assert person_from({"name": "ada"}) == Person("ada", ("user",))
    assert person_from({"name": "ada", "roles": ["user", "admin", "user"]}).roles == ("admin", "user")


@pytest.mark.parametrize("name", [None, "", "Ada", "a b", "a/b", "../x", "1a", "x" * 33, 7])
def test_bad_names(name: object) -> None:
    with pytest.raises(UserError):
        person_from({"name": name})


@pytest.mark.parametrize("roles", [[], "user", ["king"], None, [["user"]], {"user": 1}])
def test_bad_roles(roles: object) -> None:
    with pytest.raises(UserError):
        person_from({"name": "ada", "roles": roles})
