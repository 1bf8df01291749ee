"""Comparing much data: pytest would spend minutes on the difference of two large byte strings."""

from __future__ import annotations

from pathlib import Path


def same(file: Path, wanted: Path | bytes) -> bool:
    """Whether ``file`` holds the bytes of ``wanted``."""
    return file.read_bytes() == (wanted if isinstance(wanted, bytes) else wanted.read_bytes())
