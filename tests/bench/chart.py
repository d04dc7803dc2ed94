"""The picture of a run: the figures over ipykernel's, for the rows that people ask about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from .environments import PEERS

__all__ = ["draw"]

_TITLES = {
    "execute": "a cell",
    "queued": "queued",
    "kernel_info": "kernel_info",
    "clients": "50 clients",
    "display": "display()",
    "printed": "printed lines",
    "start_cell": "start",
    "memory": "memory",
}
_RATES = {"queued", "clients", "display", "printed"}  # more is better: shown as time for one
_COLOURS = ("#c2410c", "#64748b", "#94a3b8", "#0f766e", "#d4d4d8")
BASE = "ipykernel"


def draw(figures: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Write an SVG: grouped bars, less is better, ipykernel is 1."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams |= {"svg.hashsalt": "trikernel", "svg.fonttype": "none", "font.size": 9}
    keys = list(_TITLES)
    names = [name for name in ("trikernel", *PEERS) if name in figures]
    figure, axes = pyplot.subplots(figsize=(9, 3.4))
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        heights = [_cost(figures, name, key) for key in keys]
        at = [index + (number - (len(names) - 1) / 2) * width for index in range(len(keys))]
        axes.bar(at, heights, width, label=name, color=_COLOURS[number % len(_COLOURS)])
    axes.axhline(1, color="#a1a1aa", linewidth=0.8)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(range(len(keys)), [_TITLES[key] for key in keys])
    axes.set_ylabel(f"time or memory, {BASE} = 1")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(ncols=len(names), frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def _cost(figures: Mapping[str, Mapping[str, float]], name: str, key: str) -> float:
    mine, base = (figures.get(one, {}).get(key, math.nan) for one in (name, BASE))
    return base / mine if key in _RATES else mine / base
