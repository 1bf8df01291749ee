"""What an entry module imports, read from its source."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.runtime.relocatable import closure

FILES = {
    "ours/__init__.py": "import heavy_root\n",
    "ours/entry.py": """
from __future__ import annotations
import os, json
from typing import TYPE_CHECKING
from . import beside
from .deep.leaf import thing
import ours.plain
if TYPE_CHECKING:
    import never
try:
    import maybe
except ImportError:
    maybe = None
def later():
    import lazy_top.sub
    from ours import late
""",
    "ours/beside.py": "import beside_dep.x as y\n",
    "ours/plain.py": "class A:\n    import in_class\n",
    "ours/late.py": "import heavy_late\nfrom ours import beside\n",
    "ours/unused.py": "import unused_dep\n",
    "ours/deep/__init__.py": "",
    "ours/deep/leaf.py": "from ..beside import *\nfrom ... import nonsense\nthing = 1\n",
    "foreign/__init__.py": "import foreign_dep\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_modules_and_packages_are_told_by_when_they_are_imported(root: Path) -> None:
    found = closure("ours.entry", [root], {"ours"})
    assert set(found.modules) == {
        "ours",
        "ours.entry",
        "ours.beside",
        "ours.plain",
        "ours.late",
        "ours.deep",
        "ours.deep.leaf",
    }
    assert {k for k in found.always if k} == {"heavy_root", "beside_dep", "in_class"}
    assert set(found.sometimes) == {"maybe", "lazy_top", "heavy_late"}
    assert found.always["beside_dep"] == ("ours.entry", "ours.beside")


def test_a_package_beside_ours_is_foreign(root: Path) -> None:
    (root / "ours/entry.py").write_text("import foreign\n")
    found = closure("ours.entry", [root], {"ours"})
    assert "foreign" in found.always
    assert "foreign_dep" not in found.always


def test_a_missing_entry_is_named() -> None:
    with pytest.raises(UserError, match=r"no module ours\.absent"):
        closure("ours.absent", [Path("/nonexistent")], {"ours"})
