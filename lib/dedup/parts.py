"""What is written to a table together, a part, and what a format does with it; in plain Parquet a part is a folder.

Where a row of a table in a folder is, is a file and a place in it: vectors are read there without the JVM.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dedup import storage, stores
from dedup.errors import Outage, UsageError

_log = logging.getLogger(__name__)

ADDRESS: dict[str, T.DataType] = {"file": T.StringType(), "row": T.LongType()}
"""Where a row is: a file, as a URI in which a percent sign begins a code, and the row's place in it."""

ALL = "-all"
"""The end of the name of a part that replaced all parts before it."""


PART = re.compile(r"x*\d{6,}-\w+(-all)?")
"""What the name of a part looks like."""


def numbered(number: int) -> str:
    """Return a number as names of parts begin with it: as text they sort as the numbers do.

    It has six digits; for each digit more, an x is put before them, which sorts after digits.
    """
    digits = f"{number:06d}"
    return "x" * (len(digits) - 6) + digits


def number_of(part: str) -> int:
    """Return the number that the name of a part begins with."""
    return int(part.partition("-")[0].lstrip("x"))


class Format(Protocol):
    """What tables need of a format. A table is a folder; it is there when something has been written to it."""

    def exists(self, folder: str) -> bool:
        """Tell whether a table is there."""

    def versions(self, folder: str) -> int:
        """Return a number that is larger after each write than before it."""

    def read(self, spark: SparkSession, folder: str, columns: T.StructType) -> DataFrame:
        """Return the columns of a table that is there, `part`, and those of ADDRESS if rows have one.

        They are those of now, whatever is written later: a job that asks twice is not answered from two states.
        """

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
        """Return the names of the parts that have rows in a table, which need not be there.

        A part that was replaced is among them for as long as `keep` can bring it back.
        """

    def keep(self, spark: SparkSession, folder: str, parts: Sequence[str]) -> None:
        """Remove all rows but those of some parts from a table, which need not be there."""

    def drop(self, spark: SparkSession, folder: str, parts: Sequence[str]) -> None:
        """Remove the rows of some parts from a table that is there."""

    def tidy(self, folder: str) -> None:
        """Delete what readers see no more; no DataFrame may be made of it."""

    def begun(self, folder: str) -> set[str]:
        """Return the names of the parts that somebody has begun to write, or had, and that do not count yet."""

    def sweep(self, folder: str) -> None:
        """Delete what was begun, and never ended, where nobody writes."""

    def stream(self, spark: SparkSession, folder: str, columns: T.StructType) -> DataFrame:
        """Return what comes into a table that is there, as a stream: columns, some of those that `read` returns.

        Rows that come with a part that does not count yet, or no more, may be among them.
        """


class Parquet:
    """Folders of Parquet files, `part=000007-1f0c9a3e`, that count when Spark has marked them as whole.

    With the mark of a part whose name ends with ALL, all parts before it are gone for readers.
    """

    def exists(self, folder: str) -> bool:
        return bool(self._parts(folder))

    def versions(self, folder: str) -> int:
        return max((number_of(name.removeprefix("part=")) for name in self._all(folder)), default=0)

    def read(self, spark: SparkSession, folder: str, columns: T.StructType) -> DataFrame:
        root = stores.spark_path(folder)
        schema = T.StructType([*columns.fields, T.StructField("part", T.StringType())])
        parts = [f"{root}/{name}" for name in self._parts(folder)]
        rows = spark.read.schema(schema).option("basePath", root).parquet(*parts)
        file, row = F.col("_metadata.file_path").alias("file"), F.col("_metadata.row_index").alias("row")
        return rows.select(*schema.names, file, row)

    def write(
        self, rows: DataFrame, folder: str, part: str, by: Sequence[str], options: Mapping[str, str], replace: bool
    ) -> None:
        rows.write.options(**options).partitionBy(*by).parquet(f"{stores.spark_path(folder)}/part={part}")

    def parts(self, spark: SparkSession, folder: str) -> set[str]:
        return {name.removeprefix("part=") for name in self._whole(folder)}

    def keep(self, spark: SparkSession, folder: str, parts: Sequence[str]) -> None:
        others = [name.removeprefix("part=") for name in self._all(folder)]
        self.drop(spark, folder, [part for part in others if part not in parts])

    def drop(self, spark: SparkSession, folder: str, parts: Sequence[str]) -> None:
        for part in parts:
            storage.delete(f"{folder}/part={part}/_SUCCESS")  # first: it counts as a whole, whatever stops this
            storage.delete(f"{folder}/part={part}")

    def tidy(self, folder: str) -> None:
        parts = self._whole(folder)
        for name in parts[: len(parts) - len(_since_replaced(parts))]:
            storage.delete(f"{folder}/{name}")

    def begun(self, folder: str) -> set[str]:
        return {name.removeprefix("part=") for name in set(self._all(folder)) - set(self._whole(folder))}

    def sweep(self, folder: str) -> None:
        for part in sorted(self.begun(folder)):
            try:
                storage.delete(f"{folder}/part={part}")
            except (UsageError, Outage) as error:  # a task of the killed run still writes there: for the next sweep
                _log.warning("%s", error)

    def stream(self, spark: SparkSession, folder: str, columns: T.StructType) -> DataFrame:
        # However old a file is, it is new; and what was replaced is gone, perhaps before it is looked at.
        reader = spark.readStream.schema(columns).options(maxFileAge="36500d", ignoreMissingFiles="true")
        return reader.option("pathGlobFilter", "*.parquet").parquet(stores.spark_path(folder))

    def _parts(self, folder: str) -> list[str]:
        """Return the names of the parts that make up a table, oldest first."""
        return _since_replaced(self._whole(folder))

    def _whole(self, folder: str) -> list[str]:
        marks = {f"{folder}/{name}/_SUCCESS": name for name in self._all(folder)}
        return [marks[mark] for mark in storage.those_that_exist([*marks])]

    def _all(self, folder: str) -> list[str]:
        """Return the names of all folders that look like parts, whole or not."""
        return [name for name in storage.names(folder) if name.startswith("part=") and PART.fullmatch(name, 5)]


def _since_replaced(parts: list[str]) -> list[str]:
    last = max((i for i, name in enumerate(parts) if name.endswith(ALL)), default=0)
    return parts[last:]
