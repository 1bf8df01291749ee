"""Virtual machines of one or many hypervisors, as one pool: an HLT farm, a rack of servers, this host.

``text`` names and describes (pure), ``seed`` is what a machine finds at its first boot (pure), ``place``
chooses where (pure), ``hypervisor`` is one libvirt daemon, ``client`` is the port.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.providers.libvirt.client import LibvirtProvider
    from orchestrator.site.schema import LibvirtProvider as Settings
    from orchestrator.site.schema import Site


def make(name: str, settings: Settings, site: Site, state_dir: Path) -> LibvirtProvider:
    """The libvirt provider called ``name`` in the site spec; nobody is asked before it is needed.

    UserError when the package libvirt-python is not installed.
    """
    from orchestrator.errors import UserError

    try:
        from orchestrator.providers.libvirt.client import LibvirtProvider
    except ModuleNotFoundError as error:
        if error.name != "libvirt":
            raise
        raise UserError(
            f"provider {name} needs the Python package libvirt-python: install orchestrator[libvirt] "
            "(it is compiled: libvirt-dev, pkg-config and a C compiler are wanted)",
            provider=name,
        ) from error
    return LibvirtProvider(name, settings, site, state_dir)
