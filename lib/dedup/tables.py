"""The tables that jobs pass to each other: their columns, and how they are written so that none is read half-written.

A location holds tables by their names: `LOCATION/images`, `LOCATION/features`, ... What is written together is a part,
which readers see whole or not at all: `formats` says how. docs/tables.md explains every column.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Sequence
from typing import TypeVar

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dedup import claims, formats, storage
from dedup.distances import METRICS
from dedup.errors import Py4JError, UsageError
from dedup.parts import ADDRESS, ALL, numbered

_log = logging.getLogger(__name__)

Result = TypeVar("Result")


def _schema(**columns: T.DataType) -> T.StructType:
    return T.StructType([T.StructField(name, kind) for name, kind in columns.items()])


_FEATURES = _schema(
    sha256=T.StringType(),
    features=T.BinaryType(),
    width=T.IntegerType(),
    height=T.IntegerType(),
    format=T.StringType(),
    pixels=T.StringType(),
    model=T.StringType(),
    bucket=T.IntegerType(),
)

SCHEMAS: dict[str, T.StructType] = {
    "images": _schema(
        path=T.StringType(),
        sha256=T.StringType(),
        length=T.LongType(),
        modified=T.TimestampType(),
        content=T.BinaryType(),
        bucket=T.IntegerType(),
    ),
    "features": _FEATURES,
    "rejects": _schema(
        path=T.StringType(),
        sha256=T.StringType(),
        stage=T.StringType(),
        reason=T.StringType(),
        detail=T.StringType(),
    ),
    "results": _schema(
        query=T.StringType(),
        rank=T.IntegerType(),
        sha256=T.StringType(),
        paths=T.ArrayType(T.StringType()),
        votes=T.IntegerType(),
        view=T.StringType(),
        **{metric: T.DoubleType() for metric in METRICS},
        **{f"{metric}_place": T.IntegerType() for metric in METRICS},
        **{f"{metric}_margin": T.DoubleType() for metric in METRICS},
    ),
    "views": _FEATURES,
    "sketches": _schema(
        sha256=T.StringType(),
        vector=T.StringType(),
        code=T.BinaryType(),
        length=T.DoubleType(),
        total=T.DoubleType(),
        own=T.BooleanType(),
    ),
    "pairs": _schema(
        sha256_l=T.StringType(),
        sha256_r=T.StringType(),
        votes=T.IntegerType(),
        **{metric: T.DoubleType() for metric in METRICS},
    ),
    "manifest": _schema(
        path=T.StringType(),
        sha256=T.StringType(),
        length=T.LongType(),
        group_id=T.StringType(),
        action=T.StringType(),
        keeper=T.StringType(),
        method=T.StringType(),
        reason=T.StringType(),
        votes=T.IntegerType(),
        view=T.StringType(),
        **{metric: T.DoubleType() for metric in METRICS},
        **{f"{metric}_threshold": T.DoubleType() for metric in METRICS},
        link=T.ArrayType(T.StringType()),
        model=T.StringType(),
    ),
    "merges": _schema(run=T.IntegerType(), group_id=T.StringType(), merged=T.StringType()),
}

_PARTITIONED_BY = {"images": ["bucket"], "features": ["model", "bucket"], "views": ["model", "bucket"]}

_MADE_BY = {
    "images": "ingest",
    "features": "extract",
    "rejects": "ingest or extract",
    "results": "query",
    "manifest": "deduplicate",
}

# As small as in Snappy, Spark's default, and read in half the time: docs/tuning.md.
_OF_VECTORS = {
    "compression": "lz4_raw",
    "parquet.enable.dictionary#features": "false",
    "parquet.block.size": str(64 << 20),
}

# Image bytes do not compress, a dictionary of them or of vectors is waste, and a row group is held in memory whole:
# rows of megabytes are counted often, so that it stays near 8 MiB. Spark divides a file among tasks by row groups.
_PARQUET = {
    "images": {
        "compression": "none",
        "parquet.enable.dictionary#content": "false",
        "parquet.block.size": str(8 << 20),
        "parquet.page.size.row.check.min": "4",
        "parquet.page.size.row.check.max": "8",
    },
    "features": _OF_VECTORS,
    "views": _OF_VECTORS,
}

_ATTEMPTS = 5  # to read tables before another run replaces them
_PAUSE = 0.5  # seconds between two looks at a part that somebody writes


def exists(location: str, table: str) -> bool:
    """Tell whether a table is there."""
    return formats.of(location).exists(f"{location}/{table}")


def require(location: str, table: str) -> None:
    """Make sure that a table is there.

    Raises
    ------
    UsageError
        If it is not, naming the job that makes it.
    """
    if not exists(location, table):
        there = "" if formats.is_name(location) or storage.exists(location) else " (nothing is there)"
        raise UsageError(f"{location}: no table of {table}{there}; make it with ./submit.sh {_MADE_BY[table]}")


def read(spark: SparkSession, location: str, table: str) -> DataFrame:
    """Return a table: the columns of its schema and `part`, the name of the part that a row came with.

    A table that is not there has no rows.
    """
    return addressed(spark, location, table).drop(*ADDRESS)


def addressed(spark: SparkSession, location: str, table: str) -> DataFrame:
    """Return a table as `read` does, with the address of each row: `file`, a URI, and `row`, its place in the file."""
    columns, form, folder = SCHEMAS[table], formats.of(location), f"{location}/{table}"
    if form.exists(folder):
        return form.read(spark, folder, columns)
    more = _schema(part=T.StringType(), **ADDRESS)
    return spark.createDataFrame([], T.StructType([*columns.fields, *more.fields]))


def arriving(spark: SparkSession, location: str, table: str) -> DataFrame:
    """Return what comes into a table that is there, as a stream: `part`, for each row the name of its part."""
    return formats.of(location).stream(spark, f"{location}/{table}", _schema(part=T.StringType()))


def version(location: str, *names: str) -> int:
    """Return a number that is larger after each time that one of some tables was written than before it."""
    form = formats.of(location)
    return sum(form.versions(f"{location}/{table}") for table in names)


def steadily(look: Callable[[], Result]) -> Result:
    """Look at tables that another run may be at work on: in plain Parquet it deletes what it has replaced.

    Raises
    ------
    Exception
        What `look` raises, but for a file that is gone while there are attempts left.
    """
    for _ in range(_ATTEMPTS):
        try:
            return look()
        except (PySparkException, Py4JError) as error:  # what fails in a task has no class of PySpark
            if not re.search("FILE_NOT_EXIST|PATH_NOT_FOUND", str(error)):
                raise
            _log.info("another run has replaced what was being read: once more")
    return look()


def settle(location: str, table: str, parts: set[str]) -> None:
    """Wait until some parts of a table count for readers, or whoever began to write them is no more."""
    form = formats.of(location)
    while form.begun(f"{location}/{table}") & parts and claims.is_held(location):
        time.sleep(_PAUSE)


def append(rows: DataFrame, location: str, table: str) -> str:
    """Add rows to a table, all of them or none, and return the name of the new part, as column `part` will hold it."""
    return _write(rows, location, table, replace=False)


def replace(rows: DataFrame, location: str, table: str) -> str:
    """Put rows, which may be made of a table's own, in the place of all its rows, at once; return the part's name.

    What was there before stays on the storage until `tidy`: there may be DataFrames that are made of it.
    """
    return _write(rows, location, table, replace=True)


def _write(rows: DataFrame, location: str, table: str, replace: bool) -> str:
    form, folder = formats.of(location), f"{location}/{table}"
    part = f"{numbered(version(location, table) + 1)}-{uuid.uuid4().hex[:8]}{ALL if replace else ''}"
    by, options = _PARTITIONED_BY.get(table, []), _PARQUET.get(table, {})
    form.write(rows.select(*SCHEMAS[table].names), folder, part, by, options, replace)
    return part


def tidy(location: str, table: str) -> None:
    """Delete what `replace` has replaced, where the format does not keep it for readers."""
    formats.of(location).tidy(f"{location}/{table}")


def holds(spark: SparkSession, location: str, table: str, parts: Sequence[str]) -> bool:
    """Tell whether a table has all of some parts."""
    return formats.of(location).parts(spark, f"{location}/{table}") >= set(parts)


def has(rows: DataFrame, location: str, table: str) -> bool:
    """Tell whether a table is there and has just these rows already: to write them would change nothing."""
    if not exists(location, table):
        return False
    names = SCHEMAS[table].names
    # A null leaves Spark's hash as it is, wherever it stands: so where nulls are is hashed too.
    hashed = F.xxhash64(*names, *[F.col(name).isNull() for name in names]).cast("decimal(38, 0)").alias("hash")
    there = read(rows.sparkSession, location, table).select(F.lit(True).alias("there"), hashed)
    both = rows.select(F.lit(False).alias("there"), hashed).union(there).groupBy("there")
    sums = both.agg(F.struct(F.count("*"), F.sum("hash")).alias("sums")).select("sums").collect()
    return len(sums) != 1 and all(row == sums[0] for row in sums)


def keep(spark: SparkSession, location: str, table: str, parts: Sequence[str]) -> None:
    """Remove from a table all that is not of some parts."""
    formats.of(location).keep(spark, f"{location}/{table}", parts)


def drop(spark: SparkSession, location: str, table: str, parts: Sequence[str]) -> None:
    """Remove some parts from a table that is there."""
    formats.of(location).drop(spark, f"{location}/{table}", parts)


def sweep(location: str, *names: str) -> None:
    """Delete what runs that were killed have begun of some tables, and did not end: readers never saw it.

    Whoever calls this has claimed the location, and does not write there yet: nobody does.
    """
    for table in names:
        formats.of(location).sweep(f"{location}/{table}")


def latest(rows: DataFrame, *key: str) -> DataFrame:
    """Return of all rows with the same key that of the latest part, without `content`."""
    columns = [name for name in rows.columns if name not in {*key, "content"}]
    newest = F.max_by(F.struct(*columns), F.col("part")).alias("row")
    return rows.groupBy(*key).agg(newest).select(*key, "row.*")
