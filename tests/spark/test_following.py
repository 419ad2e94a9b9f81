"""Images that keep arriving, by Structured Streaming: what has arrived, and a stream that goes on."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from tests.libraries import need
from tests.samples import arrive, make_images

from dedup import claims, counters, extraction, features, following, images, models, tables
from dedup.counters import Record
from dedup.errors import UsageError
from dedup.extraction import Extracted
from dedup.images import Ingested
from dedup.model import Model

OFTEN = "1 second"


pytestmark = pytest.mark.usefixtures("classic")


@contextmanager
def beside(spark: SparkSession, work: Callable[[], object]) -> Iterator[None]:
    """Follow in a thread of its own for the time of a `with`; what it ends with is raised."""
    before = {query.id for query in spark.streams.active}
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(work)
        try:
            yield
        finally:
            for query in spark.streams.active:
                if query.id not in before:
                    query.stop()
            ended.result(60)


def wait_for(what: Callable[[], object]) -> None:
    until = time.monotonic() + 120
    while not tables.steadily(what):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.3)


def inventory(spark: SparkSession, table: str) -> dict[Path, str]:
    return {Path(row["path"]): row["sha256"] for row in images.inventory(spark, table).collect()}


def hash_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def contents(spark: SparkSession, location: str, model: Model) -> list[str]:
    return sorted(row["sha256"] for row in features.under(spark, location, model.id).select("sha256").collect())


def test_now_is_what_there_is_and_the_end(spark: SparkSession, tmp_path: Path) -> None:
    source, table = tmp_path / "in", str(tmp_path / "table")
    paths = make_images(source, 4)
    os.mkfifo(source / "pipe.png")
    done = following.ingest(spark, str(source), table, following.NOW)
    assert (done.files, done.new, done.kept, done.reasons) == (5, 5, 4, {"unreadable": 1})
    assert inventory(spark, table) == {path: hash_of(path.read_bytes()) for path in paths}
    images.require_finished(table)


def test_a_stream_takes_in_what_arrives_changes_and_goes(spark: SparkSession, tmp_path: Path) -> None:
    source, table = tmp_path / "in", str(tmp_path / "table")
    source.mkdir()
    paths = make_images(tmp_path / "all", 4)
    with beside(spark, lambda: following.ingest(spark, f"{source}/*.png", table, OFTEN)):
        with open(source / "a.png", "wb") as half:  # as whoever copies writes
            half.flush()
            wait_for(lambda: inventory(spark, table) == {source / "a.png": hash_of(b"")})
            half.write(paths[0].read_bytes())
        wait_for(lambda: inventory(spark, table) == {source / "a.png": hash_of(paths[0].read_bytes())})
        arrive(paths[1].rename(paths[1].with_name("b.png")), source)
        wait_for(lambda: len(inventory(spark, table)) == 2)
        with pytest.raises(UsageError, match="another run writes there"):
            images.ingest(spark, str(source), table)
        (source / "b.png").unlink()
        wait_for(lambda: len(inventory(spark, table)) == 1)
    rows = tables.read(spark, table, "images").where("sha256 is not null").groupBy("path").count().collect()
    assert {row["path"]: row["count"] for row in rows} == {f"{source}/a.png": 2, f"{source}/b.png": 1}, "each once"
    parts = {row["part"] for row in tables.read(spark, table, "images").select("part").collect()}
    assert images.ingest(spark, f"{source}/*.png", table).read == 0
    assert {row["part"] for row in tables.read(spark, table, "images").select("part").collect()} == parts


@pytest.mark.slow
def test_features_follow_a_table_that_an_ingest_fills(spark: SparkSession, model: Model, tmp_path: Path) -> None:
    source, table, location = tmp_path / "in", str(tmp_path / "table"), str(tmp_path / "features")
    paths = make_images(tmp_path / "all", 5)
    source.mkdir()
    for path in paths[:2]:
        arrive(path, source)
    images.ingest(spark, str(source), table)
    with (
        beside(spark, lambda: following.ingest(spark, str(source), table, OFTEN)),
        beside(spark, lambda: following.extract(spark, table, location, model, OFTEN)),
    ):
        wait_for(lambda: len(contents(spark, location, model)) == 2)
        for path in paths[2:4]:
            arrive(path, source)
        wait_for(lambda: len(contents(spark, location, model)) == 4)
    arrive(paths[4], source)
    images.ingest(spark, str(source), table)
    done = following.extract(spark, table, location, model, following.NOW)
    assert (done.files, done.described, done.contents, done.computed) == (5, 5, 5, 1)
    assert len(set(contents(spark, location, model))) == len(contents(spark, location, model)) == 5
    assert extraction.extract(spark, table, location, model).computed == 0


def test_what_a_stream_has_done_so_far_is_told_while_it_runs(spark: SparkSession, model: Model, tmp_path: Path) -> None:
    source, location, file = tmp_path / "in", str(tmp_path / "features"), tmp_path / "counted.json"
    source.mkdir()
    paths = make_images(tmp_path / "all", 4)
    for path in paths[:2]:
        arrive(path, source)
    record = Record("extract", str(file))

    def counted(step: str) -> dict[str, int]:
        told = json.loads(file.read_text())
        assert told["outcome"] == "running"
        found: dict[str, int] = told["steps"].get(step, {}).get("counters", {})
        return found

    with record.step("ingest") as first, record.step("extract") as second:

        def told(done: tuple[Ingested, Extracted], seconds: float) -> None:
            first.batch(counters.ingested(done[0]), seconds)
            second.batch(counters.extracted(done[1], extraction.reasons(spark, location)), seconds)

        with beside(spark, lambda: following.extract_files(spark, str(source), location, model, OFTEN, told=told)):
            wait_for(lambda: counted("extract"))
            assert counted("ingest").items() >= {"files": 2, "read": 2, "known": 0, "gone": 0}.items()
            assert counted("extract").items() >= {"files": 2, "contents": 2, "computed": 2, "known": 0}.items()
            (tmp_path / "other").mkdir()
            (tmp_path / "other" / paths[0].name).write_bytes(paths[2].read_bytes())
            arrive(tmp_path / "other" / paths[0].name, source)
            (source / paths[1].name).unlink()
            arrive(paths[3], source)
            wait_for(lambda: counted("extract").get("computed") == 4)
    expected = {"files": 2, "in_the_table": 2, "rejected": 0, "read": 4, "known": 0, "outdated": -2, "to_read": 4}
    assert counted("ingest").items() >= (expected | {"new": 3, "changed": 1, "gone": 1}).items()
    expected = {"files": 2, "with_features": 2, "contents": 2, "computed": 4, "known": 0, "outdated": -2}
    before = counted("extract")
    assert before.items() >= expected.items()
    record.failed("stopped", "as it was asked to")
    told_last = json.loads(file.read_text())
    assert (told_last["outcome"], told_last["steps"]["extract"]["counters"]) == ("stopped", before)
    assert told_last["steps"]["extract"]["batches"]["count"] >= 2


def test_only_looks_that_find_something_are_told(spark: SparkSession, tmp_path: Path) -> None:
    source, table = tmp_path / "in", str(tmp_path / "table")
    make_images(source, 2)
    images.ingest(spark, str(source), table)
    found: list[Ingested] = []

    def told(done: Ingested, seconds: float) -> None:
        found.append(done)

    with beside(spark, lambda: following.ingest(spark, str(source), table, OFTEN, told=told)):
        wait_for(lambda: found)
        (query,) = spark.streams.active
        wait_for(lambda: (query.lastProgress or {"batchId": 0})["batchId"] >= 2)
        (source / "broken.png").symlink_to(tmp_path / "nowhere.png")
        wait_for(lambda: len(found) > 1)
    assert found[0] == Ingested(2, 0, kept=2, rejected=0)
    assert (found[1].files, found[1].known, found[1].reasons) == (3, 2, {"missing": 1})


def test_features_of_a_table_are_told_of_too(spark: SparkSession, model: Model, tmp_path: Path) -> None:
    source, table, location = tmp_path / "in", str(tmp_path / "table"), str(tmp_path / "features")
    make_images(source, 2)
    images.ingest(spark, str(source), table)
    found: list[Extracted] = []

    def told(made: Extracted, seconds: float) -> None:
        found.append(made)

    assert [following.extract(spark, table, location, model, following.NOW, told=told)] == found
    assert (found[0].files, found[0].contents, found[0].computed, found[0].known) == (2, 2, 2, 0)


def test_a_reject_that_goes_leaves_features_that_are_finished(
    spark: SparkSession, model: Model, tmp_path: Path
) -> None:
    source, location = tmp_path / "in", str(tmp_path / "features")
    make_images(source, 1)
    with beside(spark, lambda: following.extract_files(spark, str(source), location, model, OFTEN)):
        wait_for(lambda: len(contents(spark, location, model)) == 1)
        (source / "broken.png").symlink_to(tmp_path / "nowhere.png")
        wait_for(lambda: images.unread(spark, location).count() == 1)
        (source / "broken.png").unlink()
        wait_for(lambda: images.unread(spark, location).count() == 0)
        wait_for(lambda: images.is_finished(location))
    assert models.one(location, None).complete


def test_a_table_that_is_replaced_while_it_is_read_is_read_again(spark: SparkSession, tmp_path: Path) -> None:
    spark.range(3).coalesce(1).write.parquet(str(tmp_path / "table"))
    began = spark.read.parquet(str(tmp_path / "table"))
    spark.range(5).write.parquet(str(tmp_path / "new"))
    next((tmp_path / "table").glob("*.parquet")).unlink()
    looks = iter([began, began, spark.read.parquet(str(tmp_path / "new"))])
    assert tables.steadily(lambda: len(next(looks).collect())) == 5
    with pytest.raises(Exception, match="FILE_NOT_EXIST"):
        tables.steadily(began.count)


def test_features_follow_files(spark: SparkSession, model: Model, tmp_path: Path) -> None:
    source, location = tmp_path / "in", str(tmp_path / "features")
    source.mkdir()
    paths = make_images(tmp_path / "all", 3)
    with beside(spark, lambda: following.extract_files(spark, str(source), location, model, OFTEN)):
        arrive(paths[0], source)
        wait_for(lambda: len(contents(spark, location, model)) == 1)
        arrive(paths[1], source)
        wait_for(lambda: len(contents(spark, location, model)) == 2)
    arrive(paths[2], source)
    taken, made = following.extract_files(spark, str(source), location, model, following.NOW)
    assert (taken.files, taken.new, made.files, made.computed) == (3, 1, 3, 1)
    models.one(location, model.id).require_complete(location)


@pytest.mark.parametrize("kind", ["parquet", "delta"])
def test_a_table_of_others_is_followed(spark: SparkSession, model: Model, tmp_path: Path, kind: str) -> None:
    need(kind)
    paths, theirs, location = make_images(tmp_path / "in", 3), f"file://{tmp_path}/theirs", str(tmp_path / "features")

    def add(path: Path) -> None:
        spark.read.format("binaryFile").load(f"file://{path}").write.format(kind).mode("append").save(theirs)

    add(paths[0])
    with beside(spark, lambda: following.extract(spark, f"{tmp_path}/theirs", location, model, OFTEN)):
        wait_for(lambda: len(contents(spark, location, model)) == 1)
        add(paths[1])
        wait_for(lambda: len(contents(spark, location, model)) == 2)


def test_a_stream_that_cannot_go_on_ends_with_the_reason(spark: SparkSession, tmp_path: Path) -> None:
    source, table = tmp_path / "in", str(tmp_path / "table")
    with pytest.raises(UsageError, match="no such file, folder or pattern"):
        following.ingest(spark, str(source), table, OFTEN)
    with pytest.raises(UsageError, match=f"there is no {source}, in which files could arrive"):
        following.ingest(spark, f"{source}/*.png", table, OFTEN)
    make_images(source, 2)
    with pytest.raises(UsageError, match="--follow 'often': possible are now, and times"):
        following.ingest(spark, str(source), table, "often")

    def replaced() -> None:
        with beside(spark, lambda: following.ingest(spark, str(source), table, OFTEN)):
            wait_for(lambda: tables.exists(table, "images"))
            (Path(table) / "_running").write_text('{"run": "another"}')
            (source / "more.png").write_bytes(b"more")
            wait_for(lambda: not spark.streams.active)

    with pytest.raises(UsageError, match="another run took over"):
        replaced()


def test_a_stream_waits_for_a_part_that_is_being_written(spark: SparkSession, tmp_path: Path) -> None:
    table = str(tmp_path / "table")
    images.ingest(spark, str(make_images(tmp_path / "in", 2)[0].parent), table)
    (part,) = {row["part"] for row in tables.read(spark, table, "images").select("part").collect()}
    mark = Path(table) / "images" / f"part={part}" / "_SUCCESS"
    mark.rename(tmp_path / "mark")
    tables.settle(table, "images", {part})  # nobody is at work: it will never count
    with claims.claimed(table, "ingest"), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(tables.settle, table, "images", {part})
        time.sleep(1)
        assert not waiting.done()
        (tmp_path / "mark").rename(mark)
        waiting.result(20)
