"""The settings of a simulated cloud: what is read, what is refused, what the server gets."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import UserError
from orchestrator.providers.sim.client import plain
from orchestrator.providers.sim.model import NEVER
from orchestrator.providers.sim.store import facts_of, settings
from orchestrator.site.load import SiteErrors, loads
from orchestrator.site.schema import SimProvider, Site
from orchestrator.wiring.rehearse import shares, simulated

SITE = """
vo: alice
providers:
  cloud: {{kind: sim, {}}}
groups:
  central: {{role: central, provider: cloud}}
  vobox: {{role: vobox, provider: cloud}}
  workers: {{role: worker, provider: cloud, max: 10, image: debian, offering: small}}
"""


def cloud(options: str = "seed: 1") -> SimProvider:
    found = loads(SITE.format(options), "lab.yaml", "lab").providers["cloud"]
    assert isinstance(found, SimProvider)
    return found


def test_nothing_goes_wrong_unless_it_is_said() -> None:
    found = plain(cloud())
    shares_of = (found.api_errors, found.lost_replies, found.failed_boot, found.broken_context, found.spot[0])
    assert set(shares_of) == {0.0}
    assert (found.machines, found.cores, found.rate, found.eventual_list) == (NEVER, NEVER, NEVER, 0.0)


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ("failed_boot: 5 %", {"failed_boot": 0.05}),
        ("failed_boot: 0.5", {"failed_boot": 0.5}),
        ("quota: {machines: 3, cores: 8}", {"machines": 3, "cores": 8}),
        ("throttle: {rate: 2.5}", {"rate": 2.5, "burst": 10}),
        ("boot: {typical: 1 min, slowest: 5 min}", {"boot": (60.0, 300.0)}),
        ("offerings: {small: {cores: 2, price: 0.1}}", {"offerings": {"small": (2, 0.1)}}),
        ("zones: {a: 3, b: 0}", {"zones": {"a": 3, "b": 0}}),
        ("spot: {share: 10 %, life: 2 h}", {"spot": (0.1, 7200.0, 120.0)}),
        ("eventual_list: 5 s, ip_reuse: true", {"eventual_list": 5.0, "ip_reuse": True}),
    ],
)
def test_what_the_spec_says_reaches_the_cloud(options: str, seen: dict[str, Any]) -> None:
    found = settings(facts_of(plain(cloud(options))))
    assert {key: getattr(found, key) for key in seen} == seen


@pytest.mark.parametrize(
    "options",
    ["failed_boot: 101 %", "failed_boot: 2", "boot: {typical: 1 min}", "nonsense: 1", "zones: {a: -1}"],
)
def test_what_cannot_be_is_refused_with_its_place(options: str) -> None:
    with pytest.raises(SiteErrors) as caught:
        cloud(options)
    assert "lab.yaml" in str(caught.value) or caught.value.errors


def test_a_rehearsal_replaces_every_provider_and_keeps_simulated_ones() -> None:
    site = loads(SITE.format("seed: 4, zones: {a: 9}"), "lab.yaml", "lab")
    made = simulated(site, 50, 0.2, None)
    assert {provider.kind for provider in made.providers.values()} == {"sim"}
    found = made.providers["cloud"]
    assert isinstance(found, SimProvider)
    assert (found.seed, found.zones, found.failed_boot, found.api_errors) == (4, {"a": 9}, 0.05, 0.1)
    assert made.groups["workers"].wanted == 48
    calm = simulated(site, None, None, 9)
    assert calm.groups == site.groups
    assert isinstance(calm.providers["cloud"], SimProvider)
    assert (calm.providers["cloud"].seed, calm.providers["cloud"].failed_boot) == (9, 0.0)


def test_machines_that_cannot_be_are_told() -> None:
    site = loads(SITE.format("seed: 1"), "lab.yaml", "lab")
    assert shares(site, 2) == {"workers": 0}
    with pytest.raises(UserError, match="2 of them are no workers"):
        shares(site, 1)
    bare = Site.model_validate({"vo": "alice", "site": "lab", "groups": {"central": {"role": "central"}}})
    with pytest.raises(UserError, match="no group of workers"):
        shares(bare, 10)
