"""Images that keep arriving: a stream of Structured Streaming, each batch of which is an ingest, an extract, or both.

What streams into a table Spark knows by the table's own versions. Under a location of files it would know a file by its
name alone, once and for all: it passes over files that are still empty, and over all that is changed, hidden or gone.
So there the stream says when to look, and each look is a listing, as of a job without `--follow`.

A batch leaves the same rows if it is done once more: a file is known by its path, length and time of change, a content
by its hash. So each is in the tables exactly once, whatever was killed when.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession

from dedup import archives, delivery, extraction, formats, given, images, listing, storage, stores, tables
from dedup.errors import UsageError
from dedup.extraction import Extracted
from dedup.files import Located
from dedup.images import Ingested
from dedup.model import Model

NOW = "now"
"""In the place of a pause: what is there is worked off, and that is the end."""

EVERY = "1 minute"
"""How often to look, where nothing else is said: each batch that finds something leaves files of its own."""

_log = logging.getLogger(__name__)

Result = TypeVar("Result")

Told = Callable[[Result, float], object]
"""What is told after each batch that did something: all that was done so far, and how many seconds the batch took."""


def nobody(_: object, __: float) -> None:
    """Be told, and do nothing."""


def pause(text: str) -> str:
    """Return how often to look, as Spark takes it: NOW, or a number with a unit of time.

    Raises
    ------
    UsageError
        If it is neither.
    """
    if text != NOW and not re.fullmatch(r"[1-9]\d{0,5} (second|minute|hour)s?", text):
        raise UsageError(f"--follow {text!r}: possible are {NOW}, and times such as '30 seconds', '5 minutes'")
    return text


def ingest(
    spark: SparkSession,
    source: str,
    table: str,
    every: str,
    keep_bytes: bool = True,
    format: str | None = None,
    told: Told[Ingested] = nobody,
) -> Ingested:
    """Put files into a table of images again and again, as they arrive under a location, change and go.

    Parameters
    ----------
    source, table, keep_bytes, format
        As of `images.ingest`.
    every
        As of `pause`. But for NOW this goes on until the process ends.
    told
        Is told of each look that found something, and of the first.

    Raises
    ------
    UsageError
        As `images.ingest`, but not where a folder is still empty or a pattern has no match; or if the session is one of
        Spark Connect.
    """
    source, table = stores.absolute(source), formats.located(table)
    _require_place(source)
    done: Ingested | None = None
    with images.claimed(spark, source, table, "ingest", format) as claim:

        def batch(_: DataFrame) -> Ingested | None:
            nonlocal done
            taken = images.take(spark, Located(source, table), table, keep_bytes, claim)
            images.finish(table)
            _said(taken)
            before, done = done, taken.after(done) if taken else done
            return done if done != before else None

        _follow(_ticks(spark), every, batch, told)
    return done or Ingested(0, 0, 0, 0)


def extract_files(
    spark: SparkSession,
    source: str,
    location: str,
    model: Model,
    every: str,
    format: str | None = None,
    told: Told[tuple[Ingested, Extracted]] = nobody,
) -> tuple[Ingested, Extracted]:
    """Make features of files as they arrive under a location, change and go; see `extraction.begun` and `ingest`."""
    _require_place(stores.absolute(source))
    done: tuple[Ingested, Extracted] | None = None
    with extraction.begun(spark, source, location, model, format) as run:

        def batch(_: DataFrame) -> tuple[Ingested, Extracted] | None:
            nonlocal done
            taken = run.take()
            if taken and (taken.read or taken.gone or not done or not images.is_finished(location)):
                _said(taken)
                made = run.extract()
                _log.info("%s contents computed", made.computed)
                before = done or (None, None)
                done = (taken.after(before[0]), made.after(before[1]))
                return done
            return None

        _follow(_ticks(spark), every, batch, told)
    return done or (Ingested(0, 0, 0, 0), Extracted(model.id, 0, 0, 0, 0, 0))


def extract(
    spark: SparkSession,
    table: str,
    location: str,
    model: Model,
    every: str,
    format: str | None = None,
    told: Told[Extracted] = nobody,
) -> Extracted:
    """Make features of a table of images as rows come into it; see `extraction.extract` and `ingest`.

    An ingest may be at work there: what its parts hold that count already is worked off.
    """
    table = formats.located(table)
    made: Extracted | None = None
    with extraction.updating(spark, table, location, model, format, growing=True) as update:
        theirs = not tables.exists(table, "images")

        def batch(rows: DataFrame) -> Extracted | None:
            nonlocal made
            if not theirs:
                tables.settle(table, "images", {row["part"] for row in rows.distinct().collect()})
            now = tables.steadily(update)
            if now.computed:
                _log.info("%s contents computed", now.computed)
            before, made = made, now.after(made)
            return made if made != before else None  # of the batches of a large table the first finds all that is to do

        # Nothing need be known from the last run: what is in the table and has no features is found anyway.
        _follow(given.stream(spark, table) if theirs else tables.arriving(spark, table, "images"), every, batch, told)
    return made or Extracted(model.id, 0, 0, 0, 0, 0)


def _require_place(source: str) -> None:
    """Make sure that there is a place where files can arrive, even if none has yet."""
    outer = archives.split(source)[0]
    if storage.exists(outer):
        return
    if not listing.is_pattern(outer):
        raise UsageError(f"{source}: no such file, folder or pattern")
    if not storage.is_folder(folder := listing.begins(outer)):
        raise UsageError(f"{source}: there is no {folder}, in which files could arrive")


def _said(done: Ingested | None) -> None:
    if done and (done.read or done.gone):
        said = "%s files: %s new, %s changed, %s gone, %s rejected"
        _log.info(said, done.files, done.new, done.changed, done.gone, done.rejected)


def _ticks(spark: SparkSession) -> DataFrame:
    """Return a stream that always has something new."""
    return spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1).load()


def _follow(stream: DataFrame, every: str, batch: Callable[[DataFrame], Result | None], told: Told[Result]) -> None:
    """Hand on what a stream brings, batch by batch, until it ends, and tell what a batch returns.

    It keeps nothing for the next run: what a batch left undone is found there by what the tables lack.

    Raises
    ------
    UsageError
        If the session is one of Spark Connect, where batches are worked off elsewhere than here.
    Exception
        What a batch raises, or who is told of it.
    """
    every = pause(every)
    if delivery.context(stream.sparkSession) is None:
        raise UsageError("--follow needs a session with a SparkContext: this one is of Spark Connect (docs/running.md)")
    failures: list[Exception] = []

    def work(rows: DataFrame, _: int) -> None:
        began = time.monotonic()
        try:
            if (done := batch(rows)) is not None:
                told(done, time.monotonic() - began)
        except Exception as error:
            failures.append(error)
            raise

    writer = stream.writeStream.foreachBatch(work)
    query = (writer.trigger(availableNow=True) if every == NOW else writer.trigger(processingTime=every)).start()
    # A signal that interrupts a call of the JVM leaves this thread no connection on which to stop the stream.
    with ThreadPoolExecutor(1) as beside:
        try:
            beside.submit(query.awaitTermination).result()
        except StreamingQueryException:
            if failures:
                raise failures[0] from None
            raise
        finally:
            query.stop()
