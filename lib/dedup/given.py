"""A table of images that others have made, taken as it is: path, modificationTime, length, content.

These are the columns of Spark's own data source `binaryFile`, and so of what streams of files leave (Auto Loader).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import unquote

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dedup import formats, rounds, storage, stores, transactions
from dedup.errors import Reason, UsageError

_KINDS = {"path": "string", "modificationTime": "timestamp", "length": "bigint", "content": "binary"}

_FOLDERS = {"_delta_log": "delta", "metadata": "iceberg"}
"""By the folder that tells it, the format of a table; one without such a folder is Parquet."""

_SAME = ["path", "length", "modified"]


class Given:
    """Such a table, as it was when it was opened.

    Parameters
    ----------
    rows
        Its columns, and `file`, the URI of the file in which a row is.
    by_path
        Whether its files may be read by their paths.
    newest
        The newest row of each path, without its bytes: path, length, modified, file. It is read several times.
    """

    def __init__(self, rows: DataFrame, by_path: bool, newest: DataFrame) -> None:
        self._rows, self._by_path, self._newest = rows, by_path, newest

    @contextmanager
    def listed(self, spark: SparkSession) -> Iterator[DataFrame]:
        """Return a row for each file that the table tells of: see `files.Source`."""
        nothing = [F.lit(None).cast("string").alias(name) for name in ("stage", "reason", "detail")]
        yield self._newest.select("*", F.col("file").alias("together"), F.lit(0).alias("number"), *nothing)

    def covers(self) -> Callable[[str], bool]:
        """Return what tells of any path that the table speaks for it: nothing else is beside its features."""
        return _any

    def read(self, rows: DataFrame, keep_bytes: bool) -> DataFrame:
        """Return rows of `listed` with the hash of their bytes, or the reason why there is none."""
        wrong = (
            F.when(F.col("content").isNull(), str(Reason.MISSING))
            .when(F.length("content") == 0, str(Reason.EMPTY))
            .when(F.length("content") > storage.MAX_BYTES, str(Reason.TOO_LARGE))
            .when(F.length("content") != F.col("length"), str(Reason.CHANGED))
        )
        found = self._with_bytes(rows).withColumn("reason", wrong).withColumn("sha256", F.sha2("content", 256))
        if not keep_bytes:
            found = found.withColumn("content", F.lit(None).cast("binary"))
        stage = F.when(F.col("reason").isNotNull(), "read")
        detail = F.when(F.col("reason").isNotNull(), "the table has no such bytes as it tells of")
        return found.withColumn("stage", stage).withColumn("detail", detail)

    def contents(self, rows: DataFrame, first: int, last: int) -> DataFrame:
        """Return the rows of a round of an extract with their bytes: see `features.Source`."""
        return self._with_bytes(rows.join(self._newest, "path"))

    def _with_bytes(self, rows: DataFrame) -> DataFrame:
        """Return rows that have path, length, modified and file with `content`, null where the table has none."""
        paths = [row["file"] for row in rows.select("file").distinct().orderBy("file").collect()]
        held = self._of(paths).selectExpr("path", "length", "modificationTime AS modified", "content")
        wanted = F.broadcast(rows.select(*_SAME).distinct())
        # A file that was taken in twice is there twice, with the same bytes.
        one = held.join(wanted, _SAME).groupBy(*_SAME).agg(F.first("content").alias("content"))
        return rows.join(one, _SAME, how="left")

    def _of(self, files: list[str]) -> DataFrame:
        """Return the rows in some files. Asked for them, Delta would read all that it has."""
        paths = list(map(unquote, files))
        if self._by_path and paths and not any(re.search(r"[*?\[\]{}]", path) for path in paths):
            rows = self._rows.sparkSession.read.parquet(*paths)
            if _KINDS.keys() <= set(rows.columns):  # else Delta calls columns otherwise in its files
                return rows
        return self._rows.where(F.col("file").isin(*files))


def _any(_: str) -> bool:
    return True


@contextmanager
def opened(spark: SparkSession, location: str) -> Iterator[Given | None]:
    """Open the table at a location, or of a name, for the time of a `with`; None where others have left none.

    Raises
    ------
    UsageError
        If its columns are of other kinds.
    """
    rows, by_path = _found(spark, location), not formats.is_name(location)
    if rows is None:
        yield None
        return
    columns = F.struct("length", F.col("modificationTime").alias("modified"), "file")
    newest = F.max_by(columns, F.struct("modificationTime", "file")).alias("row")
    files = rows.where("path IS NOT NULL").groupBy("path").agg(newest).select("path", "row.*")
    with rounds.held(files) as held:
        yield Given(rows, by_path, held)


def stream(spark: SparkSession, location: str) -> DataFrame:
    """Return the paths that come into such a table, which is there, as a stream."""
    if formats.is_name(location):
        return transactions.added(spark, location).select("path")
    columns = T.StructType([T.StructField("path", T.StringType())])
    return formats.FORMATS[_kind(location)].stream(spark, location, columns)


def _spelt(path: str) -> Column:
    """Return paths as all tables spell them: see `stores.absolute`."""
    column = F.col(path)
    for scheme, spelt in stores.SPELT.items():
        column = F.regexp_replace(column, f"^{scheme}:", f"{spelt}:")
    return column


def _kind(location: str) -> str:
    return next((name for folder, name in _FOLDERS.items() if storage.names(f"{location}/{folder}")), "parquet")


def _found(spark: SparkSession, location: str) -> DataFrame | None:
    """Return the columns of such a table, and `file`."""
    try:
        if formats.is_name(location):
            rows = transactions.now(spark, location)
        else:
            kind = _kind(location)
            reader = spark.read.format(kind)
            if kind == "delta":  # else each action would read the newest version
                reader = reader.option("versionAsOf", formats.FORMATS[kind].versions(location) - 1)
            if kind == "parquet":  # of a folder of something else, Spark would try to read the first file
                reader = reader.option("pathGlobFilter", "*.parquet")
            rows = reader.load(stores.spark_path(location))
        kinds = dict(rows.dtypes)
    except AnalysisException:
        return None
    if not _KINDS.keys() <= kinds.keys():
        return None
    for name, kind in _KINDS.items():
        if kinds[name] != kind:
            raise UsageError(f"{location}: a table of images has {name} as {kind.upper()}, not {kinds[name].upper()}")
    # Of Parquet and Delta; and of Iceberg, whose names of files are no URIs.
    for file in (F.col("_metadata.file_path"), F.replace(F.col("_file"), F.lit("%"), F.lit("%25"))):
        with suppress(AnalysisException):
            found = rows.select(*_KINDS, file.alias("file")).withColumn("path", _spelt("path"))
            found.schema  # noqa: B018 - only now a session of Spark Connect asks whether there is such a column
            return found
    return None
