"""One line a figure, and whether every goal was met."""

from __future__ import annotations


class Figures:
    """Prints each figure as it comes."""

    def __init__(self) -> None:
        self.missed: list[str] = []

    def __call__(self, name: str, value: float, unit: str, limit: float | None = None) -> None:
        goal = "" if limit is None else f" goal <= {limit:g}"
        print(f"figure {name} {value:.4g} {unit}{goal}", flush=True)
        if limit is not None and value > limit:
            self.missed.append(name)

    def end(self) -> int:
        """Tells which goals were missed; 1 when one was."""
        print("\n".join(f"missed: {name}" for name in self.missed) or "all goals are met")
        return 1 if self.missed else 0
