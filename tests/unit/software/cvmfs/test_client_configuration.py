"""The client's configuration files are shell assignments: let a shell read what the templates make."""

from __future__ import annotations

import subprocess
from pathlib import Path

import jinja2
import pytest

from orchestrator.runtime.files import shipped


def read_by_shell(template: str, tmp_path: Path, **values: object) -> dict[str, str]:
    place = jinja2.Environment(
        loader=jinja2.FileSystemLoader(shipped("cvmfs")), undefined=jinja2.StrictUndefined, autoescape=False
    )
    file = tmp_path / "file"
    file.write_text(place.get_template(template).render(**values))
    told = subprocess.run(
        ["env", "-i", "sh", "-euc", f'set -a; . "{file}"; env'], check=True, capture_output=True, text=True
    ).stdout
    return dict(line.split("=", 1) for line in told.splitlines() if line.startswith("CVMFS_"))


def test_a_repository(tmp_path: Path) -> None:
    servers = ["http://127.1.0.2:8080", "http://far.example.org:8080"]
    read = read_by_shell("config.d/repository.conf.j2", tmp_path, fqrn="alice.example.org", servers=servers)
    assert read["CVMFS_SERVER_URL"] == (
        "http://127.1.0.2:8080/cvmfs/@fqrn@;http://far.example.org:8080/cvmfs/@fqrn@"
    )
    assert read["CVMFS_PUBLIC_KEY"] == "/etc/cvmfs/keys/alice.example.org.pub"


@pytest.mark.parametrize(
    ("proxies", "expected"),
    [([], "DIRECT"), (["http://a:3128", "http://b:3128"], "http://a:3128|http://b:3128")],
)
def test_the_client(tmp_path: Path, proxies: list[str], expected: str) -> None:
    read = read_by_shell(
        "default.conf.j2", tmp_path, fqrns=["a.example.org", "b.example.org"], proxies=proxies
    )
    assert read["CVMFS_REPOSITORIES"] == "a.example.org,b.example.org"
    assert read["CVMFS_HTTP_PROXY"] == expected
    assert read["CVMFS_QUOTA_LIMIT"] == "10000"
