"""A table of images becomes a table of features, round by round; a killed run goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup import claims, delivery, features, formats, given, images, models, progress, rounds, stores, tables
from dedup.claims import Claim
from dedup.errors import UsageError
from dedup.features import Source, files_of, has_bytes, under
from dedup.files import Located
from dedup.given import Given
from dedup.images import Ingested
from dedup.model import Model
from dedup.models import Made
from dedup.rounds import Round

_SMALL = 8 * rounds.BUCKET_FILES
"""The rows that a part has at least which is not merged with others."""


@dataclass(frozen=True)
class Extracted:
    """What became of the files; files = described + rejected."""

    model: str  #: the model's id
    files: int  #: all files of the table of images, and its rejects
    contents: int  #: different contents among them
    computed: int  #: contents that this run put through the network, or found bad
    described: int  #: files whose content has features
    rejected: int  #: files in the rejects
    outdated: int = 0  #: of those that a stream computed or knew, contents that were computed again, or went
    gone: int | None = None  #: files of the list beside the features that the table has no more; None if that is there

    @property
    def known(self) -> int:
        """Contents that this run did not compute: of a stream, those that its first batch found with features."""
        return self.contents + self.outdated - self.computed

    def after(self, before: Extracted | None) -> Extracted:
        """Return what a stream has done with this batch: what it did is added up, what there is is as of now."""
        if before is None:
            return self
        outdated = max(0, before.outdated + before.contents - self.known)  # some come back, and are known
        gone = None if self.gone is None else self.gone + (before.gone or 0)
        return replace(self, computed=before.computed + self.computed, outdated=outdated, gone=gone)


def extract(spark: SparkSession, table: str, location: str, model: Model, format: str | None = None) -> Extracted:
    """Compute the features of every content of a table of images that has none yet under the model.

    Parameters
    ----------
    table
        The location of the tables `images` and `rejects`, as `ingest` makes them; or one table of others, with the
        columns path, modificationTime, length and content.
    location
        The location of the tables `features`, `images` (without bytes) and `rejects` that are made; it may be the same.
    model
        What makes the features.
    format
        Of the tables: a name of `formats.FORMATS`, None for what is there.

    Raises
    ------
    UsageError
        If there is no table of images, the features cannot be written, or another run writes there.
    """
    with updating(spark, table, location, model, format) as update:
        return update()


@contextmanager
def updating(
    spark: SparkSession, table: str, location: str, model: Model, format: str | None = None, growing: bool = False
) -> Iterator[Callable[[], Extracted]]:
    """Have a location of features to oneself for the time of a `with`, and bring it to where a table is when asked to.

    Parameters
    ----------
    table, location, model, format
        As of `extract`.
    growing
        Whether an ingest may be at work on the table.

    Raises
    ------
    UsageError
        As `extract`.
    """
    table, location = formats.located(table), formats.located(location)
    formats.require_writable(location, format)
    with delivery.described(spark, "extract"), _opened(spark, table, growing) as first:
        if isinstance(first, Given) and location == table:
            raise UsageError(f"{location} holds a table of images of others: choose another place for the features")
        there = location != table and tables.exists(location, "images")
        if there and has_bytes(tables.read(spark, location, "images")):
            raise UsageError(
                f"{location} holds a table of images with their bytes: choose another place for the features"
            )
        with claims.claimed(location, "extract", format) as claim:
            formats.begin(location, format)

            def update() -> Extracted:
                # What grows is looked at anew each time.
                with _opened(spark, table, growing) if growing else nullcontext(first) as source:
                    if not isinstance(source, Given):
                        return _extract(spark, table, location, models.begun(model, location), claim, source)
                    taken = images.some(images.take(spark, source, location, keep_bytes=False, claim=claim), table)
                    made = _extract(spark, location, location, models.begun(model, location), claim, source)
                    images.finish(location)
                    return replace(made, gone=taken.gone)

            yield update


class Extraction:
    """A run that has a location of features to itself, and takes in files whose bytes stay where they are."""

    def __init__(self, spark: SparkSession, source: str, location: str, model: Model, claim: Claim) -> None:
        self._spark, self._source, self._location, self._model, self._claim = spark, source, location, model, claim

    def take(self) -> Ingested | None:
        """Take in the files under the source; None where there are none."""
        found = Located(self._source, self._location)
        return images.take(self._spark, found, self._location, keep_bytes=False, claim=self._claim)

    def extract(self) -> Extracted:
        """Compute the features of what was taken in."""
        spark, location = self._spark, self._location
        model = models.begun(self._model, location)
        made = _extract(spark, location, location, model, self._claim, Source(spark, location))
        images.finish(location)
        return made


@contextmanager
def begun(spark: SparkSession, source: str, location: str, model: Model, format: str | None) -> Iterator[Extraction]:
    """Begin to compute the features of files under a location that no table of images has, for the time of a `with`.

    Parameters
    ----------
    source
        A file, a folder or a pattern, which may go into archives.
    location, model, format
        As of `extract`.

    Raises
    ------
    UsageError
        If the features cannot be written, or another run writes there.
    """
    source, location = stores.absolute(source), formats.located(location)
    with images.claimed(spark, source, location, "extract", format) as claim:
        yield Extraction(spark, source, location, model, claim)


@contextmanager
def _opened(spark: SparkSession, table: str, growing: bool) -> Iterator[Source | Given]:
    """Return the table where bytes are: one that `ingest` has made, or one of others."""
    if not tables.exists(table, "images"):
        with given.opened(spark, table) as found:
            if found is not None:
                yield found
                return
    if growing:
        tables.require(table, "images")
    else:
        images.require_finished(table)
    yield Source(spark, table)


def _extract(
    spark: SparkSession, table: str, location: str, model: Model, claim: Claim, source: Source | Given
) -> Extracted:
    made = models.started(model, location)
    made.save(location)
    tables.sweep(location, "features", *images.LISTED)
    with (
        rounds.held(images.inventory(spark, table)) as files,
        rounds.held(images.unread(spark, table)) as unread,
        rounds.held(_todo(files, location, model.id)) as todo,
        ThreadPoolExecutor(1) as beside,
    ):
        with progress.step(spark, "extract: find what is new"):
            counts = rounds.counted(todo)
            unread.count()  # an ingest that is at work may replace them soon
        listing = beside.submit(_list, files, unread, table, location)
        parts = _compute(todo, counts, source, location, model, claim, listing) if counts else []
        gone = listing.result()
        claim.require()
        with progress.step(spark, "extract: count"):
            _reject(files, unread, location, model.id, parts)
            counted = _count(files, unread, location, model.id)
            if counted.copies:
                _drop_copies(spark, location, made, claim)
                counted = _count(files, unread, location, model.id)
                if counted.copies:
                    raise RuntimeError(f"{counted.copies} rows of contents that have one already: run extract again")
    left, merged = _merge(spark, location, model.id, counted.parts, claim)
    for name in images.LISTED:
        tables.tidy(location, name)
    claim.require()
    listed = tables.version(location, *images.LISTED)
    replace(made, complete=True, stale=counted.stale, parts=left, listed=listed).save(location)
    if merged:  # now that no reader who comes looks for them
        claim.require()
        tables.drop(spark, location, "features", merged)
    return Extracted(model.id, computed=sum(rows for _, rows in counts), gone=gone, **counted.found)


def _list(files: DataFrame, unread: DataFrame, table: str, location: str) -> int | None:
    """Leave the table of images, without bytes, beside the features, and return how many files it listed that are gone.

    None where the features are beside the table itself.
    """
    if location == table:
        return None
    spark = files.sparkSession
    with progress.step(spark, "extract: list files"):
        listed = files.withColumn("content", F.lit(None).cast("binary"))
        if tables.has(listed, location, "images"):
            return 0
        there = files.select("path").union(unread.select("path"))
        gone = images.inventory(spark, location).join(there, "path", how="left_anti").count()
        # A bucket in few tasks: else each of the 200 that Spark makes by default writes a file into every one.
        tables.replace(rounds.spread(listed), location, "images")
    return gone


def _todo(files: DataFrame, location: str, model: str) -> DataFrame:
    """Return the contents without features, each with the file that stands for it."""
    spark = files.sparkSession
    described = under(spark, location, model).select("sha256")
    undecodable = tables.read(spark, location, "rejects").where(F.col("stage") == "decode").select("sha256")
    return files_of(files).join(described.union(undecodable), "sha256", how="left_anti")


def _compute(
    todo: DataFrame,
    counts: list[tuple[int, int]],
    source: Source | Given,
    location: str,
    model: Model,
    claim: Claim,
    listed: Future[int | None],
) -> list[str]:
    """Put contents through the network, round by round, and return the new parts of the rejects."""
    spark = todo.sparkSession
    parts: list[str] = []
    with features.task(spark, model) as task:
        listed.result()  # files are listed while weights travel; what that fails of is known before the network begins

        def work(rows: DataFrame, chosen: Round) -> None:
            with rounds.held(features.describe(source.contents(rows, chosen), task)) as described:
                claim.require()
                good = described.where("reason is null").withColumn("model", F.lit(model.id))
                tables.append(rounds.gathered(good), location, "features")
                bad = described.where("reason is not null")
                if not bad.isEmpty():
                    parts.append(tables.append(bad, location, "rejects"))

        rounds.run(todo, counts, work, "extract", whole=isinstance(source, Given))
    return parts


def _reject(files: DataFrame, unread: DataFrame, location: str, model: str, parts: list[str]) -> None:
    """Leave in the rejects one row for each file that has no features.

    A content that could not be decoded never can; one that could not be fetched is tried again by every run.
    """
    spark = files.sparkSession
    own = tables.read(spark, location, "rejects")
    bad = tables.latest(own.where((F.col("stage") == "decode") | F.col("part").isin(parts)), "sha256")
    described = under(spark, location, model).select("sha256")
    without = files.select("path", "sha256").join(described, "sha256", how="left_anti")
    failed = without.join(bad.drop("path", "part"), "sha256")
    columns = tables.SCHEMAS["rejects"].names
    with rounds.held(unread.select(*columns).union(failed.select(*columns))) as rejected:
        if not tables.has(rejected, location, "rejects"):
            tables.replace(rejected, location, "rejects")


@dataclass(frozen=True)
class _Counted:
    found: dict[str, int]  #: of files and contents: see Extracted
    stale: int  #: contents with features that no file has
    copies: int  #: rows of the features beside the first of their content
    parts: tuple[str, ...]  #: of the features: what was counted


def _count(files: DataFrame, unread: DataFrame, location: str, model: str) -> _Counted:
    """Return the counts, all from one job.

    Raises
    ------
    RuntimeError
        If a file has neither features nor a reject, or has both.
    """
    spark = files.sparkSession
    listed = files.select("sha256", F.lit(1).alias("listed"), F.lit(0).alias("rows"), F.lit(None).alias("part"))
    made = under(spark, location, model).select("sha256", F.lit(0).alias("listed"), F.lit(1).alias("rows"), "part")
    sums = [
        F.sum("listed").alias("files"),
        F.sum("rows").alias("rows"),
        F.array_sort(F.collect_set("part")).alias("in"),
    ]
    both = listed.union(made).groupBy("sha256").agg(*sums)
    of_contents = both.agg(
        F.count_if(F.col("files") > 0).alias("contents"),
        F.count_if(F.col("files") == 0).alias("stale"),
        F.coalesce(F.sum("files"), F.lit(0)).alias("read"),
        F.coalesce(F.sum(F.when(F.col("rows") > 0, F.col("files"))), F.lit(0)).alias("described"),
        F.coalesce(F.sum(F.greatest(F.col("rows") - 1, F.lit(0))), F.lit(0)).alias("copies"),
        F.array_sort(F.array_distinct(F.flatten(F.collect_set("in")))).alias("parts"),
    )
    of_rejects = tables.read(spark, location, "rejects").agg(F.count("*").alias("rejected"))
    of_unread = unread.agg(F.count("*").alias("unread"))
    row = of_contents.crossJoin(of_rejects).crossJoin(of_unread).collect()[0]
    counts = {name: row[name] for name in ("contents", "described", "rejected")}
    counts["files"] = row["read"] + row["unread"]
    if counts["files"] != counts["described"] + counts["rejected"]:
        raise RuntimeError(f"the counts do not add up: {counts}; run extract again")
    return _Counted(counts, row["stale"], row["copies"], tuple(row["parts"]))


def _drop_copies(spark: SparkSession, location: str, made: Made, claim: Claim) -> None:
    """Leave of several rows of one content that which readers see, or the first: the others' parts are written anew.

    A run that stood still, was replaced, and woke up in the middle of a part leaves such rows, and so does one that is
    killed while it merges. Whatever stops this leaves no content without a row: at worst there are copies, for the next
    run.
    """
    rows = under(spark, location, made.model)
    seen = F.col("part").isin(*made.parts)
    first = F.min_by("part", F.struct(~seen, "part")).alias("first")
    several = rows.groupBy("sha256").agg(first, F.count("*").alias("rows")).where("rows > 1")
    copies = rows.select("sha256", "part").join(several, "sha256").where("part <> first").select("sha256", "part")
    with rounds.held(copies) as found:
        later = [row["part"] for row in found.select("part").distinct().collect()]
        others = rows.where(F.col("part").isin(*later)).join(found, ["sha256", "part"], how="left_anti")
        claim.require()
        if not others.isEmpty():
            tables.append(others, location, "features")
        tables.drop(spark, location, "features", later)


def _merge(
    spark: SparkSession, location: str, model: str, parts: tuple[str, ...], claim: Claim
) -> tuple[tuple[str, ...], list[str]]:
    """Put the smallest of many small parts into one; return the parts that hold all, and those that do so no more.

    A stream leaves a part for each batch that finds something. As many are left as can come again before the next time,
    so that a row is written a few times in all: what was merged is not small soon.
    """
    if len(parts) <= models.MOST_PARTS:
        return parts, []
    rows = under(spark, location, model)
    with progress.step(spark, "extract: merge parts"):
        sizes = rows.where(F.col("part").isin(*parts)).groupBy("part").count().where(F.col("count") < _SMALL)
        found = [row["part"] for row in sizes.orderBy("count", "part").collect()]
        small = found[: max(0, len(found) - models.MOST_PARTS // 2)]
        if not small:
            return parts, []
        of_small = rounds.gathered(rows.where(F.col("part").isin(small)))
        claim.require()
        part = tables.append(of_small, location, "features")
    return (*(name for name in parts if name not in small), part), small


def reasons(spark: SparkSession, location: str) -> dict[str, int]:
    """Return how many files were rejected for which reason, the most frequent first."""
    counts = tables.read(spark, location, "rejects").groupBy("reason").count().orderBy(F.desc("count"), "reason")
    with delivery.described(spark, "extract: rejects by reason"):
        return {row["reason"]: row["count"] for row in counts.collect()}
