"""Photographs with coloured bars over them: is the photograph found, or are other bars? And if bars are ignored.

    python benchmarks/bars.py --data DIR --output OUT

DIR holds `photos/`. Bars are drawn over every tenth photograph. These pictures are asked for among all photographs, and
among as many other pictures with the same bars: as they are, with the bars ignored, and with the focus on the widest
part between two bars. The jobs run through ./submit.sh with seeded weights (or `--weights`). Prints a table of
docs/quality.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw
from quality import EVERY, SIDE, photographs, row, say, submit, table
from scipy.stats import binomtest

from dedup import pixels, storage
from dedup.distances import METRICS

BARS = {"red": 0.02, "lime": 0.12, "blue": 0.22, "yellow": 0.62, "magenta": 0.88}
"""Where bars begin, in parts of the width, by colour."""

WIDTH = 0.08
PLACES = (1, 5, 10)
BOXES = [f"{left:g},0,{WIDTH:g},1" for left in BARS.values()]
OPEN = f"{0.22 + WIDTH:g},0,{0.62 - 0.22 - WIDTH:g},1"
"""The part between the blue bar and the yellow one."""

WAYS = {
    "as it is": [],
    "bars ignored": [word for box in BOXES for word in ("--ignore", box)],
    "focus between two bars": ["--focus", OPEN],
}


def barred(photo: Path) -> Image.Image:
    """Return a photograph with bars over it."""
    image = pixels.open_upright(storage.read(str(photo)))
    image.thumbnail((SIDE, SIDE))
    draw = ImageDraw.Draw(image)
    for colour, left in BARS.items():
        edges = round(left * image.width), 0, round((left + WIDTH) * image.width) - 1, image.height
        draw.rectangle(edges, fill=colour)
    return image


def main() -> None:
    """Draw bars, run the jobs, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--weights", default="seeded")
    options = parser.parse_args()
    data, output = options.data.resolve(), options.output.resolve()
    photos = photographs(data)
    asked, hidden = photos[::EVERY], photos[EVERY // 2 :: EVERY]
    for name, some in (("asked", asked), ("hidden", hidden)):
        (output / name).mkdir(parents=True, exist_ok=True)
        for number, photo in enumerate(some):
            barred(photo).save(output / name / f"{number:03d}.png", compress_level=1)
    at = ("--table", str(output / "table"), "--features", str(output / "features"))
    for source in (data / "photos", output / "hidden"):
        submit("ingest", "--images", str(source), "--table", str(output / "table"))
    submit("extract", *at, "--weights", options.weights)
    polled = [f"poll, first {first}" for first in PLACES]
    say(row("the query", *polled, *[f"{metric}, first {PLACES[-1]}" for metric in METRICS], "bars first"))
    say(row("---", *["---:"] * (len(PLACES) + len(METRICS) + 1)))
    for way, words in WAYS.items():
        report = output / way.replace(" ", "-")
        words = [*words, "--top", str(PLACES[-1]), "--report", str(report)]
        submit("query", "--features", str(output / "features"), "--query", str(output / "asked"), *words)
        say(row(way, *found(report, asked, output)))


def found(report: Path, asked: list[Path], output: Path) -> list[str]:
    """Return in how many answers the photograph itself is, by method and place, and how many begin with other bars."""
    columns = ["query", "rank", "paths", *(f"{metric}_place" for metric in METRICS)]
    rows = table(report, "results", columns)
    places: dict[str, list[int | None]] = {name: [] for name in ("poll", *METRICS)}
    fooled = 0
    for number, photo in enumerate(asked):
        mine = [one for one in rows if one["query"] == str(output / "asked" / f"{number:03d}.png")]
        own = next((one for one in mine if str(photo) in one["paths"]), {})
        places["poll"].append(own.get("rank"))
        for metric in METRICS:
            places[metric].append(own.get(f"{metric}_place"))
        fooled += any(one["rank"] == 1 and str(output / "hidden") in one["paths"][0] for one in mine)
    cells = []
    for first in PLACES:
        hits = _among(places["poll"], first)
        interval = binomtest(hits, len(asked)).proportion_ci(method="wilson")
        cells.append(f"{hits / len(asked):.2f} ({interval.low:.2f}-{interval.high:.2f})")
    cells += [f"{_among(places[metric], PLACES[-1]) / len(asked):.2f}" for metric in METRICS]
    return [*cells, f"{fooled / len(asked):.2f}"]


def _among(places: list[int | None], first: int) -> int:
    return sum(place is not None and place <= first for place in places)


if __name__ == "__main__":
    main()
