"""One line a figure, and whether every goal was met."""

from __future__ import annotations


class Figures:
    """Prints each figure as it comes."""

    def __init__(self) -> None:
        self.missed: list[str] = []

    def __call__(
        self, name: str, value: float, unit: str, limit: float | None = None, *, least: float | None = None
    ) -> None:
        """The goal is at most ``limit``, or at least ``least``."""
        goal = (
            f" goal <= {limit:g}" if limit is not None else f" goal >= {least:g}" if least is not None else ""
        )
        print(f"figure {name} {value:.4g} {unit}{goal}", flush=True)
        if (limit is not None and value > limit) or (least is not None and value < least):
            self.missed.append(name)

    def end(self) -> int:
        """Tells which goals were missed; 1 when one was."""
        print("\n".join(f"missed: {name}" for name in self.missed) or "all goals are met")
        return 1 if self.missed else 0
