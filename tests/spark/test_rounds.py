"""Rounds: how much is under way at a time; and what sessions lack, work does without."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NoReturn

import pytest
from pyspark import StorageLevel
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from tests.samples import make_images

from dedup import images, rounds
from dedup.rounds import Round


def _refuse(monkeypatch: pytest.MonkeyPatch, spark: SparkSession, reason: str) -> None:
    """Let the session answer as Databricks serverless does."""

    def persist(self: DataFrame, level: StorageLevel) -> NoReturn:
        raise AnalysisException(f"[{reason}] PERSIST TABLE is not supported", reason, {})

    monkeypatch.setattr(type(spark.range(1)), "persist", persist)


def test_where_nothing_can_be_persisted_it_is_computed_again(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / "in", 3)
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    _refuse(monkeypatch, spark, "NOT_SUPPORTED_WITH_SERVERLESS")
    done = images.ingest(spark, str(tmp_path / "in"), str(tmp_path / "table"))
    assert done == images.Ingested(files=4, read=3, kept=3, rejected=1, reasons={"missing": 1})


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_as_many_rounds_as_wanted_are_under_way_at_a_time(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(rounds, "slots", lambda spark: 2)
    todo = spark.range(8 * 150).select((F.col("id") % 8).cast("int").alias("bucket"))
    under_way, most, seen = set[int](), [0], []

    def work(rows: DataFrame, chosen: Round) -> None:
        under_way.add(chosen.first)
        most.append(len(under_way))
        time.sleep(0.2)  # others begin
        seen.append((chosen.first, chosen.last, rows.count()))
        under_way.remove(chosen.first)

    assert rounds.run(todo, rounds.counted(todo), work, "count", at_once=at_once, most=128 * at_once) == 8 * 150
    assert sorted(seen) == [(bucket, bucket, 150) for bucket in range(8)]
    assert max(most) == at_once


def test_no_more_rows_are_under_way_than_may_be(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "slots", lambda spark: 2)
    lengths = [150, 500, 90, 400, 700, 80]
    todo = spark.createDataFrame([(i,) for i, length in enumerate(lengths) for _ in range(length)], "bucket int")
    under_way, seen = list[int](), set[tuple[int, ...]]()

    def work(_: DataFrame, chosen: Round) -> None:
        under_way.append(chosen.rows)
        seen.add(tuple(sorted(under_way)))
        time.sleep(0.3)  # others begin
        under_way.remove(chosen.rows)

    assert rounds.run(todo, rounds.counted(todo), work, "count", at_once=3, most=300) == sum(lengths)
    assert all(sum(together) <= 600 for together in seen if together != (700,))
    assert {(150,), (90, 500), (700,)} <= seen


def test_a_bucket_that_is_too_long_is_done_in_rounds_of_paths(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "slots", lambda spark: 2)
    monkeypatch.setattr(rounds, "LEAST_FILES", 1)
    lengths = {0: 3, 1: 33, 2: 24, 5: 26}
    paths = {bucket: [f"{7 * i % 97:02d} \u00fc'%.jpg" for i in range(length)] for bucket, length in lengths.items()}
    every = [(bucket, path) for bucket in paths for path in paths[bucket]]
    todo = spark.createDataFrame(every, "bucket int, path string").repartition(3)
    done = []

    def work(rows: DataFrame, chosen: Round) -> None:
        found = sorted((row["bucket"], row["path"]) for row in rows.collect())
        assert len(found) == chosen.rows
        done.append(found)

    assert rounds.run(todo, rounds.counted(todo), work, "count", at_once=2, most=10) == len(every)
    assert sorted(len(found) for found in done) == sorted([3, 9, 8, 8, 8, 24, 9, 9, 8])
    assert sorted(row for found in done for row in found) == sorted(every)

    done.clear()
    rounds.run(todo, rounds.counted(todo), work, "count", at_once=2, most=10, whole=True)
    assert sorted(len(found) for found in done) == sorted(lengths.values())


def test_when_a_round_fails_none_begins(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "slots", lambda spark: 1)
    todo = spark.range(4 * 70).select((F.col("id") % 4).cast("int").alias("bucket"))
    begun = []

    def work(_: DataFrame, chosen: Round) -> None:
        begun.append(chosen.first)
        if chosen.first == 1:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        rounds.run(todo, rounds.counted(todo), work, "count", at_once=1)
    assert begun == [0, 1]


def test_another_error_of_persist_is_none_to_go_on_from(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    _refuse(monkeypatch, spark, "TABLE_OR_VIEW_NOT_FOUND")
    with pytest.raises(AnalysisException), rounds.held(spark.range(1)):
        pass
