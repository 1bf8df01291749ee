"""Calls to an EC2 API, signed and sent by apache-libcloud. Vendor errors stop here.

Names of actions, parameters, elements and error codes are those of the Amazon EC2 API Reference,
version 2016-11-15. Elements are found in any XML namespace: compatible clouds differ in theirs.
Calls go as POST, so that user data and tokens are in no URL, hence in no log of a proxy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode, urlsplit

from orchestrator.errors import GridError, PermanentError, TemporaryError, UserError
from orchestrator.providers.base import Offering, QuotaExceeded

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

TIMEOUT = 60.0  # seconds for one call
PAGE = 1000  # most elements in an answer that EC2 gives
_IN_USE = 15.0  # seconds; an instance that is shutting down holds its security group for about a minute
_FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
_FULL = frozenset(
    {
        "AddressLimitExceeded", "InstanceLimitExceeded", "InsufficientAddressCapacity",
        "InsufficientFreeAddressesInSubnet", "InsufficientInstanceCapacity", "MaxSpotInstanceCountExceeded",
        "NetworkInterfaceLimitExceeded", "SecurityGroupLimitExceeded", "Server.InsufficientInstanceCapacity",
        "SpotMaxPriceTooLow", "VcpuLimitExceeded", "VolumeLimitExceeded",
    }
)  # fmt: skip
_PASSING = frozenset(
    {
        "DependencyViolation", "IncorrectInstanceState", "IncorrectState", "InternalError", "InternalFailure",
        "InvalidGroup.InUse", "InvalidInstanceID.NotFound", "RequestLimitExceeded", "RequestTimeout",
        "ResourceInUse", "ServiceUnavailable", "Throttling", "ThrottlingException", "Unavailable", "VolumeInUse",
    }
)  # fmt: skip
_REFUSED = frozenset({"AuthFailure", "InvalidClientTokenId", "OptInRequired", "SignatureDoesNotMatch"})


@dataclass(frozen=True)
class Access:
    """Where the API is, and who we are there."""

    region: str
    endpoint: str = ""  # its URL; "" for Amazon's own of that region
    key: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


class Api:
    """One EC2 API. Safe for several threads: a connection of libcloud holds the state of its call, so
    each thread has its own."""

    def __init__(self, provider: str, access: Callable[[], Access]) -> None:
        self._provider = provider
        self._access = access  # asked when the first call is made
        self._mine = threading.local()

    def call(self, action: str, parameters: Mapping[str, str]) -> Element:
        """The answer. QuotaExceeded, TemporaryError or PermanentError; ``facts["code"]`` is EC2's error code."""
        from libcloud.common.exceptions import BaseHTTPError
        from libcloud.common.types import LibcloudError, MalformedResponseError

        driver, access = self._driver()
        body = urlencode({"Action": action, "Version": driver.connection.version, **parameters})
        headers = _FORM | ({"x-amz-security-token": access.token} if access.token else {})
        try:
            answer = driver.connection.request(driver.path, data=body, headers=headers, method="POST")
            found: Element = answer.object
            return found
        except BaseHTTPError as error:
            raise self._translated(action, str(error), int(error.code)) from error
        except (OSError, MalformedResponseError) as error:  # on the way, as requests tells it; a proxy's page
            raise TemporaryError(
                f"provider {self._provider}: no answer to {action} ({type(error).__name__})", code=""
            ) from error
        except LibcloudError as error:
            raise self._translated(action, str(error.value), 400) from error

    def pages(
        self, action: str, parameters: Mapping[str, str], items: str, size: int = PAGE
    ) -> Iterator[Element]:
        """The elements at the path ``items`` of all pages of an answer, asked for as they are needed."""
        paging = {"MaxResults": str(size)}
        while True:
            page = self.call(action, {**parameters, **paging})
            yield from every(page, items)
            if not (following := text(page, "nextToken")):
                return
            paging["NextToken"] = following

    def sizes(self) -> dict[str, Offering]:
        """Instance types of the region with the prices (Linux, on demand) that libcloud knows; else none."""
        driver, access = self._driver()
        if access.region not in driver.list_regions():
            return {}
        found = {}
        for size in driver.list_sizes():
            cores = str(size.extra.get("vcpu", ""))
            price = float(size.price) if size.price else None
            found[size.id] = Offering(int(cores) if cores.isdigit() else 1, (size.ram or 0) << 20, price)
        return found

    def _driver(self) -> tuple[Any, Access]:
        if not hasattr(self._mine, "driver"):
            access = self._access()
            self._mine.driver, self._mine.access = _driver(self._provider, access), access
        return self._mine.driver, self._mine.access

    def _translated(self, action: str, said: str, status: int) -> GridError:
        code = said.partition(":")[0].strip().strip("'\"")
        where = f"provider {self._provider}: {action}"
        facts = {"code": code, "provider": self._provider}
        if code in _FULL:
            return QuotaExceeded(f"{where}: no room ({said})", retry_in=30.0, **facts)
        if code in _REFUSED or status == 401:
            told = f"{where}: the credentials are refused ({code or status}); set AWS_ACCESS_KEY_ID and"
            return PermanentError(
                f"{told} AWS_SECRET_ACCESS_KEY, or `credentials_file` in the site spec", **facts
            )
        if code in _PASSING or status >= 500 or status in (408, 429):
            retry_in = _IN_USE if code in ("DependencyViolation", "InvalidGroup.InUse") else 1.0
            return TemporaryError(
                f"{where} failed, which may pass: {said or status}", retry_in=retry_in, **facts
            )
        return PermanentError(f"{where} is refused: {said or status}", **facts)


