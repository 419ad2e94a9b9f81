"""What evaluations found, as tables of docs/quality.md.

python benchmarks/evaluated.py OUT/evaluation/evaluation.json OUT/views/evaluation.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from quality import interval, row, say

from dedup.distances import METRICS
from dedup.ranks import ALL, METHODS, PLACES, POLL, RULES


def main() -> None:
    """Print a table for each file."""
    for name in sys.argv[1:]:
        told(json.loads(Path(name).read_text()))


def told(found: dict[str, Any]) -> None:
    """Print what one evaluation found."""
    for note in found["notes"]:
        say(f"\n{note}")
    share = {(one["kind"], one["method"], one["first"]): one for one in found["recall"]}
    average = found["average precision"]
    last = PLACES[-1]
    say(
        f"\n{found['originals']:,} of {found['images']:,} images, {found['copies'][ALL]:,} copies, "
        f"{found['natural']:,} natural copies left out, views: {found['views']}, {found['model']}; "
        f"{found['agreement']['opinions']:.2f} independent opinions\n"
    )
    heads = [f"poll, first {first}" for first in PLACES]
    say(row("copies", "", *heads, *(f"{metric}, first {last}" for metric in METRICS), "average precision, poll"))
    say(row("---", "---:", *["---:"] * (len(heads) + len(METRICS) + 1)))
    for kind, count in found["copies"].items():
        polled = [share[kind, POLL, first] for first in PLACES]
        cells = [f"{one['value']:.2f}" for one in polled[:-1]]
        cells.append(f"{polled[-1]['value']:.2f} ({polled[-1]['low']:.2f}-{polled[-1]['high']:.2f})")
        cells += [f"{share[kind, metric, last]['value']:.2f}" for metric in METRICS]
        say(row(kind, count, *cells, f"{average[kind][POLL]['value']:.2f}"))
    say()
    heads = [*[f"first {first}" for first in PLACES], "average precision", f"more than the poll, first {last}"]
    say(row("all copies, by", *heads))
    say(row("---", *["---:"] * len(heads)))
    for method in (*RULES, *METRICS):
        cells = [_interval(share[ALL, method, first]) for first in PLACES]
        cells.append(_interval(average[ALL][method]) if method in METHODS else "")
        cells.append(_interval(found["more than the poll"][method], "+") if method != POLL else "")
        say(row(method, *cells))


def _interval(one: dict[str, float], sign: str = "") -> str:
    return interval(one["value"], one["low"], one["high"], sign)


if __name__ == "__main__":
    main()
