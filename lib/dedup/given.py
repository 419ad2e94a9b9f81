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
from dedup.errors import Reason, Reject, UsageError
from dedup.rounds import Round

_KINDS = {"path": "string", "modificationTime": "timestamp", "length": "bigint", "content": "binary"}

_PARQUET = "*.parquet"
"""What the files of a table that is plain Parquet are called."""

_SAME = ["path", "length", "modified"]


class Given:
    """Such a table, as it was when it was opened.

    Parameters
    ----------
    rows
        What each row tells: path, length, modified, content, and `file`, the URI of the file in which it is.
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
        wrong = {"stage": "list", "reason": str(Reason.UNREADABLE), "detail": "the table does not tell its length"}
        told = [F.when(F.col("length").isNull(), text).alias(name) for name, text in wrong.items()]
        yield self._newest.select(
            "*", F.col("file").alias("together"), F.lit(0).alias("number"), F.lit(True).alias("whole"), *told
        )

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

    def contents(self, rows: DataFrame, chosen: Round) -> DataFrame:
        """Return the rows of a round of an extract with their bytes: see `features.Source`."""
        return self._with_bytes(rows.join(self._newest, "path"))

    def _with_bytes(self, rows: DataFrame) -> DataFrame:
        """Return rows that have path, length, modified and file with `content`, null where the table has none."""
        paths = [row["file"] for row in rows.select("file").distinct().orderBy("file").collect()]
        held = self._of(paths).select(*_SAME, "content")
        wanted = F.broadcast(rows.select(*_SAME).distinct())
        # A file that was taken in twice is there twice, with the same bytes.
        one = held.join(wanted, _SAME).groupBy(*_SAME).agg(F.first("content").alias("content"))
        return rows.join(one, _SAME, how="left")

    def _of(self, files: list[str]) -> DataFrame:
        """Return the rows in some files. Asked for them, Delta would read all that it has."""
        paths = list(map(unquote, files))
        readable = (path.endswith(".parquet") and not re.search(r"[*?\[\]{}]", path) for path in paths)
        if self._by_path and paths and all(readable):
            rows = self._rows.sparkSession.read.parquet(*paths)
            if not _lacking(rows):  # else Delta calls columns otherwise in its files
                return _told(rows, F.col("_metadata.file_path"))
        return self._rows.where(F.col("file").isin(*files))


def _any(_: str) -> bool:
    return True


@contextmanager
def opened(spark: SparkSession, location: str) -> Iterator[Given | None]:
    """Open the table at a location, or of a name, for the time of a `with`; None where others have left none.

    Raises
    ------
    UsageError
        If its columns are of other kinds, or it cannot be read.
    """
    rows, by_path = _found(spark, location), not formats.is_name(location)
    if rows is None:
        yield None
        return
    newest = F.max_by(F.struct("length", "modified", "file"), F.struct("modified", "file")).alias("row")
    files = rows.where("path IS NOT NULL").groupBy("path").agg(newest).select("path", "row.*")
    with rounds.held(files) as held:
        yield Given(rows, by_path, held)


def stream(spark: SparkSession, location: str) -> DataFrame:
    """Return the paths that come into such a table, which is there, as a stream."""
    if formats.is_name(location):
        return transactions.added(spark, location).select("path")
    columns = T.StructType([T.StructField("path", T.StringType())])
    return formats.FORMATS[_kind(location)].stream(spark, location, columns)


def _spelt(path: Column) -> Column:
    """Return paths as all tables spell them: see `stores.absolute`. Those that it would refuse stay as they are."""
    path = F.regexp_replace(path, stores.OF_VOLUMES, "/")
    path = F.regexp_replace(path, "^(?i:dbfs):(//[^/]*)?(?=/)", "/dbfs")
    path = F.regexp_replace(path, "^(?i:file):(//[^/]*)?(?=/)", "")
    for scheme, spelt in stores.SPELT.items():
        path = F.regexp_replace(path, f"^(?i:{scheme}):", f"{spelt}:")
    path = F.regexp_replace(path, r"/+\z", "")
    names = F.aggregate(F.split(path, "/"), F.array().cast("array<string>"), _below)
    is_longer = path.startswith("/") & path.rlike(r"/\.{0,2}(/|\z)")
    return F.when(is_longer, F.concat(F.lit("/"), F.array_join(names, "/"))).otherwise(path)


def _below(folder: Column, name: Column) -> Column:
    """Return the names on the way to what a folder has under a name, of those to the folder: `.` and `..` are none."""
    above = F.slice(folder, 1, F.greatest(F.size(folder) - 1, F.lit(0)))
    return F.when(name.isin("", "."), folder).when(name == "..", above).otherwise(F.concat(folder, F.array(name)))


def _kind(location: str) -> str:
    """Return the format of a table in a folder, by the folder that tells it; one without such a folder is Parquet."""
    if storage.names(f"{location}/_delta_log"):
        return "delta"
    is_iceberg = any(".metadata.json" in name for name in storage.names(f"{location}/metadata"))
    return "iceberg" if is_iceberg else "parquet"


def _rows(spark: SparkSession, location: str) -> DataFrame | None:
    """Return a table as it is now, whatever its columns; None where there is none."""
    if formats.is_name(location):
        return transactions.now(spark, location) if spark.catalog.tableExists(location) else None
    kind = _kind(location)
    if kind == "parquet":
        return _parquet(spark, location)
    if kind == "delta":  # else each action would read the newest version
        reader = spark.read.format(kind).option("versionAsOf", formats.FORMATS[kind].versions(location) - 1)
        return reader.load(stores.spark_path(location))
    iceberg = transactions.Iceberg()
    if not iceberg.exists(location):
        raise UsageError(f"{location}: only a catalog knows what is new in this table: name it, CATALOG.SCHEMA.NAME")
    return iceberg.now(spark, location)


def _parquet(spark: SparkSession, location: str) -> DataFrame | None:
    if not storage.exists(location):
        return None
    # Of a folder of something else, Spark would try to read the first file.
    reader = spark.read.format("parquet").option("pathGlobFilter", _PARQUET)
    try:
        rows = reader.load(stores.spark_path(location))
        rows.schema  # noqa: B018 - only now a session of Spark Connect looks for files
    except AnalysisException as error:
        if error.getCondition() != "UNABLE_TO_INFER_SCHEMA":
            raise
        if _is_parquet(location):
            raise UsageError(f"{location}: its files are Parquet, and must be called {_PARQUET} to be read") from error
        return None
    return rows


def _is_parquet(location: str) -> bool:
    """Tell whether the first file that is not hidden is Parquet, whatever it is called."""
    names = storage.names(location) if storage.is_folder(location) else []
    first = next((f"{location}/{name}" for name in names if not name.startswith(("_", "."))), location)
    where, path = stores.locate(first)
    with suppress(Reject), stores.reading(first):
        storage.status(first)  # opening a pipe would wait for ever
        with where.open_input_stream(path) as stream:
            return bool(stream.read(4) == b"PAR1")
    return False


def _lacking(rows: DataFrame) -> list[str]:
    """Return which columns of such a table others lack. As in Spark, capitals do not tell names apart."""
    there = {name.lower() for name in rows.columns}
    return [name for name in _KINDS if name.lower() not in there]


def _told(rows: DataFrame, file: Column) -> DataFrame:
    """Return what the rows of such a table tell, and in which file each is."""
    names = {name.lower(): name for name in rows.columns}
    path, modified, length, content = (F.col(names[name.lower()]) for name in _KINDS)
    # Null equals nothing: each run would read again what has no time of change.
    modified = F.coalesce(modified, F.timestamp_seconds(F.lit(0)))
    told = {"path": _spelt(path), "length": length, "modified": modified, "content": content, "file": file}
    return rows.select(*[column.alias(name) for name, column in told.items()])


def _found(spark: SparkSession, location: str) -> DataFrame | None:
    """Return what the rows of such a table tell; None where there is no table, or one of something else."""
    with formats.asking(location):
        rows = _rows(spark, location)
        if rows is None or {"path", "content"} & set(_lacking(rows)):
            return None
        kinds = {name.lower(): kind for name, kind in rows.dtypes}
    for name, kind in _KINDS.items():
        there = kinds.get(name.lower())
        if there != kind:
            raise UsageError(
                f"{location}: a table of images has {name} as {kind.upper()}, not {there.upper() if there else 'none'}"
            )
    # Of Parquet and Delta; and of Iceberg, whose names of files are no URIs.
    for file in (F.col("_metadata.file_path"), F.replace(F.col("_file"), F.lit("%"), F.lit("%25"))):
        with suppress(AnalysisException):
            found = _told(rows, file)
            found.schema  # noqa: B018 - only now a session of Spark Connect asks whether there is such a column
            return found
    if formats.is_name(location) and spark.catalog.getTable(location).tableType == "VIEW":
        raise UsageError(f"{location}: is a view, which does not tell in which file a row is: name its table")
    raise UsageError(f"{location}: a table whose format does not tell in which file a row is")
