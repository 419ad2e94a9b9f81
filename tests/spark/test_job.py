"""What ends a job: one line and exit code 2 where its user can help, wherever it was found out."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pyarrow as pa
import pyarrow.parquet
import pytest
from py4j.protocol import Py4JNetworkError
from pyspark.sql import SparkSession
from tests.networks import network, save
from tests.samples import ROOT, Lake

from dedup import delivery, job, labels, tables
from dedup.counters import Record
from dedup.errors import Outage, UsageError

RunBy = Callable[[str | Path], str]


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


@pytest.fixture
def gone_before() -> Iterator[None]:
    """Let Ctrl-C find what it finds where the JVM ended first, under Spark before 4.2."""

    def failing(number: int, frame: FrameType | None) -> None:
        raise Py4JNetworkError("Answer from Java side is empty")

    was = signal.signal(signal.SIGINT, failing)
    yield
    signal.signal(signal.SIGINT, was)


def test_ctrl_c_is_one_also_where_the_jvm_has_ended_first(
    classic: None, gone_before: None, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        job.session("test")
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(SystemExit) as ended:
        job.run(main)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "error: stopped (what was done is kept: run it again)\n"


class Unasked(Exception):
    """An error of the JVM's, which is asked for its words when they are needed."""

    def __str__(self) -> str:
        raise Py4JNetworkError("Answer from Java side is empty")


