"""When a fetch asks for more help."""

from __future__ import annotations

import pytest

from orchestrator.software.torrent.patience import Patience

PATIENCE = Patience(web_after=1, http_after=6)


@pytest.mark.parametrize(
    ("silent", "web_seeds", "web_added", "http_urls", "step"),
    [
        (0.5, 1, False, 1, "wait"),
        (1.0, 1, False, 1, "web"),
        (1.0, 1, True, 1, "wait"),
        (5.9, 1, True, 1, "wait"),
        (6.0, 1, True, 1, "http"),
        (6.0, 1, True, 0, "wait"),
        (9.9, 0, False, 0, "wait"),
        (2.9, 0, False, 1, "wait"),
        (3.0, 0, False, 1, "http"),
        (99.0, 1, False, 0, "web"),
    ],
)
def test_steps(silent: float, web_seeds: int, web_added: bool, http_urls: int, step: str) -> None:
    assert PATIENCE.step(silent, web_seeds=web_seeds, web_added=web_added, http_urls=http_urls) == step
