"""What a user asks about becomes vectors: image files, folders, patterns, hashes, or paths that the table knows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup import archives, batches, delivery, features, images, listing, pixels, progress, stores
from dedup.errors import Reject, UsageError
from dedup.features import Task
from dedup.focus import Focus
from dedup.model import Model
from dedup.models import Made
from dedup.vectors import stacked
from dedup.views import PLAIN, VIEWS, first_views, named, parsed

THUMBNAIL = 176
"""The longer side of a thumbnail, in pixels."""

ALL = Focus()
"""All of a query counts."""

_READERS = 2  # each holds a decoded image
_CHUNK = 32


@dataclass(frozen=True)
class Query:
    """One image that others are compared with."""

    name: str  #: a path or a hash, as results show it
    sha256: str
    thumbnail: str | None = None  #: a data: URI of a file, with the focus drawn on it; None where no file was read
    file: str | None = None  #: where its bytes are; None where only the table knows it
    other: str | None = None  #: where they are too, if anywhere


@dataclass(frozen=True)
class Queries:
    """What every task of a query is given."""

    names: tuple[str, ...]
    vectors: NDArray[np.float32]  #: shape (queries * views, width): all views of the first query, all of the next, ...
    views: tuple[str, ...] = (PLAIN,)  #: the names of the views of each
    computed: int = 0  #: how many of them went through the network


def collect(
    spark: SparkSession, location: str, asked: list[str], focus: Focus = ALL, again: bool = False
) -> tuple[list[Query], list[tuple[str, Reject]]]:
    """Return the queries that a user's words stand for, and the files among them that are no images.

    Parameters
    ----------
    location
        The location of the table of features.
    asked
        Files, folders and patterns that the driver can read; a sha256 or a path of the table.
    focus
        What counts of each.
    again
        Whether the bytes of all of them are needed, of those too that the table knows: from the first of their paths.

    Raises
    ------
    UsageError
        If a word stands for nothing, or for one file that is no image, or nothing is left; if a file is needed that
        cannot be read, or a box is not on an image.
    """
    found: dict[str, list[Query]] = {}
    rejects: list[tuple[str, Reject]] = []
    for word in asked:
        files = list(archives.entries(word))
        if not files:
            continue
        found[word] = []
        with closing(progress.Progress("query: read", len(files), "images")) as shown:
            for query in batches.ahead(partial(_read, focus=focus), files, _READERS, 2 * _READERS):
                shown.add(1)
                if isinstance(query, Query):
                    found[word].append(query)
                elif len(files) == 1:
                    raise UsageError(f"--query {word}: not an image that can be read: {query[1]}") from query[1]
                else:
                    rejects.append(query)
    known = _known(spark, location, [word for word in asked if word not in found], focus, again)
    queries = {query.name: query for word in asked for query in found.get(word) or known.get(word, [])}
    if not queries:
        raise UsageError(f"--query: no images among {', '.join(asked)}")
    return list(queries.values()), rejects


def _read(entry: listing.Entry, focus: Focus) -> Query | tuple[str, Reject]:
    """Return the query for a file, or why it is none. The bytes are not kept: there may be thousands of files."""
    try:
        if entry.reject:
            raise entry.reject
        content = archives.read(entry.path)
        return Query(entry.path, hashlib.sha256(content).hexdigest(), _shown(content, entry.path, focus), entry.path)
    except Reject as reject:
        return entry.path, reject


def _shown(content: bytes, path: str, focus: Focus) -> str:
    image = pixels.open_upright(content)
    return pixels.small(focus.shown(image, path) if focus else image, THUMBNAIL)


def _known(spark: SparkSession, location: str, words: list[str], focus: Focus, again: bool) -> dict[str, list[Query]]:
    """Return the queries for hashes and paths that the table of images knows, by word, from one scan for all."""
    if not words:
        return {}
    names = {word: word if re.fullmatch("[0-9a-f]{64}", word) else stores.absolute(word) for word in words}
    wanted = delivery.column(spark, "name", set(names.values()))
    files = images.current(spark, location)
    either = (F.col("name") == F.col("path")) | (F.col("name") == F.col("sha256"))
    rows = files.join(wanted, either).groupBy("name", "sha256").agg(F.min("path"), F.max("path")).collect()
    found = {name: Query(name, sha256, file=path, other=other) for name, sha256, path, other in rows}
    if unknown := next((word for word in words if names[word] not in found), None):
        raise UsageError(
            f"--query {unknown}: no such file, folder or pattern, and no such sha256 or path in {location}"
        )
    seen = {name: _seen(query, focus) if again else replace(query, file=None) for name, query in found.items()}
    return {word: [seen[name]] for word, name in names.items()}


def _seen(query: Query, focus: Focus) -> Query:
    """Return a query that the table knows, with its picture."""
    assert query.file is not None
    try:
        return replace(query, thumbnail=_shown(_again(query), query.file, focus))
    except Reject as reject:
        raise UsageError(f"--query {query.name}: {reject}") from reject


def vectors(
    spark: SparkSession,
    location: str,
    queries: list[Query],
    made: Made,
    model: Callable[[], Model],
    count: int = 1,
    focus: Focus = ALL,
) -> Queries:
    """Return the queries with their vectors.

    Contents that the table has are looked up; only the others, what counts of them, and their other views go through
    the network.

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
    count
        How many views of each query there are: one of `views.COUNTS`.
    focus
        What counts of each.

    Raises
    ------
    UsageError
        If the table has no features of a content that only it could have.
    """
    names = first_views(count)
    contents = {query.sha256: query for query in queries}
    known = {} if focus else _look_up(features.complete(spark, location, made), contents)
    lacking = {sha256: [view for view in names if (sha256, view) not in known] for sha256 in contents}
    todo = [(contents[sha256], some) for sha256, some in lacking.items() if some]
    if gone := [query.name for query, _ in todo if query.file is None]:
        raise UsageError(f"--query {gone[0]}: {location} has no features of it: see its rejects")
    if todo:
        known |= _compute(spark, todo, model(), focus)
    computed = sum(bool(lacking[query.sha256]) for query in queries)
    found = _stacked(known, [query.sha256 for query in queries], names, location)
    return Queries(tuple(query.name for query in queries), found, names, computed)


def of_contents(
    spark: SparkSession,
    location: str,
    table: str,
    contents: Collection[str],
    made: Made,
    model: Callable[[], Model],
    count: int,
    job: str,
) -> Queries:
    """Return contents that have features, in several views, which executors make where a table has their bytes.

    Parameters
    ----------
    location, made, model, count
        As of `vectors`.
    table
        The location of a table of images, with bytes or with paths that have them.
    contents
        What is asked, by sha256. What cannot be read any more is left out.
    job
        What it is done for, in lines of progress.
    """
    names = first_views(count)
    seen = _look_up(features.complete(spark, location, made), contents)

    def work(rows: DataFrame, task: Task) -> None:
        described = features.describe(rows, task).where("reason is null")
        for row in described.select("sha256", "features").collect():
            seen[parsed(row["sha256"])] = bytes(row["features"])

    ends = F.array(*[F.lit(named("", view)) for view in names[1:]])
    wanted = delivery.column(spark, "sha256", contents).withColumn("views", ends)
    features.each_round(spark, table, wanted, model, work, job, f"{job}: files of the images")
    there = sorted(sha256 for sha256 in contents if all((sha256, view) in seen for view in names))
    return Queries(tuple(there), _stacked(seen, there, names, location), names, len(there))


def _stacked(
    known: dict[tuple[str, str], bytes], contents: Sequence[str], views: Sequence[str], location: str
) -> NDArray[np.float32]:
    """Return features by hash and view as an array: all views of the first content, all of the next, ..."""
    return stacked([known[sha256, view] for sha256 in contents for view in views], location)


def _look_up(table: DataFrame, contents: Collection[str]) -> dict[tuple[str, str], bytes]:
    """Return the features of contents: hashes are read from all of the table, vectors from the buckets with one."""
    wanted = delivery.column(table.sparkSession, "sha256", contents)
    buckets = [row["bucket"] for row in table.join(wanted, "sha256").select("bucket").distinct().collect()]
    if not buckets:
        return {}
    found = table.where(F.col("bucket").isin(buckets)).join(wanted, "sha256").select("sha256", "features")
    return {(row["sha256"], PLAIN): bytes(row["features"] or b"") for row in found.collect()}


def _compute(
    spark: SparkSession, todo: list[tuple[Query, list[str]]], model: Model, focus: Focus
) -> dict[tuple[str, str], bytes]:
    """Return the features of views of files, by hash and view.

    The driver reads the files, as executors may not see them, a chunk at a time.
    """
    found: dict[tuple[str, str], bytes] = {}
    with features.task(spark, model) as task:
        for chunk in batches.batched(_contents(todo, focus, model), _CHUNK):
            rows = [(named(sha256, view), name, name, 0, content) for sha256, view, name, content in chunk]
            given = spark.createDataFrame(rows, "sha256 string, path string, other string, bucket int, content binary")
            for row in features.describe(given, task).collect():
                if row["reason"]:
                    raise UsageError(f"--query {row['path']}: {row['reason']}: {row['detail']}")
                found[parsed(row["sha256"])] = bytes(row["features"])
    return found


def _contents(todo: list[tuple[Query, list[str]]], focus: Focus, model: Model) -> Iterator[tuple[str, str, str, bytes]]:
    """Return what goes through the network: hash, view, name, and the bytes of an image file."""
    for query, some in todo:
        content = _again(query)
        if not focus and PLAIN in some:
            yield query.sha256, PLAIN, query.name, content
            some = [view for view in some if view != PLAIN]
        if some:
            image = pixels.open_upright(content)
            cut = focus.cut(image, query.name, model.neutral) if focus else image
            picture = pixels.shrunk(cut, model.side)
            for view in some:
                yield query.sha256, view, query.name, pixels.encoded(VIEWS[view](picture))


def _again(query: Query) -> bytes:
    assert query.file is not None
    try:
        return features.fetch(query.sha256, query.file, query.other or query.file)
    except Reject as reject:
        raise UsageError(f"--query {query.name}: its bytes cannot be read from {query.file}: {reject}") from reject