def _driver(provider: str, access: Access) -> Any:
    try:
        from libcloud.compute.drivers import ec2
    except ImportError as error:
        raise UserError(
            f"provider {provider} needs apache-libcloud; pip install 'orchestrator[libcloud]'"
        ) from error
    url, kind = urlsplit(access.endpoint), cast(Any, ec2.EC2NodeDriver)  # it has no annotations
    known = access.region in kind.list_regions()
    if not known and not access.endpoint:
        raise UserError(
            f"provider {provider}: libcloud knows no region {access.region!r} of Amazon; correct `region`,"
            f" or give the `endpoint` of another cloud with an EC2 API"
        )
    driver = kind(
        access.key, access.secret, region=access.region if known else "us-east-1", signature_version="4",
        host=url.hostname, port=url.port, secure=url.scheme != "http", timeout=TIMEOUT,
    )  # fmt: skip
    driver.region_name = access.region  # goes into the signature
    driver.path = url.path or "/"
    return driver


def every(element: Element, path: str) -> list[Element]:
    """The elements at ``path``, in any namespace."""
    return element.findall("/".join(f"{{*}}{name}" for name in path.split("/")))


def text(element: Element, path: str) -> str:
    """The text at ``path``, in any namespace; "" when there is none."""
    return element.findtext("/".join(f"{{*}}{name}" for name in path.split("/"))) or ""


def tags(element: Element) -> dict[str, str]:
    """The tags of a resource."""
    return {text(item, "key"): text(item, "value") for item in every(element, "tagSet/item")}


def filters(wanted: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Parameters that restrict a Describe call: name of the filter → its values, any of which will do."""
    made = {}
    for n, (name, values) in enumerate(wanted.items(), 1):
        made[f"Filter.{n}.Name"] = name
        made |= {f"Filter.{n}.Value.{m}": value for m, value in enumerate(values, 1)}
    return made


def tagging(kinds: Sequence[str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Parameters that tag resources of those kinds as they are made: none exists untagged for a moment."""
    made = {}
    for n, kind in enumerate(kinds, 1):
        made[f"TagSpecification.{n}.ResourceType"] = kind
        for m, (key, value) in enumerate(wanted.items(), 1):
            made[f"TagSpecification.{n}.Tag.{m}.Key"] = key
            made[f"TagSpecification.{n}.Tag.{m}.Value"] = value
    return made
