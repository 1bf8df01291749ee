"""The seed of a machine: a small disk with what cloud-init's NoCloud data source reads at boot. Pure.

Formats: cloud-init documentation, "NoCloud"; ECMA-119 (ISO 9660) with file names longer than 8.3, which
every Linux reads. ``seed.env`` is for images that have our runner in place of cloud-init (images/worker).
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass

SECTOR = 2048
_ROOT_AT, _FILES_AT = 20, 21  # after 16 reserved sectors, two descriptors and two path tables
_FIRST_BOOT = """#!/bin/sh
# Written by orchestrate. May be run again at any point.
set -eu
export ORCHESTRATE_ROOT='@ROOT@'
@ADDRESS@
for folder in etc data log run bin; do mkdir -p "$ORCHESTRATE_ROOT/$folder"; done
cd "$ORCHESTRATE_ROOT"
cat >machine.json <<'@END@'
@RECORD@
@END@
(umask 077; cat >etc/context.new) <<'@END@'
@CONTEXT@
@END@
mv etc/context.new etc/context
until sh etc/context >>log/context.log 2>&1 </dev/null; do
  echo "the context failed; its last words:"; tail -n 5 log/context.log; sleep 5
done
# It held a token. What is left of it goes: here, in cloud-init's copies, and on the seed itself.
rm -f etc/context /var/lib/cloud/instance/user-data.txt* /var/lib/cloud/instance/scripts/part-*
if [ -b /dev/disk/by-label/cidata ]; then
  { tr '\\0' '\\n' </dev/zero | dd of=/dev/disk/by-label/cidata bs=2048 seek=@FROM@; } 2>/dev/null || true  # to its end
  sync
fi
"""


@dataclass(frozen=True)
class Address:
    """The address that a machine is given; one without asks by DHCP."""

    ip: str
    prefix: int
    gateway: str = ""
    dns: tuple[str, ...] = ()


def seed(name: str, root: str, record: str, user_data: str, address: Address | None) -> bytes:
    """The content of the seed disk of the machine ``name``; ``record`` becomes its machine.json, and
    ``user_data`` (a script, or "") is run until it succeeded once, then wiped from the disk."""
    digest = hashlib.sha256((record + user_data).encode()).hexdigest()
    files = {"meta-data": f"instance-id: {name}-{digest[:12]}\nlocal-hostname: {name}\n"}
    if address is not None:
        files["network-config"] = _network(address)
        files["seed.env"] = (
            f"ADDRESS={address.ip}/{address.prefix}\nGATEWAY={address.gateway}\nDNS='{' '.join(address.dns)}'\n"
        )
    told = f"export ORCHESTRATE_ADDRESS={address.ip}" if address else ""
    parts = {
        "ROOT": root, "ADDRESS": told, "RECORD": record.strip(), "END": f"end-{digest}",
        "FROM": str(_FILES_AT + sum(map(_sectors, files.values()))), "CONTEXT": user_data or ":",
    }  # fmt: skip
    script = _FIRST_BOOT
    for key, value in parts.items():  # CONTEXT last: nothing in it is replaced
        script = script.replace(f"@{key}@", value)
    return iso("cidata", {key: text.encode() for key, text in (files | {"user-data": script}).items()})


def done(end: bytes) -> bool:
    """Whether the seed whose last sector is ``end`` was wiped, which is the last thing the context does."""
    return bool(end) and not end.strip(b"\n")


def _network(address: Address) -> str:
    """Netplan's form, version 2, in JSON (which is YAML)."""
    card: dict[str, object] = {"match": {"name": "e*"}, "addresses": [f"{address.ip}/{address.prefix}"]}
    if address.gateway:
        card["gateway4"] = address.gateway
    if address.dns:
        card["nameservers"] = {"addresses": [*address.dns]}
    return json.dumps({"version": 2, "ethernets": {"first": card}}) + "\n"


def iso(label: str, files: Mapping[str, bytes]) -> bytes:
    """An ISO 9660 image with these files in its root directory, one after the other in the order of their
    names. The names are lower-case; the image says them in upper case, and Linux lowers them again."""
    at, entries, body = _FILES_AT, b"", b""
    for name, content in sorted(files.items()):
        identifier = f"{name}{'' if '.' in name else '.'};1".upper().encode("ascii")
        entries += _entry(identifier, at, len(content))
        body += content.ljust(_sectors(content) * SECTOR, b"\0")
        at += _sectors(content)
    folder = _entry(b"\0", _ROOT_AT, SECTOR, folder=True) + _entry(b"\1", _ROOT_AT, SECTOR, folder=True)
    assert len(folder + entries) <= SECTOR, "the root directory has one sector"
    never = b"0" * 16 + b"\0"
    primary = (
        b"\1CD001\1\0" + b" " * 32 + label.encode("ascii").ljust(32) + b"\0" * 8
        + _both(at) + b"\0" * 32 + _short(1) + _short(1) + _short(SECTOR) + _both(10)
        + struct.pack("<II", 18, 0) + struct.pack(">II", 19, 0) + _entry(b"\0", _ROOT_AT, SECTOR, folder=True)
        + b" " * (128 * 4 + 37 * 3) + never * 4 + b"\1"
    )  # fmt: skip
    tables = [struct.pack(f"{order}BBIH", 1, 0, _ROOT_AT, 1) + b"\0\0" for order in "<>"]
    sectors = [primary, b"\xffCD001\1", *tables, folder + entries]
    return b"\0" * 16 * SECTOR + b"".join(each.ljust(SECTOR, b"\0") for each in sectors) + body


def _entry(identifier: bytes, at: int, size: int, *, folder: bool = False) -> bytes:
    """A directory record (ECMA-119, 9.1)."""
    body = b"\0" + _both(at) + _both(size) + b"\0" * 7 + bytes([2 * folder, 0, 0]) + _short(1)
    body += bytes([len(identifier)]) + identifier + b"\0" * ((len(identifier) + 1) % 2)
    return bytes([len(body) + 1]) + body


def _sectors(content: bytes | str) -> int:
    return -(-len(content if isinstance(content, bytes) else content.encode()) // SECTOR)


def _both(number: int) -> bytes:
    return struct.pack("<I", number) + struct.pack(">I", number)


def _short(number: int) -> bytes:
    return struct.pack("<H", number) + struct.pack(">H", number)
