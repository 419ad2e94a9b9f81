"""Deduplicate a synthetic lake, and say what it takes and what it finds.

    python benchmarks/scale.py --rows 92424 --output DIR

Run it with the environment of submit.sh. The lake is drawn once, to DIR/lake-ROWS-COPIES-SEED; each run leaves what
deduplicate makes in a folder of its own. What comes out is a line of the table in docs/scale.md, and one of JSON in
DIR/scale.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset
from numpy.typing import NDArray
from synthetic import BLOCK, MODEL, Lake
from worker_memory import KINDS, watch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "lib"))

from dedup.distances import METRICS, listed  # noqa: E402 - the library is beside this file, not installed
from dedup.thresholds import DEFAULT_VOTES, Thresholds  # noqa: E402

NEAR = 0.12  # the relative distance that thresholds are made at
STAGES = ("sketches", "pairs", "manifest", "report.html")
HEADER = (
    "| rows | search | time | cores | sketches | pairs | manifest | page | JVM | driver | worker "
    "| measured | near planted | found | others near | not near |"
)

Pair = tuple[int, int]


def draw(lake: Lake, copies: int, location: Path, submit: list[str]) -> float:
    """Draw the lake unless it is there; return the seconds that it took."""
    made = location / "_models" / MODEL
    if made.exists() and json.loads(made.read_text())["complete"]:
        return 0.0
    start = time.time()
    script = ["--py-files", str(ROOT / "benchmarks" / "synthetic.py"), "../benchmarks/draw"]
    options = ["--rows", str(lake.rows), "--copies", str(copies), "--seed", str(lake.seed)]
    options += ["--features", str(location)]
    subprocess.run([str(ROOT / "submit.sh"), *submit, *script, *options], check=True)
    return time.time() - start


def thresholds(lake: Lake) -> Thresholds:
    """Return the medians of the distances of vectors at the relative distance NEAR."""
    left, right = lake.drawn(BLOCK, NEAR)
    found = listed(np.concatenate([left, right]), np.arange(BLOCK), BLOCK + np.arange(BLOCK))
    within = {name: float(np.median(values)) for name, values in found.items()}
    return Thresholds(MODEL, DEFAULT_VOTES, within, f"medians of {BLOCK} pairs at a relative distance of {NEAR}")


def near(lake: Lake, pairs: Iterable[Pair], within: Thresholds) -> set[Pair]:
    """Return which pairs of rows are near, measured on their vectors."""
    found: set[Pair] = set()
    iterator = iter(pairs)
    while some := list(islice(iterator, BLOCK)):
        names, at = np.unique(np.array(some), return_inverse=True)
        vectors = np.concatenate([lake.vectors(names[i : i + BLOCK]) for i in range(0, len(names), BLOCK)])
        left, right = at.reshape(-1, 2).T
        votes = within.agreeing(listed(vectors, left, right, within.p))
        found.update(pair for pair, vote in zip(some, votes, strict=True) if vote >= within.votes)
    return found


def table(location: Path, name: str, columns: list[str]) -> dict[str, NDArray[Any]]:
    """Return columns of the last part of a table."""
    part = max((location / name).glob("part=*"))
    read = pyarrow.dataset.dataset(part, format="parquet").to_table(columns=columns)
    return {column: read.column(column).to_numpy() for column in columns}


def judged(lake: Lake, files: int, output: Path, within: Thresholds) -> dict[str, int]:
    """Return how many pairs were planted and found, and what the manifest says."""
    rows = {lake.sha256(row): row for row in range(lake.rows)}
    ends = table(output, "pairs", ["sha256_l", "sha256_r"])
    both = [(rows[left], rows[right]) for left, right in zip(*ends.values(), strict=True)]
    found: set[Pair] = {(min(pair), max(pair)) for pair in both}
    families = list(lake.families())
    planted = {pair for family in families for pair in family.pairs}
    true = near(lake, (pair for family in families for pair in family.pairs), within)
    others = found - planted
    others_near = near(lake, sorted(others), within)
    manifest = table(output, "manifest", ["action", "group_id"])
    names, counts = np.unique(manifest["action"].astype(str), return_counts=True)
    if counts.sum() != files:
        raise SystemExit(f"the manifest has {counts.sum()} rows of {files}")
    return {
        "planted_near": len(true),
        "found_of_them": len(true & found),
        "others_near": len(others_near),
        "not_near": len(found & planted - true) + len(others - others_near),
        "groups": len({name for name in manifest["group_id"] if name is not None}),
        **dict(zip(map(str, names), map(int, counts), strict=True)),
    }


def stages(output: Path, start: float) -> dict[str, float]:
    """Return the seconds from one table's end to the next one's, as the files say."""
    ends = [start]
    for name in STAGES:
        marks = [output / name] if name == "report.html" else (output / name).glob("part=*/_SUCCESS")
        ends.append(max((mark.stat().st_mtime for mark in marks), default=ends[-1]))
    return {name: end - begin for name, begin, end in zip(STAGES, ends, ends[1:], strict=False)}


def computing() -> float:
    """Return the seconds that cores have worked for what was started from here and has ended."""
    times = os.times()
    return times.children_user + times.children_system


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Draw, deduplicate, judge; return all figures."""
    lake = Lake(options.rows, options.seed)
    location = options.output / f"lake-{lake.rows}-{options.copies}-{lake.seed}"
    submit = [word for setting in options.conf for word in ("--conf", setting)]
    drawn = draw(lake, options.copies, location, submit)
    within = thresholds(lake)
    file = options.output / f"thresholds-{lake.rows}-{lake.seed}.json"
    within.save(str(file))
    output = options.output / f"out-{lake.rows}-{options.search}-{time.strftime('%Y%m%d-%H%M%S')}"
    words = ["--features", str(location), "--output", str(output), "--search", options.search]
    counted = options.output / f"{output.name}.json"
    words += ["--thresholds", str(file), "--metrics", str(counted)]
    said = options.output / f"{output.name}.txt"
    start, used = time.time(), computing()
    code, peaks = watch([str(ROOT / "submit.sh"), *submit, "deduplicate", *words], said)
    seconds, used = time.time() - start, computing() - used
    sys.stdout.write(said.read_text())
    if code:
        raise SystemExit(code)
    memory = {kind: max(peak["VmHWM"] for (name, _), peak in peaks.items() if name == kind) for kind in KINDS}
    return {
        "rows": lake.rows,
        "copies": options.copies,
        "seed": lake.seed,
        "search": options.search,
        "conf": options.conf,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[2],
        "drawn": drawn,
        "seconds": seconds,
        "computed": used,
        "stages": stages(output, start),
        "memory": {kind: kib * 1024 for kind, kib in memory.items()},
        "workers": sum(name == "Python worker" for name, _ in peaks),
        "told": [told for told in said.read_text().splitlines() if told],
        "counters": json.loads(counted.read_text())["steps"]["deduplicate"]["counters"],
        "thresholds": {name: within.within[name] for name in METRICS},
        **judged(lake, lake.rows * options.copies, output, within),
    }


