"""Tables in each format: what is written is read, whole or not at all, and lies where the address says."""

from __future__ import annotations

import re
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType
from tests.libraries import need

from dedup import claims, formats, notes, rounds, storage, tables, vectors
from dedup.claims import Claim, claimed
from dedup.errors import Outage, UsageError

WIDTH = 8


@pytest.fixture(params=["parquet", "delta", "iceberg", "delta catalog", "iceberg catalog"])
def location(request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path) -> str:
    """Return a location that was begun in each format, in a folder whose name is not simple."""
    name, _, catalog = request.param.partition(" ")
    need(name)
    where = str(tmp_path / "a lake, 100% =ü+")
    if catalog:
        schema = {"delta": "spark_catalog.default", "iceberg": "ice.photos"}[name]
        spark.sql(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        where = f"{schema}.lake_{uuid.uuid4().hex[:8]}"
    formats.begin(where, name)
    return where


def features(spark: SparkSession, first: int, last: int, model: str = "a:model") -> DataFrame:
    """Return rows of features: the vector of content i is i, i, i, ..."""
    rows = [
        (f"{i:064x}", bytearray(np.full(WIDTH, i, "<f4").tobytes()), 1, 1, "PNG", None, model, i % 3)
        for i in range(first, last)
    ]
    return spark.createDataFrame(rows, tables.SCHEMAS["features"])


def hashes(rows: DataFrame) -> list[int]:
    return sorted(int(row["sha256"], 16) for row in rows.select("sha256").collect())


def test_what_is_added_is_read_and_what_is_replaced_is_gone(spark: SparkSession, location: str) -> None:
    assert not tables.exists(location, "features")
    assert hashes(tables.read(spark, location, "features")) == []
    first = tables.append(features(spark, 0, 10), location, "features")
    second = tables.append(features(spark, 10, 15), location, "features")
    assert second > first, "parts are in the order in which they were written"
    rows = tables.read(spark, location, "features")
    assert rows.columns == [*tables.SCHEMAS["features"].names, "part"]
    assert hashes(rows.where(F.col("part") == second)) == list(range(10, 15))
    assert tables.holds(spark, location, "features", [first, second])
    tables.replace(rows.where("int(conv(right(sha256, 8), 16, 10)) % 2 = 0"), location, "features")
    tables.tidy(location, "features")
    assert hashes(tables.read(spark, location, "features")) == list(range(0, 15, 2))
    assert not tables.holds(spark, location, "features", [first])
    last = tables.append(features(spark, 20, 22), location, "features")
    tables.keep(spark, location, "features", [last])
    assert hashes(tables.read(spark, location, "features")) == [20, 21]
    latest = tables.latest(tables.read(spark, location, "features"), "sha256")
    assert latest.count() == 2
    versions = [tables.version(location, "features")]
    for count in (0, 1):
        tables.replace(features(spark, 0, count), location, "features")
        versions.append(tables.version(location, "features"))
    assert versions == sorted(set(versions)), "an emptied table is a newer one too"


def test_the_millionth_part_comes_after_all_others(spark: SparkSession, location: str) -> None:
    form, schema = formats.of(location), tables.SCHEMAS["rejects"]
    if form is not formats.CATALOG and form is not formats.FORMATS["parquet"]:
        pytest.skip("its parts have the numbers of its own log")

    def row(reason: str) -> DataFrame:
        return spark.createDataFrame([("/a", None, "read", reason, None)], schema)

    form.write(row("first"), f"{location}/rejects", "999999-0123abcd", (), {}, replace=False)
    for reason in ("second", "third"):
        tables.append(row(reason), location, "rejects")
    assert tables.version(location, "rejects") == 1_000_001
    assert tables.latest(tables.read(spark, location, "rejects"), "path").collect()[0]["reason"] == "third"
    tables.replace(row("last"), location, "rejects")
    assert [each["reason"] for each in tables.read(spark, location, "rejects").collect()] == ["last"]


def test_a_table_that_was_made_without_a_column_is_read_and_gets_it(
    spark: SparkSession, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = tables.SCHEMAS["merges"]
    tables.append(spark.createDataFrame([(1, "a", "b")], schema), location, "merges")
    wider = StructType([*schema.fields, StructField("why", StringType())])
    monkeypatch.setitem(tables.SCHEMAS, "merges", wider)
    assert [tuple(row)[:4] for row in tables.read(spark, location, "merges").collect()] == [(1, "a", "b", None)]
    tables.append(spark.createDataFrame([(2, "c", "d", "near")], wider), location, "merges")
    rows = tables.read(spark, location, "merges").orderBy("run").collect()
    assert [tuple(row)[:4] for row in rows] == [(1, "a", "b", None), (2, "c", "d", "near")]
    tables.replace(spark.createDataFrame([(3, "e", "f", "far")], wider), location, "merges")
    assert [row["why"] for row in tables.read(spark, location, "merges").collect()] == ["far"]


def test_a_table_has_just_these_rows_or_others(spark: SparkSession, location: str) -> None:
    schema = tables.SCHEMAS["rejects"]
    one, other = ("/a", None, "read", "missing", "x"), ("/b", "0" * 64, "decode", "truncated", None)

    def rows(*some: tuple[str | None, ...]) -> DataFrame:
        return spark.createDataFrame(some, schema)

    def has(*some: tuple[str | None, ...]) -> bool:
        return tables.has(rows(*some), location, "rejects")

    assert not has(one, other)
    tables.append(rows(one), location, "rejects")
    tables.append(rows(other), location, "rejects")
    assert has(one, other)
    assert has(other, one)
    for number in range(len(schema)):
        assert not has(one, (*other[:number], "another", *other[number + 1 :]))
    for others in ((), (one,), (one, one), (one, other, other), (("/a", "read", None, "missing", "x"), other)):
        assert not has(*others)


def test_a_write_that_fails_leaves_nothing_to_see(spark: SparkSession, location: str) -> None:
    tables.append(features(spark, 0, 4), location, "features")

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield next(iter(batches))
        raise RuntimeError("a worker died")

    rows = features(spark, 4, 40).repartition(1)
    with pytest.raises(Exception, match="a worker died"):
        tables.append(rows.mapInArrow(work, rows.schema), location, "features")
    assert hashes(tables.read(spark, location, "features")) == list(range(4))


def test_vectors_are_read_where_the_address_says(spark: SparkSession, location: str) -> None:
    for start in (0, 30):
        tables.append(features(spark, start, start + 30).repartition(1), location, "features")
    if location.startswith("spark_catalog"):
        spark.sql(f"DELETE FROM {location}_features WHERE sha256 = '{7:064x}'")
    some = tables.addressed(spark, location, "features").where("bucket > 0")

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for sha256, rows in vectors.scan(batches, WIDTH):
            yield pa.RecordBatch.from_arrays([sha256, pa.array(rows.mean(axis=1))], names=["sha256", "mean"])

    found = vectors.given(some).mapInArrow(work, "sha256 string, mean float").collect()
    expected = [i for i in range(60) if i % 3 and not (i == 7 and location.startswith("spark_catalog"))]
    assert sorted(row["mean"] for row in found) == expected
    assert all(int(row["sha256"], 16) == row["mean"] for row in found)


def test_rounds_in_flight_together_make_a_table_once(spark: SparkSession, location: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: tables.append(features(spark, i, i + 1), location, "features"), range(8)))
    assert hashes(tables.read(spark, location, "features")) == list(range(8))


def test_a_reader_goes_on_with_what_it_has_begun_with(spark: SparkSession, location: str) -> None:
    tables.append(features(spark, 0, 5), location, "features")
    before = tables.read(spark, location, "features")
    tables.append(features(spark, 5, 9), location, "features")
    tables.replace(features(spark, 50, 51), location, "features")
    assert hashes(before) == list(range(5))


def test_notes_are_kept_beside_the_tables(location: str) -> None:
    assert notes.read(location, "_models/a") is None
    assert notes.names(location, "_models") == []
    notes.write(location, "_models/a", b"first")
    notes.write(location, "_models/a", b"second")
    notes.write(location, "_models/b", b"")
    assert notes.read(location, "_models/a") == b"second"
    assert notes.names(location, "_models") == ["a", "b"]
    notes.delete(location, "_models/b")
    before = formats.CATALOG.versions(f"{location}/notes") if formats.is_name(location) else 0
    notes.delete(location, "_models/b")
    notes.delete(location, "_models/c")
    assert not before or formats.CATALOG.versions(f"{location}/notes") == before, "a look that changes nothing"
    assert notes.names(location, "_models") == ["a"]
    assert notes.read(location, "_models/b") is None


def test_one_run_at_a_time_writes_to_a_location(
    spark: SparkSession, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "BEAT", 0.5)
    with claimed(location, "extract") as first:
        assert claims.is_held(location)
        with pytest.raises(UsageError, match=rf"{re.escape(location)}: another run writes there \(extract on "):
            Claim(location, "ingest").begin()
        tables.append(features(spark, 0, 1), location, "features")
        first.require()
    assert not claims.is_held(location)
    with claimed(location, "ingest") as second:
        second.require()
        with pytest.raises(UsageError, match="another run took over"):
            first.require()
    assert hashes(tables.read(spark, location, "features")) == [0]


def test_a_run_that_was_killed_is_followed_by_another(
    location: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(claims, "BEAT", 0.1)
    monkeypatch.setattr(socket, "gethostname", lambda: "burl-token-1")  # words like these are masked by Spark
    killed = Claim(location, "extract")
    killed._mark |= {"machine": "it's \\ another"}
    killed._place.begin(killed._beaten(0))
    killed.require()
    with claimed(location, "extract") as claim:
        claim.require()
        assert "a run there did not end" in caplog.text
        with pytest.raises(UsageError, match="another run took over"):
            killed.require()
    with suppress(Outage, UsageError):
        killed._place.change(killed._beaten(1))
    if formats.is_name(location):
        assert not claims.is_held(location), "what is gone is not made anew"


def test_of_runs_that_begin_at_once_on_a_location_one_goes_on(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT", 0.5)

    def begun(job: str) -> Claim | str:
        claim = Claim(location, job)
        try:
            claim.begin()
        except (UsageError, Outage) as error:
            return str(error)
        return claim

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(begun, ["a", "b", "c"]))
    won = [claim for claim in found if isinstance(claim, Claim)]
    assert len(won) == 1, found
    won[0].require()
    won[0].end()


def test_a_run_that_computes_on_all_cores_can_still_show_that_it_lives(
    spark: SparkSession, location: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(claims, "BEAT", 0.1)
    done = tmp_path / "done"

    def busy(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            until = time.monotonic() + 60
            while not done.exists() and time.monotonic() < until:
                time.sleep(0.1)
            yield batch

    with ThreadPoolExecutor(1) as pool, claimed(location, "extract") as claim:
        waiting = pool.submit(spark.range(0, 64, 1, 4 * rounds.slots(spark)).mapInArrow(busy, "id long").count)
        time.sleep(1)
        before = claim._place.look()
        until = time.monotonic() + 30
        while claim._place.look() == before and time.monotonic() < until:
            time.sleep(0.1)
        assert claim._place.look() != before
        assert not waiting.done()
        done.touch()
        assert waiting.result() == 64


@pytest.mark.parametrize("location", ["delta catalog", "iceberg catalog"], indirect=True)
def test_a_table_of_somebody_else_is_no_mark(spark: SparkSession, location: str) -> None:
    name = f"{location}_running"
    spark.range(3).writeTo(name).using(formats.CATALOG.provider(location) or "").create()
    with pytest.raises(UsageError, match=f"{re.escape(name)} is no mark of a run"), claimed(location, "extract"):
        raise AssertionError
    assert spark.table(name).count() == 3


def test_a_location_has_one_format(location: str) -> None:
    formats.begin(location, None)
    others = {"parquet", "delta", "iceberg"} - {name for name in formats.FORMATS if _is(location, name)}
    for other in others:
        with pytest.raises(UsageError, match=r"--format .* needs another place|parquet has no transactions"):
            formats.begin(location, other)


def _is(location: str, name: str) -> bool:
    if formats.is_name(location):
        return formats.CATALOG.provider(location) == name
    return storage.read(f"{location}/_format").decode() == name


@pytest.mark.usefixtures("classic")
def test_a_stream_tells_of_each_part_that_is_added(spark: SparkSession, location: str, tmp_path: Path) -> None:
    def told() -> set[str]:
        """Return the parts that have come since the last call."""
        found: set[str] = set()

        def note(rows: DataFrame, _: int) -> None:
            found.update(row["part"] for row in rows.distinct().collect())

        writer = tables.arriving(spark, location, "features").writeStream.foreachBatch(note)
        writer = writer.option("checkpointLocation", f"file://{tmp_path}/known").trigger(availableNow=True)
        writer.start().awaitTermination()
        return found

    first = tables.append(features(spark, 0, 10), location, "features")
    assert told() == {first}
    assert told() == set()
    second = tables.append(features(spark, 10, 15), location, "features")
    tables.drop(spark, location, "features", [first])
    third = tables.append(features(spark, 15, 16), location, "features")
    assert told() - {first} == {second, third}
