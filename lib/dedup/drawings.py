"""Histograms and curves as pictures that stand inside a page, in the page's own colours, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from numpy.typing import NDArray

from dedup.distances import METRICS

_BINS = 60
_STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "dedup", "font.size": 8, "axes.linewidth": 0.6}
_LOWEST = 1e-4  # the share at the foot of the picture

_COLOURS = ("line", "soft", "ink", "chance", "nearest", "copies", *METRICS, "poll")
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
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.4, 2.1), layout="tight")
        axes = figure.add_subplot(xscale="log", yscale="log", xlim=(edges[0], edges[-1]), ylim=(_LOWEST, 1))
        for name, values in clean.items():
            shares = np.full(len(values), 1 / max(1, len(values)))
            colour, where = _colour(name), np.clip(values, low, high)
            axes.hist(where, edges, weights=shares, histtype="stepfilled", alpha=0.2, color=colour, gid=f"fill-{name}")
            axes.hist(where, edges, weights=shares, histtype="step", color=colour, gid=f"line-{name}")
        for number, (name, mark) in enumerate(marks.items()):
            axes.axvline(max(mark, low), color=_colour("ink"), linestyle="--" if number else "-", gid=f"mark-{name}")
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        axes.xaxis.set_major_formatter(LogFormatter())
        return _for_page(figure, axes, says)


def curves(lines: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]], says: str) -> Markup:
    """Return curves from 0 to 1 in both directions in one picture, as an `svg` element.

    Parameters
    ----------
    lines
        For each name, which is that of a colour of the page, what goes to the right and what goes upwards, both of
        shape (points,). The last one is drawn over the others, and thicker.
    says
        What the picture shows, for those who do not see it.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.4, 2.6), layout="tight")
        axes = figure.add_subplot(xlim=(0, 1.01), ylim=(0, 1.03))
        *_, last = lines
        for name, (x, y) in lines.items():
            width = 1.8 if name == last else 0.9
            axes.plot(x, y, color=_colour(name), linewidth=width, gid=f"curve-{name}")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        return _for_page(figure, axes, says)


def _for_page(figure: Figure, axes: Axes, says: str) -> Markup:
    """Return a figure as an element that takes the width that it is given, and its colours from the page."""
    axes.tick_params(which="both", color=_colour("line"), labelcolor=_colour("soft"))
    axes.spines[:].set_color(_colour("line"))
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    drawn = svg[svg.index("<svg") :]
    for name in _COLOURS:
        drawn = drawn.replace(_colour(name), f"var(--{name})")
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", drawn).replace("xlink:href", "href")  # a page needs no namespaces
    drawn = drawn.replace("<g id=", "<g class=")  # there are several pictures in a page
    inside = re.sub(r'\s(width|height)="[\d.]+pt"', "", drawn.partition(">")[0], count=2)
    return Markup(f'{inside} role="img" aria-label="{Markup.escape(says)}">') + Markup(drawn.partition(">")[2])
