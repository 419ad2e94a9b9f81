"""How well are copies found? Measured on real photographs, labelled copies, and altered copies of the photographs.

    python benchmarks/quality.py --data DIR --output OUT

DIR holds `photos/`, `copies/`, `nasty/exif-orientation/` (of `nasty/`, that is what labels name) and `labels.csv`
(query_path, duplicate_path, relation; paths below DIR).
Every tenth photograph is altered in every way of `dedup.edits`. The jobs run through ./submit.sh with seeded weights
(or `--weights`); then all pairs of contents are measured here, by brute force, so that every metric alone can be held
against the poll at the same number of false pairs. Prints the tables of docs/quality.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pyarrow.dataset as ds
from numpy.typing import NDArray
from scipy.stats import binomtest
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "lib"))

from dedup import labels, pixels, storage, thresholds  # noqa: E402 - the library is beside this file, not installed
from dedup.distances import METRICS, distances  # noqa: E402
from dedup.edits import EDITS  # noqa: E402

EVERY = 10
SAMPLE = 200
SIDE = 1024
FALSE = (0, 10, 100)

Distances = dict[str, NDArray[np.float64]]


def say(line: str = "") -> None:
    """Write a line."""
    sys.stdout.write(line + "\n")


def photographs(data: Path) -> list[Path]:
    """Return the photographs, in order."""
    endings = {".jpg", ".jpeg", ".png"}
    return sorted(path for path in (data / "photos").rglob("*") if path.suffix.lower() in endings)


def alter(photos: list[Path], folder: Path) -> dict[str, tuple[str, str]]:
    """Write altered copies; return by path the photograph that each was made of, and how."""
    made: dict[str, tuple[str, str]] = {}
    for photo in tqdm(photos, desc="alter"):
        image = pixels.open_upright(storage.read(str(photo)))
        image.thumbnail((SIDE, SIDE))
        for name, edit in EDITS.items():
            path = folder / name / f"{photo.stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                edit(image).save(path, compress_level=1)
            made[str(path)] = (str(photo), name)
    return made


def submit(*words: str) -> None:
    """Run a job."""
    subprocess.run([str(ROOT / "submit.sh"), *words], check=True)


def table(location: Path, name: str, columns: list[str]) -> list[dict[str, Any]]:
    """Return the rows of a table's newest parts that are whole."""
    parts = sorted(mark.parent for mark in (location / name).glob("part=*/_SUCCESS"))
    last = max((i for i, part in enumerate(parts) if part.name.endswith("-all")), default=0)
    files = [str(file) for part in parts[last:] for file in part.rglob("*.parquet")]
    rows: list[dict[str, Any]] = ds.dataset(files, format="parquet").to_table(columns=columns).to_pylist()
    return rows


def pairs(vectors: NDArray[np.float32]) -> Iterator[tuple[int, Distances]]:
    """Return for each row its distances to all later ones."""
    for i in tqdm(range(len(vectors) - 1), desc="measure all pairs"):
        yield i, {name: found[:, 0] for name, found in distances(vectors[i + 1 :], vectors[i : i + 1]).items()}


def row(*cells: object) -> str:
    """Return a row of a table in Markdown."""
    return "| " + " | ".join(map(str, cells)) + " |"


def interval(value: float, low: float, high: float, sign: str = "") -> str:
    """Return a figure and its interval, both with a sign where it is a difference."""
    said = [f"{one + 0.0:{sign}.3f}" for one in (value, low, high)]  # no minus before a zero; one before less than it
    return f"{said[0]} ({said[1]} to {said[2]})" if sign else f"{said[0]} ({said[1]}-{said[2]})"


