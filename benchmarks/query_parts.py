"""Where does the time of a query go? Its parts, each alone, beside a bare scan: a table of docs/tuning.md.

    python benchmarks/query_parts.py --lake bench/lake-92424

The lake is one that `./submit.sh bench --only query` has drawn. All parts run in turn, round by round, in one warm
session; the table has the medians. A part holds those above it but for the last four, so that their sum is not the
whole.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from quality import row, say
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
PATHS = [str(HERE.parent / "lib"), str(HERE), str(HERE / "contestants")]
sys.path[:0] = PATHS

import serving  # noqa: E402 - beside this file, not installed

from dedup import delivery, features, models, results, vectors  # noqa: E402 - as above
from dedup.distances import DEFAULT_P, METRICS  # noqa: E402
from dedup.queries import Queries  # noqa: E402

Batches = Iterator[pa.RecordBatch]


def counted(batches: Batches, width: int) -> Batches:
    """Take rows, and read their vectors, or of no width only the rows; say how many there were."""
    found = (len(rows) for _, rows in vectors.scan(batches, width)) if width else (len(batch) for batch in batches)
    yield pa.RecordBatch.from_pydict({"rows": pa.array([sum(found)])})


def addressed(batches: Batches) -> Batches:
    """Return the addresses of all rows of whole files."""
    for batch in batches:
        for file, rows in zip(*batch.to_pydict().values(), strict=True):
            yield pa.RecordBatch.from_pydict({"file": pa.array([file] * rows), "row": pa.array(np.arange(rows))})


_held: list[tuple[NDArray[np.bytes_], NDArray[np.float32]]] = []
"""The share of the lake that a process has in memory, as a task has it when it computes."""


def hold(lake: Path, share: int) -> None:
    """Begin a process for one of as many shares of a lake as there are cores."""
    hashes, found = serving.vectors(lake, share, serving.cores())
    _held.append((np.array(hashes, "S64"), found))


def nominated(asked: Queries, top: int, names: tuple[str, ...]) -> int:
    """Compute distances and top lists of what this process holds, in blocks as tasks do; return how many they name."""
    ((hashes, found),) = _held
    nominees = results.Nominees(asked.vectors, top, DEFAULT_P, names)
    for start in range(0, len(found), vectors._ROWS):
        nominees.add(hashes[start : start + vectors._ROWS], found[start : start + vectors._ROWS])
    return len(nominees.query)


def main() -> None:
    """Measure each part in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lake", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    os.environ |= {"PYTHONPATH": os.pathsep.join(PATHS), "PYSPARK_PYTHON": sys.executable}
    files = serving.parquet(options.lake)
    asked = Queries(("query",), serving.asked(serving.vectors(options.lake)[1], 1))
    (made,) = models.of(str(options.lake))
    width, top, names = asked.vectors.shape[1], results.DEFAULT_TOP + 1, tuple(METRICS)
    spark = serving.session(ours=True)
    spark.sparkContext.setLogLevel("ERROR")

    def live() -> Any:
        return features.live(spark, str(options.lake), made)

    def whole() -> Any:
        return results.results(spark, str(options.lake), made, asked, results.DEFAULT_TOP, DEFAULT_P, names)

    def read(width: int) -> Any:
        return vectors.given(live()).mapInArrow(partial(counted, width=width), "rows long").collect()

    def plan() -> None:
        with redirect_stdout(io.StringIO()):
            whole().explain()

    sizes = [(file, pq.read_metadata(file).num_rows) for file in files]

    def of_whole_files() -> Any:
        given = delivery.shared(spark, asked)
        work = partial(results._nominate, queries=given, top=top, p=DEFAULT_P, metrics=names)
        rows = spark.createDataFrame(sizes, "file string, rows long").repartition(serving.cores())
        nominees = rows.mapInArrow(lambda batches: work(addressed(batches)), results._NOMINATED)
        return results.poll(nominees, results.DEFAULT_TOP, names).collect()

    shares = [
        ProcessPoolExecutor(1, get_context("spawn"), hold, (options.lake, share)) for share in range(serving.cores())
    ]

    def kernel() -> None:
        for named in [one.submit(nominated, asked, top, names) for one in shares]:
            named.result()

    parts: dict[str, Callable[[], Any]] = {
        "addresses, taken by tasks in Python": lambda: read(0),
        "and the vectors, read": lambda: read(width),
        "and distances and top lists": lambda: results.nominate(live(), asked, top, DEFAULT_P, names).collect(),
        "and the poll: a query": lambda: whole().collect(),
        "a query whose tasks are given whole files, without addresses": of_whole_files,
        "listing the files, Spark's plan": plan,
        "distances and top lists alone, a process for each core, hashes and vectors in memory": kernel,
        "a bare scan of the same files": partial(serving.scan, files),
    }
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for number in tqdm(range(options.rounds + 3), desc="rounds"):
        for name, part in parts.items():
            start = time.perf_counter()
            part()
            if number >= 3:  # a JVM compiles what has run often
                seconds[name].append(time.perf_counter() - start)
    say(row("part", "median", "lowest to highest"))
    say(row("---", "---:", "---:"))
    for name, took in seconds.items():
        say(row(name, f"{statistics.median(took):.2f} s", f"{min(took):.2f} to {max(took):.2f} s"))


if __name__ == "__main__":
    main()
