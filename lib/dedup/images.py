"""A bucket, a folder or a glob becomes the table of images: every file listed, read, hashed and accounted for."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial, reduce
from operator import itemgetter, or_
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup import archives, claims, delivery, formats, notes, progress, rounds, storage, tables
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


@dataclass(frozen=True)
class Ingested:
    """What became of the files that were listed; the counts add up."""

    files: int  #: all that were listed
    read: int  #: those of them that this run read, or tried to; the others were known
    kept: int  #: in the table of images
    rejected: int  #: in its rejects
    failed: int = 0  #: of those read, files that gave no bytes
    changed: int = 0  #: of those read, files that the table had with another length or time of change
    again: int = 0  #: of those read, files that could not be read before
    gone: int = 0  #: files of the table that the location had at the last run, and has no more
    reasons: dict[str, int] = field(default_factory=dict)  #: how many of the rejected for which reason, by its name

    @property
    def new(self) -> int:
        """Of those read, files that no run has seen before, or that are there again."""
        return self.read - self.changed - self.again


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


def _listed(entry: storage.Entry) -> dict[str, Any]:
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


def ingest(
    spark: SparkSession, source: str, table: str, keep_bytes: bool = True, format: str | None = None
) -> Ingested:
    """Put every file under a location into the table of images at `table`; into its rejects what cannot be read.

    A file that the table has already, with the same length and time of change, is not read again. What the table has of
    files that were under the location and are gone counts no more. Files elsewhere stay as they are.

    Parameters
    ----------
    source
        A file, a folder or a pattern, which may go into archives.
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
    inside = archives.split(source)[1]
    with (
        claims.claimed(table, "ingest") as claim,
        delivery.described(spark, "ingest"),
        rounds.held(listing(spark, source).where(~own)) as found,
        _opened(found, inside) as files,
    ):
        formats.begin(table, format)
        tables.sweep(table, "images", "rejects")
        with progress.step(spark, "ingest: list"):
            total = files.count()
        if not total:
            nothing = "no files in it" if there else "no such file, folder or pattern"
            raise UsageError(f"{source}: {nothing}")
        notes.write(table, _UNFINISHED, b"")
        with (
            rounds.held(_new(files, table, rounds.buckets(total))) as todo,
            rounds.held(_gone(files, table, archives.covers(source))) as gone,
        ):
            changes = _changes(todo, gone)
            parts = _reject(files, table)

            def work(rows: DataFrame, first: int, last: int) -> None:
                read_all = partial(_read_all, keep_bytes=keep_bytes)
                with rounds.held(rounds.spread(rows).mapInArrow(read_all, ddl(_READ))) as read:
                    claim.require()
                    tables.append(read.where("reason is null"), table, "images")
                    parts.extend(_reject(read, table))

            with progress.step(spark, "ingest: find what is new"):
                counts = rounds.counted(todo)
            count = rounds.run(todo, counts, work, "ingest")
            claim.require()
            if changes["gone"]:
                tables.append(_forgotten(gone), table, "images")
            with progress.step(spark, "ingest: count"):
                kept, failed, reasons = _settle(files, gone, table, parts, total)
        tables.tidy(table, "rejects")
        notes.delete(table, _UNFINISHED)
    return Ingested(total, count, kept, sum(reasons.values()), failed, reasons=reasons, **changes)


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
    """Return the latest row of each path of a table of images that is not gone, without its bytes."""
    return tables.latest(tables.read(spark, table, "images"), "path").where("sha256 is not null")


def unread(spark: SparkSession, table: str) -> DataFrame:
    """Return a row for each file of a table of images that could not be read."""
    return tables.latest(tables.read(spark, table, "rejects").where(F.col("stage").isin(*STAGES)), "path")


def inventory(spark: SparkSession, table: str) -> DataFrame:
    """Return a row for each file of a table of images that could be read: all columns but its bytes."""
    return current(spark, table).join(unread(spark, table), "path", how="left_anti")


_SAME = ["path", "length", "modified"]
"""What tells that a file is the one that was read before."""


