"""What ends a job: one line and exit code 2 where its user can help, wherever it was found out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from dedup import job
from dedup.errors import UsageError


def refuse(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    raise UsageError("/lake/a b.parquet: a file of features cannot be read: it says: UsageError: no")


def fail(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    raise ValueError("UsageError: not one of ours")


def test_what_a_task_says_to_the_user_is_one_line_and_exit_code_2(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = spark.range(0, 1, 1, 1).mapInArrow(refuse, "id long")
    for action in (rows.collect, lambda: rows.write.parquet(str(tmp_path / "out"))):
        with pytest.raises(SystemExit) as ended:
            job.run(action)
        assert ended.value.code == 2
        said = "error: /lake/a b.parquet: a file of features cannot be read: it says: UsageError: no\n"
        assert capsys.readouterr().err.endswith(said)


def test_any_other_failure_of_a_task_stays_what_it_is(spark: SparkSession) -> None:
    with pytest.raises(PySparkException, match="not one of ours"):
        job.run(spark.range(0, 1, 1, 1).mapInArrow(fail, "id long").collect)
