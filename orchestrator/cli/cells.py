"""What stands in tables."""

from __future__ import annotations

from rich.text import Text


def short(markup: str) -> Text:
    """One line, cut where the room ends. In a column that may wrap: rich takes the room from those first."""
    text = Text.from_markup(markup, overflow="ellipsis")
    text.no_wrap = True
    return text
