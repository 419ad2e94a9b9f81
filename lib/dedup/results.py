"""The poll: every metric names the images nearest to a query, and the images that most metrics name win."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup import delivery, tables, vectors
from dedup.distances import METRICS, distances
from dedup.errors import UsageError
from dedup.features import live
from dedup.models import Made
from dedup.queries import Queries

DEFAULT_TOP = 5
"""How many images each metric names."""

_PAIRS = 1 << 20
"""How many pairs of a row and a query are measured at a time: their sums and distances take about 100 bytes each."""

_NOMINATED = "query string, sha256 string, view string, " + ", ".join(f"{metric} double" for metric in METRICS)


class Nominees:
    """The images that may be in the top list of a metric, of all rows seen so far. Pure arrays, no Spark.

    Parameters
    ----------
    vectors
        The queries, shape (queries * views, width), float32: all views of the first one, all of the next, ...
    top
        The length of each top list.
    p
        The order of the Minkowski distance.
    metrics
        The names of the metrics that vote.
    views
        How many views there are of each query: a distance is the smallest over them.
    """

    def __init__(
        self, vectors: NDArray[np.float32], top: int, p: float, metrics: Sequence[str], views: int = 1
    ) -> None:
        self._vectors, self._top, self._p, self._views = vectors, top, p, views
        self._voting = [list(METRICS).index(metric) for metric in metrics]
        # The last distance in each full top list.
        self._bound = np.full((len(METRICS), len(vectors) // views), np.inf)
        self.query = np.empty(0, np.intp)  #: index of the query
        self.sha256 = np.empty(0, "S64")
        self.view = np.empty(0, np.intp)  #: index of the view that is nearest, by most of the metrics that vote
        self.distance = np.empty((0, len(METRICS)))  #: shape (nominees, metrics)

    def add(self, sha256: NDArray[np.bytes_], rows: NDArray[np.float32]) -> None:
        """Take in rows: hashes, shape (rows,), and vectors, shape (rows, width)."""
        seen = np.stack(list(distances(rows, self._vectors, self._p).values()))
        seen = seen.reshape(len(METRICS), len(rows), seen.shape[2] // self._views, self._views)
        found = seen.min(axis=-1)  # (metrics, rows, queries)
        near = np.zeros(found.shape[1:], bool)
        for metric in self._voting:
            if len(rows) >= self._top:
                last = np.partition(found[metric], self._top - 1, axis=0)[self._top - 1]
                np.minimum(self._bound[metric], last, out=self._bound[metric])
            near |= (found[metric] <= self._bound[metric]) & np.isfinite(found[metric])
        row, query = np.nonzero(near)
        self.query = np.concatenate([self.query, query])
        self.sha256 = np.concatenate([self.sha256, sha256[row]])
        self.view = np.concatenate([self.view, self._nearest(seen[:, row, query])])
        self.distance = np.concatenate([self.distance, found[:, row, query].T])
        self._prune()

    def _nearest(self, seen: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the view of each nominee in which most voting metrics see it nearest; the first one, of equals.

        Parameters
        ----------
        seen
            Shape (metrics, nominees, views).
        """
        voting = seen[self._voting]
        agreeing = (voting == voting.min(axis=-1, keepdims=True)).sum(axis=0)
        first: NDArray[np.intp] = agreeing.argmax(axis=-1)
        return first

    def _prune(self) -> None:
        """Keep what is among the first `top` of any metric, in the order (distance, sha256)."""
        keep = np.zeros(len(self.query), bool)
        for metric in self._voting:
            order = np.lexsort((self.sha256, self.distance[:, metric], self.query))
            query = self.query[order]
            place = np.arange(len(order)) - np.searchsorted(query, query)
            keep[order[place < self._top]] = True
            last = order[place == self._top - 1]
            self._bound[metric, self.query[last]] = self.distance[last, metric]
        self.query, self.sha256 = self.query[keep], self.sha256[keep]
        self.view, self.distance = self.view[keep], self.distance[keep]


@cache  # once in the life of a worker, when its libraries are loaded
def _spare_collection() -> None:
    """Keep what a worker has loaded out of the collection of garbage, which Spark asks for after every task: 60 ms."""
    gc.freeze()


