"""An EC2 API for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import ec2
from tests.support.ec2 import Cloud


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with ec2.cloud(tmp_path_factory.mktemp("moto")) as running:
        yield running


@pytest.fixture
def cloud(moto: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """The API with nothing in it and no faults; our credentials are in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    moto.reset()
    yield moto
    moto.reset()
