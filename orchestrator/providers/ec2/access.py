"""Where the credentials of an EC2 provider come from. They are never in the site spec, the ledger or a log."""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.providers.ec2.api import Access
from orchestrator.site.schema import Ec2Provider as Settings

_KEY, _SECRET, _TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"


def access_of(name: str, settings: Settings, folder: Path, environment: Mapping[str, str]) -> Access:
    """The access of the provider called ``name``, by its credentials file (relative to ``folder``) or else by
    the environment. UserError when there is none, or the file is open to others."""
    if settings.credentials_file is None:
        told, where = environment, "the environment"
    else:
        path = folder / Path(settings.credentials_file).expanduser()
        told, where = _profile(name, path, settings.profile), f"{path}, profile {settings.profile}"
    missing = [key for key in (_KEY, _SECRET) if not told.get(key)]
    if missing:
        raise UserError(
            f"provider {name}: {' and '.join(missing)} not in {where}; set them there, or name another"
            " `credentials_file` in the site spec",
            provider=name,
        )
    endpoint = settings.endpoint or ""
    return Access(settings.region, endpoint, told[_KEY], told[_SECRET], told.get(_TOKEN, ""))


def _profile(name: str, path: Path, profile: str) -> dict[str, str]:
    """One section of a credentials file as the AWS command line keeps it, keys in capitals."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        if path.stat().st_mode & 0o007:
            raise UserError(
                f"provider {name}: {path} is open to all users; run `chmod 600 {path}`", provider=name
            )
        parser.read_string(path.read_text())
    except OSError as error:
        raise UserError(f"provider {name}: {path}: {error.strerror}; `credentials_file` names it") from error
    except (configparser.Error, UnicodeDecodeError) as error:
        raise UserError(f"provider {name}: {path} is not a credentials file of AWS (INI)") from error
    if profile not in parser:
        known = ", ".join(parser.sections()) or "none"
        raise UserError(f"provider {name}: {path} has no profile {profile!r}; profiles there: {known}")
    return {key.upper(): value for key, value in parser[profile].items()}
