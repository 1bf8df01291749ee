"""What all machines of a site share at an EC2 provider, and what may outlive a machine: its volumes."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import PermanentError, TemporaryError, UserError
from orchestrator.providers.base import Object
from orchestrator.providers.ec2 import rules
from orchestrator.providers.ec2.api import Api, every, filters, tagging, tags, text
from orchestrator.site.schema import Ec2Provider as Settings

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_GONE = ("InvalidGroup.NotFound", "InvalidKeyPair.NotFound", "InvalidVolume.NotFound", "InvalidInstanceID.NotFound")  # fmt: skip
_GROUPS = ("DescribeSecurityGroups", "securityGroupInfo/item")
_KEYS = ("DescribeKeyPairs", "keySet/item")
_VOLUMES = ("DescribeVolumes", "volumeSet/item")
_REMOVE = {
    "volume": ("DeleteVolume", "VolumeId"),
    "security group": ("DeleteSecurityGroup", "GroupId"),
    "key pair": ("DeleteKeyPair", "KeyName"),
    "instance": ("TerminateInstances", "InstanceId.1"),
}


class Belongings:
    """Resources with our tags that are not machines. Safe for several threads."""

    def __init__(
        self, api: Api, settings: Settings, ours: Mapping[str, str], name: str, folder: Path
    ) -> None:
        self._api, self._settings, self._ours, self._name = api, settings, ours, name
        self._folder = folder  # of relative paths in the site spec
        self._ready: dict[str, str] | None = None
        self._mutex = threading.Lock()

    def parameters(self, network: str) -> dict[str, str]:
        """Of RunInstances: security groups and key pair, those that are ours made if they are not there.

        A group of ours lets nothing in but ssh from ``ssh_from``: workers ask, nobody asks them.
        """
        with self._mutex:
            if self._ready is None:
                groups = self._settings.security_groups or (self._security_group(network),)
                self._ready = {f"SecurityGroupId.{n}": group for n, group in enumerate(groups, 1)}
                if self._settings.public_key:
                    self._ready["KeyName"] = self._key_pair(self._settings.public_key)
            return self._ready

    def forget(self) -> None:
        """They may have gone."""
        with self._mutex:
            self._ready = None

    def shared(self) -> Iterator[Object]:
        """Ours that serve all machines."""
        for group in self._described(*_GROUPS):
            yield Object("security group", text(group, "groupId"))
        for key in self._described(*_KEYS):
            yield Object("key pair", text(key, "keyName"))

    def volumes(self) -> Iterator[Object]:
        """Ours, each with the machine it was made for."""
        for volume in self._described(*_VOLUMES):
            yield Object("volume", text(volume, "volumeId"), tags(volume).get(rules.NAME, ""))

    def let_go(self, machine: str) -> None:
        """The volumes of a machine that is about to go are gone, or go with it."""
        wanted = {f"tag:{rules.NAME}": [machine]}
        for volume in self._described(*_VOLUMES, wanted):
            for held in every(volume, "attachmentSet/item"):
                if text(held, "deleteOnTermination") != "true":
                    device = {
                        "BlockDeviceMapping.1.DeviceName": text(held, "device"),
                        "BlockDeviceMapping.1.Ebs.DeleteOnTermination": "true",
                    }
                    self._api.call(
                        "ModifyInstanceAttribute", {"InstanceId": text(held, "instanceId"), **device}
                    )
            if text(volume, "status") == "available":
                self.remove(Object("volume", text(volume, "volumeId")))

    def remove(self, thing: Object) -> None:
        """It is gone; silent if it is gone already. TemporaryError while something still uses it."""
        if thing.kind not in _REMOVE:
            raise PermanentError(f"provider {self._name}: a {thing.kind} cannot be removed ({thing.id})")
        action, key = _REMOVE[thing.kind]
        try:
            self._api.call(action, {key: thing.id})
        except (PermanentError, TemporaryError) as error:
            if error.facts.get("code") not in _GONE:
                raise
        if thing.kind in ("security group", "key pair"):
            self.forget()

    def _security_group(self, network: str) -> str:
        wanted = {"group-name": [self._label], **({"vpc-id": [network]} if network else {})}
        found = [text(g, "groupId") for g in self._described(*_GROUPS, wanted)]
        if not found:
            asked = {
                "GroupName": self._label,
                "GroupDescription": f"orchestrate, site {self._ours[rules.SITE]}",
            }
            asked |= {"VpcId": network} if network else {}
            made = self._api.call("CreateSecurityGroup", asked | tagging(["security-group"], self._ours))
            found = [text(made, "groupId")]
        for source in self._settings.ssh_from:
            self._allow(found[0], source)
        return found[0]

    def _allow(self, group: str, source: str) -> None:
        rule = {"IpProtocol": "tcp", "FromPort": "22", "ToPort": "22", "IpRanges.1.CidrIp": source}
        asked = {f"IpPermissions.1.{key}": value for key, value in rule.items()}
        try:
            self._api.call("AuthorizeSecurityGroupIngress", {"GroupId": group, **asked})
        except PermanentError as error:
            if error.facts.get("code") != "InvalidPermission.Duplicate":
                raise

    def _key_pair(self, path: str) -> str:
        if self._described(*_KEYS, {"key-name": [self._label]}):
            return self._label
        file = self._folder / Path(path).expanduser()
        try:
            material = base64.b64encode(file.read_bytes()).decode()
        except OSError as error:
            raise UserError(
                f"provider {self._name}: {file}: {error.strerror}; `public_key` wants it"
            ) from error
        self._api.call(
            "ImportKeyPair",
            {"KeyName": self._label, "PublicKeyMaterial": material, **tagging(["key-pair"], self._ours)},
        )
        return self._label

    @property
    def _label(self) -> str:
        return "-".join(["orchestrate", *(self._ours[key] for key in (rules.VO, rules.SITE, rules.PROVIDER))])

    def _described(
        self, action: str, items: str, wanted: Mapping[str, Sequence[str]] | None = None
    ) -> list[Element]:
        ours = {f"tag:{key}": [self._ours[key]] for key in (rules.VO, rules.SITE)}
        asked = filters(ours | dict(wanted or {}))
        if (
            action == "DescribeVolumes"
        ):  # as many as machines; the others are few, and key pairs have no pages
            return [*self._api.pages(action, asked, items)]
        return every(self._api.call(action, asked), items)
