"""How the tables of a location lie on its storage: as plain Parquet, as Delta tables, or as Iceberg tables.

All formats hold the same columns, and a column `part`: what was written together. Where a row is, is a file and a place
in it, in all of them: the vectors of a table are read there without the JVM.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dedup import storage
from dedup.errors import Reject, UsageError

ADDRESS: dict[str, T.DataType] = {"file": T.StringType(), "row": T.LongType()}
"""Where a row is: a file, as a URI in which a percent sign begins a code, and the row's place in it."""

ALL = "-all"
"""The end of the name of a part that replaced all parts before it."""


class Format(Protocol):
    """What tables need of a format. A table is a folder; it is there when something has been written to it."""

    def exists(self, folder: str) -> bool:
        """Tell whether a table is there."""

    def versions(self, folder: str) -> int:
        """Return a number that is larger after each write than before it."""

    def read(self, spark: SparkSession, folder: str, columns: T.StructType) -> DataFrame:
        """Return the columns of a table that is there, `part`, and those of ADDRESS."""

    def write(
        self, rows: DataFrame, folder: str, part: str, by: Sequence[str], options: Mapping[str, str], replace: bool
    ) -> None:
        """Add rows to a table, or put them in the place of all that it has: all of them at once, or none.

        Parameters
        ----------
        rows
            Just the table's columns. They may be made of the table itself.
        folder
            Where the table is, or comes to be.
        part
            The name of what is written.
        by
            The columns whose values are folders.
        options
            How Parquet files are written, in the words of Parquet and of Spark's writer.
        replace
            Whether the rows that are there go.
        """

    def parts(self, spark: SparkSession, folder: str) -> set[str]:
        """Return the names of the parts that have rows in a table, which need not be there."""

    def keep(self, spark: SparkSession, folder: str, parts: Sequence[str]) -> None:
        """Remove all rows but those of some parts from a table, which need not be there."""

    def tidy(self, folder: str) -> None:
        """Delete what readers see no more; no DataFrame may be made of it."""


class Parquet:
    """Folders of Parquet files, `part=000007-1f0c9a3e`, that count when Spark has marked them as whole.

    With the mark of a part whose name ends with ALL, all parts before it are gone for readers.
    """

    def exists(self, folder: str) -> bool:
        return bool(self._parts(folder))

    def versions(self, folder: str) -> int:
        return max((int(name[5:11]) for name in storage.names(folder) if name.startswith("part=")), default=0)

    def read(self, spark: SparkSession, folder: str, columns: T.StructType) -> DataFrame:
        root = storage.spark_path(folder)
        schema = T.StructType([*columns.fields, T.StructField("part", T.StringType())])
        parts = [f"{root}/{name}" for name in self._parts(folder)]
        rows = spark.read.schema(schema).option("basePath", root).parquet(*parts)
        file, row = F.col("_metadata.file_path").alias("file"), F.col("_metadata.row_index").alias("row")
        return rows.select(*schema.names, file, row)

    def write(
        self, rows: DataFrame, folder: str, part: str, by: Sequence[str], options: Mapping[str, str], replace: bool
    ) -> None:
        rows.write.options(**options).partitionBy(*by).parquet(f"{storage.spark_path(folder)}/part={part}")

    def parts(self, spark: SparkSession, folder: str) -> set[str]:
        return {name.removeprefix("part=") for name in self._parts(folder)}

    def keep(self, spark: SparkSession, folder: str, parts: Sequence[str]) -> None:
        for name in storage.names(folder):
            if name.removeprefix("part=") not in parts:
                storage.delete(f"{folder}/{name}")

    def tidy(self, folder: str) -> None:
        parts = self._whole(folder)
        for name in parts[: len(parts) - len(_since_replaced(parts))]:
            storage.delete(f"{folder}/{name}")

    def _parts(self, folder: str) -> list[str]:
        """Return the names of the parts that make up a table, oldest first."""
        return _since_replaced(self._whole(folder))

    def _whole(self, folder: str) -> list[str]:
        return [
            name
            for name in storage.names(folder)
            if name.startswith("part=") and storage.exists(f"{folder}/{name}/_SUCCESS")
        ]


