"""Histograms as pictures that stand inside a page, in the page's own colours, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from numpy.typing import NDArray

_BINS = 60
_LOWEST = 1e-4  # the share at the foot of the picture

_COLOURS = ("line", "soft", "ink", "chance", "nearest", "copies")
"""The page's colours by name; while a picture is drawn, a number stands for each."""


def _colour(name: str) -> str:
    return f"#0000{_COLOURS.index(name):02x}"


def histogram(kinds: Mapping[str, NDArray[np.float64]], marks: Mapping[str, float], says: str) -> Markup:
    """Return the histograms of several kinds of pairs in one picture, both axes logarithmic, as an `svg` element.

    Parameters
    ----------
    kinds
        For each kind the distances of its pairs, any shape; the kind is the name of a colour of the page. What is not
        finite is left out; 0 is shown at the left end.
    marks
        Distances that are marked by a line, more than 0: the first one solid, the others broken.
    says
        What the picture shows, for those who do not see it.
    """
    clean = {name: values[np.isfinite(values)].ravel() for name, values in kinds.items()}
    pooled = np.concatenate([*clean.values(), np.array(list(marks.values()))])
    positive = pooled[pooled > 0]
    low, high = (positive.min(), positive.max()) if len(positive) else (0.1, 1.0)
    low = max(low, high * 1e-9)  # rounding errors of equal images would squeeze all others into a corner
    edges = np.geomspace(low / 1.1, high * 1.1, _BINS + 1).tolist()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dedup", "font.size": 8, "axes.linewidth": 0.6}):
        figure = Figure(figsize=(4.4, 2.1), layout="tight")
        axes = figure.add_subplot(xscale="log", yscale="log", xlim=(edges[0], edges[-1]), ylim=(_LOWEST, 1))
        for name, values in clean.items():
            shares = np.full(len(values), 1 / max(1, len(values)))
            colour, where = _colour(name), np.clip(values, low, high)
            axes.hist(where, edges, weights=shares, histtype="stepfilled", alpha=0.2, color=colour, gid=f"fill-{name}")
            axes.hist(where, edges, weights=shares, histtype="step", color=colour, gid=f"line-{name}")
        for number, (name, mark) in enumerate(marks.items()):
            axes.axvline(max(mark, low), color=_colour("ink"), linestyle="--" if number else "-", gid=f"mark-{name}")
        axes.tick_params(which="both", color=_colour("line"), labelcolor=_colour("soft"))
        axes.spines[:].set_color(_colour("line"))
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        axes.xaxis.set_major_formatter(LogFormatter())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _for_page(file.getvalue(), says)


def _for_page(svg: str, says: str) -> Markup:
    """Return a file of SVG as an element that takes the width that it is given, and its colours from the page."""
    drawn = svg[svg.index("<svg") :]
    for name in _COLOURS:
        drawn = drawn.replace(_colour(name), f"var(--{name})")
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", drawn).replace("xlink:href", "href")  # a page needs no namespaces
    drawn = drawn.replace("<g id=", "<g class=")  # there are several pictures in a page
    inside = re.sub(r'\s(width|height)="[\d.]+pt"', "", drawn.partition(">")[0], count=2)
    return Markup(f'{inside} role="img" aria-label="{Markup.escape(says)}">') + Markup(drawn.partition(">")[2])
