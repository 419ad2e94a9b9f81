"""A sample of the different images of a lake, and for each of them its nearest others, by every metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup import features, progress, queries, results, rounds
from dedup.distances import METRICS, distances
from dedup.errors import UsageError
from dedup.models import Made
from dedup.queries import Queries

_LEAST = 21
"""A lake with fewer different images says nothing of how rare near ones are."""

LISTED = 80
"""Each metric lists so many of the nearest others of each image: the different ones that a fit takes, and copies."""

_SOME = 500  # have more than a hundred thousand pairs


@dataclass(frozen=True)
class Sample:
    """Different images and their neighbours. Contents whose vectors are equal count as one image."""

    images: int  #: different images in the lake
    sha256: tuple[str, ...]  #: the images of the sample
    seen: NDArray[np.float32]  #: their views, as they are the first: shape (images of the sample, views, width)
    distance: NDArray[np.float64]  #: shape (images of the sample, neighbours, metrics), in any order, filled up by inf
    named: NDArray[np.bool_]  #: whether a neighbour is among the nearest LISTED by the metric
    whole: bool  #: whether each metric names all other images of the lake
    other: NDArray[np.bytes_]  #: the neighbours by sha256, shape (images of the sample, neighbours), filled up by b""

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The images as they are, shape (images of the sample, width)."""
        return self.seen[:, 0]


def draw(
    spark: SparkSession,
    location: str,
    made: Made,
    size: int,
    p: float,
    job: str,
    seen: Callable[[list[str]], Queries] | None = None,
) -> Sample:
    """Draw images by a hash of their sha256, the same ones at any partitioning, and find their neighbours.

    Parameters
    ----------
    location
        The location of the table of features.
    made
        The model whose features are looked at.
    size
        How many images are drawn, if there are so many.
    p
        The order of the Minkowski distance.
    job
        What it is done for, in lines of progress.
    seen
        Called with the drawn images, by sha256, for what is asked: other vectors than those of the table, or several
        views of each.

    Raises
    ------
    UsageError
        If the lake has too few different images.
    """
    with _different(spark, location, made, job) as (rows, first, images):
        with progress.step(spark, f"{job}: sample"):
            drawn = [row["sha256"] for row in first.orderBy(F.xxhash64("sha256"), "sha256").limit(size).collect()]
        if seen:
            asked = seen(drawn)
        else:
            with progress.step(spark, f"{job}: look up"):
                asked = known(spark, location, made, drawn)
        return _around(asked, rows, images, p, job)


def around(
    spark: SparkSession, location: str, made: Made, asked: Queries, copied: Sequence[str], p: float, job: str
) -> Sample:
    """Find the neighbours of chosen contents, all of which have features.

    Parameters
    ----------
    location, made, p, job
        As of `draw`.
    asked
        The contents, each once, by sha256.
    copied
        Contents that are known to be copies: of equal vectors, these stand for the others.

    Raises
    ------
    UsageError
        If the lake has too few different images.
    """
    with _different(spark, location, made, job, copied) as (rows, _, images):
        return _around(asked, rows, images, p, job)


@contextmanager
def _different(
    spark: SparkSession, location: str, made: Made, job: str, before: Sequence[str] = ()
) -> Iterator[tuple[DataFrame, DataFrame, int]]:
    """Return features of which no two are equal, their contents, and how many these are."""
    rows = features.live(spark, location, made)
    named = spark.createDataFrame([(sha256, False) for sha256 in before], "sha256 string, later boolean")
    codes = rows.select("sha256", F.xxhash64("features").alias("code")).join(F.broadcast(named), "sha256", how="left")
    with rounds.held(codes) as codes:
        chosen = F.min(F.struct(F.coalesce("later", F.lit(True)), "sha256")).alias("first")
        with rounds.held(codes.groupBy("code").agg(chosen).select("code", "first.sha256")) as first:
            with progress.step(spark, f"{job}: different images"):
                images = first.count()
            if images < _LEAST:
                raise UsageError(
                    f"{location} has {images} different images under {made.model}: at least {_LEAST} are needed"
                )
            again = codes.join(first, "sha256", how="left_anti").select("sha256")
            yield rows.join(F.broadcast(again), "sha256", how="left_anti"), first, images


def known(spark: SparkSession, location: str, made: Made, sha256: Sequence[str]) -> Queries:
    """Return contents that have features, with their vectors."""
    return queries.vectors(spark, location, [queries.Query(one, one) for one in sha256], made, _no_network)


def _around(asked: Queries, others: DataFrame, images: int, p: float, job: str) -> Sample:
    top = min(LISTED, images - 1) + 1  # each image is the nearest to itself
    nearest = results.poll(results.nominate(others, asked, top, p, list(METRICS)), top, list(METRICS))
    index = {sha256: i for i, sha256 in enumerate(asked.names)}
    with progress.step(others.sparkSession, f"{job}: neighbours"):
        distance, named, other = _padded(nearest.where("query <> sha256"), index)
    seen = asked.vectors.reshape(len(asked.names), len(asked.views), -1)
    return Sample(images, asked.names, seen, distance, named, whole=top == images, other=other)


def _no_network() -> NoReturn:
    raise AssertionError("the table has the features of all that it is asked for")


def _padded(
    nearest: DataFrame, index: dict[str, int]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bytes_]]:
    columns = ["query", "sha256", *METRICS, *(f"{metric}_place" for metric in METRICS)]
    found = nearest.select(*columns).toArrow()
    query = np.array([index[sha256] for sha256 in found.column("query").to_pylist()], np.intp)
    names = np.array(found.column("sha256").to_pylist(), "S64")
    order = np.lexsort((names, *(found.column(metric).to_numpy() for metric in METRICS), query))
    query = query[order]
    place = np.arange(len(query)) - np.searchsorted(query, query)
    shape = (len(index), int(place.max(initial=-1)) + 1, len(METRICS))
    distance, named, other = np.full(shape, np.inf), np.zeros(shape, bool), np.zeros(shape[:2], "S64")
    other[query, place] = names[order]
    for number, metric in enumerate(METRICS):
        distance[query, place, number] = found.column(metric).to_numpy()[order]
        places = found.column(f"{metric}_place")
        named[query, place, number] = ~np.asarray(places.is_null())[order]
    return distance, named, other


def pairs(sample: Sample, p: float) -> NDArray[np.float64]:
    """Return the distances of pairs of images taken at random, the smallest over views, shape (pairs, metrics)."""
    some = sample.seen[:_SOME]
    count, views, width = some.shape
    found = np.stack(list(distances(sample.vectors[:_SOME], some.reshape(-1, width), p).values()), axis=-1)
    return np.asarray(found.reshape(count, count, views, -1).min(axis=2)[np.triu_indices(count, 1)])
