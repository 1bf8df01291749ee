"""When a fetch by torrent asks for more help. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Step = Literal["wait", "web", "http"]


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds without a new byte until web seeds are added, and until HTTP replaces the torrent.

    Web seeds wait a moment so that nodes of a site ask each other before they all ask one server.
    """

    web_after: float = 1.0
    http_after: float = 6.0

    def step(self, silent: float, *, web_seeds: int, web_added: bool, http_urls: int) -> Step:
        """What to do after ``silent`` seconds without progress.

        Without any URL the torrent is waited for: there is nothing better.
        """
        if http_urls and silent >= self.http_after:
            return "http"
        if web_seeds and not web_added and silent >= self.web_after:
            return "web"
        if http_urls and not web_seeds and silent >= self.http_after / 2:
            return "http"
        return "wait"
