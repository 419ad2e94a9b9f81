"""A bucket, a folder or a glob becomes the table of images: every file listed, read, hashed and accounted for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from operator import itemgetter
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup import claims, formats, notes, rounds, storage, tables
from dedup.batches import ahead, batched, ddl, each_row, record_batch
from dedup.errors import Reason, Reject, UsageError

_READERS = 8
"""Files that a task reads at a time: what it waits for is mostly the storage."""

STAGES = ("list", "read")
"""Where a file can fail before it has a hash; `rejects.stage` names it."""

_LISTED = {
    "path": pa.string(),
    "length": pa.int64(),
    "modified": pa.timestamp("us", "UTC"),
    "stage": pa.string(),
    "reason": pa.string(),
    "detail": pa.string(),
}

_READ = _LISTED | {"sha256": pa.string(), "content": pa.binary(), "bucket": pa.int32()}

_BATCH_BYTES = 16 << 20
_BATCH_ROWS = 10_000


@dataclass(frozen=True)
class Ingested:
    """What became of the files that were listed; the counts add up."""

    files: int  #: all that were listed
    read: int  #: those of them that were read by this run; the others were known
    kept: int  #: in the table of images
    rejected: int  #: in its rejects


def rejected(stage: str, reject: Reject | None) -> dict[str, str | None]:
    """Return the columns that say where and why a file gave nothing; None for a file that did."""
    if reject is None:
        return {"stage": None, "reason": None, "detail": None}
    return {"stage": stage, "reason": str(reject.reason), "detail": reject.detail[:500]}


def _list(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for location in batch.column("location").to_pylist():
            for entries in batched(storage.listing(location), 10_000):
                yield record_batch([_listed(entry) for entry in entries], _LISTED)


def _listed(entry: storage.Entry) -> dict[str, Any]:
    # A storage that knows no time of change must not make every file a new one: null equals nothing.
    row = {"path": entry.path, "length": entry.length, "modified": entry.modified or datetime.fromtimestamp(0, UTC)}
    return row | rejected("list", entry.reject)


def listing(spark: SparkSession, source: str) -> DataFrame:
    """Return a row for each file under a location. It is made on an executor: the driver never holds it."""
    location = spark.range(0, 1, 1, 1).select(F.lit(source).alias("location"))
    return location.mapInArrow(_list, ddl(_LISTED))


def _read(keep_bytes: bool, row: dict[str, Any]) -> dict[str, Any]:
    try:
        content = storage.read(row["path"])
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


def ingest(
    spark: SparkSession, source: str, table: str, keep_bytes: bool = True, format: str | None = None
) -> Ingested:
    """Put every file under a location into the table of images at `table`; into its rejects what cannot be read.

    A file that the table has already, with the same length and time of change, is not read again. Files of
    the table that are not under the location stay as they are.

    Parameters
    ----------
    source
        A file, a folder or a pattern.
    table
        The location of the tables `images` and `rejects`.
    keep_bytes
        Whether the table holds the files' bytes, or the bytes stay where they are.
    format
        Of the tables: a name of `formats.FORMATS`, None for what is there.

    Raises
    ------
    UsageError
        If there are no files, the table cannot be written, or another run writes there.
    """
    source, table = storage.absolute(source), formats.located(table)
    if source == table:
        raise UsageError(f"{table}: the table cannot be kept in the folder of the images")
    there = storage.exists(source)  # a store that may not be read says so here, not in the log of a task
    formats.require_writable(table)
    own = F.col("path").startswith(f"{table}/")
    with claims.claimed(table, "ingest") as claim, rounds.held(listing(spark, source).where(~own)) as files:
        formats.begin(table, format)
        total = files.count()
        if not total:
            nothing = "no files in it" if there else "no such file, folder or pattern"
            raise UsageError(f"{source}: {nothing}")
        notes.write(table, _UNFINISHED, b"")
        with rounds.held(_new(files, table, rounds.buckets(total))) as todo:
            parts = _reject(files, table)

            def work(rows: DataFrame, first: int, last: int) -> None:
                read_all = partial(_read_all, keep_bytes=keep_bytes)
                with rounds.held(rounds.spread(rows).mapInArrow(read_all, ddl(_READ))) as read:
                    claim.require()
                    tables.append(read.where("reason is null"), table, "images")
                    parts.extend(_reject(read, table))

            count = rounds.run(todo, rounds.counted(todo), work, "ingest")
        claim.require()
        done = _settle(files, table, parts, total, count)
        tables.tidy(table, "rejects")
        notes.delete(table, _UNFINISHED)
    return done


_UNFINISHED = "_unfinished"
"""The note that is there while an ingest has not come to its end."""


def require_finished(table: str) -> None:
    """Make sure that the last ingest into a table came to its end.

    Raises
    ------
    UsageError
        If it was stopped, or is still running.
    """
    if notes.read(table, _UNFINISHED) is not None:
        raise UsageError(f"{table}: an ingest has not come to its end: run it again to finish the table")


def current(spark: SparkSession, table: str) -> DataFrame:
    """Return the latest row of each path of a table of images, without its bytes."""
    return tables.latest(tables.read(spark, table, "images"), "path")


def unread(spark: SparkSession, table: str) -> DataFrame:
    """Return a row for each file of a table of images that could not be read."""
    return tables.latest(tables.read(spark, table, "rejects").where(F.col("stage").isin(*STAGES)), "path")


def inventory(spark: SparkSession, table: str) -> DataFrame:
    """Return a row for each file of a table of images that could be read: all columns but its bytes."""
    return current(spark, table).join(unread(spark, table), "path", how="left_anti")


_SAME = ["path", "length", "modified"]
"""What tells that a file is the one that was read before."""


def _new(files: DataFrame, table: str, buckets: int) -> DataFrame:
    """Return the files that are not in the table yet, each with its bucket."""
    known = current(files.sparkSession, table)
    bucket = F.pmod(F.xxhash64("path"), F.lit(buckets)).cast("int").alias("bucket")
    return files.where("reason is null").join(known, _SAME, how="left_anti").select(*_SAME, bucket)


def _reject(rows: DataFrame, table: str) -> list[str]:
    """Append the rows that have a reason to the rejects, and return the name of the part, if there were any."""
    failed = rows.where("reason is not null")
    if failed.isEmpty():
        return []
    return [tables.append(failed.withColumn("sha256", F.lit(None).cast("string")), table, "rejects")]


def _settle(files: DataFrame, table: str, parts: list[str], total: int, read: int) -> Ingested:
    """Leave in the rejects what is true now: this run's, and those of files that this run did not list."""
    rejects = tables.read(files.sparkSession, table, "rejects")
    now = F.col("part").isin(parts)
    listed = files.select("path", F.lit(True).alias("listed"))
    stale = ~now & F.col("stage").isin(*STAGES) & F.col("listed").isNotNull()
    tables.replace(rejects.join(listed, "path", how="left").where(~stale), table, "rejects")

    failed = unread(files.sparkSession, table)
    rejected = files.join(failed, "path", how="left_semi").count()
    images = current(files.sparkSession, table)
    kept = files.join(failed, "path", how="left_anti").join(images, _SAME, how="left_semi").count()
    if kept + rejected != total:
        raise RuntimeError(f"{total} files listed, but {kept} in the table and {rejected} rejected: run ingest again")
    return Ingested(files=total, read=read, kept=kept, rejected=rejected)