@pytest.mark.parametrize(
    "error",
    [
        Unasked(),
        RuntimeError("Job 3 cancelled because SparkContext was shut down"),
        RuntimeError(
            '[STREAM_FAILED] Query terminated with exception: Cannot invoke "org.apache.spark.scheduler.DAGScheduler.'
            'cleanupQueryJobs(long)" because the return value of "org.apache.spark.SparkContext.dagScheduler()" is null'
        ),
        RuntimeError(
            'Cannot invoke "org.apache.spark.SparkEnv.blockManager()" because the return value of '
            '"org.apache.spark.SparkEnv$.MODULE$.get()" is null'
        ),
    ],
    ids=["unasked", "a job", "a stream", "a block"],
)
def test_an_error_of_a_jvm_that_has_ended_is_one_line(
    error: Exception, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail() -> None:
        job._record = Record("test", str(tmp_path / "counted.json"))
        raise error

    with pytest.raises(SystemExit) as ended:
        job.run(fail)
    assert ended.value.code == 1
    said = "the driver's JVM has ended (what was done is kept: run it again)"
    assert capsys.readouterr().err == f"error: {said}\n"
    told = json.loads((tmp_path / "counted.json").read_text())
    assert (told["outcome"], told["error"]) == ("failed", said)


def test_what_nobody_foresaw_is_told_whole_but_for_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ZeroDivisionError("s3a://KEY:SECRET@bucket/a")

    with pytest.raises(SystemExit) as ended:
        job.run(fail)
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert "Traceback" in said
    assert "ZeroDivisionError: s3a://***@bucket/a" in said
    assert "SECRET" not in said


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
            "org.apache.hadoop.fs.s3a.AWSBadRequestException: open s3a://lake/t: the token has expired.\n\tat a.B",
            2,
            "the store refuses Spark: do the credentials and the region fit the store? (open s3a://lake/t: the token",
        ),
        (
            "[FAILED_READ_FILE.FILE_NOT_EXIST] Encountered error while reading file file:///t/a.b/1. File does not",
            1,
            "file:///t/a.b/1: it is gone: another run may have replaced what was being read (what was done is kept",
        ),
        (
            "AnalysisException: [PATH_NOT_FOUND] Path does not exist: file:/t/part=1. SQLSTATE: 42K03",
            1,
            "file:/t/part=1: it is gone: another run may have replaced what was being read",
        ),
        (
            'UnsupportedFileSystemException: No FileSystem for scheme "gs"',
            2,
            "Spark lacks the library for gs: locations",
        ),
        (
            "SparkException: Job aborted due to stage failure: Master removed our application: FAILED",
            1,
            "the master has ended this application: what the executors logged says why (what was done is kept",
        ),
        ("SparkException: Invalid master URL: spark://here\n\tat a.B", 2, "spark://here: no such master"),
        ("SparkException: Could not parse Master URL: 'local[x]'", 2, "local[x]: no such master"),
    ],
)
def test_what_spark_says_of_a_store_or_a_master_is_one_line(
    report: str, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise RuntimeError(f"An error occurred while calling o1.parquet.\n: {report}")

    with pytest.raises(SystemExit) as ended:
        job.run(fail)
    assert ended.value.code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {says}")


@pytest.fixture
def run_by(spark: SparkSession, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunBy:
    """Return what runs a task in workers of some Python, and returns the one line that the job ends with."""

    if delivery.context(spark) is None:
        pytest.skip("the server of Spark Connect chooses the workers' Python")

    def run(python: str | Path) -> str:
        monkeypatch.setattr(spark.sparkContext, "pythonExec", str(python))
        with pytest.raises(SystemExit) as ended:
            job.run(spark.range(0, 1, 1, 1).mapInArrow(fail, "id long").collect)
        assert ended.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    return run


def test_workers_whose_python_has_no_packages_are_one_line(run_by: RunBy, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    assert run_by(tmp_path / "bare" / "bin" / "python").startswith(
        "error: the executors' Python lacks the package pyarrow: "
    )


def test_workers_without_a_python_are_one_line(run_by: RunBy) -> None:
    said = run_by("./environment/bin/python")  # no archive brought it
    assert said.startswith("error: the executors have no Python at ./environment/bin/python: ")


def another_python() -> str | None:
    """Return a Python of another minor version that PySpark runs on, where this machine has one."""
    for name in (f"python3.{minor}" for minor in range(10, 20) if minor != sys.version_info.minor):
        beside = Path(sys.base_prefix).parent.glob(f"*/bin/{name}")  # where versions are installed side by side
        for found in filter(None, [shutil.which(name), *map(str, beside)]):
            if subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
                return found
    return None


def test_workers_of_another_python_are_one_line(run_by: RunBy) -> None:
    python = another_python()
    if python is None:
        pytest.skip("needs a second Python, of another minor version")
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert re.match(rf"error: the executors' Python is 3\.\d+, the driver's {re.escape(ours)}, ", run_by(python))


@pytest.mark.parametrize(
    "content", [b"PAR1", b"PAR1" + bytes(100) + b"PAR1", None], ids=["short", "garbage", "other columns"]
)
def test_a_file_of_a_table_that_is_none_is_named_in_one_line(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    part = tmp_path / "rejects" / "part=000001-0123abcd"
    part.mkdir(parents=True)
    (part / "_SUCCESS").touch()
    if content is None:
        pyarrow.parquet.write_table(pa.table({"path": [1, 2], "sha256": [1.0, 2.0]}), part / "a.parquet")
    else:
        (part / "a.parquet").write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        job.run(lambda: tables.read(spark, str(tmp_path), "rejects").collect())
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: file://{part}/a.parquet: no Parquet file, or not with the columns of")
    assert ended.value.code == 2


@pytest.fixture(scope="module")
def given(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with files that jobs are given: labels that are none, and a network that has no features."""
    folder = tmp_path_factory.mktemp("given")
    there, gone = next(lake.images.rglob("cloud 000.*")), folder / "gone.jpg"
    (folder / "missing.csv").write_text(f"{','.join(labels.COLUMNS)}\n{there},{gone},near\n")
    (folder / "columns.csv").write_text("a,b\n1,2\n")
    save(network(width=0), folder / "empty.onnx")
    return folder


def run(words: str, **places: str | Path) -> int:
    """Run a job as its file is run, and return its exit code."""
    name, *given = words.format(**places).split()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *given])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "jobs" / f"{name}.py"), run_name="__main__")
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.usefixtures("classic")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("ingest --images {tmp}/none --table {tmp}/t", "/none: no such file, folder or pattern"),
        ("ingest --images {images} --table /proc/nowhere", "/proc/nowhere: cannot be written"),
        ("ingest --images {images} --table {tmp}/t --metrics /proc/x", "/proc/x: cannot be written"),
        (
            "ingest --images {images} --table {tmp}/t --follow whenever",
            "possible are now, and times such as '30 seconds'",
        ),
        ("extract --table {tmp} --features {tmp}/f --weights seeded", "no table of images"),
        ("extract --table {table} --features {tmp}/f --weights x.pt", "--weights x.pt"),
        ("query --features {features} --query {images} --top 0", "whole number from 1 up"),
        ("query --features {features} --query {images} --distances x", "unknown metric 'x'"),
        ("query --features {features} --query {images} --weights seeded:8", "not with --weights seeded:8"),
        ("query --features {features} --query {images} --views 3", "invalid choice: 3"),
        ("query --features {features} --query {images} --focus 1,2,3", "'1,2,3' is no box"),
        ("query --features {features} --query {images} --ignore 0,0,0,9", "'0,0,0,9' is an empty box"),
        ("query --features {features} --query {images} --focus 9999,0,9,9", "the box 9999,0,9,9 covers no pixel of"),
        ("query --features {features} --query {images} --ignore 0,0,1,1", "nothing is left of it"),
        ("query --features {features} --query {images} --report a.b.c", "name a folder, as ./a.b.c does"),
        ("calibrate --features {features} --output a.b.c", "name a folder, as ./a.b.c does"),
        ("deduplicate --features {features} --output a.b.c", "name a folder, as ./a.b.c does"),
        ("deduplicate --features {tmp} --output {tmp}/d", "no table of features"),
        ("deduplicate --features {features} --output {tmp}/d --votes 6", "--votes 6: there are 5 distances"),
        ("deduplicate --features {features} --output {tmp}/d --thresholds {tmp}/none.json", "none.json: missing"),
        (
            "deduplicate --features {features} --output {tmp}/d --against {features}",
            "these are the features themselves",
        ),
        ("deduplicate --features {features} --output {tmp}/d --keep prettiest", "--keep: invalid choice: 'prettiest'"),
        ("deduplicate --features {features} --output {tmp}/d --model x", "not with x"),
        ("extract --table {table} --features {tmp}/f --model onnx:{given}/empty.onnx --size 32", "empty.onnx"),
        ("evaluate --features {features} --output {tmp}/e --originals 0", "whole number from 1 up"),
        ("evaluate --features {features} --output {tmp}/e --labels {tmp}/none.csv", "none.csv: missing"),
        ("evaluate --features {features} --output {tmp}/e --labels {given}/columns.csv", "must name the columns"),
        (
            "evaluate --features {features} --output {tmp}/e --labels {given}/missing.csv",
            "/gone.jpg is not among the files of",
        ),
    ],
)
def test_bad_use_of_a_job_is_one_line_and_exit_code_2(
    words: str,
    says: str,
    lake: Lake,
    given: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(words, tmp=tmp_path, given=given, images=lake.images, table=lake.table, features=lake.features) == 2
    out, err = capfd.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "nothing is left"


@pytest.mark.usefixtures("classic")
def test_labels_are_asked_for_by_the_job(
    spark: SparkSession, location: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = [row["path"] for row in tables.read(spark, location, "images").orderBy("path").take(2)]
    (tmp_path / "labels.csv").write_text(f"{','.join(labels.COLUMNS)}\n{first},{second},near\n")
    words = "evaluate --features {features} --labels {tmp}/labels.csv --output {tmp} --views 2 --minkowski-p 4"
    assert run(words, features=location, tmp=tmp_path) == 0
    out, _ = capfd.readouterr()
    assert f"report: {tmp_path}/evaluation.html" in out.splitlines()
    figures = json.loads((tmp_path / "evaluation.json").read_text())
    assert (figures["originals"], figures["views"]) == (1, 2)
    assert figures["copies"] == {"near": 1, "all": 1}


def test_any_other_failure_of_a_task_is_told_as_it_is(spark: SparkSession, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        job.run(spark.range(0, 1, 1, 1).mapInArrow(fail, "id long").collect)
    assert ended.value.code == 1
    assert "ValueError: UsageError: not one of ours" in capsys.readouterr().err
