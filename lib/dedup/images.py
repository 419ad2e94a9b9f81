"""A bucket, a folder or a glob becomes the table of images: every file listed, read, hashed and accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup import claims, delivery, files, formats, notes, progress, rounds, storage, stores, tables
from dedup.claims import Claim
from dedup.errors import UsageError
from dedup.rounds import Round


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
    outdated: int = 0  #: of those that a stream read or knew, files that were read again, or went

    @property
    def known(self) -> int:
        """Files of the table that this run did not read: of a stream, those that its first look found there."""
        return self.kept + self.outdated - (self.read - self.failed)

    @property
    def new(self) -> int:
        """Of those read, files that no run has seen before, or that are there again."""
        return self.read - self.changed - self.again

    def after(self, before: Ingested | None) -> Ingested:
        """Return what a stream has done with this look: what it did is added up, what there is is as of now."""
        if before is None:
            return self
        added = {name: getattr(self, name) + getattr(before, name) for name in _DONE}
        return replace(self, outdated=max(0, before.outdated + before.kept - self.known), **added)


_DONE = ("read", "failed", "changed", "again", "gone")
"""The counts of what is done; the others are of what there is."""


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
    source, table = stores.absolute(source), formats.located(table)
    with claimed(spark, source, table, "ingest", format) as claim:
        done = some(take(spark, files.Located(source, table), table, keep_bytes, claim), source)
        finish(table)
    return done


@contextmanager
def claimed(spark: SparkSession, source: str, table: str, job: str, format: str | None) -> Iterator[Claim]:
    """Have a table of images to oneself for the time of a `with`, to bring files from a location into it.

    Raises
    ------
    UsageError
        If the table cannot be written, or another run writes there.
    """
    if source == table:
        raise UsageError(f"{table}: the table cannot be kept in the folder of the images")
    storage.exists(source)  # a store that may not be read says so here, not in the log of a task
    formats.require_writable(table, format)
    with claims.claimed(table, job, format) as claim, delivery.described(spark, job):
        formats.begin(table, format)
        yield claim


def some(done: Ingested | None, source: str) -> Ingested:
    """Return what became of the files under a location.

    Raises
    ------
    UsageError
        If there were none.
    """
    if done is None:
        nothing = "no files in it" if storage.exists(source) else "no such file, folder or pattern"
        raise UsageError(f"{source}: {nothing}")
    return done


def take(spark: SparkSession, source: files.Source, table: str, keep_bytes: bool, claim: Claim) -> Ingested | None:
    """Bring a table of images, which is claimed, to where a source is; None where the source has no files: it stays.

    Afterwards the table is as it should be, but counts as unfinished until `finish`.

    Parameters
    ----------
    source
        Where files are known from.
    table
        The location of the tables `images` and `rejects`.
    keep_bytes
        Whether the table holds the files' bytes.
    claim
        Of this run on the location.
    """
    tables.sweep(table, *LISTED)
    with source.listed(spark) as found:
        with progress.step(spark, "ingest: list"):
            total = found.count()
        if not total:
            return None
        with (
            rounds.held(_new(found, table, rounds.buckets(total))) as todo,
            rounds.held(_gone(found, table, source.covers())) as gone,
        ):
            with progress.step(spark, "ingest: find what is new"):
                fresh = not any(tables.exists(table, name) for name in LISTED)
                changes, others = (_NO_CHANGES, 0) if fresh else _changes(found, todo, gone, unread(spark, table))
                counts = rounds.counted(todo)
                if not fresh and not counts and not others and is_finished(table):
                    standing = _by_reason(found.where("reason is not null"))
                    return Ingested(total, 0, total - standing.total(), standing.total(), reasons=dict(standing))
            notes.write(table, _UNFINISHED, b"")
            parts = _reject(found, table)

            def work(rows: DataFrame, _: Round) -> None:
                with rounds.held(source.read(rows, keep_bytes)) as read:
                    claim.require()
                    tables.append(read.where("reason is null"), table, "images")
                    parts.extend(_reject(read, table))

            most = 2 * rounds.BUCKET_FILES
            count = rounds.run(todo, counts, work, "ingest", at_once=2, most=most, whole=True)
            claim.require()
            if changes["gone"]:
                tables.append(_forgotten(gone), table, "images")
            with progress.step(spark, "ingest: count"):
                kept, failed, reasons = _settle(found, gone, table, parts, total)
        tables.tidy(table, "rejects")
    return Ingested(total, count, kept, sum(reasons.values()), failed, reasons=reasons, **changes)


LISTED = ("images", "rejects")
"""The tables that say which files there are."""

_UNFINISHED = "_unfinished"
"""The note that is there while an ingest has not come to its end, or the extract that it is a part of."""


def finish(table: str) -> None:
    """Say that all has been done that was to be done with the files that were taken in."""
    notes.delete(table, _UNFINISHED)


def is_finished(table: str) -> bool:
    """Tell whether the last ingest into a table came to its end, and did not only stop, and does not run."""
    return notes.read(table, _UNFINISHED) is None


def require_finished(table: str) -> None:
    """Make sure that there is a table of images, and that the last ingest into it came to its end.

    Raises
    ------
    UsageError
        If there is none, or the ingest was stopped, or is still running.
    """
    tables.require(table, "images")
    if not is_finished(table):
        raise UsageError(f"{table}: an ingest has not come to its end: run it again to finish the table")


def current(spark: SparkSession, table: str) -> DataFrame:
    """Return the latest row of each path of a table of images that is not gone, without its bytes."""
    return tables.latest(tables.read(spark, table, "images"), "path").where("sha256 is not null")


def unread(spark: SparkSession, table: str) -> DataFrame:
    """Return a row for each file of a table of images that could not be read."""
    return tables.latest(tables.read(spark, table, "rejects").where(F.col("stage").isin(*files.STAGES)), "path")


def inventory(spark: SparkSession, table: str) -> DataFrame:
    """Return a row for each file of a table of images that could be read: all columns but its bytes."""
    return current(spark, table).join(unread(spark, table), "path", how="left_anti")


_SAME = ["path", "length", "modified"]
"""What tells that a file is the one that was read before."""

_REJECTED = ["path", "stage", "reason", "detail"]
"""What tells that a file was rejected before as it is now."""


def _new(listed: DataFrame, table: str, buckets: int) -> DataFrame:
    """Return the files that are not in the table as they are: with their buckets, and what is known of them.

    Members that follow each other are in the same bucket, or in the next: the tasks of a round read few archives.
    """
    spark = listed.sparkSession
    known = current(spark, table).select("path", F.struct(*_SAME).alias("known"))
    tried = unread(spark, table).select("path", F.lit(True).alias("tried"))
    first = F.pmod(F.xxhash64("together"), F.lit(buckets))
    further = F.floor(F.col("number") / rounds.BUCKET_FILES)
    bucket = F.pmod(first + further, F.lit(buckets)).cast("int").alias("bucket")
    changed = F.col("known").isNotNull().alias("changed")
    again = (F.col("known").isNull() & F.col("tried").isNotNull()).alias("again")
    beside = listed.where("reason is null").join(known, "path", how="left").join(tried, "path", how="left")
    new = beside.where(~F.struct(*_SAME).eqNullSafe(F.col("known"))).select("*", bucket, changed, again)
    return new.drop("known", "tried", "whole", "stage", "reason", "detail")


def _covered(batches: Iterator[pa.RecordBatch], covers: Callable[[str], bool]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch.filter(pa.array([covers(path) for path in batch.column("path").to_pylist()], pa.bool_()))


def _gone(listed: DataFrame, table: str, covers: Callable[[str], bool]) -> DataFrame:
    """Return the files of a table and of its rejects that a listing speaks for and lacks, and whether they were read.

    Of what is below a folder that could not be listed, or in an archive that could not be read to its end, nothing is
    known: it is not gone.
    """
    spark = listed.sparkSession
    read = current(spark, table).select("path", F.lit(True).alias("read"))
    before = (
        read.union(unread(spark, table).select("path", F.lit(False))).groupBy("path").agg(F.max("read").alias("read"))
    )
    lacking = before.join(listed, "path", how="left_anti")
    lacking = lacking.mapInArrow(partial(_covered, covers=covers), "path string, read boolean")
    folders = "transform(sequence(1, size(split(path, '/')) - 1), n -> array_join(slice(split(path, '/'), 1, n), '/'))"
    closed = listed.where("stage = 'list' AND NOT whole").selectExpr(
        "explode(array(path, concat(path, '!'))) AS folder"
    )
    hidden = lacking.selectExpr("path", f"explode({folders}) AS folder").join(closed, "folder", how="left_semi")
    return lacking.join(hidden, "path", how="left_anti")


_NO_CHANGES = {"changed": 0, "again": 0, "gone": 0}
"""Of files that nothing was known of before."""


def _changes(listed: DataFrame, todo: DataFrame, gone: DataFrame, unread: DataFrame) -> tuple[dict[str, int], int]:
    """Return how many files have changed, are tried again, and are gone; and how many rejects are new, or no more."""
    counts = todo.agg(F.count_if("changed").alias("changed"), F.count_if("again").alias("again"))
    lost = gone.agg(F.count_if("read").alias("gone"), F.count("*").alias("lost"))
    closed = listed.where("reason is not null").select(*_REJECTED)
    known = unread.join(listed.select("path"), "path", how="left_semi").select(*_REJECTED)
    others = closed.join(known, _REJECTED, how="left_anti").union(known.join(closed, _REJECTED, how="left_anti"))
    row = counts.crossJoin(lost).crossJoin(others.agg(F.count("*").alias("others"))).collect()[0]
    return {name: row[name] for name in ("changed", "again", "gone")}, row["lost"] + row["others"]


def _by_reason(rejected: DataFrame) -> Counter[str]:
    """Return how many files were rejected for which reason, by its name."""
    counts = rejected.groupBy("reason").count().orderBy("reason").collect()
    return Counter({row["reason"]: row["count"] for row in counts})


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
    listed: DataFrame, gone: DataFrame, table: str, parts: list[str], total: int
) -> tuple[int, int, dict[str, int]]:
    """Leave in the rejects what is true now: this run's, and those of files that it knows nothing of.

    Returns
    -------
    tuple
        How many of the files are in the table; how many gave no bytes; how many were rejected in all, by reason.
    """
    rejects = tables.read(listed.sparkSession, table, "rejects")
    now = F.col("part").isin(parts)
    asked = listed.select("path").union(gone.select("path")).withColumn("asked", F.lit(True))
    stale = ~now & F.col("stage").isin(*files.STAGES) & F.col("asked").isNotNull()
    tables.replace(rejects.join(asked, "path", how="left").where(~stale), table, "rejects")

    unreadable = unread(listed.sparkSession, table)
    counts = listed.select("path").join(unreadable, "path").groupBy("stage", "reason").count()
    failed, reasons = 0, Counter[str]()
    for stage, reason, count in counts.orderBy("reason", "stage").collect():
        reasons[reason] += count
        failed += count if stage == "read" else 0
    images = current(listed.sparkSession, table)
    kept = listed.join(unreadable, "path", how="left_anti").join(images, _SAME, how="left_semi").count()
    if kept + reasons.total() != total:
        rejected = reasons.total()
        raise RuntimeError(f"{total} files listed, but {kept} in the table and {rejected} rejected: run ingest again")
    return kept, failed, dict(reasons)
