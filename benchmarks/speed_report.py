"""What was measured, as a table, a plot, and text between marks. Figures are those of speed.json. No processes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

Figures = Mapping[str, Any]

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"

_INK = "#7f7f7f"  # is read on white and on black
_OURS, _OTHERS = "#2a9d8f", "#b0875a"
_PRECISE = "DeDup, "  # begins the names of ours, where there are several, in one precision each
_KINDS = {"JVM": "JVM", "driver's Python": "driver", "Python worker": "worker"}


def value(unit: str, answer: Figures) -> float:
    """Return an answer in the unit of its comparison.

    >>> value("images/s", {"seconds": 4, "count": 8}), value("s", {"seconds": 4, "count": 8})
    (2.0, 4.0)
    """
    seconds = float(answer["seconds"])
    return answer["count"] / seconds if unit == "images/s" else seconds


def values(unit: str, contestant: Figures) -> list[float]:
    """Return a contestant's values, one for each round that it has finished."""
    return [value(unit, answer) for answer in contestant["answers"] if answer]


def ratio(unit: str, ours: Figures, other: Figures) -> float | None:
    """Return how many times as long as ours another one takes: the median of the rounds that both have finished.

    Those of one round ran within minutes of each other, under the same load of the machine.
    """
    rounds = [
        value(unit, mine) / value(unit, theirs) if unit == "images/s" else value(unit, theirs) / value(unit, mine)
        for mine, theirs in zip(ours["answers"], other["answers"], strict=True)
        if mine and theirs
    ]
    return median(rounds) if rounds else None


def number(value: float) -> str:
    """Return a number with three digits that count.

    >>> number(0.012345), number(3.14159), number(12.345), number(1234.5)
    ('0.0123', '3.14', '12.3', '1,234')
    """
    if value >= 1:
        return f"{value:,.{max(0, 3 - len(f'{value:.0f}'))}f}"
    return f"{value:#.3g}"


def table(comparisons: Sequence[Figures]) -> str:
    """Return the table of all comparisons in Markdown; where there are several of ours, with the ratio to each."""
    lines = ["| | | median | lowest to highest | times as long as DeDup |", "|---|---|---:|---:|---:|"]
    for comparison in comparisons:
        unit, title = comparison["unit"], comparison["title"]
        first, *others = comparison["contestants"]
        ours = [first, *(one for one in others if one["name"].startswith(_PRECISE))]
        for contestant in comparison["contestants"]:
            found = values(unit, contestant)
            if found:
                times = [ratio(unit, one, contestant) for one in ours]
                spread = f"{number(min(found))} to {number(max(found))}" if len(found) > 1 else ""
                shown = " · ".join("" if one is None else f"{one:.2f}" for one in times)
                cells = [f"{number(median(found))} {unit}", spread, shown]
            else:
                cells = [f"failed: {contestant['error']}".replace("|", "\\|"), "", ""]
            name = f"**{contestant['name']}**" if contestant in ours else contestant["name"]
            lines.append("| " + " | ".join([title, name, *cells]) + " |")
            title = ""
    return "\n".join(lines) + "\n"


def notes(comparisons: Sequence[Figures]) -> str:
    """Return what each contestant is, one line for each that was there."""
    about: dict[str, str] = {}
    for comparison in comparisons:
        for contestant in comparison["contestants"]:
            about.setdefault(contestant["about"], f"{comparison['row']}, **{contestant['name']}**")
    return "".join(f"- {name}: {text}\n" for text, name in about.items())


def memory_table(memory: Sequence[Figures]) -> str:
    """Return the table of peaks of memory in Markdown; nothing if none was measured."""
    if not memory:
        return ""
    lines = [f"| job | of | {' | '.join(_KINDS.values())} |", f"|---|---|{'---:|' * len(_KINDS)}"]
    for one in memory:
        if one["error"]:
            sizes = [f"failed: {one['error']}", "", ""]
        else:
            sizes = [f"{one['peaks'][kind] / 1e9:.2f} GB" for kind in _KINDS]
        lines.append("| " + " | ".join([one["job"], one["of"], *sizes]) + " |")
    return "\n".join(lines) + "\n"