def main() -> None:
    """Alter, run the jobs, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--weights", default="seeded")
    options = parser.parse_args()
    data, output = options.data.resolve(), options.output.resolve()

    photos = photographs(data)
    made = alter(photos[::EVERY], output / "altered")
    at = ("--table", str(output / "table"), "--features", str(output / "features"))
    limits = output / "calibration" / "thresholds.json"
    submit("ingest", "--images", str(data / "photos"), "--table", str(output / "table"))
    submit("extract", *at, "--weights", options.weights)
    # Thresholds are made from the photographs alone: the others are what is to be found.
    if not limits.exists():
        submit("calibrate", *at, "--output", str(limits.parent), "--sample", str(SAMPLE))
    for source in (data / "copies", data / "nasty" / "exif-orientation", output / "altered"):
        submit("ingest", "--images", str(source), "--table", str(output / "table"))
    submit("extract", *at, "--weights", options.weights)
    found = ("--output", str(output / "duplicates"), "--thresholds", str(limits))
    submit("deduplicate", "--features", str(output / "features"), *found)
    report(data, output, made)


def report(data: Path, output: Path, made: dict[str, tuple[str, str]]) -> None:
    """Measure all pairs by brute force, and print the tables."""
    rows = table(output / "features", "features", ["sha256", "features"])
    number = {str(one["sha256"]): i for i, one in enumerate(rows)}
    vectors = np.stack([np.frombuffer(one["features"], "<f4") for one in rows])
    content = {
        str(one["path"]): number.get(str(one["sha256"]))
        for one in table(output / "features", "images", ["path", "sha256"])
    }

    labelled = [(one.query, one.duplicate, one.relation) for one in labels.read(str(data / "labels.csv"))]
    true: dict[tuple[int, int], str] = {}
    same = nx.Graph()
    for one, other, kind in chain(((photo, copy, kind) for copy, (photo, kind) in made.items()), labelled):
        left, right = content.get(one), content.get(other)
        if left is not None and right is not None:
            same.add_edge(left, right)
            if left != right:
                true[min(left, right), max(left, right)] = kind if other in made else f"label: {kind}"
    source = {node: place for place, nodes in enumerate(nx.connected_components(same)) for node in nodes}
    sources = np.array([source.get(i, -1 - i) for i in range(len(rows))])

    within = thresholds.load(str(output / "calibration" / "thresholds.json"))
    alone = json.loads((output / "calibration" / "calibration.json").read_text())
    far: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    near: dict[tuple[int, int], dict[str, float]] = {}
    for i, measured in pairs(vectors):
        others = np.arange(i + 1, len(vectors))
        measured["poll"] = np.sort([measured[name] / within.within[name] for name in METRICS], axis=0)[within.votes - 1]
        different = sources[others] != sources[i]
        low = different & (np.min([measured[name] / within.within[name] for name in METRICS], axis=0) < 8)
        for name in (*METRICS, "poll"):
            far[name].append(measured[name][low])
        for j in np.flatnonzero(~different):
            if (i, i + 1 + int(j)) in true:
                near[i, i + 1 + int(j)] = {name: float(measured[name][j]) for name in (*METRICS, "poll")}
    count = len(vectors) * (len(vectors) - 1) // 2
    say(
        f"{len(rows):,} contents, {count:,} pairs, {len(true):,} true pairs of {len(set(true.values()))} kinds; "
        f"{within.made}"
    )
    photos = sorted({i for path, i in content.items() if path.startswith(str(data / "photos")) and i is not None})
    widened = _widened(vectors[photos], thresholds.defaults())
    say(f"by the default thresholds, widened {widened:.2f} times, two photographs are near")
    curve(near, {name: np.sort(np.concatenate(values)) for name, values in far.items()}, true, within, alone)
    groups(data, output, content, sources)


def _widened(vectors: NDArray[np.float32], within: thresholds.Thresholds) -> float:
    """Return by how much thresholds must be widened for any two vectors to be near."""
    measured = distances(vectors, vectors)
    scores = np.sort([measured[name] / within.within[name] for name in METRICS], axis=0)[within.votes - 1]
    return float(scores[np.triu_indices(len(vectors), 1)].min())


def curve(
    near: dict[tuple[int, int], dict[str, float]],
    far: dict[str, NDArray[np.float64]],
    true: dict[tuple[int, int], str],
    within: thresholds.Thresholds,
    alone: dict[str, Any],
) -> None:
    """Print recall by kind: at the calibrated thresholds, and at the same number of false pairs for all."""
    names = (*METRICS, "poll")
    kinds = sorted(
        set(true.values()),
        key=lambda kind: (kind.startswith("label"), list(EDITS).index(kind) if kind in EDITS else 0, kind),
    )
    own = {name: float(alone["alone"][name]["within"]["value"]) for name in METRICS} | {"poll": 1.0}
    for title, limit in [
        ("calibrated", own),
        *(
            (f"{number} false pairs", {name: float(np.nextafter(far[name][number], 0)) for name in names})
            for number in FALSE
        ),
    ]:
        say(f"\n### {title}\n")
        say(row("kind", "pairs", *names))
        say(row("---", *["---:"] * (1 + len(names))))
        for kind in [*kinds, "all"]:
            some = [near[pair] for pair in near if kind in ("all", true[pair])]
            hits = {name: sum(one[name] <= limit[name] for one in some) for name in names}
            likely = binomtest(hits["poll"], len(some)).proportion_ci(method="wilson")
            share = [f"{hits[name] / len(some):.2f}" for name in names]
            share[-1] += f" ({likely.low:.2f}-{likely.high:.2f})"
            say(row(kind, len(some), *share))
        say(row("false pairs", "", *[int((far[name] <= limit[name]).sum()) for name in names]))


def groups(data: Path, output: Path, content: dict[str, int | None], sources: NDArray[np.int64]) -> None:
    """Print how right the manifest is: of the files dropped or under review, how many are of their keeper's source.

    And which are not.
    """
    wrong_ones: list[tuple[str, ...]] = []
    columns = ["path", "keeper", "action", "method", "reason"]
    counts: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for one in table(output / "duplicates", "manifest", columns):
        if one["action"] != "keep":
            file, keeper = content[str(one["path"])], content[str(one["keeper"])]
            assert file is not None
            assert keeper is not None
            right = sources[file] == sources[keeper]
            if not right:
                names = [_below(Path(str(one[end])), data, output) for end in ("path", "keeper")]
                wrong_ones.append((*names, str(one["action"])))
            counts[str(one["action"]), str(one["method"]), str(one["reason"]) if one["action"] == "review" else ""][
                int(right)
            ] += 1
    say("\n### The manifest\n")
    say(row("action", "method", "reason", "right", "wrong"))
    say(row("---", "---", "---", "---:", "---:"))
    for key, (wrong, right) in sorted(counts.items()):
        say(row(*key, right, wrong))
    say()
    say(row("counts as wrong", "its keeper", "action"))
    say(row("---", "---", "---"))
    for one in sorted(wrong_ones):
        say(row(*one))


def _below(path: Path, *folders: Path) -> str:
    return str(path.relative_to(next(folder for folder in folders if path.is_relative_to(folder))))


if __name__ == "__main__":
    main()
