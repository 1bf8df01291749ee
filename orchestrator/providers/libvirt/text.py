"""Names and XML of what we keep on a hypervisor. Pure.

Format: libvirt's domain XML and storage volume XML. The tag is the domain's metadata element; volumes have
none, so their name says all: ``orchestrate.<vo>.<site>.<provider>.<machine>.<kind>``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from orchestrator.providers.libvirt.place import Size

NAMESPACE = "https://orchestrate/machine"  # of the metadata element; names it, nothing lies there
KINDS = ("disk", "seed", "log")
_PIECE = re.compile(r"\.log\.[0-9]$")  # virtlogd's


@dataclass(frozen=True)
class Tag:
    """Whose machine it is."""

    vo: str
    site: str
    provider: str

    def volume(self, machine: str, kind: str) -> str:
        """The name of that machine's volume."""
        return ".".join(("orchestrate", self.vo, self.site, self.provider, machine, kind))

    def owner(self, volume: str) -> tuple[str, str] | None:
        """(machine, kind) of a volume of ours; None for any other. A log that grew is kept in pieces: log.0, …"""
        *whose, machine, kind = (volume.removesuffix(volume[-2:]) if _PIECE.search(volume) else volume).split(
            "."
        )
        ours = whose == ["orchestrate", self.vo, self.site, self.provider] and kind in KINDS
        return (machine, kind) if ours else None


@dataclass(frozen=True)
class Wiring:
    """How machines reach others: a network of libvirt, a bridge of the host, or neither (outwards only)."""

    network: str = ""
    bridge: str = ""


def volume(name: str, size: int, backing: tuple[str, str] | None = None) -> str:
    """A volume of ``size`` bytes: raw, or qcow2 over the volume whose (path, format) is ``backing``."""
    under = ""
    if backing is not None:
        path, kind = backing
        under = f"<backingStore><path>{escape(path)}</path><format type={quoteattr(kind)}/></backingStore>"
    kind = "qcow2" if backing is not None else "raw"
    return (
        f"<volume><name>{escape(name)}</name><capacity unit='bytes'>{size}</capacity>"
        f"<target><format type='{kind}'/><permissions><mode>0600</mode></permissions></target>{under}</volume>"
    )


def card(name: str) -> str:
    """The MAC address of that machine: the same each time, locally administered (in QEMU's block)."""
    digest = hashlib.sha256(name.encode()).digest()
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])


def domain(
    name: str, record: str, size: Size, accelerator: str, wiring: Wiring, disk: str, seed: str, log: str
) -> str:
    """The machine: ``record`` is its tag; ``disk``, ``seed`` and ``log`` are paths on the hypervisor;
    ``accelerator`` is qemu (emulated) or kvm."""
    cpu, tcg = ("maximum", "<tcg><tb-cache unit='MiB'>256</tb-cache></tcg>")
    if accelerator == "kvm":
        cpu, tcg = "host-passthrough", ""
    if wiring.network:
        link = f"<interface type='network'><source network={quoteattr(wiring.network)}/>"
    elif wiring.bridge:
        link = f"<interface type='bridge'><source bridge={quoteattr(wiring.bridge)}/>"
    else:
        link = "<interface type='user'>"
    return f"""<domain type='{accelerator}'>
  <name>{escape(name)}</name>
  <metadata><o:machine xmlns:o='{NAMESPACE}'>{escape(record)}</o:machine></metadata>
  <memory unit='b'>{size.memory}</memory><vcpu>{size.cores}</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/><bios useserial='yes'/></os>
  <features><acpi/>{tcg}</features>
  <cpu mode='{cpu}'/>
  <on_crash>restart</on_crash>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap'/>
      <source file={quoteattr(disk)}/><target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/>
      <source file={quoteattr(seed)}/><target dev='vdb' bus='virtio'/></disk>
    {link}<mac address='{card(name)}'/><model type='virtio'/><rom enabled='no'/></interface>
    <serial type='file'><source path={quoteattr(log)}/></serial>
    <controller type='usb' model='none'/><memballoon model='none'/><video><model type='none'/></video>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
</domain>"""
