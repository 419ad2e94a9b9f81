"""Tables that have transactions, where a part is one: Delta and Iceberg in folders, and those of a catalog."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dedup import storage, stores
from dedup.parts import number_of

_ONLY_ADDED = {
    "skipChangeCommits": "true",  # of Delta
    "streaming-skip-delete-snapshots": "true",  # of Iceberg
    "streaming-skip-overwrite-snapshots": "true",
}
"""What makes a stream pass over whatever takes rows away, or replaces them."""

_creating = threading.Lock()
"""Rounds that are in flight together make a table once."""


class _Transacted:
    """What is done alike wherever a part is a transaction."""

    def exists(self, folder: str) -> bool:
        raise NotImplementedError

    def read(self, spark: SparkSession, folder: str, columns: T.StructType) -> DataFrame:
        raise NotImplementedError

    def _named(self, spark: SparkSession, folder: str) -> str:
        """Return the name by which SQL knows a table."""
        raise NotImplementedError

    def parts(self, spark: SparkSession, folder: str) -> set[str]:
        if not self.exists(folder):
            return set()
        rows = self.read(spark, folder, T.StructType([])).select("part").distinct()
        return {row["part"] for row in rows.collect()}

    def keep(self, spark: SparkSession, folder: str, parts: Sequence[str]) -> None:
        if self.exists(folder):
            self._delete(spark, folder, parts, "NOT IN")

    def drop(self, spark: SparkSession, folder: str, parts: Sequence[str]) -> None:
        if parts:
            self._delete(spark, folder, parts, "IN")

    def _widen(self, rows: DataFrame, folder: str) -> None:
        """Give a table, which may have been made when there were fewer, the columns of rows that come."""
        name = self._named(rows.sparkSession, folder)
        there = set(rows.sparkSession.table(name).columns)
        new = [f"`{one.name}` {one.dataType.simpleString()}" for one in rows.schema if one.name not in there]
        if new:
            rows.sparkSession.sql(f"ALTER TABLE {name} ADD COLUMNS ({', '.join(new)})")

    def _delete(self, spark: SparkSession, folder: str, parts: Sequence[str], where: str) -> None:
        named = ", ".join(f"'{part}'" for part in parts)
        spark.sql(f"DELETE FROM {self._named(spark, folder)}" + (f" WHERE part {where} ({named})" if named else ""))

    def tidy(self, folder: str) -> None:
        """Do nothing: readers of earlier versions may be at work for as long as the table says."""

    def begun(self, folder: str) -> set[str]:
        """Return nothing: a part counts when it is seen."""
        return set()

    def sweep(self, folder: str) -> None:
        """Do nothing: files without a transaction are known to the format's own vacuum."""

    def stream(self, spark: SparkSession, folder: str, columns: T.StructType) -> DataFrame:
        return added(spark, self._named(spark, folder)).select(*columns.names)


def _those(rows: DataFrame, columns: T.StructType) -> list[Column]:
    """Return columns of a table; null in the place of those that it was made without."""
    there = set(rows.columns)
    return [F.col(one.name) if one.name in there else F.lit(None).cast(one.dataType).alias(one.name) for one in columns]


def added(spark: SparkSession, name: str) -> DataFrame:
    """Return what is added to a table, which has a name, as a stream."""
    return spark.readStream.options(**_ONLY_ADDED).table(name)


class Delta(_Transacted):
    """Delta tables: a transaction for each write. What was replaced stays for readers until VACUUM."""

    def exists(self, folder: str) -> bool:
        return self.versions(folder) > 0

    def versions(self, folder: str) -> int:
        found = [re.fullmatch(r"(\d{20})\.json", name) for name in storage.names(f"{folder}/_delta_log")]
        return max((int(version[1]) + 1 for version in found if version), default=0)

    def read(self, spark: SparkSession, folder: str, columns: T.StructType) -> DataFrame:
        file, row = F.col("_metadata.file_path").alias("file"), F.col("_metadata.row_index").alias("row")
        # Else each action would read the newest version.
        now = spark.read.format("delta").option("versionAsOf", self.versions(folder) - 1)
        rows = now.load(stores.spark_path(folder))
        return rows.select(*_those(rows, columns), "part", file, row)

    def write(
        self, rows: DataFrame, folder: str, part: str, by: Sequence[str], options: Mapping[str, str], replace: bool
    ) -> None:
        path, rows = stores.spark_path(folder), rows.withColumn("part", F.lit(part))
        for name, value in options.items():
            if name.startswith("parquet."):
                with suppress(PySparkException):  # some sessions may set nothing: their files have other row groups
                    rows.sparkSession.conf.set(name, value)
        with _creating:
            if not self.exists(folder):
                # Where rows can be deleted within files, Delta tells a row's place in its file, and else not.
                new = rows.limit(0).write.format("delta").option("delta.enableDeletionVectors", "true")
                new.partitionBy(*by).save(path)
            self._widen(rows, folder)
        writer = rows.write.format("delta").mode("overwrite" if replace else "append")
        writer.options(**{name: value for name, value in options.items() if name == "compression"}).save(path)

    def stream(self, spark: SparkSession, folder: str, columns: T.StructType) -> DataFrame:
        reader = spark.readStream.format("delta").options(**_ONLY_ADDED)
        return reader.load(stores.spark_path(folder)).select(*columns.names)

    def _named(self, spark: SparkSession, folder: str) -> str:
        path = stores.spark_path(folder).replace("`", "``")
        return f"delta.`{path}`"


