"""Cutting ELF files down: they still load, and nothing of the build host stays in them."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import PermanentError
from orchestrator.runtime.relocatable import elf

PYTHON = Path(os.path.realpath(sys._base_executable))  # type: ignore[attr-defined]


def test_the_interpreter_of_python_is_an_existing_loader() -> None:
    loader = elf.interpreter(PYTHON)
    assert loader.name.startswith("ld-")
    assert loader.exists()


def test_a_slimmed_extension_loads_and_is_not_larger(tmp_path: Path) -> None:
    import _ctypes

    source = Path(_ctypes.__file__)
    out = tmp_path / source.name
    out.write_bytes(elf.slim(source.read_bytes(), source))
    assert out.stat().st_size <= source.stat().st_size
    assert ctypes.CDLL(str(out)).PyInit__ctypes


def test_a_slimmed_program_runs_without_its_absolute_search_path(tmp_path: Path) -> None:
    out = tmp_path / "python"
    data = elf.slim(PYTHON.read_bytes(), PYTHON)
    out.write_bytes(data)
    out.chmod(0o755)
    libraries = PYTHON.parent.parent / "lib"
    done = subprocess.run(
        [elf.interpreter(PYTHON), "--library-path", libraries, out, "-c", "print(6 * 7)"],
        env={"PYTHONHOME": sys.base_prefix},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "42\n"
    assert elf.slim(data, out) == data
    listed = subprocess.run(
        [elf.interpreter(PYTHON), "--list", out], capture_output=True, text=True, check=False
    )
    if "libpython" in listed.stdout:  # a Python with a shared library found it by its RUNPATH, which is gone
        assert str(libraries / "libpython") not in listed.stdout


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + b"\0" * 200])
def test_what_is_no_64_bit_elf_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(PermanentError, match=r"thing\.so is not a 64-bit"):
        elf.slim(content, Path("thing.so"))
