"""What reaches the workers, and what Spark's UI is told, in sessions with a SparkContext and in those without."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from dedup import delivery, features, rounds


def test_weights_are_unpickled_once_and_mapped_by_all(spark: SparkSession) -> None:
    flat = np.arange(1000, dtype=np.float32)

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            mapped = parcel.open()
            file = str(getattr(mapped, "filename", ""))
            yield pa.RecordBatch.from_pydict({"sum": [float(mapped.sum())], "file": [file]})

    with delivery.shipped(spark, flat, "numbers.f32") as parcel:
        made = spark.range(0, 4, 1, 4).mapInArrow(read, "sum double, file string")
        with rounds.held(made) as held:
            rows = [*made.collect(), *held.collect()]
    assert {row["sum"] for row in rows} == {499500.0}
    assert {row["file"] for row in rows} == {rows[0]["file"]}
    file = Path(rows[0]["file"])
    assert file.name == "numbers.f32"
    assert [*file.parents[1].rglob(file.name)] == [file], (
        "sessions that Spark makes of this one have no files of their own"
    )


@pytest.mark.usefixtures("classic")
def test_weights_that_were_sent_last_are_there_for_the_next(spark: SparkSession) -> None:
    def sum_of(parcel: delivery.Parcel) -> float:
        def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for _ in batches:
                yield pa.RecordBatch.from_pydict({"sum": [float(parcel.open().sum())]})

        return float(spark.range(0, 1, 1, 1).mapInArrow(read, "sum double").collect()[0]["sum"])

    ones, twos = np.ones(100, np.float32), np.full(100, 2, np.float32)
    with delivery.shipped(spark, ones, "ones.f32") as first:
        assert sum_of(first) == 100
    with delivery.shipped(spark, ones, "ones.f32") as again:
        assert again is first
        with delivery.shipped(spark, twos, "twos.f32") as other:
            assert (sum_of(other), sum_of(again)) == (200, 100), "what is in use stays"
    with delivery.shipped(spark, twos, "twos.f32") as other, delivery.shipped(spark, ones, "ones.f32") as anew:
        assert anew is not first
        assert (sum_of(other), sum_of(anew)) == (200, 100)


def test_a_task_knows_the_cores_that_it_was_given(spark: SparkSession) -> None:
    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            yield pa.RecordBatch.from_pydict({"cores": [features.cores()]})

    assert spark.range(0, 1, 1, 1).mapInArrow(count, "cores long").collect()[0]["cores"] == 1, "not the machine's"


@pytest.mark.usefixtures("classic")
def test_a_description_is_of_its_thread_and_its_time(spark: SparkSession) -> None:
    def key() -> str | None:
        found: str | None = spark.sparkContext.getLocalProperty("spark.job.description")
        return found

    elsewhere: list[str | None] = []
    with delivery.described(spark, "outer"):
        with suppress(ZeroDivisionError), delivery.described(spark, "inner"):
            assert key() == "inner"
            raise ZeroDivisionError
        assert key() == "outer"
        thread = threading.Thread(target=lambda: elsewhere.append(key()))
        thread.start()
        thread.join()
    assert (key(), elsewhere) == (None, [None])


def test_without_a_spark_context_a_description_is_a_tag(spark: SparkSession) -> None:
    if delivery.context(spark) is not None:
        pytest.skip("there is a SparkContext")
    with delivery.described(spark, "outer, and"), delivery.described(spark, "inner"):
        assert spark.getTags() == {"outer; and", "inner"}
    assert spark.getTags() == set()
