"""Draw a merged result and print its table.

    python plot.py MERGED.json OUT.png [TABLE.txt]

Two panels: how probable each charged multiplicity is, and the pT spectrum per event. Errors are statistical.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table

BLUE, RED, GREY = "#1f5fa8", "#b5482a", "#5a5a5a"


def statistics(result: dict[str, Any]) -> dict[str, float]:
    """Mean multiplicity with its statistical error (standard error of the mean), and mean pT in GeV/c."""
    events, total, squares = result["events"], result["sum_n"], result["sum_n2"]
    # Integers up to the last step: the variance does not suffer from cancellation.
    variance = (events * squares - total * total) / (events * (events - 1)) if events > 1 else math.nan
    return {
        "mean": total / events,
        "error": math.sqrt(variance / events),
        "mean_pt": result["sum_pt_kev"] / total / 1e6 if total else math.nan,
    }


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The lines of the table."""
    numbers = statistics(result)
    return [
        ("generator", result["generator"]),
        ("process", result["process"]),
        ("particles", result["selection"]),
        ("seeds", ", ".join(map(str, result["seeds"]))),
        ("events", f"{result['events']}"),
        ("charged particles", f"{result['sum_n']}"),
        ("mean multiplicity", f"{numbers['mean']!r}"),
        ("  statistical error", f"{numbers['error']:.4f}"),
        ("mean pT", f"{numbers['mean_pt']:.4f} GeV/c"),
        ("largest multiplicity", f"{len(result['multiplicity']) - 1}"),
    ]


def draw(result: dict[str, Any], out: Path) -> None:
    """Write the figure to ``out``; the same result gives the same picture."""
    numbers = statistics(result)
    style: Any = {"font.size": 10.5, "axes.labelsize": 11.5, "figure.dpi": 130}
    style |= {"axes.spines.top": False, "axes.spines.right": False}
    with plt.rc_context(style):
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
        _multiplicity(left, result, numbers)
        _spectrum(right, result, numbers)
        figure.suptitle(
            f"{result['generator']} · {result['process']} · {result['events']:,} events",
            fontsize=13,
            fontweight="bold",
        )
        figure.supxlabel(
            f"{_pretty(result['selection'])} · statistical errors · seeds {result['seeds'][0]}–{result['seeds'][-1]}",
            fontsize=9,
            color=GREY,
        )
        figure.savefig(out, metadata={"Software": None})
        plt.close(figure)


def _pretty(selection: str) -> str:
    return selection.replace("|eta|", r"$|\eta|$").replace("pT", r"$p_\mathrm{T}$").replace("/c", "/$c$")


def _multiplicity(axes: Any, result: dict[str, Any], numbers: dict[str, float]) -> None:
    events, points = result["events"], [(n, c) for n, c in enumerate(result["multiplicity"]) if c]
    probability = [count / events for _, count in points]
    # An upper bar as long as the value itself would reach zero downwards, which a log axis has not.
    errors = [math.sqrt(count) / events for _, count in points]
    lower = [min(e, 0.999 * p) for e, p in zip(errors, probability, strict=True)]
    axes.errorbar(
        [n for n, _ in points],
        probability,
        [lower, errors],
        fmt="o",
        ms=3.2,
        lw=0.9,
        color=BLUE,
        ecolor="#9dbbdc",
    )
    axes.axvline(numbers["mean"], color=RED, lw=1.2, ls=(0, (5, 3)))
    axes.text(
        0.97,
        0.94,
        rf"$\langle N_{{\mathrm{{ch}}}}\rangle = {numbers['mean']:.3f} \pm {numbers['error']:.3f}$",
        transform=axes.transAxes,
        ha="right",
        va="top",
        color=RED,
        fontsize=12,
    )
    axes.set(xlabel=r"charged multiplicity $N_{\mathrm{ch}}$", ylabel=r"$P(N_{\mathrm{ch}})$", yscale="log")
    axes.set_ylim(0.4 / events, None)
    axes.set_xlim(-1, None)
    axes.grid(visible=True, which="major", color="#ececec", lw=0.8)


def _spectrum(axes: Any, result: dict[str, Any], numbers: dict[str, float]) -> None:
    edges, events = result["pt_edges"], result["events"]
    bins = [(a, b, c) for a, b, c in zip(edges, edges[1:], result["pt"], strict=False) if c]
    middle = [math.sqrt(a * b) for a, b, _ in bins]
    value = [c / events / (b - a) for a, b, c in bins]
    error = [min(math.sqrt(c), 0.999 * c) / events / (b - a) for a, b, c in bins]
    width = [
        [m - a for m, (a, _, _) in zip(middle, bins, strict=True)],
        [b - m for m, (_, b, _) in zip(middle, bins, strict=True)],
    ]
    axes.errorbar(middle, value, error, width, fmt="o", ms=3.2, lw=0.9, color=BLUE, ecolor="#9dbbdc")
    axes.text(
        0.97,
        0.94,
        rf"$\langle p_{{\mathrm{{T}}}}\rangle = {numbers['mean_pt']:.3f}$ GeV/$c$",
        transform=axes.transAxes,
        ha="right",
        va="top",
        color=RED,
        fontsize=12,
    )
    axes.set(
        xlabel=r"$p_{\mathrm{T}}$ (GeV/$c$)",
        ylabel=r"$1/N_{\mathrm{ev}}\;\mathrm{d}N_{\mathrm{ch}}/\mathrm{d}p_{\mathrm{T}}$  (GeV/$c$)$^{-1}$",
        xscale="log",
        yscale="log",
    )
    axes.set_ylim(min(value, default=1) / 4, max(value, default=1) * 3)
    ticks = [0.2, 0.5, 1, 2, 5, 10, 20]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(visible=True, which="major", color="#ececec", lw=0.8)


def main(arguments: list[str]) -> int:
    """Write the picture, and the table if asked; exit code 2 when arguments or input are wrong."""
    if len(arguments) not in (2, 3):
        print("usage: plot.py MERGED.json OUT.png [TABLE.txt]", file=sys.stderr)
        return 2
    try:
        result = json.loads(Path(arguments[0]).read_text())
        lines = rows(result)
    except (OSError, ValueError, KeyError, ZeroDivisionError) as error:
        print(f"plot: {arguments[0]} is no merged result: {error!r}", file=sys.stderr)
        return 2
    draw(result, Path(arguments[1]))
    table = Table(title="PYTHIA production", show_header=False)
    for line in lines:
        table.add_row(*line)
    Console().print(table)
    if len(arguments) == 3:
        Path(arguments[2]).write_text("".join(f"{name:<22} {value}\n" for name, value in lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
