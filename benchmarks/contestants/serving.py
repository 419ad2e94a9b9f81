"""What every contestant does the same way: prepare, warm up, then run once for each line `run` on stdin.

Each answer is one line of JSON on stdout. Whatever libraries write there goes to stderr instead.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 4096

Run = Callable[[], Any]
Judge = Callable[[Any], dict[str, Any]]
Prepared = tuple[Run, Judge] | tuple[Run, Judge, Run]
WarmUp = Literal["start", "run", "never"]


def cores() -> int:
    """Return how many cores this process may use: what every contestant is given."""
    return len(os.sched_getaffinity(0))


def serve(prepare: Callable[[], Prepared], warm_up: WarmUp = "start", times: int = 1) -> None:
    """Answer the orchestrator until stdin ends.

    Parameters
    ----------
    prepare
        Reads the options, and returns what is measured, and what makes the answer of its result outside of the
        measured time: `count`, `check`, and where not all of the time counts or it has to be scaled, `seconds`. It may
        also return the same for little data, to warm up with.
    warm_up
        Whether to run unmeasured at the start; or before each run too, in a session of Spark with Python workers,
        which Spark ends when they have had nothing to do for a minute, as between rounds; or never.
    times
        How often at the start: a JVM compiles what has run often.
    """
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        out.write(json.dumps(answer) + "\n")
        out.flush()

    run, judge, *little = prepare()
    warm = little[0] if little else run
    for _ in range(0 if warm_up == "never" else times):
        judge(warm())
    say({"ready": True})
    for line in sys.stdin:
        if line.strip() == "run":
            if warm_up == "run":
                judge(warm())
            start = time.perf_counter()
            result = run()
            seconds = time.perf_counter() - start
            say({"seconds": seconds} | judge(result))


def parser() -> argparse.ArgumentParser:
    """Return a parser for a contestant's options."""
    return argparse.ArgumentParser(allow_abbrev=False)


def session(ours: bool) -> SparkSession:
    """Return a local session on all cores, with the properties that DeDup's users get, or with Spark's own."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master(f"local[{cores()}]").appName("bench")
    for line in (ROOT / "conf" / "local.conf").read_text().splitlines():
        if line and not line.startswith("#"):
            key, value = line.split(None, 1)
            if ours or key.startswith(("spark.driver.", "spark.ui.")):
                builder = builder.config(key, value)
    return builder.getOrCreate()


def parquet(lake: Path) -> list[str]:
    """Return the Parquet files of a lake's features."""
    return sorted(str(file) for file in (lake / "features").rglob("*.parquet"))


def vectors(lake: Path, share: int = 0, shares: int = 1) -> tuple[list[str], NDArray[np.float32]]:
    """Return the hashes and vectors of a lake, shape (rows, WIDTH), in memory; or of one of several shares of it."""
    named = parquet(lake)
    files = ds.dataset(named[len(named) * share // shares : len(named) * (share + 1) // shares], format="parquet")
    hashes: list[str] = []
    found = np.empty((files.count_rows(), WIDTH), np.float32)
    for batch in files.to_batches(columns=["sha256", "features"], batch_size=1024):
        rows = batch.column("features").to_pylist()
        if rows:
            found[len(hashes) : len(hashes) + len(rows)] = np.frombuffer(b"".join(rows), "<f4").reshape(-1, WIDTH)
            hashes += batch.column("sha256").to_pylist()
    return hashes, found


def scan(files: list[str]) -> tuple[int, int]:
    """Read the hashes and vectors of Parquet files on all cores, and compute nothing; return rows and bytes."""
    pa.set_cpu_count(cores())
    rows = size = 0
    for batch in ds.dataset(files, format="parquet").to_batches(columns=["sha256", "features"]):
        rows, size = rows + len(batch), size + batch.nbytes
    return rows, size


def asked(found: NDArray[np.float32], queries: int) -> NDArray[np.float32]:
    """Return the vectors that are asked about: rows at equal steps, the same ones for every contestant."""
    return found[:: max(1, len(found) // queries)][:queries].copy()
