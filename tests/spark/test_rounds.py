"""What sessions lack, work does without."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pytest
from pyspark import StorageLevel
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from tests.samples import make_images

from dedup import images, rounds


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


def _frozen(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    from dedup import search  # and numba with it

    assert search
    for _ in batches:
        yield pa.RecordBatch.from_pydict({"frozen": [gc.get_freeze_count()], "whole": [len(gc.get_objects())]})


def test_what_workers_have_loaded_is_not_looked_through_after_each_task(spark: SparkSession) -> None:
    for _ in range(2):
        found = spark.range(0, 4, 1, 4).mapInArrow(_frozen, "frozen long, whole long").collect()
    assert all(row.frozen > 50_000 > row.whole for row in found)
    assert gc.get_freeze_count() == 0, "a driver is its user's"


def test_another_error_of_persist_is_none_to_go_on_from(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    _refuse(monkeypatch, spark, "TABLE_OR_VIEW_NOT_FOUND")
    with pytest.raises(AnalysisException), rounds.held(spark.range(1)):
        pass
