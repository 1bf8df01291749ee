"""What only a cloud can do wrong, on a real moto server behind a proxy that does it."""

from __future__ import annotations

import base64
import gzip
import secrets
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import PermanentError, TemporaryError, UserError
from orchestrator.providers import ec2
from orchestrator.providers.base import MachineSpec, MachineState, Object, QuotaExceeded
from orchestrator.providers.ec2.client import Ec2Provider
from orchestrator.providers.guard import Allowance, Guarded
from orchestrator.runtime.clock import SystemClock
from tests.support.ec2 import THROTTLED, Cloud
from tests.support.provider_suite import site_with

_SPEC = MachineSpec("try-w-1", "w", "worker", image="ami-12c6146b", offering="m5.large")


class Site:
    """A site whose provider ``p`` is the cloud; ``provider()`` is one of a new run."""

    def __init__(self, cloud: Cloud, directory: Path) -> None:
        self.cloud, self.directory = cloud, directory
        self.settings: dict[str, Any] = {}

    @property
    def state(self) -> Path:
        return self.directory / ".orchestrate" / "try"

    def provider(self, **more: object) -> Ec2Provider:
        settings = {"region": "us-east-1", "endpoint": self.cloud.url, **more}
        site = site_with("ec2", **settings)
        return ec2.make("p", site.providers["p"], site, self.state)

    def guarded(self, tries: int = 4) -> Guarded:
        return Guarded(self.provider(), SystemClock(), threading.Event(), Allowance(tries=tries))

    def ids(self) -> list[str]:
        return [each[":id"] for each in self.cloud.instances()]


@pytest.fixture
def site(cloud: Cloud, tmp_path: Path) -> Iterator[Site]:
    return Site(cloud, tmp_path)


def test_throttling_is_waited_out(site: Site) -> None:
    site.cloud.refuse.update({("DescribeInstances", THROTTLED): 1, ("RunInstances", THROTTLED): 2})
    site.guarded(tries=6).create(_SPEC)
    assert len(site.ids()) == 1
    assert site.cloud.counted("RunInstances") == 3


def test_throttling_without_patience_is_temporary(site: Site) -> None:
    site.cloud.refuse.update({("DescribeInstances", THROTTLED): 1})
    with pytest.raises(TemporaryError, match=r"provider p: DescribeInstances .*RequestLimitExceeded"):
        site.provider().list()


@pytest.mark.parametrize("lag", [0.0, 3.0])
def test_lost_reply_makes_one_instance(site: Site, lag: float) -> None:
    site.cloud.lose.update(RunInstances=1)
    site.cloud.lag = lag
    site.guarded().create(_SPEC)
    assert len(site.ids()) == 1


@pytest.mark.parametrize("lag", [0.0, 3.0])
def test_killed_before_the_reply_makes_one_instance(site: Site, lag: float) -> None:
    """The next run has another user data: a new enrolment token is in it."""
    site.cloud.lose.update(RunInstances=1)
    site.cloud.lag = lag
    with pytest.raises(TemporaryError, match="no answer to RunInstances"):
        site.provider().create(replace(_SPEC, user_data="one"))
    machine = site.guarded(tries=8).create(replace(_SPEC, user_data="two"))
    assert len(site.ids()) == 1
    assert machine.name == "try-w-1"


def test_what_is_not_listed_yet_is_destroyed_all_the_same(site: Site) -> None:
    site.cloud.lag = 1000.0
    site.provider().create(_SPEC)
    assert list(site.provider().list()) == []
    site.provider().destroy("try-w-1")
    assert site.ids() == []


def test_what_may_exist_is_not_called_gone(site: Site) -> None:
    site.cloud.lose.update(RunInstances=1)
    site.cloud.lag = 1000.0
    with pytest.raises(TemporaryError):
        site.provider().create(_SPEC)
    with pytest.raises(TemporaryError, match="does not list it yet"):
        site.provider().destroy("try-w-1")
    site.cloud.lag = 0.0
    site.provider().destroy("try-w-1")
    assert site.ids() == []


def test_what_may_exist_is_not_taken_for_its_predecessor(site: Site) -> None:
    """EC2 still tells of an instance of that name that is gone."""
    site.provider().create(_SPEC)
    site.provider().destroy("try-w-1")
    test_what_may_exist_is_not_called_gone(site)


def test_what_was_refused_does_not_exist(site: Site) -> None:
    site.cloud.machines = 0
    with pytest.raises(QuotaExceeded):
        site.provider().create(_SPEC)
    site.provider().destroy("try-w-1")


def test_instance_taken_away_by_the_cloud_is_made_again(site: Site) -> None:
    site.provider().create(_SPEC)
    (first,) = site.ids()
    site.cloud.direct(Action="TerminateInstances", **{"InstanceId.1": first})
    assert list(site.provider().list()) == []
    site.provider().create(_SPEC)
    assert len(site.ids()) == 1
    assert site.ids() != [first]


