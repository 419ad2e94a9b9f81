"""A sample of the different images of a lake, and for each of them its nearest others, by every metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup import features, queries, results, rounds
from dedup.distances import METRICS, distances
from dedup.errors import UsageError
from dedup.models import Made

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
    vectors: NDArray[np.float32]  #: shape (images of the sample, width)
    distance: NDArray[np.float64]  #: shape (images of the sample, neighbours, metrics), in any order, filled up by inf
    named: NDArray[np.bool_]  #: whether a neighbour is among the nearest LISTED by the metric


def draw(spark: SparkSession, location: str, made: Made, size: int, p: float) -> Sample:
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

    Raises
    ------
    UsageError
        If the lake has too few different images.
    """
    rows = features.live(spark, location, made)
    codes = rows.select("sha256", F.xxhash64("features").alias("code"))
    with rounds.held(codes) as codes, rounds.held(codes.groupBy("code").agg(F.min("sha256").alias("sha256"))) as first:
        images = first.count()
        if images < _LEAST:
            raise UsageError(
                f"{location} has {images} different images under {made.model}: at least {_LEAST} are needed"
            )
        drawn = [row["sha256"] for row in first.orderBy(F.xxhash64("sha256"), "sha256").limit(size).collect()]
        known = [queries.Query(sha256, sha256, None) for sha256 in drawn]
        asked = queries.vectors(spark, location, known, made, _no_network)
        again = codes.join(first, "sha256", how="left_anti").select("sha256")
        others = rows.join(F.broadcast(again), "sha256", how="left_anti")
        top = min(LISTED, images - 1) + 1  # each image is the nearest to itself
        nearest = results.poll(results.nominate(others, asked, top, p, list(METRICS)), top, list(METRICS))
        distance, named = _padded(nearest.where("query <> sha256"), {sha256: i for i, sha256 in enumerate(drawn)})
    return Sample(images, tuple(drawn), asked.vectors, distance, named)


def _no_network() -> NoReturn:
    raise AssertionError("the table has the features of all that it is asked for")


def _padded(nearest: DataFrame, index: dict[str, int]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    columns = ["query", *METRICS, *(f"{metric}_place" for metric in METRICS)]
    found = nearest.select(*columns).toArrow()
    query = np.array([index[sha256] for sha256 in found.column("query").to_pylist()], np.intp)
    order = np.lexsort((*(found.column(metric).to_numpy() for metric in METRICS), query))
    query = query[order]
    place = np.arange(len(query)) - np.searchsorted(query, query)
    shape = (len(index), int(place.max(initial=-1)) + 1, len(METRICS))
    distance, named = np.full(shape, np.inf), np.zeros(shape, bool)
    for number, metric in enumerate(METRICS):
        distance[query, place, number] = found.column(metric).to_numpy()[order]
        places = found.column(f"{metric}_place")
        named[query, place, number] = ~np.asarray(places.is_null())[order]
    return distance, named


def pairs(sample: Sample, p: float) -> NDArray[np.float64]:
    """Return the distances of pairs of images taken at random, shape (pairs, metrics)."""
    some = sample.vectors[:_SOME]
    found = np.stack(list(distances(some, some, p).values()), axis=-1)
    return np.asarray(found[np.triu_indices(len(some), 1)])
