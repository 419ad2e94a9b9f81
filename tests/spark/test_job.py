"""What ends a job: one line and exit code 2 where its user can help, wherever it was found out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from dedup import job
from dedup.errors import Outage, UsageError


def refuse(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    raise UsageError("/lake/a b.parquet: a file of features cannot be read: it says: UsageError: no")


def silent(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    raise Outage("s3a://lake/a b: the storage does not answer: curlCode: 7")


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


def test_a_storage_that_does_not_answer_is_one_line_and_exit_code_1(
    spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    for action in (spark.range(0, 1, 1, 1).mapInArrow(silent, "id long").collect, lambda: next(silent(iter(())))):
        with pytest.raises(SystemExit) as ended:
            job.run(action)
        assert ended.value.code == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert last == (
            "error: s3a://lake/a b: the storage does not answer: curlCode: 7 (what was done is kept: run it again)"
        )


@pytest.mark.parametrize(
    ("report", "code", "says"),
    [
        (
            "java.nio.file.AccessDeniedException: s3a://out/the lake/part=1: getFileStatus: x",
            2,
            "s3a://out/the lake/part=1: Spark may not read or write it",
        ),
        (
            "org.apache.hadoop.fs.s3a.AWSStatus500Exception: getFileStatus on s3a://out/t: x: Slow Down\n\tat a.b.C",
            1,
            "the storage does not answer Spark: getFileStatus on s3a://out/t: x: Slow Down (what was done is kept",
        ),
        (
            'UnsupportedFileSystemException: No FileSystem for scheme "gs"',
            2,
            "Spark lacks the library for gs: locations",
        ),
    ],
)
def test_what_spark_says_of_a_store_is_one_line(
    report: str, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise RuntimeError(f"An error occurred while calling o1.parquet.\n: {report}")

    with pytest.raises(SystemExit) as ended:
        job.run(fail)
    assert ended.value.code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {says}")


def test_any_other_failure_of_a_task_stays_what_it_is(spark: SparkSession) -> None:
    with pytest.raises(PySparkException, match="not one of ours"):
        job.run(spark.range(0, 1, 1, 1).mapInArrow(fail, "id long").collect)
