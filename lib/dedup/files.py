"""Files of images under a location, archives opened: listed, and read with their hashes, on executors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial, reduce
from itertools import chain, islice
from operator import itemgetter, or_
from typing import Any, Protocol

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup import archives, rounds
from dedup.batches import ahead, batched, ddl, each_row, record_batch
from dedup.errors import Reason, Reject
from dedup.listing import Entry, Folder, extent

_READERS = 8
"""Files that a task reads at a time, or folders that it lists: what it waits for is mostly the storage."""

STAGES = ("list", "read")
"""Where a file can fail before it has a hash; `rejects.stage` names it."""

_LISTED = {
    "path": pa.string(),
    "length": pa.int64(),
    "modified": pa.timestamp("us", "UTC"),
    "offset": pa.int64(),
    "number": pa.int64(),
    "whole": pa.bool_(),
    "stage": pa.string(),
    "reason": pa.string(),
    "detail": pa.string(),
}

_FOUND = _LISTED | {"folder": pa.string(), "deeper": pa.bool_()}
"""Files, and folders in which nothing has been listed yet."""

_READ = _LISTED | {"sha256": pa.string(), "content": pa.binary(), "bucket": pa.int32()}

_TASKS = 8
"""Into how many tasks for each that runs at a time folders and archives are spread: some take longer than others."""

_BATCH_BYTES = 16 << 20
_BATCH_ROWS = 10_000


class Source(Protocol):
    """Where files of images are known from."""

    def listed(self, spark: SparkSession) -> AbstractContextManager[DataFrame]:
        """Return a row for each file, kept for the time of a `with`.

        Columns path, length, modified; `together`, the same for files that are best read in one task, and `number`,
        their order there; stage, reason and detail, of a file that cannot be read, and `whole`, whether all that is in
        it is listed all the same. Others are for `read`.
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
        outer, inside = archives.split(self._location)
        wanted = ~F.col("path").startswith(f"{self._but}/")
        if inside is not None:
            wanted &= _is_archive()
        with listing(spark, outer) as found, rounds.held(found.where(wanted)) as kept, _opened(kept, inside) as files:
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


def _list(
    batches: Iterator[pa.RecordBatch], inside: Callable[[str], Iterator[Entry | Folder]]
) -> Iterator[pa.RecordBatch]:
    def begun(folder: str) -> Iterator[Entry | Folder]:
        found = inside(folder)
        return chain([*islice(found, 1)], found)  # the first has waited for the store

    for batch in batches:
        for listed in ahead(begun, batch.column("folder").to_pylist(), _READERS, _READERS):
            for found in batched(listed, _BATCH_ROWS):
                yield record_batch([_row(one) for one in found], _FOUND)


def _row(found: Entry | Folder) -> dict[str, Any]:
    return _listed(found) if isinstance(found, Entry) else {"folder": found.path, "deeper": found.deeper}


def _open(batches: Iterator[pa.RecordBatch], inside: str | None) -> Iterator[pa.RecordBatch]:
    for row in each_row(batches):
        for members in batched(archives.members(row["path"], inside), _BATCH_ROWS):
            yield record_batch([_listed(member) for member in members], _LISTED)


def _listed(entry: Entry) -> dict[str, Any]:
    # A storage that knows no time of change must not make every file a new one: null equals nothing.
    row = {"path": entry.path, "length": entry.length, "modified": entry.modified or datetime.fromtimestamp(0, UTC)}
    offset, number, whole = None, 0, False
    if isinstance(entry, archives.Member):
        offset, number, whole = entry.offset, entry.number, entry.whole
    return row | {"offset": offset, "number": number, "whole": whole} | rejected("list", entry.reject)


def _is_archive() -> Column:
    return reduce(or_, [F.lower("path").endswith(ending) for ending in archives.ENDINGS])


@contextmanager
def listing(spark: SparkSession, location: str) -> Iterator[DataFrame]:
    """Return a row for each file that a location stands for, for the time of a `with`.

    It is made on executors: the driver never holds it. Folders of a store are listed by many of them.
    """
    within = extent(location)

    def listed(folders: DataFrame, inside: Callable[[str], Iterator[Entry | Folder]]) -> DataFrame:
        return folders.mapInArrow(partial(_list, inside=inside), ddl(_FOUND))

    folders = spark.range(0, 1, 1, 1).select(F.lit(within.base).alias("folder"))
    with ExitStack() as kept:
        if within.has_levels:
            tasks = _TASKS * rounds.slots(spark)
            levels, left = [], 0
            for enough in (tasks, 0):  # the folders of the second level are enough, however many they are
                level = kept.enter_context(rounds.held(listed(folders, partial(within.level, enough=enough))))
                levels.append(level)
                deeper, others = level.select(F.count_if("deeper"), F.count_if(~F.col("deeper"))).first() or (0, 0)
                left += others
                if not deeper:
                    break
                folders = level.where("deeper").select("folder").repartitionByRange(min(deeper, tasks), "folder")
            both = reduce(DataFrame.unionByName, levels)
            found = both.where("folder is null")
            if left:
                folders = both.where("not deeper").select("folder").repartitionByRange(min(left, tasks), "folder")
                found = found.unionByName(listed(folders, within.files))
        else:
            found = listed(folders, within.files)
        yield found.drop("folder", "deeper")


@contextmanager
def _opened(found: DataFrame, inside: str | None) -> Iterator[DataFrame]:
    """Put members in the place of the archives among the files that were found, for the time of a `with`."""
    is_archive = _is_archive() & F.col("reason").isNull()
    count = found.where(is_archive).count()
    if not count:
        yield found
        return
    tasks = min(count, _TASKS * rounds.slots(found.sparkSession))
    # By ranges, as a task that runs again finds its own archives, whatever the store lists by then.
    spread = found.where(is_archive).repartitionByRange(tasks, "path")
    members = spread.mapInArrow(partial(_open, inside=inside), ddl(_LISTED))
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