def _nominate(
    batches: Iterator[pa.RecordBatch], queries: Any, top: int, p: float, metrics: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    asked: Queries = queries.value
    nominees = Nominees(asked.vectors, top, p, metrics, len(asked.views))
    step = max(1, _PAIRS // len(asked.vectors))
    for sha256, rows in vectors.scan(batches, asked.vectors.shape[1]):
        hashes = np.array(sha256.to_pylist(), "S64")
        for start in range(0, len(rows), step):
            nominees.add(hashes[start : start + step], rows[start : start + step])
    _spare_collection()
    yield pa.RecordBatch.from_pydict(
        {
            "query": pa.array([asked.names[i] for i in nominees.query], pa.string()),
            "sha256": pa.array([value.decode() for value in nominees.sha256.tolist()], pa.string()),
            "view": pa.array([asked.views[i] for i in nominees.view], pa.string()),
            **{metric: pa.array(nominees.distance[:, i]) for i, metric in enumerate(METRICS)},
        }
    )


def nominate(features: DataFrame, queries: Queries, top: int, p: float, metrics: Sequence[str]) -> DataFrame:
    """Return the images that may be in a top list, with all five distances: those of each task's rows.

    One scan and one UDF for all queries and metrics; the queries' vectors are broadcast.

    Parameters
    ----------
    features
        Rows of a table of features.
    queries
        What is asked.
    top
        The length of each top list.
    p
        The order of the Minkowski distance.
    metrics
        The names of the metrics that vote.
    """
    given = delivery.shared(features.sparkSession, queries)
    work = partial(_nominate, queries=given, top=top, p=p, metrics=tuple(metrics))
    return vectors.given(features).mapInArrow(work, _NOMINATED)


def poll(nominees: DataFrame, top: int, metrics: Sequence[str]) -> DataFrame:
    """Return the voted images of each query: exact top lists of each metric over all partitions, then votes by groupBy.

    The order is total: most votes first, then the smaller distance under the first metric, then the smaller sha256.

    Parameters
    ----------
    nominees
        What `nominate` returns, for longer top lists: else margins are null.
    top
        How many images each metric names.
    metrics
        The names of the metrics that vote.
    """
    nominees = nominees.repartition("query")  # one shuffle, of few rows, for all that follows
    # Expressions in SQL are one call to the JVM each, columns made in Python several: 0.06 s for this poll.
    ballots = ", ".join(f"'{name}', {name}" for name in metrics)
    placed = (
        nominees.selectExpr("*", f"stack({len(metrics)}, {ballots}) AS (metric, distance)")
        .selectExpr("*", "row_number() OVER (PARTITION BY query, metric ORDER BY distance, sha256) AS place")
        .selectExpr("*", f"max(if(place = {top + 1}, distance, NULL)) OVER (PARTITION BY query, metric) AS beyond")
        .where(f"place <= {top}")
        .selectExpr("*", "if(beyond IS NULL, NULL, if(distance < beyond, 1 - distance / beyond, 0D)) AS margin")
    )
    voted = placed.groupBy("query", "sha256").agg(
        F.expr("int(count(*)) AS votes"),
        F.expr("max(view) AS view"),
        *[F.expr(f"max({name}) AS {name}") for name in METRICS],
        *[
            F.expr(f"max(if(metric = '{name}', {what}, NULL)) AS {name}_{what}")
            for what in ("place", "margin")
            for name in METRICS
        ],
    )
    order = f"votes DESC, {metrics[0]}, sha256"
    return voted.selectExpr("*", f"row_number() OVER (PARTITION BY query ORDER BY {order}) AS rank")


def with_paths(voted: DataFrame, files: DataFrame) -> DataFrame:
    """Return results with all paths of each content, sorted, in the columns of the table of results."""
    wanted = F.broadcast(voted.select("sha256").distinct())
    named = files.join(wanted, "sha256", how="left_semi")
    paths = named.groupBy("sha256").agg(F.array_sort(F.collect_list("path")).alias("paths"))
    joined = voted.join(paths, "sha256", how="left")
    known = F.coalesce("paths", F.array().cast("array<string>"))
    return joined.withColumn("paths", known).select(*tables.SCHEMAS["results"].names)


def check(top: int, p: float, metrics: Sequence[str]) -> None:
    """Make sure that a poll can be held.

    Raises
    ------
    UsageError
        If a metric is not known, or a number is out of range.
    """
    if unknown := [metric for metric in metrics if metric not in METRICS]:
        raise UsageError(f"unknown metric {unknown[0]!r}; possible are {', '.join(METRICS)}")
    if not metrics or len(set(metrics)) < len(metrics):
        raise UsageError("every metric votes once; name at least one, and none twice")
    if top < 1:
        raise UsageError(f"--top {top}: each metric must name at least 1 image")
    if not p >= 1 or not np.isfinite(p):
        raise UsageError(f"--minkowski-p {p}: a distance only from 1 up, and finite")


def results(
    spark: SparkSession, location: str, made: Made, queries: Queries, top: int, p: float, metrics: Sequence[str]
) -> DataFrame:
    """Return the poll of the metrics on a table of features, for `with_paths`; keep it, or it is held twice."""
    rows = live(spark, location, made)
    # One more than each metric names: how far a name is from not being one is measured against the first that is none.
    return poll(nominate(rows, queries, top + 1, p, metrics), top, metrics)
