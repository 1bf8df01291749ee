"""Amazon EC2, and other clouds with its API, through apache-libcloud.

``api`` signs, sends and translates errors, ``instances`` sees, ``rules`` decides (pure), ``intents`` remembers
on disk what was asked for, ``belongings`` are volumes, groups and keys, and ``client`` is the port.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.providers.ec2.client import Ec2Provider
    from orchestrator.site.schema import Ec2Provider as Settings
    from orchestrator.site.schema import Site


def make(name: str, settings: Settings, site: Site, state_dir: Path) -> Ec2Provider:
    """The EC2 provider called ``name`` in the site spec; nothing is asked before it is needed."""
    from orchestrator.providers.ec2.client import Ec2Provider
    from orchestrator.runtime.clock import SystemClock

    return Ec2Provider(name, settings, site, state_dir, SystemClock().now)
