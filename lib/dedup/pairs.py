"""Candidates become pairs: all five distances are measured on the vectors, and the poll says which are near."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup import rounds, vectors, viewed, views
from dedup.batches import ddl, gathered
from dedup.distances import METRICS, listed
from dedup.thresholds import Thresholds

_PAIRS = 2048
"""Pairs that are measured at a time: of at most twice as many vectors, 64 MiB."""

_TASK = 50_000  # pairs that are worth a task

_MEASURED = {
    "sha256_l": pa.string(),
    "sha256_r": pa.string(),
    "votes": pa.int32(),
    **dict.fromkeys(METRICS, pa.float64()),
}


def ordered(rows: DataFrame, one: str, other: str) -> DataFrame:
    """Return each pair of different contents once, as sha256_l < sha256_r."""
    left, right = F.least(one, other).alias("sha256_l"), F.greatest(one, other).alias("sha256_r")
    return rows.select(left, right).where("sha256_l < sha256_r").distinct()


def equal() -> list[Column]:
    """Return the votes and the five distances of a pair of one vector: it needs no measuring."""
    return [F.lit(len(METRICS)).cast("int").alias("votes"), *[F.lit(0.0).alias(name) for name in METRICS]]


def of_contents(rows: DataFrame) -> DataFrame:
    """Return pairs of contents, each once, of pairs of contents and of views: that with most votes, else the nearest.

    Parameters
    ----------
    rows
        The columns of the table of pairs; of the two of a pair one at the most is a view.

    Returns
    -------
    DataFrame
        The columns of the table of pairs and `view`, the place in `views.VIEWS` of what has to be done to the first
        content to be like the second one.
    """
    done = F.greatest(viewed.number("sha256_l"), viewed.undone(viewed.number("sha256_r")))
    ends = {end: viewed.content(end) for end in ("sha256_l", "sha256_r")}
    named = rows.select(*[column.alias(end) for end, column in ends.items()], "votes", *METRICS, done.alias("view"))
    best = F.min(F.struct(-F.col("votes"), *METRICS, "view", "votes")).alias("best")
    found = named.where("sha256_l != sha256_r").groupBy(*ends).agg(best)
    return found.select(*ends, *[f"best.{name}" for name in ("votes", *METRICS, "view")])


def in_views(rows: DataFrame, count: int) -> DataFrame:
    """Return pairs of contents, sha256_l and sha256_r, and beside each those of a view of one and the other plain.

    Parameters
    ----------
    rows
        Columns sha256_l and sha256_r.
    count
        In how many views contents are compared.
    """
    ends = ("sha256_l", "sha256_r")
    marks = [views.named("", view) for view in views.first_views(count)]
    of_left = [F.struct(F.concat(ends[0], F.lit(mark)).alias(ends[0]), ends[1]) for mark in marks]
    of_right = [F.struct(ends[0], F.concat(ends[1], F.lit(mark)).alias(ends[1])) for mark in marks[1:]]
    return rows.select(F.explode(F.array(*of_left, *of_right)).alias("pair")).select("pair.*")


def measure(
    pairs: DataFrame, count: int, features: DataFrame, thresholds: Thresholds, width: int, folder: str
) -> DataFrame:
    """Return any pairs, near or not, with their votes and five distances.

    Parameters
    ----------
    pairs
        Columns sha256_l and sha256_r, each pair once; read several times, so keep it.
    count
        How many there are.
    features
        Columns sha256, features and bucket.
    thresholds
        What makes a vote.
    width
        The length of the vectors.
    folder
        A folder of its own on the storage, where vectors are put for the time of the work.
    """
    named = pairs.select(F.col("sha256_l").alias("sha256")).union(pairs.select(F.col("sha256_r").alias("sha256")))
    with rounds.held(named.distinct()) as wanted:
        addresses = vectors.store(features, wanted, folder)
    left, right = (addresses.toDF(f"sha256_{end}", f"file_{end}", f"row_{end}") for end in "lr")
    addressed = pairs.join(left, "sha256_l").join(right, "sha256_r")
    slots = rounds.slots(pairs.sparkSession)
    parts = max(1, min(count // 1000, slots), count // _TASK)
    spread = addressed.repartitionByRange(parts, "file_l", "row_l", "sha256_r")
    work = partial(_measure, thresholds=thresholds, width=width)
    return spread.sortWithinPartitions("file_l", "row_l", "sha256_r").mapInArrow(work, ddl(_MEASURED))


def _measure(batches: Iterator[pa.RecordBatch], thresholds: Thresholds, width: int) -> Iterator[pa.RecordBatch]:
    for batch in gathered(batches, _PAIRS):
        yield _measured(batch, thresholds, width)


def _measured(batch: pa.RecordBatch, thresholds: Thresholds, width: int) -> pa.RecordBatch:
    left, right = (_addresses(batch, end) for end in "lr")
    places = {address: place for place, address in enumerate(dict.fromkeys(left + right))}
    rows = vectors.read(list(places), width)
    at_left, at_right = (np.array([places[address] for address in end], np.intp) for end in (left, right))
    found = listed(rows, at_left, at_right, thresholds.p)
    columns = [batch.column("sha256_l"), batch.column("sha256_r"), pa.array(thresholds.agreeing(found), pa.int32())]
    return pa.RecordBatch.from_arrays([*columns, *map(pa.array, found.values())], names=list(_MEASURED))


def _addresses(batch: pa.RecordBatch, end: str) -> list[tuple[str, int]]:
    return list(zip(batch.column(f"file_{end}").to_pylist(), batch.column(f"row_{end}").to_pylist(), strict=True))
