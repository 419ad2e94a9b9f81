"""Files of images under a location, archives opened: listed, and read with their hashes, on executors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from functools import partial, reduce
from operator import itemgetter, or_
from typing import Any, Protocol

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup import archives, rounds
from dedup.batches import ahead, batched, ddl, each_row, record_batch
from dedup.errors import Reason, Reject
from dedup.listing import Entry

_READERS = 8
"""Files that a task reads at a time: what it waits for is mostly the storage."""

STAGES = ("list", "read")
"""Where a file can fail before it has a hash; `rejects.stage` names it."""

_LISTED = {
    "path": pa.string(),
    "length": pa.int64(),
    "modified": pa.timestamp("us", "UTC"),
    "offset": pa.int64(),
    "number": pa.int64(),
    "stage": pa.string(),
    "reason": pa.string(),
    "detail": pa.string(),
}

_READ = _LISTED | {"sha256": pa.string(), "content": pa.binary(), "bucket": pa.int32()}

_TASKS = 8
"""Into how many tasks for each that runs at a time archives are spread, to be opened: some take longer than others."""

_BATCH_BYTES = 16 << 20
_BATCH_ROWS = 10_000


class Source(Protocol):
    """Where files of images are known from."""

    def listed(self, spark: SparkSession) -> AbstractContextManager[DataFrame]:
        """Return a row for each file, kept for the time of a `with`.

        Columns path, length, modified; `together`, the same for files that are best read in one task, and `number`,
        their order there; stage, reason and detail, of a file that cannot be read. Others are for `read`.
        """

    def covers(self) -> Callable[[str], bool]:
        """Return what tells of any path whether it would be listed if it were there. Workers can be sent it."""

    def read(self, rows: DataFrame, keep_bytes: bool) -> DataFrame:
        """Return rows of `listed` with sha256, content (null, unless bytes are kept), stage, reason and detail."""


class Located:
    """A file, a folder or a pattern, which may go into archives.

    Parameters
    ----------
    location
        Where the files are.
    but
        A location below which no files are listed: the tables that are made of them.
    """

    def __init__(self, location: str, but: str) -> None:
        self._location, self._but = location, but

    @contextmanager
    def listed(self, spark: SparkSession) -> Iterator[DataFrame]:
        inside = archives.split(self._location)[1]
        others = ~F.col("path").startswith(f"{self._but}/")
        with rounds.held(listing(spark, self._location).where(others)) as found, _opened(found, inside) as files:
            yield files.withColumn("together", F.split("path", archives.INSIDE, 2)[0])

    def covers(self) -> Callable[[str], bool]:
        return archives.covers(self._location)

    def read(self, rows: DataFrame, keep_bytes: bool) -> DataFrame:
        return rounds.spread(rows).mapInArrow(partial(_read_all, keep_bytes=keep_bytes), ddl(_READ))


def rejected(stage: str, reject: Reject | None) -> dict[str, str | None]:
    """Return the columns that say where and why a file gave nothing; None for a file that did."""
    if reject is None:
        return {"stage": None, "reason": None, "detail": None}
    return {"stage": stage, "reason": str(reject.reason), "detail": reject.detail[:500]}


def _list(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for location in batch.column("location").to_pylist():
            for entries in batched(archives.files(location), _BATCH_ROWS):
                yield record_batch([_listed(entry) for entry in entries], _LISTED)


def _open(batches: Iterator[pa.RecordBatch], inside: str | None) -> Iterator[pa.RecordBatch]:
    for row in each_row(batches):
        for members in batched(archives.members(row["path"], inside), _BATCH_ROWS):
            yield record_batch([_listed(member) for member in members], _LISTED)


def _listed(entry: Entry) -> dict[str, Any]:
    # A storage that knows no time of change must not make every file a new one: null equals nothing.
    row = {"path": entry.path, "length": entry.length, "modified": entry.modified or datetime.fromtimestamp(0, UTC)}
    offset, number = (entry.offset, entry.number) if isinstance(entry, archives.Member) else (None, 0)
    return row | {"offset": offset, "number": number} | rejected("list", entry.reject)


def listing(spark: SparkSession, source: str) -> DataFrame:
    """Return a row for each file under a location. It is made on an executor: the driver never holds it."""
    location = spark.range(0, 1, 1, 1).select(F.lit(source).alias("location"))
    return location.mapInArrow(_list, ddl(_LISTED))


@contextmanager
def _opened(found: DataFrame, inside: str | None) -> Iterator[DataFrame]:
    """Put members in the place of the archives among the files that were found, for the time of a `with`."""
    by_name = reduce(or_, [F.lower("path").endswith(ending) for ending in archives.ENDINGS])
    is_archive = by_name & F.col("reason").isNull()
    count = found.where(is_archive).count()
    if not count:
        yield found
        return
    tasks = min(count, _TASKS * rounds.slots(found.sparkSession))
    members = found.where(is_archive).repartition(tasks).mapInArrow(partial(_open, inside=inside), ddl(_LISTED))
    with rounds.held(found.where(~is_archive).unionByName(members)) as files:
        yield files


def _read(keep_bytes: bool, row: dict[str, Any]) -> dict[str, Any]:
    try:
        listed = archives.Member(row["path"], row["length"], row["modified"], offset=row["offset"])
        content = archives.read(row["path"], listed)
        if len(content) != row["length"]:
            raise Reject(Reason.CHANGED, f"{row['length']} bytes when it was listed, {len(content)} when it was read")
    except Reject as reject:
        return row | {"sha256": None, "content": None} | rejected("read", reject)
    sha256 = hashlib.sha256(content).hexdigest()
    return row | {"sha256": sha256, "content": content if keep_bytes else None} | rejected("read", None)


def _read_all(batches: Iterator[pa.RecordBatch], keep_bytes: bool) -> Iterator[pa.RecordBatch]:
    waiting: list[dict[str, Any]] = []
    size = 0
    for row in ahead(partial(_read, keep_bytes), each_row(batches), _READERS, 2 * _READERS, itemgetter("length")):
        waiting.append(row)
        size += len(row["content"] or b"")
        if size >= _BATCH_BYTES or len(waiting) >= _BATCH_ROWS:
            yield record_batch(waiting, _READ)
            waiting, size = [], 0
    if waiting:
        yield record_batch(waiting, _READ)