def _since_replaced(parts: list[str]) -> list[str]:
    last = max((i for i, name in enumerate(parts) if name.endswith(ALL)), default=0)
    return parts[last:]


_creating = threading.Lock()
"""Rounds that are in flight together make a table once."""


class Delta:
    """Delta tables: a transaction for each write. What was replaced stays for readers until VACUUM."""

    def exists(self, folder: str) -> bool:
        return self.versions(folder) > 0

    def versions(self, folder: str) -> int:
        found = [re.fullmatch(r"(\d{20})\.json", name) for name in storage.names(f"{folder}/_delta_log")]
        return max((int(version[1]) + 1 for version in found if version), default=0)

    def read(self, spark: SparkSession, folder: str, columns: T.StructType) -> DataFrame:
        file, row = F.col("_metadata.file_path").alias("file"), F.col("_metadata.row_index").alias("row")
        return spark.read.format("delta").load(storage.spark_path(folder)).select(*columns.names, "part", file, row)

    def write(
        self, rows: DataFrame, folder: str, part: str, by: Sequence[str], options: Mapping[str, str], replace: bool
    ) -> None:
        path, rows = storage.spark_path(folder), rows.withColumn("part", F.lit(part))
        for name, value in options.items():
            if name.startswith("parquet."):
                with suppress(PySparkException):  # some sessions may set nothing: their files have other row groups
                    rows.sparkSession.conf.set(name, value)
        with _creating:
            if not self.exists(folder):
                # Where rows can be deleted within files, Delta tells a row's place in its file, and else not.
                new = rows.limit(0).write.format("delta").option("delta.enableDeletionVectors", "true")
                new.partitionBy(*by).save(path)
        writer = rows.write.format("delta").mode("overwrite" if replace else "append")
        writer.options(**{name: value for name, value in options.items() if name == "compression"}).save(path)

    def parts(self, spark: SparkSession, folder: str) -> set[str]:
        return _parts(self, spark, folder)

    def keep(self, spark: SparkSession, folder: str, parts: Sequence[str]) -> None:
        if self.exists(folder):
            table = storage.spark_path(folder).replace("`", "``")
            _delete(spark, f"delta.`{table}`", parts)

    def tidy(self, folder: str) -> None:
        """Do nothing: readers of earlier versions may be at work for as long as the table says."""


class Iceberg:
    """Iceberg tables: a snapshot for each write. What was replaced stays for readers until snapshots expire."""

    def exists(self, folder: str) -> bool:
        return self.versions(folder) > 0

    def versions(self, folder: str) -> int:
        found = [re.fullmatch(r"v(\d+)(\.gz)?\.metadata\.json", name) for name in storage.names(f"{folder}/metadata")]
        return max((int(version[1]) for version in found if version), default=0)

    def read(self, spark: SparkSession, folder: str, columns: T.StructType) -> DataFrame:
        # Iceberg's names of files are no URIs.
        file, row = F.replace(F.col("_file"), F.lit("%"), F.lit("%25")).alias("file"), F.col("_pos").alias("row")
        return spark.table(self._named(spark, folder)).select(*columns.names, "part", file, row)

    def write(
        self, rows: DataFrame, folder: str, part: str, by: Sequence[str], options: Mapping[str, str], replace: bool
    ) -> None:
        name, rows = self._named(rows.sparkSession, folder), rows.withColumn("part", F.lit(part))
        with _creating:
            if not self.exists(folder):
                new = rows.limit(0).writeTo(name).using("iceberg")
                # Rows come sorted by round already: Iceberg need not move them to one task for each folder.
                properties = {"write.distribution-mode": "none", "write.spark.fanout.enabled": "true"}
                for key, value in (properties | _of_iceberg(options)).items():
                    new = new.tableProperty(key, value)
                (new.partitionedBy(*map(F.col, by)) if by else new).create()
        writer = rows.writeTo(name)
        if replace:
            writer.overwrite(F.lit(True))
        else:
            writer.append()

    def parts(self, spark: SparkSession, folder: str) -> set[str]:
        return _parts(self, spark, folder)

    def keep(self, spark: SparkSession, folder: str, parts: Sequence[str]) -> None:
        if self.exists(folder):
            _delete(spark, self._named(spark, folder), parts)

    def tidy(self, folder: str) -> None:
        """Do nothing: readers of earlier snapshots may be at work."""

    def _named(self, spark: SparkSession, folder: str) -> str:
        """Return the name by which Spark knows a table: each location is a catalog."""
        location, _, table = folder.rpartition("/")
        catalog = f"spark.sql.catalog.dedup_{hashlib.sha256(location.encode()).hexdigest()[:12]}"
        spark.conf.set(catalog, "org.apache.iceberg.spark.SparkCatalog")
        spark.conf.set(f"{catalog}.type", "hadoop")
        spark.conf.set(f"{catalog}.warehouse", storage.spark_path(location))
        spark.conf.set(f"{catalog}.cache-enabled", "false")
        return f"{catalog.rpartition('.')[2]}.{table}"