def _number(name: str) -> int:
    """Return the number in a name of Iceberg's metadata of a whole table; of other files, 0."""
    version = re.fullmatch(r"v(\d+)(\.gz)?\.metadata\.json", name)
    return int(version[1]) if version else 0


class Iceberg(_Transacted):
    """Iceberg tables: a snapshot for each write. What was replaced stays for readers until snapshots expire."""

    def exists(self, folder: str) -> bool:
        return self.versions(folder) > 0

    def versions(self, folder: str) -> int:
        return max(map(_number, storage.names(f"{folder}/metadata")), default=0)

    def read(self, spark: SparkSession, folder: str, columns: T.StructType) -> DataFrame:
        # Iceberg's names of files are no URIs.
        file, row = F.replace(F.col("_file"), F.lit("%"), F.lit("%25")).alias("file"), F.col("_pos").alias("row")
        rows = self.now(spark, folder)
        return rows.select(*_those(rows, columns), "part", file, row)

    def now(self, spark: SparkSession, folder: str) -> DataFrame:
        """Return all columns of a table as it is now, whatever is written later."""
        return _pinned(spark, self._named(spark, folder), self._snapshot(folder))

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
            self._widen(rows, folder)
        _put(rows, name, replace)

    def _snapshot(self, folder: str) -> int | None:
        newest = max(storage.names(f"{folder}/metadata"), key=_number)
        content = storage.read(f"{folder}/metadata/{newest}")
        found = json.loads(gzip.decompress(content) if newest.startswith(f"v{_number(newest)}.gz") else content)
        snapshot = found.get("current-snapshot-id")
        return None if snapshot in {None, -1} else int(snapshot)

    def _named(self, spark: SparkSession, folder: str) -> str:
        """Return the name by which Spark knows a table: each location is a catalog."""
        location, _, table = folder.rpartition("/")
        location, table = location or "/", table.replace("`", "``")
        catalog = f"spark.sql.catalog.dedup_{hashlib.sha256(location.encode()).hexdigest()[:12]}"
        spark.conf.set(catalog, "org.apache.iceberg.spark.SparkCatalog")
        spark.conf.set(f"{catalog}.type", "hadoop")
        spark.conf.set(f"{catalog}.warehouse", stores.spark_path(location))
        spark.conf.set(f"{catalog}.cache-enabled", "false")
        return f"{catalog.rpartition('.')[2]}.`{table}`"


GUARDED = "delta"
"""What a catalog's tables are made in where nothing is said: readers see whole writes only, as in a folder."""


_MARK = "dedup.mark"

_OF_MARKS = {
    GUARDED: {"delta.checkpointInterval": "100000"},  # one is made by tasks
    "iceberg": {"write.metadata.delete-after-commit.enabled": "true", "write.metadata.previous-versions-max": "1"},
}
"""What the table of a mark, which is changed thousands of times, does not have to keep."""


def _marked(mark: str, **properties: str) -> str:
    properties[_MARK] = mark.encode().hex()  # Spark masks properties whose values look like secrets
    said = ", ".join(f"'{name}' = '{value}'" for name, value in properties.items())
    return f"TBLPROPERTIES ({said})"