def test_instance_taken_away_before_its_reply_was_seen_is_made_again(site: Site) -> None:
    site.cloud.lose.update(RunInstances=1)
    with pytest.raises(TemporaryError):
        site.provider().create(_SPEC)
    (first,) = site.ids()
    site.cloud.direct(Action="TerminateInstances", **{"InstanceId.1": first})
    site.provider().create(_SPEC)
    assert len(site.ids()) == 1


def test_stopped_instance_is_started(site: Site) -> None:
    site.provider().create(_SPEC)
    (there,) = site.ids()
    site.cloud.direct(Action="StopInstances", **{"InstanceId.1": there})
    assert [each.state for each in site.provider().list()] == [MachineState.STOPPED]
    site.provider().create(_SPEC)
    assert [each.state for each in site.provider().list()] == [MachineState.RUNNING]
    assert site.ids() == [there]


def test_machine_made_twice_is_listed_once_and_told(site: Site) -> None:
    site.provider().create(_SPEC)
    site.cloud.lag = 1000.0
    site.directory = site.directory / "another-copy"  # of the site spec, without its state
    site.provider().create(_SPEC)
    site.cloud.lag = 0.0
    provider = site.provider()
    assert [each.name for each in provider.list()] == ["try-w-1"]
    (double,) = (each for each in provider.objects() if each.kind == "instance")
    provider.remove(double)
    assert [each.kind for each in provider.objects() if each.kind == "instance"] == []
    assert len(site.ids()) == 1


def test_list_is_one_call_of_all_pages_and_ours_alone(site: Site) -> None:
    provider = site.provider()
    for number in range(1, 6):
        provider.create(replace(_SPEC, name=f"try-w-{number}"))
    site.cloud.direct(Action="RunInstances", ImageId="ami-12c6146b", MinCount="1", MaxCount="1")
    site.cloud.calls.clear()
    assert len(provider.list()) == 5
    assert [call["Action"] for call in site.cloud.calls] == ["DescribeInstances"]
    site.cloud.page = 2
    assert {each.name for each in provider.list()} == {f"try-w-{n}" for n in range(1, 6)}


def test_full_zone_is_left_for_another(site: Site) -> None:
    zones = ["us-east-1a", "us-east-1b", "us-east-1c"]
    provider = site.provider(zones=zones)
    for number in range(1, 9):
        provider.create(replace(_SPEC, name=f"try-w-{number}"))
    used = {each.place for each in provider.list()}
    assert len(used) > 1
    site.cloud.full.update(zones[:2])
    provider.create(replace(_SPEC, name="try-w-9"))
    assert {each.name: each.place for each in provider.list()}["try-w-9"] == "us-east-1c"
    site.cloud.full.update(zones)
    with pytest.raises(QuotaExceeded, match="InsufficientInstanceCapacity"):
        provider.create(replace(_SPEC, name="try-w-10"))


def test_places_to_avoid_are_avoided(site: Site) -> None:
    provider = site.provider()
    for number in range(1, 6):
        avoid = ("us-east-1a", "us-east-1b")
        made = provider.create(replace(_SPEC, name=f"try-w-{number}", avoid=avoid))
        assert made.place
        assert made.place not in avoid


def test_subnets_are_places(site: Site) -> None:
    told = site.cloud.direct(Action="DescribeSubnets")
    subnets = [each.findtext("{*}subnetId", "") for each in told.iterfind(".//{*}subnetSet/{*}item")][:2]
    provider = site.provider(subnets=subnets)
    for number in range(1, 9):
        provider.create(replace(_SPEC, name=f"try-w-{number}"))
    told = site.cloud.direct(Action="DescribeInstances")
    assert {each.text for each in told.iterfind(".//{*}instancesSet/{*}item/{*}subnetId")} == set(subnets)


def test_public_address_is_the_machines_address(site: Site) -> None:
    told = site.cloud.direct(Action="DescribeSubnets")
    subnet = told.findtext(".//{*}subnetSet/{*}item/{*}subnetId", "")
    provider = site.provider(public_address=True, subnets=[subnet])
    provider.create(_SPEC)
    (seen,) = provider.list()
    told = site.cloud.direct(Action="DescribeInstances").find(".//{*}instancesSet/{*}item")
    assert told is not None
    assert seen.address == told.findtext("{*}ipAddress", "no")
    assert seen.address != told.findtext("{*}privateIpAddress", "")
    (group,) = (each.id for each in provider.objects() if each.kind == "security group")
    assert told.findtext(".//{*}groupSet/{*}item/{*}groupId") == group


