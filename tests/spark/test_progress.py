"""What Spark's UI shows of a job, and what is counted of a lake that has everything."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from tests.samples import Lake, descriptions

from dedup import answers, counters, extraction, images, models, progress
from dedup.model import Model


@pytest.mark.usefixtures("classic")
def test_counts_add_up_and_every_job_is_described(
    spark: SparkSession, lake: Lake, model: Model, tmp_path: Path
) -> None:
    before = descriptions(spark)
    counts = counters.ingested(images.ingest(spark, str(lake.images), f"{tmp_path}/table"))
    assert [str(one) for one in counts.sums] == [
        "files = 25 in the table + 1 rejected",
        "in the table = 25 read + 0 known",
        "to read = 25 new + 0 changed + 0 tried again",
        "gone",
    ]
    assert (counts.rejects, counts.worked) == ({"missing": 1}, 25)

    done = extraction.extract(spark, lake.table, lake.features, model)
    counts = counters.extracted(done, extraction.reasons(spark, lake.features))
    assert [str(one) for one in counts.sums] == [
        "files = 22 with features + 4 rejected",
        "contents = 0 computed + 23 known",
        "gone",
    ]
    assert counts.rejects == {"empty": 1, "missing": 1, "not_an_image": 1, "truncated": 1}

    asked = [str(lake.images / pattern) for pattern in ("set 0", "copy*", "*o*")]
    question = answers.Question(lake.features, asked, f"{tmp_path}/report")
    counts = counters.answered(answers.ask(spark, question, models.choose(lake.features, None, None)))
    assert str(counts.sums[1]) == "queries = 0 computed + 7 known"
    assert counts.rejects == {"missing": 1, "not_an_image": 1, "truncated": 1}

    said = [text for number, text in descriptions(spark).items() if number not in before]
    assert {(text or "").partition(":")[0] for text in said} == {"ingest", "extract", "query"}
    assert any(text and text.startswith("ingest: round 1 of 1, buckets ") for text in said)


def test_a_step_that_takes_long_is_spoken_of(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "SILENCE", 0.01)
    with caplog.at_level(logging.INFO, "dedup"):
        with progress.step(spark, "ingest: list"):
            while not caplog.messages:
                threading.Event().wait(0.01)
        monkeypatch.setattr(progress, "SILENCE", 30.0)
        with progress.step(spark, "ingest: count"):
            spark.range(1).count()
    assert caplog.messages == ["ingest: list: 00:00 so far"]
