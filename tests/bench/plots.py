"""The plots of the document, as SVG that is the same for the same figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

Line = Sequence[tuple[float, float]]
_STYLE: dict[Any, Any] = {"svg.hashsalt": "updated", "svg.fonttype": "none", "font.size": 9}
_MARKERS = "os^Dv*"


def plot(
    path: Path, lines: Mapping[str, Line], *, x: str, y: str, logarithmic: bool = False, diagonal: str = ""
) -> None:
    """Draws `lines` by name. `diagonal` names a line of what changed itself, for comparison."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for (name, points), marker in zip(lines.items(), _MARKERS, strict=False):
            axes.plot([point[0] for point in points], [point[1] for point in points], marker=marker, label=name)
        if diagonal:
            ends = sorted({point[0] for points in lines.values() for point in points})
            axes.plot(ends, ends, linestyle=":", color="grey", label=diagonal)
        if logarithmic:
            axes.set_xscale("log", base=2)
            axes.set_yscale("log", base=2)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter("{x:g}")
        else:
            axes.set_ylim(bottom=0)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
