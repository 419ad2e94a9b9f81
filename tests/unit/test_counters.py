"""What a job counted: a table whose rows add up, and a file that says how the job ended, whatever it ended of."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dedup import counters, job, storage
from dedup.answers import Answered
from dedup.contents import Others
from dedup.counters import Counts, Record, Sum
from dedup.errors import Outage, Reason, Reject, UsageError
from dedup.extraction import Extracted
from dedup.images import Ingested
from dedup.report import Folder, Gallery
from dedup.search import Found
from dedup.summary import Deduplicated
from dedup.turned import Turned


def told(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def ended(main: Callable[[], object]) -> int:
    with pytest.raises(SystemExit) as end:
        job.run(main)
    assert isinstance(end.value.code, int)
    return end.value.code


def begun(file: Path) -> None:
    """Do what a job does first."""
    job.Parser("ingest", "").options(["--metrics", str(file)])


def test_a_sum_that_does_not_add_up_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"3 files, but \{'read': 1, 'known': 1\}"):
        Sum("files", 3, {"read": 1, "known": 1})


def test_numbers_stand_below_each_other_and_zeros_are_shown() -> None:
    record = Record("demo")
    reasons = {"missing": 4}
    made = Ingested(1234, 32, kept=1230, rejected=4, failed=2, changed=1, again=2, gone=7, reasons=reasons)
    with record.step("ingest") as step:
        step.counts = counters.ingested(made)
    step.seconds = 2.0
    with record.step("extract") as step:
        step.counts = counters.extracted(Extracted("m", 9, contents=7, computed=0, described=9, rejected=0), {})
    step.seconds = 0.5
    assert record.table() == [
        "ingest",
        "  1,234 files = 1,230 in the table + 4 rejected",
        "  1,230 in the table = 30 read + 1,200 known",
        "     32 to read = 29 new + 1 changed + 2 tried again",
        "      7 gone",
        "      4 rejected = 4 missing",
        "    2.0 seconds",
        "   15.0 images/s",
        "extract",
        "      9 files = 9 with features + 0 rejected",
        "      7 contents = 0 computed + 7 known",
        "    0.5 seconds",
        "    0.0 images/s",
    ]


def test_the_file_says_the_same_as_the_table(tmp_path: Path) -> None:
    record = Record("ingest", str(tmp_path / "made" / "counted.json"))
    with record.step("ingest") as step:
        step.counts = counters.ingested(Ingested(5, read=2, kept=3, rejected=2, reasons={"empty": 1, "missing": 1}))
    step.seconds = 0.5
    record.done()
    found = told(tmp_path / "made" / "counted.json")
    assert found.keys() == {"job", "outcome", "error", "started", "seconds", "steps"}
    assert (found["job"], found["outcome"], found["error"]) == ("ingest", "done", None)
    assert found["started"].endswith("+00:00")
    assert found["steps"] == {
        "ingest": {
            "seconds": 0.5,
            "counters": {
                "files": 5,
                "in_the_table": 3,
                "rejected": 2,
                "read": 2,
                "known": 1,
                "to_read": 2,
                "new": 2,
                "changed": 0,
                "tried_again": 0,
                "gone": 0,
            },
            "rejects": {"empty": 1, "missing": 1},
            "rates": {"images_per_second": 4.0},
        }
    }


def test_what_is_done_again_is_numbered() -> None:
    record = Record("demo")
    for _ in range(2):
        with record.step("ingest") as step:
            step.counts = Counts([Sum("files", 1)], {}, 1)
    assert [line for line in record.table() if not line.startswith(" ")] == ["ingest", "ingest 2"]


def test_what_a_stream_did_is_added_up_and_what_there_is_is_as_of_now() -> None:
    first = Ingested(5, read=3, kept=4, rejected=1, failed=1, again=1, reasons={"missing": 1}).after(None)
    second = Ingested(6, read=2, kept=5, rejected=1, failed=0, changed=1, gone=1, reasons={"empty": 1}).after(first)
    assert [str(one) for one in counters.ingested(first).sums][:2] == [
        "files = 4 in the table + 1 rejected",
        "in the table = 2 read + 2 known",
    ]
    counts = counters.ingested(second)  # of 4 files one is read again and one is gone
    assert [(one.total, str(one)) for one in counts.sums] == [
        (6, "files = 5 in the table + 1 rejected"),
        (5, "in the table = 4 read + 2 known - 1 outdated"),
        (5, "to read = 3 new + 1 changed + 1 tried again"),
        (1, "gone"),
    ]
    assert (counts.rejects, counts.worked) == ({"empty": 1}, 4)
    nothing = Ingested(6, read=0, kept=5, rejected=1, reasons={"empty": 1})
    assert nothing.after(second) == second

    made = Extracted("m", 9, contents=7, computed=2, described=9, rejected=0)
    later = Extracted("m", 4, contents=4, computed=1, described=4, rejected=0).after(made.after(None))
    assert str(counters.extracted(later, {}).sums[1]) == "contents = 3 computed + 5 known - 4 outdated"
    assert [one.name for one in counters.extracted(later, {}).sums] == ["files", "contents"]
    early, late = (Extracted("m", 9, contents=9, computed=0, described=9, rejected=0, gone=gone) for gone in (2, 3))
    assert [(one.name, one.total) for one in counters.extracted(late.after(early), {}).sums[2:]] == [("gone", 5)]
    back = Extracted("m", 9, contents=9, computed=1, described=9, rejected=0).after(made)
    assert str(counters.extracted(back, {}).sums[1]) == "contents = 3 computed + 6 known", "some had features before"


def test_rejects_of_a_query_are_counted_by_reason() -> None:
    rejects = [("/a", Reject(Reason.EMPTY, "")), ("/b", Reject(Reason.EMPTY, "")), ("/c", Reject(Reason.CORRUPT, ""))]
    counts = counters.answered(
        Answered(["/d", "/e"], rejects, {"/d": [{}], "/e": [{}, {}]}, "page", computed=1, notes=[])
    )
    assert [str(one) for one in counts.sums] == [
        "asked = 2 queries + 3 rejected",
        "queries = 1 computed + 1 known",
        "results",
    ]
    assert counts.rejects == {"corrupt": 1, "empty": 2}
    assert (counts.sums[2].total, counts.worked, counts.unit) == (3, 2, "queries")


@pytest.mark.parametrize("shared", [0, 2])
def test_files_of_another_set_are_named_where_there_are_such(shared: int) -> None:
    found = {"files": 9, "keep": 4, "drop": 3, "review": 2, "groups": 2, "bytes": 1, "pixels": 0, "near": 2, "saved": 7}
    nothing = Gallery([], [], [], Folder("", 0, 0, 0, 0, 0), 0, [], [], [], {})
    done = Deduplicated("m", found, Others({"empty": 5}, shared), 6, 1, Found(None, "exact", None, 8), nothing, "")  # type: ignore[arg-type]  # no pairs: there is no Spark
    (files, drop, images, *single) = counters.deduplicated(done).sums
    assert str(files) == "files = 4 keep + 3 drop + 2 review + 5 rejected" + (f" + {shared} shared" if shared else "")
    assert str(drop) == "drop = 1 of equal bytes + 0 of equal pixels + 2 near"
    assert str(images) == "different images = 1 compared + 5 known"
    assert [(one.name, one.total) for one in single] == [("groups", 2), ("pairs measured", 8), ("bytes saved", 7)]
    viewed = counters.deduplicated(replace(done, turned=Turned(8, contents=6, made=3, lacking=1))).sums[3]
    assert (str(viewed), viewed.total) == ("seen in views = 3 made + 2 made before + 1 not readable", 6)


@pytest.mark.parametrize(
    ("error", "code", "outcome", "says"),
    [
        (UsageError("/x: no such file"), 2, "bad use", "/x: no such file"),
        (Outage("s3a://x: the storage does not answer"), 1, "failed", "s3a://x: the storage does not answer (what was"),
        (RuntimeError("java.nio.file.AccessDeniedException: s3a://x: no"), 2, "bad use", "s3a://x: Spark may not read"),
    ],
)
def test_the_file_says_of_what_a_job_ended(
    error: Exception, code: int, outcome: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "counted.json"

    def main() -> None:
        begun(file)
        assert told(file)["outcome"] == "running", "what a killed job leaves"
        with job.step("ingest"):
            raise error

    assert ended(main) == code
    found = told(file)
    assert (found["outcome"], found["steps"].keys()) == (outcome, {"ingest"})
    assert found["error"].startswith(says)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {says}")


def test_the_file_of_a_stream_is_written_again_after_each_batch(tmp_path: Path) -> None:
    file = tmp_path / "counted.json"

    def main() -> None:
        begun(file)
        with job.step("ingest") as step:
            for files in (1, 2):
                step.batch(Counts([Sum("files", files)], {}, files), 0.25)
                found = told(file)
                assert (found["outcome"], found["steps"]["ingest"]["counters"]) == ("running", {"files": files})
                assert found["steps"]["ingest"]["batches"].pop("last").endswith("+00:00")
                assert found["steps"]["ingest"]["batches"] == {"count": files, "seconds": files * 0.25}
                assert found["steps"]["ingest"]["rates"] == {"images_per_second": 4.0}, "by what batches took"
            raise Outage("the storage does not answer")

    assert ended(main) == 1
    found = told(file)
    assert (found["outcome"], found["steps"]["ingest"]["counters"]) == ("failed", {"files": 2})
    assert found["steps"]["ingest"]["batches"]["count"] == 2


def test_a_batch_goes_on_where_the_file_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "folder" / "counted.json"
    record = Record("ingest", str(file))
    with record.step("ingest") as step:
        file.unlink()
        (file / "something").mkdir(parents=True)  # nothing can be put there now
        with caplog.at_level(logging.WARNING):
            step.batch(Counts([Sum("files", 1)], {}, 1), 1)
        assert f"{file}: cannot be written" in caplog.text
        storage.delete(str(file))
        step.batch(Counts([Sum("files", 2)], {}, 2), 1)
        assert told(file)["steps"]["ingest"]["counters"] == {"files": 2}
        record.done()
        step.batch(Counts([Sum("files", 3)], {}, 3), 1)  # it was still at work
    assert told(file)["outcome"] == "done"


@pytest.mark.parametrize("what", [signal.SIGINT, signal.SIGTERM])
def test_a_job_that_is_stopped_says_so(
    what: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "counted.json"

    def main() -> None:
        begun(file)
        try:
            os.kill(os.getpid(), what)
        finally:
            raise RuntimeError("Cannot call methods on a stopped SparkContext")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have it ignored in their background
    try:
        assert ended(main) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    said = "stopped (what was done is kept: run it again)"
    assert (told(file)["outcome"], told(file)["error"]) == ("stopped", said)
    assert capsys.readouterr().err == f"error: {said}\n"


def test_an_error_that_nobody_expected_is_told_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "counted.json"

    def main() -> None:
        begun(file)
        raise ZeroDivisionError("by\nzero")

    with pytest.raises(SystemExit) as ended:
        job.run(main)
    assert ended.value.code == 1
    assert (told(file)["outcome"], told(file)["error"]) == ("failed", "ZeroDivisionError: by zero")
    assert "ZeroDivisionError: by\nzero" in capsys.readouterr().err


def test_a_job_ends_with_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        begun(tmp_path / "counted.json")
        with job.step("ingest") as step:
            step.counts = Counts([Sum("files", 0)], {}, 0)
        job.say("all is well")

    assert ended(main) == 0
    assert capsys.readouterr().out.splitlines()[:3] == ["all is well", "ingest", "    0 files"]
    assert told(tmp_path / "counted.json")["outcome"] == "done"


def test_a_file_that_cannot_be_written_is_said_before_any_work(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        begun(Path("/proc/counted.json"))
        pytest.fail("the work began")

    assert ended(main) == 2
    assert capsys.readouterr().err.startswith("error: /proc/counted.json: cannot be written: ")


def test_a_file_that_cannot_be_written_any_more_hides_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "folder" / "counted.json"

    def main(error: Exception | None) -> None:
        begun(file)
        file.unlink()
        file.mkdir()  # nothing can be put there now
        (file / "something").touch()
        if error:
            raise error

    with caplog.at_level(logging.WARNING):
        assert ended(lambda: main(Outage("the storage does not answer"))) == 1
    assert "error: the storage does not answer" in capsys.readouterr().err
    assert f"{file}: cannot be written" in caplog.text

    storage.delete(str(file))
    assert ended(lambda: main(None)) == 2
    assert capsys.readouterr().err.startswith(f"error: {file}: cannot be written")