def _new(files: DataFrame, table: str, buckets: int) -> DataFrame:
    """Return the files that are not in the table as they are: with their buckets, and what is known of them.

    Members that follow each other are in the same bucket, or in the next: the tasks of a round read few archives.
    """
    spark = files.sparkSession
    known = current(spark, table).select("path", F.struct(*_SAME).alias("known"))
    tried = unread(spark, table).select("path", F.lit(True).alias("tried"))
    first = F.pmod(F.xxhash64(F.split("path", archives.INSIDE, 2)[0]), F.lit(buckets))
    further = F.floor(F.col("number") / rounds.BUCKET_FILES)
    bucket = F.pmod(first + further, F.lit(buckets)).cast("int").alias("bucket")
    changed = F.col("known").isNotNull().alias("changed")
    again = (F.col("known").isNull() & F.col("tried").isNotNull()).alias("again")
    beside = files.where("reason is null").join(known, "path", how="left").join(tried, "path", how="left")
    return beside.where(~F.struct(*_SAME).eqNullSafe(F.col("known"))).select(*_SAME, "offset", bucket, changed, again)


def _covered(batches: Iterator[pa.RecordBatch], covers: Callable[[str], bool]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch.filter(pa.array([covers(path) for path in batch.column("path").to_pylist()], pa.bool_()))


def _gone(files: DataFrame, table: str, covers: Callable[[str], bool]) -> DataFrame:
    """Return the files of a table and of its rejects that a listing speaks for and lacks, and whether they were read.

    Of what is below a folder that could not be listed, or in an archive that could not be read to its end, nothing is
    known: it is not gone.
    """
    spark = files.sparkSession
    read = current(spark, table).select("path", F.lit(True).alias("read"))
    before = (
        read.union(unread(spark, table).select("path", F.lit(False))).groupBy("path").agg(F.max("read").alias("read"))
    )
    lacking = before.join(files, "path", how="left_anti")
    lacking = lacking.mapInArrow(partial(_covered, covers=covers), "path string, read boolean")
    folders = "transform(sequence(1, size(split(path, '/')) - 1), n -> array_join(slice(split(path, '/'), 1, n), '/'))"
    closed = files.where("stage = 'list'").selectExpr("explode(array(path, concat(path, '!'))) AS folder")
    hidden = lacking.selectExpr("path", f"explode({folders}) AS folder").join(closed, "folder", how="left_semi")
    return lacking.join(hidden, "path", how="left_anti")


def _changes(todo: DataFrame, gone: DataFrame) -> dict[str, int]:
    """Return how many files have changed, are tried again, and are gone."""
    counts = todo.agg(F.count_if("changed").alias("changed"), F.count_if("again").alias("again"))
    row = counts.crossJoin(gone.agg(F.count_if("read").alias("gone"))).collect()[0]
    return {name: row[name] for name in ("changed", "again", "gone")}


def _forgotten(gone: DataFrame) -> DataFrame:
    """Return the rows by which a table of images forgets files: nothing but the path."""
    names = [field for field in tables.SCHEMAS["images"] if field.name not in {"path", "bucket"}]
    nothing = [F.lit(None).cast(field.dataType).alias(field.name) for field in names]
    return gone.where("read").select("path", *nothing, F.lit(0).alias("bucket"))


def _reject(rows: DataFrame, table: str) -> list[str]:
    """Append the rows that have a reason to the rejects, and return the name of the part, if there were any."""
    failed = rows.where("reason is not null")
    if failed.isEmpty():
        return []
    return [tables.append(failed.withColumn("sha256", F.lit(None).cast("string")), table, "rejects")]


def _settle(
    files: DataFrame, gone: DataFrame, table: str, parts: list[str], total: int
) -> tuple[int, int, dict[str, int]]:
    """Leave in the rejects what is true now: this run's, and those of files that it knows nothing of.

    Returns
    -------
    tuple
        How many of the files are in the table; how many gave no bytes; how many were rejected in all, by reason.
    """
    rejects = tables.read(files.sparkSession, table, "rejects")
    now = F.col("part").isin(parts)
    asked = files.select("path").union(gone.select("path")).withColumn("asked", F.lit(True))
    stale = ~now & F.col("stage").isin(*STAGES) & F.col("asked").isNotNull()
    tables.replace(rejects.join(asked, "path", how="left").where(~stale), table, "rejects")

    unreadable = unread(files.sparkSession, table)
    counts = files.select("path").join(unreadable, "path").groupBy("stage", "reason").count()
    failed, reasons = 0, Counter[str]()
    for stage, reason, count in counts.orderBy("reason", "stage").collect():
        reasons[reason] += count
        failed += count if stage == "read" else 0
    images = current(files.sparkSession, table)
    kept = files.join(unreadable, "path", how="left_anti").join(images, _SAME, how="left_semi").count()
    if kept + reasons.total() != total:
        rejected = reasons.total()
        raise RuntimeError(f"{total} files listed, but {kept} in the table and {rejected} rejected: run ingest again")
    return kept, failed, dict(reasons)