def line(done: dict[str, Any]) -> str:
    """Return the line of the table in docs/scale.md."""
    measured = f"{done['counters']['pairs_measured']:,}"
    rows = f"{done['rows']:,}" + (f" x {done['copies']:,}" if done["copies"] > 1 else "")
    cells = [rows, done["search"]]
    cells += [f"{done['seconds']:.0f} s", f"{done['computed']:.0f} s"]
    cells += [f"{seconds:.0f} s" for seconds in done["stages"].values()]
    cells += [f"{size / 1e9:.2f} GB" for size in done["memory"].values()]
    near, found = done["planted_near"], done["found_of_them"]
    cells += [measured, f"{near:,}", f"{found:,}" + (f" ({found / near:.4f})" if near else "")]
    return "| " + " | ".join([*cells, f"{done['others_near']:,}", f"{done['not_near']:,}"]) + " |"


def main() -> None:
    """Parse, run, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, required=True, help="how many different images the lake has")
    parser.add_argument("--copies", type=int, default=1, help="how many files each image has")
    parser.add_argument("--output", type=Path, required=True, help="a folder for lakes, runs and figures")
    parser.add_argument("--search", choices=("exact", "approximate"), default="exact")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--conf", action="append", default=[], metavar="KEY=VALUE", help="for spark-submit")
    options = parser.parse_args()
    options.output = options.output.resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    done = run(options)
    with (options.output / "scale.jsonl").open("a") as file:
        file.write(json.dumps(done) + "\n")
    sys.stdout.write(f"\n{HEADER}\n|{'---|' * HEADER.count(' | ')}---|\n{line(done)}\n")


if __name__ == "__main__":
    main()
