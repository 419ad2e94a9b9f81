"""Tables of images that others have made: Spark's binary files, with columns of one's own, in all formats."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

import pytest
from pyarrow import fs
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from tests.libraries import need
from tests.samples import make_images

from dedup import answers, claims, extraction, given, images, job, listing, models, stores, tables
from dedup.errors import UsageError
from dedup.model import Model


def taken(spark: SparkSession, folder: Path) -> DataFrame:
    """Return the files below a folder as Spark takes them in, with a column of its owner's."""
    rows = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(f"file://{folder}")
    return rows.withColumn("ingested by", F.lit("a stream"))


@pytest.fixture(params=["parquet", "delta", "iceberg", "delta catalog", "iceberg catalog"])
def kind(request: pytest.FixtureRequest, spark: SparkSession) -> str:
    need(request.param.partition(" ")[0])
    return str(request.param)


def place(spark: SparkSession, folder: Path, kind: str) -> str:
    """Return where a table of a kind is to be, which is no simple name where a folder is its place."""
    name, _, catalog = kind.partition(" ")
    if not catalog:
        return str(folder / "auto-loaded, 100% =ü+")
    schema = {"delta": "spark_catalog.default", "iceberg": "ice.photos"}[name]
    spark.sql(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    return f"{schema}.theirs_{uuid.uuid4().hex[:8]}"


def named(spark: SparkSession, table: str, kind: str) -> str:
    """Return what SQL calls a table: of Iceberg, a folder is a table of a catalog that others have there."""
    if "catalog" in kind:
        return table
    if kind != "iceberg":
        return f"{kind}.`{table}`"
    folder, _, name = table.rpartition("/")
    catalog = f"theirs_{hashlib.sha256(folder.encode()).hexdigest()[:8]}"
    spark.conf.set(f"spark.sql.catalog.{catalog}", "org.apache.iceberg.spark.SparkCatalog")
    spark.conf.set(f"spark.sql.catalog.{catalog}.type", "hadoop")
    spark.conf.set(f"spark.sql.catalog.{catalog}.warehouse", f"file://{folder}")
    return f"{catalog}.`{name}`"


def add(rows: DataFrame, table: str, kind: str) -> None:
    """Add rows to a table, as others do; the first make it."""
    name, provider = named(rows.sparkSession, table, kind), kind.partition(" ")[0]
    if provider == "iceberg":
        writer = rows.writeTo(name).using(provider)
        (writer.append if rows.sparkSession.catalog.tableExists(name) else writer.create)()
    elif "catalog" in kind:
        rows.write.format(provider).option("delta.columnMapping.mode", "name").mode("append").saveAsTable(table)
    else:
        rows.write.format(kind).option("delta.columnMapping.mode", "name").mode("append").save(f"file://{table}")


@pytest.mark.slow
def test_a_table_of_others_becomes_features_and_only_what_is_new_is_read_again(
    spark: SparkSession, model: Model, tmp_path: Path, kind: str
) -> None:
    paths = make_images(tmp_path / "in", 5)
    paths[4].write_bytes(paths[3].read_bytes())
    (tmp_path / "in" / "none.jpg").write_bytes(b"no image")
    table, features = place(spark, tmp_path, kind), str(tmp_path / "features")
    add(taken(spark, tmp_path / "in").repartition(2), table, kind)
    done = extraction.extract(spark, table, features, model)
    assert (done.files, done.described, done.rejected, done.contents, done.computed) == (6, 5, 1, 5, 5)
    assert done.gone == 0
    known = {row["path"]: row["sha256"] for row in tables.read(spark, features, "images").collect()}
    assert known[str(paths[0])] == hashlib.sha256(paths[0].read_bytes()).hexdigest()
    assert extraction.extract(spark, table, features, model).computed == 0

    new = make_images(tmp_path / "more", 7)[5:]
    os.utime(paths[1], (2e9, 2e9))
    paths[1].write_bytes(new[0].read_bytes())
    os.utime(paths[1], (2e9, 2e9))
    for path in make_images(tmp_path / "more", 5):
        path.unlink()
    changed = taken(spark, paths[1].parent).where(F.col("path").endswith("001.jpg"))
    add(taken(spark, tmp_path / "more").union(changed).repartition(2), table, kind)
    for path in tmp_path.rglob("cloud*"):
        path.unlink()  # bytes are in the table, wherever they came from
    done = extraction.extract(spark, table, features, model)
    assert (done.files, done.described, done.rejected, done.computed) == (8, 7, 1, 2)
    assert models.of(features)[0].stale == 1, "the newest row of a path counts"
    question = answers.Question(features, [known[str(paths[0])]], str(tmp_path / "report"))
    (rows,) = answers.ask(spark, question, models.choose(features, None, None)).rows.values()
    assert rows[0]["paths"] == [str(paths[0])]


def test_a_table_of_others_is_read_as_it_was_when_it_was_opened(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        pytest.skip("plain Parquet has no versions")
    make_images(tmp_path / "in", 4)
    table = place(spark, tmp_path, kind)
    name = named(spark, table, kind)
    add(taken(spark, tmp_path / "in").repartition(4), table, kind)
    with given.opened(spark, table) as found:
        assert found is not None
        with given.opened(spark, table) as before:
            assert before is not None
            with before.listed(spark) as files:
                assert files.select("file").distinct().count() > 1
        spark.sql(f"DELETE FROM {name}" if "iceberg" in kind else f"OPTIMIZE {name}")
        with found.listed(spark) as files:
            assert found.read(files, keep_bytes=False).where("reason is null").count() == 4


SPELLINGS = [
    "/a/b.jpg",
    "/a//b.jpg",
    "//a/b.jpg",
    "/a/./b/../c.jpg",
    "/../a/..b/...jpg",
    "/a/.hidden/b.",
    "/a/b/",
    "/a/b/..",
    "file:/a/b.jpg",
    "file:///a/b.jpg",
    "file:////a//b.jpg",
    "FILE:/a",
    "file://host/a",
    "file:/Volumes/a",
    "/a/file:/b",
    "dbfs:/mnt/a",
    "dbfs:///mnt/a",
    "dbfs:/Volumes/m/s/a",
    "dbfs:///Volumes//m/s/a",
    "DBFS:/Volumes/a",
    "dbfs:/Volumes2",
    "file:/a/%20 b.jpg",
    "file:/a/100%.jpg",
    "file:/a/%2525#?&.jpg",
    "/a/ü\n/b\n",
    "file:/a\\b$1.jpg",
    "dbfs:/a b/ ",
    "s3://lake/a",
    "S3://lake//a/./b",
    "s3a://lake/a%20/",
    "s3a://lake/s3://x",
    "s3:/lake/a\n",
    "gs://lake/a",
    "GS://lake/a/../b",
    "hdfs://host:8020/a",
    "HDFS:///a",
    "abfs://c@account.dfs.core.windows.net/a",
    "abfss://c@account/a b",
    "ABFS://c@account/abfs://x",
]
"""Of locations of files, as others write them."""


def test_paths_are_spelt_as_those_of_all_tables(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    root, elsewhere = stores._root, fs.SubTreeFileSystem("/", fs.LocalFileSystem())
    monkeypatch.setattr(stores, "_root", lambda *of: root(*of) if of[0] in {"file", "dbfs"} else (elsewhere, ""))
    rows = spark.createDataFrame([(path,) for path in SPELLINGS], "path string")
    spelt = {
        row["path"]: row["spelt"] for row in rows.select("path", given._spelt(F.col("path")).alias("spelt")).collect()
    }
    assert spelt == {path: stores.absolute(path) for path in SPELLINGS}
    others = ["wasbs://c@account/a//b", "a/b.jpg", "./a", "unity:/a", "C:\\a", "s3:x", "", "12:30.jpg"]
    rows = spark.createDataFrame([(path,) for path in others], "path string").select(given._spelt(F.col("path")))
    assert [row[0] for row in rows.collect()] == [path.replace("s3:", "s3a:") for path in others]


def test_paths_of_a_store_lead_to_their_bytes(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    paths = make_images(tmp_path / "in", 3)
    table = place(spark, tmp_path, kind)
    path = F.regexp_replace("path", "^file:.*/", "s3://lake/a b/")
    add(taken(spark, tmp_path / "in").withColumn("path", path), table, kind)
    with given.opened(spark, table) as found:
        assert found is not None
        with found.listed(spark) as files:
            rows = found.read(files, keep_bytes=True).collect()
    assert {row["path"]: bytes(row["content"]) for row in rows} == {
        f"s3a://lake/a b/{path.name}": path.read_bytes() for path in paths
    }
    assert {row["reason"] for row in rows} == {None}


def test_features_with_paths_as_they_were_spelt_before_are_kept(
    spark: SparkSession, model: Model, tmp_path: Path
) -> None:
    paths = make_images(tmp_path / "in", 3)
    (tmp_path / "in" / "none.jpg").write_bytes(b"no image")
    table, features = f"{tmp_path}/table", f"{tmp_path}/features"
    taken(spark, tmp_path / "in").write.parquet(f"file://{table}")
    first = extraction.extract(spark, table, features, model)
    for name in images.LISTED:
        old = tables.read(spark, features, name).withColumn("path", F.concat(F.lit("file:"), "path"))
        tables.replace(old, features, name)
    done = extraction.extract(spark, table, features, model)
    assert (done.files, done.described, done.rejected, done.computed) == (4, 3, 1, 0)
    assert done.contents == first.contents
    assert models.of(features)[0].stale == 0
    listed = {entry.path for entry in listing.entries(f"{tmp_path}/in")}
    assert {row["path"] for row in images.inventory(spark, features).collect()} == listed
    assert {row["path"] for row in tables.read(spark, features, "rejects").collect()} == listed - set(map(str, paths))


def test_paths_that_cannot_be_read_here_have_features_and_no_pictures(
    spark: SparkSession, model: Model, tmp_path: Path
) -> None:
    paths = make_images(tmp_path / "in", 3)
    table, features = f"{tmp_path}/table", f"{tmp_path}/features"
    far = taken(spark, tmp_path / "in").withColumn("path", F.regexp_replace("path", "^file:.*/", "https://lake/"))
    far.write.parquet(f"file://{table}")
    assert extraction.extract(spark, table, features, model).described == 3
    sha256 = hashlib.sha256(paths[0].read_bytes()).hexdigest()
    question = answers.Question(features, [sha256], str(tmp_path / "report"))
    answered = answers.ask(spark, question, models.choose(features, None, None))
    assert answered.rows[sha256][0]["paths"][0].startswith("https://lake/")
    assert "data:image" not in Path(answered.page).read_text()


def test_what_a_row_does_not_tell(spark: SparkSession, tmp_path: Path) -> None:
    paths = make_images(tmp_path / "in", 3)
    rows = taken(spark, tmp_path / "in")
    length = F.when(~F.col("path").endswith(paths[0].name), F.col("length"))
    modified = F.when(~F.col("path").endswith(paths[1].name), F.col("modificationTime"))
    rows = rows.withColumn("length", length).withColumn("modificationTime", modified)
    rows.write.parquet(f"file://{tmp_path}/table")
    features = f"{tmp_path}/features"
    with claims.claimed(features, "extract") as held, given.opened(spark, f"{tmp_path}/table") as found:
        assert found is not None
        done = images.take(spark, found, features, keep_bytes=False, claim=held)
        assert done is not None
        assert (done.files, done.kept, done.rejected) == (3, 2, 1)
        again = images.take(spark, found, features, keep_bytes=False, claim=held)
        assert again is not None
        assert again.read == 0
    (reject,) = tables.read(spark, features, "rejects").collect()
    assert (reject["path"], reject["reason"]) == (str(paths[0]), "unreadable")
    assert reject["detail"] == "the table does not tell its length"


def test_capitals_do_not_tell_columns_apart(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    make_images(tmp_path / "in", 2)
    table = place(spark, tmp_path, kind)
    rows = taken(spark, tmp_path / "in").withColumnsRenamed({"modificationTime": "modificationtime", "path": "PATH"})
    add(rows, table, kind)
    with given.opened(spark, table) as found:
        assert found is not None
        with found.listed(spark) as files:
            assert found.read(files, keep_bytes=False).where("reason is null").count() == 2


def refused(spark: SparkSession, table: str) -> str:
    """Return what is said of a table that is none of images."""
    with pytest.raises(UsageError) as caught, given.opened(spark, table):
        pass
    return str(caught.value)


def test_what_is_wrong_with_a_table_is_told(spark: SparkSession, tmp_path: Path) -> None:
    make_images(tmp_path / "in", 1)
    rows = taken(spark, tmp_path / "in")
    rows.drop("length").write.parquet(f"file://{tmp_path}/lacking")
    assert "has length as BIGINT, not none" in refused(spark, f"{tmp_path}/lacking")
    rows.withColumn("length", F.col("length").cast("int")).write.parquet(f"file://{tmp_path}/narrow")
    assert "has length as BIGINT, not INT" in refused(spark, f"{tmp_path}/narrow")

    rows.coalesce(1).write.parquet(f"file://{tmp_path}/named")
    for number, path in enumerate((tmp_path / "named").glob("*.parquet")):
        path.rename(path.with_name(f"part-{number}"))
    assert "must be called *.parquet" in refused(spark, f"{tmp_path}/named")

    (tmp_path / "theirs" / "metadata").mkdir(parents=True)
    (tmp_path / "theirs" / "metadata" / "00001-7c1b.metadata.json").write_text("{}")
    assert "name it, CATALOG.SCHEMA.NAME" in refused(spark, f"{tmp_path}/theirs")


def test_a_file_that_is_none_ends_a_job_with_one_line(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "a.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    with pytest.raises(SystemExit) as ended:
        job.run(lambda: given.opened(spark, str(tmp_path / "theirs")).__enter__())
    said = capsys.readouterr().err.splitlines()[-1]
    assert (ended.value.code, said.startswith("error: ")) == (2, True)
    assert f"{tmp_path}/theirs/a.parquet: no Parquet file" in said


def test_a_view_is_not_the_table(spark: SparkSession) -> None:
    name = f"spark_catalog.default.theirs_{uuid.uuid4().hex[:8]}"
    columns = "'/a' path, current_timestamp() modificationTime, 1L length, X'00' content"
    spark.sql(f"CREATE VIEW {name} AS SELECT {columns}")
    try:
        assert "is a view" in refused(spark, name)
    finally:
        spark.sql(f"DROP VIEW {name}")
    with given.opened(spark, name) as found:
        assert found is None, "nothing is there"


def test_a_table_with_columns_of_other_kinds_is_bad_use(spark: SparkSession, model: Model, tmp_path: Path) -> None:
    rows = spark.range(1).selectExpr(
        "string(id) path", "id modificationTime", "id length", "binary(string(id)) content"
    )
    rows.write.parquet(f"file://{tmp_path}/table")
    with pytest.raises(UsageError, match="has modificationTime as TIMESTAMP, not BIGINT"):
        extraction.extract(spark, f"{tmp_path}/table", f"{tmp_path}/features", model)


@pytest.mark.parametrize("there", [None, "a table of something else", "no table"])
def test_what_is_no_table_of_images_is_bad_use(
    spark: SparkSession, model: Model, tmp_path: Path, there: str | None
) -> None:
    table = tmp_path / "table"
    if there == "a table of something else":
        spark.range(3).write.parquet(f"file://{table}")
    elif there:
        table.mkdir()
        (table / "a.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match="no table of images"):
        extraction.extract(spark, str(table), f"{tmp_path}/features", model)