class Catalog(_Transacted):
    """Tables of a catalog: what is called CATALOG.SCHEMA.NAME has the tables CATALOG.SCHEMA.NAME_images, and so on.

    All of them are in the format of the first, CATALOG.SCHEMA.NAME_notes, whose rows are what `notes` keeps.
    """

    notes = T.StructType([T.StructField("file", T.StringType()), T.StructField("content", T.BinaryType())])

    def exists(self, folder: str) -> bool:
        return bool(session().catalog.tableExists(_name(folder)))

    def versions(self, folder: str) -> int:
        if not self.exists(folder):
            return 0
        last = session().table(_name(folder)).agg(F.max("part").alias("part")).collect()[0]["part"]
        return number_of(last) if last else _writes(session(), _name(folder))

    def read(self, spark: SparkSession, folder: str, columns: T.StructType) -> DataFrame:
        rows = now(spark, _name(folder))
        return rows.select(*_those(rows, columns), "part")

    def write(
        self, rows: DataFrame, folder: str, part: str, by: Sequence[str], options: Mapping[str, str], replace: bool
    ) -> None:
        name, rows = _name(folder), rows.withColumn("part", F.lit(part))
        with _creating:
            if not self.exists(folder):
                new = rows.limit(0).writeTo(name).using(self.provider(folder.rpartition("/")[0]) or GUARDED)
                (new.partitionedBy(*map(F.col, by)) if by else new).create()
            self._widen(rows, folder)
        _put(rows, name, replace)

    def begin(self, location: str, provider: str) -> None:
        """Make the first table of a location."""
        rows = session().createDataFrame([], T.StructType([*self.notes.fields, T.StructField("part", T.StringType())]))
        rows.writeTo(_name(f"{location}/notes")).using(provider).create()

    def mark(self, folder: str) -> str | None:
        """Return the mark that a table has, which is what a run says of itself; None where there is no table.

        It stands in a property, and the table has no rows: a task to change it would have to wait for a core that does
        the run's own work.

        Raises
        ------
        ValueError
            If the table is somebody else's.
        """
        name = _name(folder)
        try:
            session().sql(f"REFRESH TABLE {name}")  # some catalogs remember
            rows = session().sql(f"SHOW TBLPROPERTIES {name}").collect()
        except PySparkException:
            if self.exists(folder):
                raise
            return None
        mark = next((row["value"] for row in rows if row["key"] == _MARK), None)
        if mark is None:
            raise ValueError(f"{name} is no mark of a run, and stands where one would be")
        return bytes.fromhex(mark).decode()

    def begin_mark(self, folder: str, mark: str, provider: str | None) -> None:
        """Leave a mark where there is none; of runs that do so at the same time, one does."""
        using = self.provider(folder.rpartition("/")[0]) or provider or GUARDED
        table = f"{_name(folder)} (part STRING) USING {using}"
        session().sql(f"CREATE TABLE IF NOT EXISTS {table} {_marked(mark, **_OF_MARKS.get(using, {}))}")

    def change_mark(self, folder: str, mark: str) -> None:
        """Put a mark in the place of the one that is there."""
        session().sql(f"ALTER TABLE {_name(folder)} SET {_marked(mark)}")

    def drop_mark(self, folder: str) -> None:
        """Take the mark away."""
        session().sql(f"DROP TABLE IF EXISTS {_name(folder)}")

    def provider(self, location: str) -> str | None:
        """Return the format of the tables of a location; None where there are none."""
        if not self.exists(f"{location}/notes"):
            return None
        return _provider(session(), _name(f"{location}/notes"))

    def _named(self, spark: SparkSession, folder: str) -> str:
        return _name(folder)


def _name(folder: str) -> str:
    location, _, table = folder.rpartition("/")
    return f"{location}_{table}"


def now(spark: SparkSession, name: str) -> DataFrame:
    """Return a table of a catalog as it is now, whatever is written later, if its format can tell."""
    return _pinned(spark, name, _version(spark, name))


def _provider(spark: SparkSession, name: str) -> str | None:
    """Return the format of a table of a catalog; None of a view."""
    rows = spark.sql(f"DESCRIBE TABLE EXTENDED {name}").collect()
    told = [str(row["data_type"]).lower() for row in rows if row["col_name"] == "Provider"]
    return told[-1] if told else None  # columns, which may be called so too, come first


def _version(spark: SparkSession, name: str) -> int | None:
    provider = _provider(spark, name)
    if provider == "iceberg":
        rows = spark.sql(f"SELECT snapshot_id AS version FROM {name}.refs WHERE name = 'main'").collect()
    elif provider == "delta":
        rows = spark.sql(f"DESCRIBE HISTORY {name} LIMIT 1").select("version").collect()
    else:
        return None
    return rows[0]["version"] if rows else None


def _writes(spark: SparkSession, name: str) -> int:
    """Return a number that is at least that of the writes to a table of a catalog; 0 if its format does not tell."""
    if _provider(spark, name) == "iceberg":  # its versions are no numbers of anything
        rows = spark.sql(f"SELECT max(latest_sequence_number) AS version FROM {name}.metadata_log_entries").collect()
        return rows[0]["version"] or 0
    return _version(spark, name) or 0


def _pinned(spark: SparkSession, name: str, version: int | None) -> DataFrame:
    """Return a table as it was at a version; None for one without any."""
    return spark.table(name) if version is None else spark.read.option("versionAsOf", version).table(name)


_sessions: list[SparkSession] = []
"""The session that was found last: threads of a pool have none of their own, and Spark Connect none for all threads."""


def session() -> SparkSession:
    """Return the session that there is, or a new one: only it knows a catalog's tables."""
    active = SparkSession.getActiveSession()
    if active is not None:
        _sessions[:] = [active]
    elif not _sessions:
        _sessions[:] = [SparkSession.builder.getOrCreate()]
    return _sessions[0]


def _put(rows: DataFrame, table: str, replace: bool) -> None:
    writer = rows.writeTo(table)
    if replace:
        writer.overwrite(F.lit(True))
    else:
        writer.append()


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
