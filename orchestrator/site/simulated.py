"""HOW a simulated cloud behaves: its sizes, its speed, and what goes wrong in it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from orchestrator.site.fields import Count, Duration, Model, Name, Positive, Text
from orchestrator.units import Seconds


def _share(value: Any) -> Any:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value) if isinstance(value, str) else None
    return float(found[1]) / 100 if found else value


Share = Annotated[
    float,
    BeforeValidator(_share),
    Field(ge=0, le=1, allow_inf_nan=False),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*%\s*$"},
                {"type": "number", "minimum": 0, "maximum": 1},
            ],
            "examples": ["5 %", 0.05],
        }
    ),
]
Money = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Spread(Model):
    """How long something takes: log-normal, half of the times below `typical`, 1 in 100 above `slowest`."""

    typical: Duration
    """The median."""
    slowest: Duration
    """The 99th percentile."""


class SimQuota(Model):
    """What the simulated cloud gives at most."""

    machines: Count | None = None
    """Machines that exist at the same time."""
    cores: Count | None = None
    """Cores of all machines together."""


class SimOffering(Model):
    """A size of machine."""

    cores: Positive = 1
    """Cores of a machine of this size."""
    price: Money = 0.0
    """Price of a machine of this size per hour."""


class SimThrottle(Model):
    """Calls above this rate are refused."""

    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Calls per second."""
    burst: Positive = 10
    """Calls at once before the rate holds."""


class SimSpot(Model):
    """Machines that the cloud takes back."""

    share: Share = 1.0
    """Share of the machines that are taken back at some time."""
    life: Duration = Seconds(3600.0)
    """How long such a machine lives, on average (exponential)."""
    notice: Duration = Seconds(120.0)
    """How long before its end the machine is told (tag `spot-notice`)."""


class SimSettings(Model):
    """What can be set of a simulated cloud. All shares are 0 unless set: then nothing goes wrong."""

    seed: Count = 1
    """The same seed, names and calls give the same boots and the same faults."""
    latency: Spread = Spread(typical=Seconds(0.5), slowest=Seconds(3.0))
    """How long a call to the cloud takes."""
    boot: Spread = Spread(typical=Seconds(60.0), slowest=Seconds(180.0))
    """How long a machine boots."""
    configure: Spread = Spread(typical=Seconds(20.0), slowest=Seconds(60.0))
    """How long a machine then takes to do its work: a worker's context, the configuration of a pet."""
    job: Spread = Spread(typical=Seconds(60.0), slowest=Seconds(600.0))
    """How long a job runs on a simulated worker of a site whose central services are real."""
    quota: SimQuota = SimQuota()
    """What the cloud gives at most; no limit when absent."""
    throttle: SimThrottle | None = None
    """The rate of calls above which the cloud refuses them; none when absent."""
    offerings: Mapping[Text, SimOffering] = Field(default_factory=dict)
    """Sizes of machines: name → cores and price; when absent every size has one core and is free."""
    zones: Mapping[Name, Count] = Field(default_factory=dict)
    """Zones of the cloud: name → machines it has room for; one without limit when absent."""
    ip_reuse: bool = False
    """The address of a destroyed machine is given to the next one."""
    api_errors: Share = 0.0
    """Share of calls that are refused without effect (503)."""
    lost_replies: Share = 0.0
    """Share of calls that have their effect but whose answer is lost."""
    duplicate_listing: Share = 0.0
    """Share of machines that a list shows twice."""
    eventual_list: Duration | None = None
    """A list may lag behind creations and destructions by up to this long; never when absent."""
    slow_boot: Share = 0.0
    """Share of machines that boot ten times as long."""
    failed_boot: Share = 0.0
    """Share of machines that fail to boot."""
    bad_images: tuple[Text, ...] = ()
    """Images of which no machine ever boots."""
    broken_context: Share = 0.0
    """Share of workers that boot and never ask for work."""
    network_cut: Share = 0.0
    """Share of machines that cannot be reached for a while, some minutes after they booted."""
    cut_lasts: Duration = Seconds(120.0)
    """How long such a cut lasts on average."""
    spot: SimSpot | None = None
    """Machines are taken back; none when absent."""