def machine(figures: Figures) -> str:
    """Return what it was measured on, in one sentence."""
    on, versions = figures["machine"], figures["versions"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{on['cores']} cores of {on['processor']}, {on['memory'] / 1e9:.0f} GB of memory, {on['system']}; "
        f"{figures['date']}, commit {figures['commit']}; {named}.\n"
    )


def between(text: str, inside: str) -> str:
    """Return a text with what stands between its marks replaced.

    Raises
    ------
    ValueError
        If the marks are not there, once and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after or END in before:
        raise ValueError(f"no place marked by {BEGIN} and {END}, or several")
    shown = f"\n{inside.strip()}\n\n" if inside.strip() else ""
    return f"{before}{BEGIN}\n{shown}{END}{after}"


def plot(comparisons: Sequence[Figures], format: str = "svg", background: str = "none") -> bytes:
    """Return the ratios as bars, a panel for each comparison, readable on light and dark pages."""
    drawn = [(one, _bars(one)) for one in comparisons]
    drawn = [(one, bars) for one, bars in drawn if bars]
    longest = max((times for _, bars in drawn for _, times, _ in bars), default=1.0)
    shortest = min((times for _, bars in drawn for _, times, _ in bars), default=1.0)
    heights = [len(bars) for _, bars in drawn] or [1]
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dedup", "font.size": 9, "axes.linewidth": 0.6}):
        figure = Figure(figsize=(8, 0.26 * sum(heights) + 0.3 * len(heights) + 0.6), layout="constrained")
        panels = figure.subplots(max(1, len(drawn)), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
        for axes, (comparison, bars) in zip(panels, drawn, strict=False):
            axes.set_facecolor("none")
            axes.set_xscale("log")
            axes.set_xlim(shortest / 1.3, longest * 4)
            axes.set_ylim(len(bars) - 0.5, -0.5)  # the first above, and all bars of all panels equally thick
            colours = [_OURS if name.startswith("DeDup") else _OTHERS for name, _, _ in bars]
            # Bars begin at ours: to the right is slower, to the left faster.
            axes.barh(range(len(bars)), [times - 1 for _, times, _ in bars], left=1, color=colours, height=0.7)
            axes.plot([1], [0], marker="D", color=_OURS, markersize=5)
            for place, (_, times, said) in enumerate(bars):
                axes.annotate(said, (max(times, 1), place), (6, 0), textcoords="offset points", va="center", color=_INK)
            axes.axvline(1, color=_OURS, linewidth=1)
            axes.set_yticks(range(len(bars)), [name for name, _, _ in bars])
            axes.set_title(comparison["title"], loc="left", color=_INK, fontsize=9, fontweight="bold")
            axes.tick_params(which="both", color=_INK, labelcolor=_INK, length=0)
            axes.xaxis.set_major_formatter(lambda times, _: f"{times:g}")
            axes.xaxis.set_minor_formatter(lambda times, _: "")
            axes.spines[:].set_visible(False)
        panels[-1].set_xlabel("times as long as DeDup (logarithmic; to the left of the line is faster)", color=_INK)
        file = io.BytesIO()
        figure.savefig(file, format=format, facecolor=background, metadata={"Date": None} if format == "svg" else None)
    return file.getvalue()


def _bars(comparison: Figures) -> list[tuple[str, float, str]]:
    """Return for each contestant that has a ratio its name, the ratio, and both figures in words."""
    unit, contestants = comparison["unit"], comparison["contestants"]
    found = []
    for contestant in contestants:
        times = ratio(unit, contestants[0], contestant)
        if times is not None:
            middle = f"{number(median(values(unit, contestant)))} {unit}"
            said = middle if contestant is contestants[0] else f"{number(times)} x  ({middle})"
            found.append((contestant["name"], times, said))
    return found
