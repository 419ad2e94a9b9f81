"""The few words that jobs keep beside the tables of a location: small files in its folder, or rows in its catalog."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup import formats, storage, transactions
from dedup.errors import Reject, UsageError
from dedup.parts import numbered


def read(location: str, name: str) -> bytes | None:
    """Return what a note says; None where there is none.

    Raises
    ------
    UsageError, Outage
        If it cannot be read.
    """
    if formats.is_name(location):
        rows = _rows(location).where(F.col("file") == name).collect()
        return bytes(rows[0]["content"]) if rows else None
    try:
        return storage.read(f"{location}/{name}", storage.MAX_NOTE)
    except Reject as reject:
        if storage.exists(f"{location}/{name}"):
            raise UsageError(f"{location}/{name}: {reject.detail}") from reject
        return None


def names(location: str, folder: str) -> list[str]:
    """Return the sorted names of the notes below `folder/`."""
    if not formats.is_name(location):
        return [name for name in storage.names(f"{location}/{folder}") if not name.endswith(".part")]
    rows = _rows(location).where(F.col("file").startswith(f"{folder}/")).select("file").collect()
    return sorted(row["file"].removeprefix(f"{folder}/") for row in rows)


def write(location: str, name: str, content: bytes) -> None:
    """Leave a note, in the place of one of the same name.

    Raises
    ------
    UsageError, Outage
        If it cannot be left.
    """
    if formats.is_name(location):
        _append(location, name, bytearray(content))
    else:
        storage.write(f"{location}/{name}", content)


def delete(location: str, name: str) -> None:
    """Take a note away; it need not be there."""
    if formats.is_name(location):
        if read(location, name) is not None:  # else each look of a stream would leave a transaction
            _append(location, name, None)
    else:
        storage.delete(f"{location}/{name}")


def _rows(location: str) -> DataFrame:
    """Return the notes that a catalog has: of each, the last row, unless that says that it was taken away."""
    table, spark = _table(location), transactions.session()
    if not formats.CATALOG.exists(table):
        return spark.createDataFrame([], formats.CATALOG.notes)
    rows = formats.CATALOG.read(spark, table, formats.CATALOG.notes)
    return rows.groupBy("file").agg(F.max_by("content", "part").alias("content")).where("content IS NOT NULL")


def _append(location: str, name: str, content: bytearray | None) -> None:
    table = _table(location)
    row = transactions.session().createDataFrame([(name, content)], formats.CATALOG.notes)
    formats.CATALOG.write(row, table, numbered(formats.CATALOG.versions(table) + 1), (), {}, replace=False)


def _table(location: str) -> str:
    return f"{location}/notes"
