"""What a user asks about becomes vectors: image files, folders, patterns, hashes, or paths that the table knows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup import archives, batches, delivery, features, images, listing, pixels, progress, stores
from dedup.errors import Reject, UsageError
from dedup.model import Model
from dedup.models import Made

THUMBNAIL = 176
"""The longer side of a thumbnail, in pixels."""

_READERS = 2  # each holds a decoded image
_CHUNK = 32


@dataclass(frozen=True)
class Query:
    """One image that others are compared with."""

    name: str  #: a path or a hash, as results show it
    sha256: str
    thumbnail: str | None  #: a data: URI of a file; None for what only the table knows


@dataclass(frozen=True)
class Queries:
    """What every task of a query is given."""

    names: tuple[str, ...]
    vectors: NDArray[np.float32]  #: shape (queries, width)
    computed: int = 0  #: how many of them went through the network


def collect(spark: SparkSession, location: str, asked: list[str]) -> tuple[list[Query], list[tuple[str, Reject]]]:
    """Return the queries that a user's words stand for, and the files among them that are no images.

    Parameters
    ----------
    location
        The location of the table of features.
    asked
        Files, folders and patterns that the driver can read; a sha256 or a path of the table.

    Raises
    ------
    UsageError
        If a word stands for nothing, or for one file that is no image, or nothing is left.
    """
    found: dict[str, list[Query]] = {}
    rejects: list[tuple[str, Reject]] = []
    for word in asked:
        files = list(archives.entries(word))
        if not files:
            continue
        found[word] = []
        with closing(progress.Progress("query: read", len(files), "images")) as shown:
            for query in batches.ahead(_read, files, _READERS, 2 * _READERS):
                shown.add(1)
                if isinstance(query, Query):
                    found[word].append(query)
                elif len(files) == 1:
                    raise UsageError(f"--query {word}: not an image that can be read: {query[1]}") from query[1]
                else:
                    rejects.append(query)
    known = _known(spark, location, [word for word in asked if word not in found])
    queries = {query.name: query for word in asked for query in found.get(word) or known.get(word, [])}
    if not queries:
        raise UsageError(f"--query: no images among {', '.join(asked)}")
    return list(queries.values()), rejects


def _read(entry: listing.Entry) -> Query | tuple[str, Reject]:
    """Return the query for a file, or why it is none. The bytes are not kept: there may be thousands of files."""
    try:
        if entry.reject:
            raise entry.reject
        content = archives.read(entry.path)
        return Query(entry.path, hashlib.sha256(content).hexdigest(), pixels.thumbnail(content, THUMBNAIL))
    except Reject as reject:
        return entry.path, reject


def _known(spark: SparkSession, location: str, words: list[str]) -> dict[str, list[Query]]:
    """Return the queries for hashes and paths that the table of images knows, by word, from one scan for all."""
    if not words:
        return {}
    names = {word: word if re.fullmatch("[0-9a-f]{64}", word) else stores.absolute(word) for word in words}
    wanted = F.broadcast(spark.createDataFrame([(name,) for name in sorted(set(names.values()))], "name string"))
    files = images.current(spark, location)
    either = (F.col("name") == F.col("path")) | (F.col("name") == F.col("sha256"))
    rows = files.join(wanted, either).select("name", "sha256").distinct().collect()
    hashes = {row["name"]: row["sha256"] for row in rows}
    if unknown := next((word for word in words if names[word] not in hashes), None):
        raise UsageError(
            f"--query {unknown}: no such file, folder or pattern, and no such sha256 or path in {location}"
        )
    return {word: [Query(name, hashes[name], None)] for word, name in names.items()}


def vectors(
    spark: SparkSession, location: str, queries: list[Query], made: Made, model: Callable[[], Model]
) -> Queries:
    """Return the queries with their vectors.

    Contents that the table has are looked up; only the others go through the network.

    Parameters
    ----------
    location
        The location of the table of features.
    queries
        What is asked.
    made
        The model whose features are looked up.
    model
        Called for the model itself if a query has to go through the network.

    Raises
    ------
    UsageError
        If the table has no features of a content that only it could have.
    """
    known = _look_up(features.complete(spark, location, made), {query.sha256 for query in queries})
    lacking = {query.sha256: query for query in queries if query.sha256 not in known}
    if gone := [query.name for query in lacking.values() if query.thumbnail is None]:
        raise UsageError(f"--query {gone[0]}: {location} has no features of it: see its rejects")
    if lacking:
        known |= _compute(spark, list(lacking.values()), model())
    stacked = np.frombuffer(b"".join(known[query.sha256] for query in queries), "<f4")
    computed = sum(query.sha256 in lacking for query in queries)
    return Queries(tuple(query.name for query in queries), stacked.reshape(len(queries), -1), computed)


def _look_up(table: DataFrame, hashes: set[str]) -> dict[str, bytes]:
    """Return the features of contents: hashes are read from all of the table, vectors from the buckets with one."""
    wanted = F.broadcast(table.sparkSession.createDataFrame([(sha256,) for sha256 in sorted(hashes)], "sha256 string"))
    buckets = [row["bucket"] for row in table.join(wanted, "sha256").select("bucket").distinct().collect()]
    if not buckets:
        return {}
    found = table.where(F.col("bucket").isin(buckets)).join(wanted, "sha256").select("sha256", "features")
    return {row["sha256"]: bytes(row["features"]) for row in found.collect()}


def _compute(spark: SparkSession, queries: list[Query], model: Model) -> dict[str, bytes]:
    """Return the features of files by hash. The driver reads them, as executors may not see them, a chunk at a time."""
    found: dict[str, bytes] = {}
    with delivery.shipped(spark, model.weights.flat, f"{model.weights.fingerprint}.f32") as parcel:
        for chunk in batches.batched(queries, _CHUNK):
            rows = [(query.sha256, query.name, query.name, 0, _again(query)) for query in chunk]
            given = spark.createDataFrame(rows, "sha256 string, path string, other string, bucket int, content binary")
            for row in features.describe(given, model, parcel).collect():
                if row["reason"]:
                    raise UsageError(f"--query {row['path']}: {row['reason']}: {row['detail']}")
                found[row["sha256"]] = bytes(row["features"])
    return found


def _again(query: Query) -> bytes:
    try:
        content = archives.read(query.name)
    except Reject as reject:
        raise UsageError(f"--query {query.name}: {reject}") from reject
    if hashlib.sha256(content).hexdigest() != query.sha256:
        raise UsageError(f"--query {query.name}: its bytes change while they are read")
    return content
