"""What is logged: lines, or an object a line in the form of Spark's own."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from pyspark.logger import SPARK_LOG_SCHEMA

from dedup import job, logs
from dedup.errors import UsageError

log = logging.getLogger("dedup.test")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    logs.about()
    logging.captureWarnings(False)
    logging.getLogger().removeHandler(logs._stderr)
    logging.getLogger("dedup").setLevel(logging.NOTSET)


@pytest.fixture
def structured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEDUP_LOG", "json")
    logs.begin()


def objects(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    out, err = capsys.readouterr()
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


def test_lines_are_plain_where_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DEDUP_LOG", raising=False)
    logs.begin()
    logs.begin()
    log.info("it goes on")
    log.warning("it is odd")
    logging.getLogger("another").info("is not heard")
    first, second = capsys.readouterr().err.splitlines()
    assert first[8:] == " INFO it goes on"
    assert second[8:] == " WARN it is odd"


@pytest.mark.usefixtures("structured")
def test_every_line_is_an_object_with_what_spark_says(capsys: pytest.CaptureFixture[str]) -> None:
    logs.about(job="extract", table="/a lake")
    log.info("two\nlines, ü")
    log.warning("odd")
    warnings.warn("old", DeprecationWarning, stacklevel=1)
    try:
        raise ValueError("no")
    except ValueError:
        log.exception("failed")
    found = objects(capsys)
    assert [line["msg"] for line in found][:2] == ["two\nlines, ü", "odd"]
    assert [line["level"] for line in found] == ["INFO", "WARN", "WARN", "ERROR"]
    assert [line["logger"] for line in found] == ["dedup.test", "dedup.test", "py.warnings", "dedup.test"]
    assert all(line["context"] == {"job": "extract", "table": "/a lake"} for line in found)
    assert all(line["ts"][10] == "T" and line["ts"].endswith("Z") for line in found)
    assert found[3]["exception"]["msg"] == "no"
    assert all(f"{key} " in SPARK_LOG_SCHEMA for line in found for key in line)


@pytest.mark.usefixtures("structured")
def test_what_a_job_says_and_ends_with_are_objects_too(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> None:
        job.Parser("ingest", "").options([])
        job.show("ingest\n    1 files\n")
        raise UsageError("/x: no such file")

    def fail() -> None:
        raise ZeroDivisionError

    for main, code in ((refuse, 2), (fail, 1)):
        with pytest.raises(SystemExit) as ended:
            job.run(main)
        assert ended.value.code == code
    found = objects(capsys)
    assert [(line["level"], line["msg"]) for line in found[:3]] == [
        ("INFO", "ingest"),
        ("INFO", "1 files"),
        ("ERROR", "/x: no such file"),
    ]
    assert found[3]["exception"]["class"] == "ZeroDivisionError"


def test_what_others_tell_of_ctrl_c_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.begin()
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        logging.getLogger().exception("KeyboardInterrupt while sending command.")  # as py4j does
    try:
        raise ValueError
    except ValueError:
        logging.getLogger().exception("something else")
    err = capsys.readouterr().err
    assert "KeyboardInterrupt" not in err
    assert "something else" in err


@pytest.mark.usefixtures("structured")
def test_a_password_in_a_location_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.about(table="s3a://key:secret@lake/x")
    log.info("s3a://key:secret+=@lake/x and http://me:secret@host, but abfss://box@account/a:b@c")
    (line,) = objects(capsys)
    assert "secret" not in json.dumps(line)
    assert "abfss://box@account/a:b@c" in line["msg"]


def test_a_style_that_there_is_not_is_bad_use(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEDUP_LOG", "xml")
    with pytest.raises(SystemExit) as ended:
        job.run(lambda: pytest.fail("the work began"))
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: DEDUP_LOG=xml: possible are plain, json\n"