_ICEBERG = {
    "compression": "write.parquet.compression-codec",
    "parquet.block.size": "write.parquet.row-group-size-bytes",
    "parquet.page.size.row.check.min": "write.parquet.row-group-check-min-record-count",
    "parquet.page.size.row.check.max": "write.parquet.row-group-check-max-record-count",
}


def _of_iceberg(options: Mapping[str, str]) -> dict[str, str]:
    named = {_ICEBERG[name]: value for name, value in options.items() if name in _ICEBERG}
    codec = _ICEBERG["compression"]
    return named | ({codec: "uncompressed"} if named.get(codec) == "none" else {})


def _parts(table: Delta | Iceberg, spark: SparkSession, folder: str) -> set[str]:
    if not table.exists(folder):
        return set()
    rows = table.read(spark, folder, T.StructType([])).select("part").distinct()
    return {row["part"] for row in rows.collect()}


def _delete(spark: SparkSession, table: str, parts: Sequence[str]) -> None:
    kept = ", ".join(f"'{part}'" for part in parts)
    spark.sql(f"DELETE FROM {table}" + (f" WHERE part NOT IN ({kept})" if kept else ""))


FORMATS: dict[str, Format] = {"parquet": Parquet(), "delta": Delta(), "iceberg": Iceberg()}
"""The formats, by the names that `--format` takes; tables are in the first where nothing else was said."""

DEFAULT = next(iter(FORMATS))


def of(location: str) -> Format:
    """Return the format of the tables of a location.

    Raises
    ------
    UsageError
        If it is none that is known here.
    """
    return FORMATS[_noted(location) or DEFAULT]


def _note(location: str) -> str:
    return f"{location}/_format"


def _noted(location: str) -> str | None:
    """Return the name of the format that a location was begun with; None where nothing was said."""
    try:
        name = storage.read(_note(location), 64).decode("ascii", "replace").strip()
    except Reject as reject:
        if storage.exists(_note(location)):
            raise UsageError(f"{_note(location)}: {reject.detail}") from reject
        return None
    if name not in FORMATS:
        raise UsageError(f"{_note(location)}: no format of tables that is known here: {name}")
    return name


def begin(location: str, asked: str | None) -> None:
    """Choose the format of a location, before any table is written there.

    Parameters
    ----------
    location
        A folder that can be written.
    asked
        A name of FORMATS; None for what is there, or the default.

    Raises
    ------
    UsageError
        If there are tables of another format, or the name is none.
    """
    if asked is None:
        return
    if asked not in FORMATS:
        raise UsageError(f"--format {asked}: possible are {', '.join(FORMATS)}")
    there = _noted(location)
    if there is None and any(storage.is_folder(f"{location}/{name}") for name in storage.names(location)):
        there = DEFAULT  # tables of before there was a choice
    if there is None:
        storage.write(_note(location), asked.encode())
    elif there != asked:
        raise UsageError(f"{location}: its tables are in {there}: --format {asked} needs another place")
