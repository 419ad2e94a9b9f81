"""Tables of images that others have made: Spark's binary files, with columns of one's own, in Parquet and Delta."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from tests.libraries import need
from tests.samples import make_images

from dedup import answers, extraction, given, models, tables
from dedup.errors import UsageError
from dedup.model import Model


def taken(spark: SparkSession, folder: Path) -> DataFrame:
    """Return the files below a folder as Spark takes them in, with a column of its owner's."""
    rows = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(f"file://{folder}")
    return rows.withColumn("ingested by", F.lit("a stream"))


@pytest.fixture(params=["parquet", "delta", "delta catalog"])
def kind(request: pytest.FixtureRequest, spark: SparkSession) -> str:
    need(request.param.partition(" ")[0])
    return str(request.param)


@pytest.mark.slow
def test_a_table_of_others_becomes_features_and_only_what_is_new_is_read_again(
    spark: SparkSession, model: Model, tmp_path: Path, kind: str
) -> None:
    paths = make_images(tmp_path / "in", 5)
    paths[4].write_bytes(paths[3].read_bytes())
    (tmp_path / "in" / "none.jpg").write_bytes(b"no image")
    table, features = str(tmp_path / "their table"), str(tmp_path / "features")
    if "catalog" in kind:
        table = f"spark_catalog.default.theirs_{uuid.uuid4().hex[:8]}"

    def add(rows: DataFrame) -> None:
        writer = rows.repartition(2).write.format(kind.split()[0]).option("delta.columnMapping.mode", "name")
        if "catalog" in kind:
            writer.mode("append").saveAsTable(table)
        else:
            writer.mode("append").save(f"file://{table}")

    add(taken(spark, tmp_path / "in"))
    done = extraction.extract(spark, table, features, model)
    assert (done.files, done.described, done.rejected, done.contents, done.computed) == (6, 5, 1, 5, 5)
    known = {row["path"]: row["sha256"] for row in tables.read(spark, features, "images").collect()}
    assert known[f"file:{paths[0]}"] == hashlib.sha256(paths[0].read_bytes()).hexdigest()
    assert extraction.extract(spark, table, features, model).computed == 0

    new = make_images(tmp_path / "more", 7)[5:]
    os.utime(paths[1], (2e9, 2e9))
    paths[1].write_bytes(new[0].read_bytes())
    os.utime(paths[1], (2e9, 2e9))
    for path in make_images(tmp_path / "more", 5):
        path.unlink()
    add(taken(spark, tmp_path / "more").union(taken(spark, paths[1].parent).where(F.col("path").endswith("001.jpg"))))
    for path in tmp_path.rglob("cloud*"):
        path.unlink()  # bytes are in the table, wherever they came from
    done = extraction.extract(spark, table, features, model)
    assert (done.files, done.described, done.rejected, done.computed) == (8, 7, 1, 2)
    assert models.of(features)[0].stale == 1, "the newest row of a path counts"
    question = answers.Question(features, [known[f"file:{paths[0]}"]], str(tmp_path / "report"))
    (rows,) = answers.ask(spark, question, models.choose(features, None, None)).rows.values()
    assert rows[0]["paths"] == [f"file:{paths[0]}"]


def test_a_table_of_others_is_read_as_it_was_when_it_was_opened(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        pytest.skip("plain Parquet has no versions")
    make_images(tmp_path / "in", 4)
    name = f"spark_catalog.default.theirs_{uuid.uuid4().hex[:8]}"
    table = name if "catalog" in kind else str(tmp_path / "table")
    writer = taken(spark, tmp_path / "in").repartition(4).write.format("delta")
    writer.option("delta.columnMapping.mode", "name")
    if "catalog" in kind:
        writer.saveAsTable(table)
    else:
        writer.save(f"file://{table}")
    with given.opened(spark, table) as found:
        assert found is not None
        before = spark.table(name) if "catalog" in kind else spark.read.format("delta").load(f"file://{table}")
        assert before.select("_metadata.file_path").distinct().count() > 1
        spark.sql(f"OPTIMIZE {name if 'catalog' in kind else f'delta.`{table}`'}")
        with found.listed(spark) as files:
            assert found.read(files, keep_bytes=False).where("reason is null").count() == 4


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