def test_volumes_group_and_key_go_with_the_machines(site: Site) -> None:
    (site.directory / "key.pub").write_text("ssh-ed25519 " + base64.b64encode(_ed25519()).decode() + " me\n")
    more = {"public_key": "key.pub", "ssh_from": ["10.0.0.0/8"]}
    provider = site.provider(**more)
    for number in (1, 2):
        provider.create(replace(_SPEC, name=f"try-w-{number}"))
    kinds = sorted(f"{each.kind} {each.machine}" for each in site.provider(**more).objects())
    assert kinds == ["key pair ", "security group ", "volume try-w-1", "volume try-w-2"]
    first = next(each[":id"] for each in site.cloud.instances() if each["Name"] == "try-w-1")
    site.cloud.direct(
        Action="ModifyInstanceAttribute", InstanceId=first,
        **{"BlockDeviceMapping.1.DeviceName": "/dev/sda1", "BlockDeviceMapping.1.Ebs.DeleteOnTermination": "false"},
    )  # fmt: skip
    provider.destroy("try-w-1")
    left = sorted(f"{each.kind} {each.machine}" for each in provider.objects())
    assert left == ["key pair ", "security group ", "volume try-w-2"]
    site.provider(**more).destroy("try-w-2")
    assert list(provider.objects()) == []
    guarded = Guarded(provider, SystemClock(), threading.Event(), Allowance())
    guarded.create(_SPEC)  # what it shared is made again
    assert len(provider.objects()) == 3


def test_group_that_is_still_in_use_goes_later(site: Site) -> None:
    """An instance that is shutting down holds it."""
    site.provider().create(_SPEC)
    site.cloud.refuse.update({("DeleteSecurityGroup", "DependencyViolation"): 1})
    with pytest.raises(TemporaryError, match="DependencyViolation") as told:
        site.provider().destroy("try-w-1")
    assert told.value.retry_in > 10
    assert site.ids() == []
    site.provider().destroy("try-w-1")
    assert site.cloud.left() == []


def _ed25519() -> bytes:
    name = b"ssh-ed25519"
    return len(name).to_bytes(4, "big") + name + (32).to_bytes(4, "big") + secrets.token_bytes(32)


def test_objects_that_are_gone_are_silent(site: Site) -> None:
    provider = site.provider()
    provider.create(_SPEC)
    things = provider.objects()
    provider.destroy("try-w-1")
    for thing in things:
        provider.remove(thing)
    with pytest.raises(PermanentError, match="balloon"):
        provider.remove(Object("balloon", "b-1"))


def test_group_lets_nothing_in(site: Site) -> None:
    site.provider().create(_SPEC)
    told = site.cloud.direct(Action="DescribeSecurityGroups", **{"Filter.1.Name": "tag:orchestrate-site", "Filter.1.Value.1": "try"})  # fmt: skip
    assert [each.tag for each in told.iterfind(".//{*}ipPermissions/{*}item")] == []


def test_long_user_data_is_compressed(site: Site) -> None:
    text = "#!/bin/sh\n" + "echo the same again\n" * 2000
    site.provider().create(replace(_SPEC, user_data=text))
    (there,) = site.ids()
    assert gzip.decompress(base64.b64decode(site.cloud.user_data(there))).decode() == text


def test_too_long_user_data_is_refused_before_the_call(site: Site) -> None:
    with pytest.raises(PermanentError, match=r"try-w-1: its user data has \d+ bytes"):
        site.provider().create(replace(_SPEC, user_data=secrets.token_hex(20_000)))
    assert site.ids() == []


def test_what_the_cloud_does_not_know_is_permanent(site: Site) -> None:
    with pytest.raises(PermanentError, match=r"InvalidSubnetID.NotFound: .*subnet-0"):
        site.provider(subnets=["subnet-0"]).create(_SPEC)


def test_sizes_and_prices_are_told(site: Site) -> None:
    size = site.provider().offerings()["m5.large"]
    assert (size.cores, size.memory) == (2, 8 << 30)
    assert size.price is not None
    assert 0.05 < size.price < 0.5


def test_cloud_that_is_away_is_temporary(site: Site) -> None:
    with pytest.raises(TemporaryError, match="no answer to DescribeInstances"):
        site.provider(endpoint="http://127.0.0.1:9").list()


def test_nothing_of_a_call_is_in_its_url(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "its-session-token")
    site.provider().create(replace(_SPEC, user_data="a secret"))
    assert set(site.cloud.paths) == {"/"}


def test_missing_credentials_are_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UserError, match="AWS_SECRET_ACCESS_KEY not in the environment"):
        site.provider().list()


def test_credentials_come_from_a_closed_file(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = site.directory / "keys"
    file.write_text("[grid]\naws_access_key_id = a\naws_secret_access_key = b%c\n")
    file.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        site.provider(credentials_file="keys", profile="grid").list()
    file.chmod(0o600)
    assert list(site.provider(credentials_file="keys", profile="grid").list()) == []
    with pytest.raises(UserError, match="no profile 'default'; profiles there: grid"):
        site.provider(credentials_file="keys").list()
