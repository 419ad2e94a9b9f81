"""The tables that jobs pass to each other: their columns, and how they are written so that none is read half-written.

A location holds tables by their names: `LOCATION/images`, `LOCATION/features`, ... Each table is a folder of parts,
`part=000007-1f0c9a3e`. Spark writes a part and marks it with `_SUCCESS` when all of it is there; a part without
the mark does not exist for `read`. docs/tables.md explains every column.
"""

from __future__ import annotations

import uuid

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dedup import storage
from dedup.distances import METRICS
from dedup.errors import UsageError


def _schema(**columns: T.DataType) -> T.StructType:
    return T.StructType([T.StructField(name, kind) for name, kind in columns.items()])


SCHEMAS: dict[str, T.StructType] = {
    "images": _schema(
        path=T.StringType(),
        sha256=T.StringType(),
        length=T.LongType(),
        modified=T.TimestampType(),
        content=T.BinaryType(),
        bucket=T.IntegerType(),
    ),
    "features": _schema(
        sha256=T.StringType(),
        features=T.BinaryType(),
        width=T.IntegerType(),
        height=T.IntegerType(),
        format=T.StringType(),
        pixels=T.StringType(),
        model=T.StringType(),
        bucket=T.IntegerType(),
    ),
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
        **{metric: T.DoubleType() for metric in METRICS},
        **{f"{metric}_place": T.IntegerType() for metric in METRICS},
    ),
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
        **{metric: T.DoubleType() for metric in METRICS},
        **{f"{metric}_threshold": T.DoubleType() for metric in METRICS},
        link=T.ArrayType(T.StringType()),
        model=T.StringType(),
    ),
    "merges": _schema(run=T.IntegerType(), group_id=T.StringType(), merged=T.StringType()),
}

ADDRESS: dict[str, T.DataType] = {"file": T.StringType(), "row": T.LongType()}
"""Where a row is: the columns that `addressed` adds."""

_ALL = "-all"
"""The end of the name of a part that replaces all parts before it: with its mark, they are gone for readers."""

_PARTITIONED_BY = {"images": ["bucket"], "features": ["model", "bucket"]}

_MADE_BY = {
    "images": "ingest",
    "features": "extract",
    "rejects": "ingest or extract",
    "results": "query",
    "manifest": "deduplicate",
}

# Image bytes do not compress, a dictionary of them or of vectors is waste, and a row group is held in memory whole:
# rows of megabytes are counted often, so that it stays near 32 MiB.
_PARQUET = {
    "images": {
        "compression": "none",
        "parquet.enable.dictionary#content": "false",
        "parquet.block.size": str(32 << 20),
        "parquet.page.size.row.check.min": "4",
        "parquet.page.size.row.check.max": "8",
    },
    # As small as in Snappy, Spark's default, and read in half the time: docs/tuning.md.
    "features": {
        "compression": "lz4_raw",
        "parquet.enable.dictionary#features": "false",
        "parquet.block.size": str(64 << 20),
    },
}


def _parts(location: str, table: str) -> list[str]:
    """Return the names of the parts that make up a table, oldest first."""
    return _since_replaced(_whole(location, table))


def _whole(location: str, table: str) -> list[str]:
    folder = f"{location}/{table}"
    return [
        name
        for name in storage.names(folder)
        if name.startswith("part=") and storage.exists(f"{folder}/{name}/_SUCCESS")
    ]


def _since_replaced(parts: list[str]) -> list[str]:
    last = max((i for i, name in enumerate(parts) if name.endswith(_ALL)), default=0)
    return parts[last:]


def exists(location: str, table: str) -> bool:
    """Tell whether a table has any whole part."""
    return bool(_parts(location, table))


def require(location: str, table: str) -> None:
    """Make sure that a table is there.

    Raises
    ------
    UsageError
        If it is not, naming the job that makes it.
    """
    if not exists(location, table):
        there = "" if storage.exists(location) else " (nothing is there)"
        raise UsageError(f"{location}: no table of {table}{there}; make it with ./submit.sh {_MADE_BY[table]}")


def read(spark: SparkSession, location: str, table: str) -> DataFrame:
    """Return a table: the columns of its schema and `part`, the name of the part that a row came with.

    A table that is not there has no rows.
    """
    return addressed(spark, location, table).drop(*ADDRESS)


def addressed(spark: SparkSession, location: str, table: str) -> DataFrame:
    """Return a table as `read` does, with the address of each row: `file`, a URI, and `row`, its place in the file."""
    schema = T.StructType([*SCHEMAS[table].fields, T.StructField("part", T.StringType())])
    parts = _parts(location, table)
    if not parts:
        return spark.createDataFrame([], T.StructType([*schema.fields, *_schema(**ADDRESS).fields]))
    root = f"{storage.spark_path(location)}/{table}"
    rows = spark.read.schema(schema).option("basePath", root).parquet(*[f"{root}/{name}" for name in parts])
    file, row = F.col("_metadata.file_path").alias("file"), F.col("_metadata.row_index").alias("row")
    return rows.select(*schema.names, file, row)


def append(rows: DataFrame, location: str, table: str) -> str:
    """Add rows to a table, all of them or none, and return the name of the new part, as column `part` will hold it."""
    return _write(rows, location, table, "")


def _write(rows: DataFrame, location: str, table: str, end: str) -> str:
    there = storage.names(f"{location}/{table}")
    number = 1 + max((int(name[5:11]) for name in there if name.startswith("part=")), default=0)
    name = f"{number:06d}-{uuid.uuid4().hex[:8]}{end}"
    writer = rows.select(*SCHEMAS[table].names).write.options(**_PARQUET.get(table, {}))
    writer.partitionBy(*_PARTITIONED_BY.get(table, [])).parquet(f"{storage.spark_path(location)}/{table}/part={name}")
    return name


def replace(rows: DataFrame, location: str, table: str) -> str:
    """Put rows, which may be made of a table's own, in the place of all its rows, at once; return the part's name.

    What was there before stays on the disk until `tidy`: there may be DataFrames that are made of it.
    """
    return _write(rows, location, table, _ALL)


def tidy(location: str, table: str) -> None:
    """Delete the whole parts of a table that a later one has replaced."""
    parts = _whole(location, table)
    for name in parts[: len(parts) - len(_since_replaced(parts))]:
        storage.delete(f"{location}/{table}/{name}")


def latest(rows: DataFrame, *key: str) -> DataFrame:
    """Return of all rows with the same key that of the latest part, without `content`."""
    columns = [name for name in rows.columns if name not in {*key, "content"}]
    newest = F.max_by(F.struct(*columns), F.col("part")).alias("row")
    return rows.groupBy(*key).agg(newest).select(*key, "row.*")
