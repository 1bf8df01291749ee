"""Amazon EC2, and other clouds with its API, through apache-libcloud: the port ``Provider``.

Machines are instances with our tags. Their name is a tag, so a machine that exists is found before another
one is asked for; one that is not listed yet is found by the client token that was on disk before the call.
Workers only: a machine configures itself from its user data, and nobody needs to reach it.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from orchestrator.errors import PermanentError, TemporaryError
from orchestrator.providers.base import Machine, MachineSpec, MachineState, Object, Offering, QuotaExceeded
from orchestrator.providers.ec2 import rules
from orchestrator.providers.ec2.access import access_of
from orchestrator.providers.ec2.api import Api, every, filters, tagging, text
from orchestrator.providers.ec2.belongings import Belongings
from orchestrator.providers.ec2.instances import Instance, Instances, firsts, instance
from orchestrator.providers.ec2.intents import Intent, Intents
from orchestrator.site.schema import Ec2Provider as Settings
from orchestrator.site.schema import Site

SETTLED = 60.0  # seconds after which EC2 lists what was made


class Ec2Provider:
    """The port ``Provider`` on one region."""

    def __init__(
        self, name: str, settings: Settings, site: Site, state_dir: Path, now: Callable[[], float]
    ) -> None:
        self.name = name
        self._settings, self._site = settings, site
        state, folder = state_dir.resolve(), state_dir.resolve().parent.parent
        self._ours = {rules.VO: site.vo, rules.SITE: site.site, rules.PROVIDER: name}
        self._api = Api(name, lambda: access_of(name, settings, folder, os.environ))
        self._things = Belongings(self._api, settings, self._ours, name, folder)
        self._instances = Instances(self._api, self._ours, site.providers.keys() - {name})
        self._intents = Intents(state / "ec2" / name, now)
        self._places: list[rules.Place] | None = None

    def list(self) -> Sequence[Machine]:
        """All of ours that are not gone or going: one call for each thousand."""
        return [self._machine(found) for found in firsts(self._instances.listed())]

    def create(self, spec: MachineSpec) -> Machine:
        """The instance boots (or starts again). It is asked for in one zone after the other until one has room."""
        known = self._instances.called(spec.name)
        if there := firsts(known):
            return self._again(spec, there[0])
        intent = self._intents.get(spec.name)
        if intent and any(each.id == intent.id for each in known):  # what it made is gone
            self._intents.drop(spec.name)
        try:
            made = self._asked_for(spec)
        except TemporaryError as error:
            if isinstance(error, QuotaExceeded):
                self._intents.drop(spec.name)
            raise
        except PermanentError:
            self._intents.drop(spec.name)
            raise
        return self._machine(made)

    def destroy(self, name: str, *, keep_data: bool = False) -> None:
        """The instance is going, and with it its volumes (unless ``keep_data``); after the last one also what
        all shared. TemporaryError while EC2 may still begin to list it."""
        found, intent = self._instances.called(name), self._intents.get(name)
        ids = {each.id for each in found if each.state is not None}
        fresh = intent is not None and self._intents.age(intent) < SETTLED
        if intent and fresh and not ids and not intent.id:
            raise TemporaryError(f"{name} was asked for, and EC2 does not list it yet", retry_in=5.0)
        if intent and fresh and intent.id and intent.id not in {each.id for each in found}:
            ids.add(intent.id)
        if ids and not keep_data:
            self._things.let_go(name)
        if ids:
            self._api.call("TerminateInstances", {f"InstanceId.{n}": each for n, each in enumerate(sorted(ids), 1)})  # fmt: skip
        self._intents.drop(name)
        if self._instances.none_but(ids):
            for thing in self._things.shared():
                self._things.remove(thing)

    def console(self, name: str) -> str:
        """What the instance printed while it booted, as far as EC2 has it."""
        there = firsts(self._instances.called(name))
        if not there:
            return ""
        said = text(self._api.call("GetConsoleOutput", {"InstanceId": there[0].id}), "output")
        return base64.b64decode(said).decode(errors="replace")

    def offerings(self) -> Mapping[str, Offering]:
        """Instance types; their prices in US dollars are those that this version of libcloud knows."""
        return self._api.sizes()

    def objects(self) -> Sequence[Object]:
        """Volumes, security groups and key pairs of ours, and instances that are there twice."""
        there = self._instances.listed()
        known = {each.id for each in firsts(there)}
        double = [Object("instance", each.id, each.id) for each in there if each.id not in known]
        return [*self._things.volumes(), *self._things.shared(), *double]

    def remove(self, thing: Object) -> None:
        """It is gone, or surely going."""
        self._things.remove(thing)

    # --- making one

    def _again(self, spec: MachineSpec, found: Instance) -> Machine:
        group, role = found.tags.get(rules.GROUP), found.tags.get(rules.ROLE)
        if (group, role) != (spec.group, spec.role):
            raise PermanentError(
                f"{spec.name} exists as {role} of group {group}; destroy it first", machine=spec.name
            )
        if found.state is MachineState.STOPPED:
            self._api.call("StartInstances", {"InstanceId.1": found.id})
        return self._machine(found)

    def _asked_for(self, spec: MachineSpec) -> Instance:
        """The new instance, or the one that was made with the same token before and is not listed yet."""
        for _ in range(2):
            try:
                return self._run(spec, self._intents.begin(spec.name))
            except PermanentError as error:
                code = error.facts.get("code")
                if code == "IdempotentParameterMismatch":  # an earlier run asked, with another user data
                    raise TemporaryError(
                        f"{spec.name} was asked for before, and EC2 does not list it yet", retry_in=2.0
                    ) from error
                if code != "IdempotentInstanceTerminated":
                    raise
                self._intents.drop(spec.name)
        raise TemporaryError(f"{spec.name}: EC2 knows of two that are gone", retry_in=2.0)

    def _run(self, spec: MachineSpec, intent: Intent) -> Instance:
        """The new instance, in the first place that has room. The token is the same whenever this is tried again."""
        user_data = rules.packed(spec)
        asked = {
            "ImageId": spec.image, "InstanceType": spec.offering, "MinCount": "1", "MaxCount": "1",
            **({"UserData": user_data} if user_data else {}),
            # Jobs on the machine must not read its user data through a careless HTTP request. Amazon's own.
            **({} if self._settings.endpoint else {"MetadataOptions.HttpTokens": "required"}),
            **tagging(["instance", "volume"], rules.tags_of(spec, self._ours)),
        }  # fmt: skip
        full: QuotaExceeded | None = None
        for place in rules.ordered(self._where(spec), spec.name, spec.avoid):
            try:
                return self._run_in(place, spec, intent, asked)
            except QuotaExceeded as error:
                if error.facts.get("code") not in rules.FULL_PLACE:
                    raise
                full = error
        assert full is not None
        raise full

    def _run_in(
        self, place: rules.Place, spec: MachineSpec, intent: Intent, asked: Mapping[str, str]
    ) -> Instance:
        where = rules.network(place, self._things.parameters(place.network), self._settings.public_address)
        token = {"ClientToken": rules.client_token(intent.token, place)}
        try:
            answer = self._api.call("RunInstances", {**asked, **where, **token})
        except PermanentError as error:
            if error.facts.get("code") != "InvalidGroup.NotFound" or self._settings.security_groups:
                raise
            self._things.forget()
            raise TemporaryError(f"{spec.name}: its security group has just gone", retry_in=1.0) from error
        made = instance(every(answer, "instancesSet/item")[0])
        self._intents.made(spec.name, intent, made.id)
        return made

    def _where(self, spec: MachineSpec) -> Sequence[rules.Place]:
        """Places to try; asked once, and only when there is a choice to be made."""
        settings = self._settings
        if not (settings.subnets or settings.zones or spec.avoid):
            return [rules.Place()]
        if self._places is None:
            if settings.subnets:
                wanted = {f"SubnetId.{n}": each for n, each in enumerate(settings.subnets, 1)}
                told = {
                    text(each, "subnetId"): rules.Place(
                        text(each, "availabilityZone"), text(each, "subnetId"), text(each, "vpcId")
                    )
                    for each in every(self._api.call("DescribeSubnets", wanted), "subnetSet/item")
                }
                self._places = [told[each] for each in settings.subnets]
            elif settings.zones:
                self._places = [rules.Place(zone) for zone in settings.zones]
            else:
                zones = self._api.call("DescribeAvailabilityZones", filters({"state": ["available"]}))
                self._places = [
                    rules.Place(text(each, "zoneName")) for each in every(zones, "availabilityZoneInfo/item")
                ]
        return self._places

    # --- seeing them

    def _machine(self, found: Instance) -> Machine:
        hidden = (rules.NAME, rules.GROUP, rules.ROLE, rules.PROVIDER, "Name")
        public, private = found.addresses
        return Machine(
            name=found.name,
            group=found.tags.get(rules.GROUP, ""),
            role=found.tags.get(rules.ROLE, ""),
            provider=self.name,
            state=found.state or MachineState.FAILED,
            address=public if self._settings.public_address else private,
            root=f"/opt/orchestrate/{self._site.site}",
            tags={key: value for key, value in found.tags.items() if key not in hidden},
            place=found.zone,
        )
