"""Which p for Minkowski, raw or unit vectors, and which way to count votes? Copies are asked for among photographs.

    python benchmarks/quality.py --data DIR --output OUT     # before: makes copies and features
    python benchmarks/metrics.py --data DIR --output OUT

Each altered copy of every tenth photograph, and each copy that `labels.csv` names, is hidden alone among all
photographs (and the other images that labels ask for), by brute force; no natural copies are left out. Prints tables of
docs/quality.md: the share of copies among the first 1, 5 and 10 images, the micro average precision, and how much more
of the same copies is found than by the poll with raw vectors, with 95 % intervals.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from quality import EVERY, alter, interval, photographs, row, say, table

from dedup import labels, ranks
from dedup.distances import METRICS, distances
from dedup.limits import Interval
from dedup.ranks import ALL, PLACES, POLL, Copies, Others

ORDERS = (1.5, 2.0, 3.0, 4.0, 6.0, 10.0)

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Lake:
    """Photographs, and copies of some of them."""

    photos: Vectors
    asked: NDArray[np.intp]  #: which photograph each copy is of
    copies: Vectors
    kinds: NDArray[np.str_]
    equal: NDArray[np.intp]  #: shape (photographs,): those of equal vectors have one number
    group: NDArray[np.intp]  #: shape (photographs,): those that are copies of each other have one number

    def unit(self) -> Lake:
        """Return the same with vectors of length 1."""
        photos, copies = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (self.photos, self.copies))
        return Lake(photos, self.asked, copies, self.kinds, self.equal, self.group)


def load(data: Path, output: Path) -> tuple[Lake, Lake]:
    """Return the altered copies, and the labelled ones."""
    rows = table(output / "features", "features", ["sha256", "features"])
    vector = {str(one["sha256"]): np.frombuffer(one["features"], "<f4") for one in rows}
    files = table(output / "features", "images", ["path", "sha256"])
    of = {str(one["path"]): vector[str(one["sha256"])] for one in files if str(one["sha256"]) in vector}
    photos = photographs(data)
    made = alter(photos[::EVERY], output / "altered")
    known = [str(photo) for photo in photos if str(photo) in of]
    altered = [(photo, copy, kind) for copy, (photo, kind) in made.items() if photo in of and copy in of]
    named = labels.read(str(data / "labels.csv"))
    pairs = [(one.query, one.duplicate, one.relation) for one in named if one.query in of and one.duplicate in of]
    pairs = [one for one in pairs if not np.array_equal(of[one[0]], of[one[1]])]
    return _lake(of, known, altered), _lake(of, [*known, *sorted({query for query, _, _ in pairs})], pairs)


def _lake(of: dict[str, Vectors], names: list[str], pairs: list[tuple[str, str, str]]) -> Lake:
    place = {name: i for i, name in enumerate(names)}
    vectors = np.stack([of[name] for name in names])
    asked = np.array([place[query] for query, _, _ in pairs], np.intp)
    _, equal = np.unique(vectors, axis=0, return_inverse=True)
    copied = nx.Graph((query, copy) for query, copy, _ in pairs)
    copied.add_nodes_from(names)
    source = {name: number for number, some in enumerate(nx.connected_components(copied)) for name in some}
    group = np.array([source[name] for name in names])
    copies, kinds = np.stack([of[copy] for _, copy, _ in pairs]), np.array([kind for _, _, kind in pairs])
    return Lake(vectors, asked, copies, kinds, equal, group)


def hidden(lake: Lake, p: float) -> tuple[Others, Copies]:
    """Measure all photographs and all copies against those that are asked for."""
    images, image = np.unique(lake.asked, return_inverse=True)
    near = np.stack(list(distances(lake.photos, lake.photos[images], p).values()), axis=-1).swapaxes(0, 1)
    for number in (lake.equal, lake.group):
        near[number[images][:, None] == number[None, :]] = np.inf
    own = [distances(lake.copies[i : i + 1], lake.photos[at : at + 1], p) for i, at in enumerate(lake.asked)]
    mine = np.array([[found[metric][0, 0] for metric in METRICS] for found in own])
    named = np.isfinite(near)
    others = Others.around(near, named, np.zeros(named.shape[:2], bool), whole=True, group=lake.group[images])
    return others, Copies(image, lake.kinds, mine)


def cells(
    others: Others, copies: Copies, methods: tuple[str, ...], polled: NDArray[np.bool_]
) -> Iterator[tuple[str, list[str]]]:
    """Return for each method its recall, its precision, and what it finds more than the poll, of all copies."""
    recall, curves = ranks.recall(others, copies)[ALL], ranks.curves(others, copies)[ALL]
    hit, group = ranks.found(others, copies, PLACES[-1]), others.group[copies.image]
    for method in methods:
        figures = [_interval(recall[method][first]) for first in PLACES]
        figures.append(_interval(curves[method].average) if method in curves else "")
        yield method, [*figures, _interval(ranks.more(hit[method], polled, group), "+")]


def _interval(one: Interval, sign: str = "") -> str:
    return interval(one.value, one.low, one.high, sign)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    last = PLACES[-1]
    heads = [*(f"first {first}" for first in PLACES), "average precision", f"more than the raw poll, first {last}"]
    for name, lake in zip(
        ("altered copies", "labelled copies"), load(options.data.resolve(), options.output.resolve()), strict=True
    ):
        say(f"\n### {name}: {len(lake.asked):,} of {len(set(lake.asked.tolist()))} images among {len(lake.photos):,}\n")
        say(row("vectors", "what orders", *heads))
        say(row("---", "---", *["---:"] * len(heads)))
        others, copies = hidden(lake, 3.0)
        polled = ranks.found(others, copies, last)[POLL]
        for vectors, asked in (("raw", (others, copies)), ("unit", hidden(lake.unit(), 3.0))):
            for method, figures in cells(*asked, (*METRICS, *ranks.RULES), polled):
                say(row(vectors, method, *figures))
        for p in ORDERS:
            for _, figures in cells(*hidden(lake, p), ("minkowski",), polled):
                say(row("raw", f"minkowski, p = {p:g}", *figures))
        say(f"\nOf raw vectors, the metrics are {ranks.agreement(others).opinions:.2f} independent opinions.")


if __name__ == "__main__":
    main()
