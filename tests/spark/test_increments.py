"""What a run makes of what has changed since the last one, and of what runs that were stopped have left."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from tests.samples import Lake, make_images

from dedup import answers, extraction, features, formats, images, models, rounds, storage, tables
from dedup.errors import UsageError
from dedup.model import Model
from dedup.rounds import Round


def inventory(spark: SparkSession, table: str) -> set[str]:
    return {row["path"] for row in images.inventory(spark, table).select("path").collect()}


def changes(done: images.Ingested) -> dict[str, int]:
    """Return what has happened since the last run, without what has not."""
    names = ("new", "changed", "again", "gone")
    return {name: getattr(done, name) for name in names if getattr(done, name)}


def test_new_changed_and_gone_files_are_told_apart(spark: SparkSession, tmp_path: Path) -> None:
    source, table = tmp_path / "in", str(tmp_path / "table")
    paths = make_images(source, 6)
    (source / "later.png").symlink_to(tmp_path / "nowhere")
    assert changes(images.ingest(spark, str(source), table)) == {"new": 6}

    gone, *others = paths
    before = gone.read_bytes(), gone.stat().st_mtime
    gone.unlink()
    for path in others[:2]:
        path.write_bytes(path.read_bytes() + b"changed")
    os.utime(others[2], (1, 1))
    done = images.ingest(spark, str(source), table)
    assert changes(done) == {"changed": 3, "gone": 1}
    assert (done.files, done.kept, done.rejected) == (6, 5, 1)
    assert inventory(spark, table) == {str(path) for path in others}
    assert changes(images.ingest(spark, str(source), table)) == {}

    gone.write_bytes(before[0])
    os.utime(gone, (before[1], before[1]))  # just as it was, when it was there
    assert changes(images.ingest(spark, str(source), table)) == {"new": 1}
    assert inventory(spark, table) == {str(path) for path in paths}


def test_a_file_that_could_not_be_read_is_tried_again_until_it_is_gone(spark: SparkSession, tmp_path: Path) -> None:
    source, table = tmp_path / "in", str(tmp_path / "table")
    make_images(source, 2)
    os.mkfifo(source / "pipe.png")
    assert images.ingest(spark, str(source), table).rejected == 1
    assert changes(images.ingest(spark, str(source), table)) == {"again": 1}
    (source / "pipe.png").unlink()
    done = images.ingest(spark, str(source), table)
    assert (done.files, done.rejected) == (2, 0)
    assert tables.read(spark, table, "rejects").isEmpty()


def test_a_listing_speaks_only_for_what_it_would_find(spark: SparkSession, tmp_path: Path) -> None:
    table = str(tmp_path / "table")
    names = ("in/a/1.png", "in/a/2.jpg", "in/b/3.jpg", "other/4.jpg")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    images.ingest(spark, str(tmp_path), table)
    for name in names[1:]:
        (tmp_path / name).unlink()
    (tmp_path / "in/a/5.jpg").write_text("there")
    done = images.ingest(spark, f"{tmp_path}/in/[a]/*.jpg", table)
    assert (done.files, changes(done)) == (1, {"new": 1, "gone": 1})
    assert inventory(spark, table) == {f"{tmp_path}/{name}" for name in (*names, "in/a/5.jpg") if name != names[1]}


def test_what_is_in_a_folder_that_cannot_be_listed_is_not_gone(spark: SparkSession, tmp_path: Path) -> None:
    source, table = tmp_path / "in", str(tmp_path / "table")
    make_images(source, 8)
    images.ingest(spark, str(source), table)
    before = inventory(spark, table)
    closed = source / "set 1"
    closed.rename(tmp_path / "away")
    closed.symlink_to(closed)  # whoever lists it is told of an error, also root
    (source / "set 2").rename(tmp_path / "gone")
    done = images.ingest(spark, str(source), table)
    assert (done.files, done.gone, done.rejected) == (5, 2, 1)
    assert inventory(spark, table) == {path for path in before if "/set 2/" not in path}
    closed.unlink()
    (tmp_path / "away").rename(closed)
    done = images.ingest(spark, str(source), table)
    assert (done.files, done.rejected, changes(done)) == (6, 0, {})


def test_a_source_without_any_file_changes_nothing(spark: SparkSession, tmp_path: Path) -> None:
    source, table = tmp_path / "in", str(tmp_path / "table")
    make_images(source, 2)
    images.ingest(spark, str(source), table)
    before = inventory(spark, table)
    shutil.rmtree(source)
    source.mkdir()  # as a disk looks that is not mounted
    with pytest.raises(UsageError, match="no files in it"):
        images.ingest(spark, str(source), table)
    assert inventory(spark, table) == before
    images.require_finished(table)


def test_files_that_are_gone_do_not_vote_and_are_not_asked_for(
    spark: SparkSession, model: Model, tmp_path: Path
) -> None:
    source, location = tmp_path / "in", str(tmp_path / "features")
    paths = make_images(source, 3)
    (source / "copy.png").write_bytes(paths[1].read_bytes())
    for _ in range(2):
        images.ingest(spark, str(source), location, keep_bytes=False)
        done = extraction.extract(spark, location, location, model)
        for path in paths[:2]:
            path.unlink(missing_ok=True)
    assert (done.files, done.contents, done.computed, done.described) == (2, 2, 0, 2)
    assert models.of(location)[0].stale == 1
    chosen = models.choose(location, None, None)
    question = answers.Question(location, [str(paths[2])], str(tmp_path / "report"))
    rows = answers.ask(spark, question, chosen).rows[str(paths[2])]
    assert sorted(path for row in rows for path in row["paths"]) == [str(source / "copy.png"), str(paths[2])]
    with pytest.raises(UsageError, match="no such file, folder or pattern, and no such sha256 or path"):
        answers.ask(spark, answers.Question(location, [str(paths[0])], str(tmp_path / "report")), chosen)


@pytest.mark.parametrize("happens", [Path.unlink, lambda path: path.write_bytes(b"")], ids=["gone", "empty"])
def test_a_file_that_is_gone_does_not_vote_before_the_next_extract(
    happens: Callable[[Path], object], spark: SparkSession, model: Model, tmp_path: Path
) -> None:
    source, location = tmp_path / "in", str(tmp_path / "features")
    paths = make_images(source, 3)
    images.ingest(spark, str(source), location, keep_bytes=False)
    extraction.extract(spark, location, location, model)
    happens(paths[0])
    images.ingest(spark, str(source), location, keep_bytes=False)
    question = answers.Question(location, [str(paths[2])], str(tmp_path / "report"))
    rows = answers.ask(spark, question, models.choose(location, None, None)).rows[str(paths[2])]
    assert sorted(path for row in rows for path in row["paths"]) == sorted(map(str, paths[1:]))
    assert all(row["paths"] for row in rows)


def begun(location: str, table: str) -> Path:
    """Leave a part of a table in Parquet as a run leaves it that is killed while it writes."""
    formats.begin(location, "parquet")
    part = Path(location, table, "part=000099-deadbeef")
    (part / "_temporary/0").mkdir(parents=True)
    (part / "a.parquet").write_bytes(b"half of a")
    return part


def test_a_run_deletes_what_killed_runs_have_begun(spark: SparkSession, model: Model, tmp_path: Path) -> None:
    make_images(tmp_path / "in", 2)
    table, location = str(tmp_path / "table"), str(tmp_path / "features")
    of_ingest = [begun(table, name) for name in ("images", "rejects")]
    of_extract = [begun(location, name) for name in ("features", "images", "rejects")]
    images.ingest(spark, str(tmp_path / "in"), table)
    extraction.extract(spark, table, location, model)
    for part in of_ingest + of_extract:
        assert not part.exists()
    for folder in (table, location):
        for part in Path(folder).glob("*/part=*"):
            assert (part / "_SUCCESS").exists()


def test_what_cannot_be_swept_is_left_for_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = begun(str(tmp_path), "features")

    def refused(location: str) -> None:
        raise UsageError(f"{location}: cannot be deleted")

    monkeypatch.setattr(storage, "delete", refused)
    tables.sweep(str(tmp_path), "features")
    monkeypatch.undo()
    assert part.exists()
    tables.sweep(str(tmp_path), "features")
    assert not part.exists()


def parts(spark: SparkSession, location: str) -> list[str]:
    return sorted(formats.of(location).parts(spark, f"{location}/features"))


@pytest.fixture
def made(spark: SparkSession, lake: Lake, tmp_path: Path) -> str:
    """Return the location of features of 20 contents, in two parts, of a run that came to its end."""
    rows = tables.read(spark, lake.features, "features")
    first = [row["sha256"] for row in rows.select("sha256").orderBy("sha256").limit(8).collect()]
    for some in (rows.where(F.col("sha256").isin(first)), rows.where(~F.col("sha256").isin(first))):
        tables.append(some, str(tmp_path), "features")
    tables.append(tables.read(spark, lake.features, "rejects"), str(tmp_path), "rejects")
    return str(tmp_path)


def vectors(rows: DataFrame) -> dict[str, bytes]:
    found = rows.select("sha256", "features").collect()
    assert len({row["sha256"] for row in found}) == len(found), "one row for each content"
    return {row["sha256"]: bytes(row["features"]) for row in found}


@pytest.mark.parametrize("more", [0, 12])
def test_rows_of_a_run_that_was_replaced_are_dropped(
    spark: SparkSession, lake: Lake, model: Model, made: str, more: int
) -> None:
    rows = tables.read(spark, made, "features")
    whole = vectors(rows)
    first, second = parts(spark, made)
    # It woke up in a part that has copies of 3 contents, and others that no other part has.
    copied = rows.where(F.col("part") == first).orderBy("sha256").limit(3)
    only = rows.where(F.col("part") == second).orderBy("sha256").limit(more)
    late = tables.append(copied.union(only), made, "features")
    if more:
        tables.drop(spark, made, "features", [second])
    done = extraction.extract(spark, lake.table, made, model)
    assert (done.described, done.rejected, done.computed) == (22, 4, 0)
    assert vectors(tables.read(spark, made, "features")) == whole
    assert late not in parts(spark, made)
    assert models.one(made, None).parts == tuple(parts(spark, made))
    assert len(parts(spark, made)) == 2


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_run_that_is_stopped_loses_at_most_a_bucket_a_core(
    spark: SparkSession, lake: Lake, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "features")
    monkeypatch.setattr(rounds, "slots", lambda spark: 2)
    monkeypatch.setattr(rounds, "LEAST_FILES", 1)
    monkeypatch.setattr(rounds, "_BY_CHANCE", 1)
    run = partial(rounds.run, most=4)
    contents, append = features.Source.contents, tables.append
    sizes = []

    def noted(self: features.Source, rows: DataFrame, chosen: Round) -> DataFrame:
        sizes.append(rows.count())
        return contents(self, rows, chosen)

    def stopped(rows: DataFrame, location: str, table: str) -> str:
        if table == "features" and len(sizes) > 4:
            rows.count()  # the network has computed it all
            time.sleep(1)  # if others may begin, they do
            killed()
        return append(rows, location, table)

    with monkeypatch.context() as patched:
        patched.setattr(rounds, "run", run)
        patched.setattr(features.Source, "contents", noted)
        patched.setattr(tables, "append", stopped)
        with pytest.raises(KeyboardInterrupt):
            extraction.extract(spark, lake.table, out, model)
    known = extraction.extract(spark, lake.table, out, model).known
    assert known > 0
    assert 0 < sum(sizes) - known <= 8, "that it has begun, and did not write"


@pytest.mark.parametrize("stopped", ["tidy", "drop"])  # before and after readers are sent to what was merged
def test_of_many_parts_the_smallest_become_one(
    stopped: str, spark: SparkSession, lake: Lake, model: Model, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = parts(spark, made)
    rows = tables.read(spark, made, "features")
    whole = vectors(rows)
    names = sorted(row["sha256"] for row in rows.where(F.col("part") == second).select("sha256").collect())
    small = [
        tables.append(rows.where(F.col("sha256").isin(names[start : start + 3])), made, "features")
        for start in (0, 3, 6, 9)
    ]
    tables.drop(spark, made, "features", [second])

    extraction.extract(spark, lake.table, made, model)
    (early,) = models.of(made)
    monkeypatch.setattr(models, "MOST_PARTS", 4)
    with monkeypatch.context() as patched:
        patched.setattr(tables, stopped, killed)
        with pytest.raises(KeyboardInterrupt):
            extraction.extract(spark, lake.table, made, model)
    (sent,) = models.of(made)
    assert sent.complete == (stopped == "drop")
    assert vectors(features.complete(spark, made, sent)) == whole
    extraction.extract(spark, lake.table, made, model)
    seen = models.one(made, None).parts
    if stopped == "drop":
        assert seen == sent.parts, "what readers were sent to stays"
    with pytest.raises(UsageError, match="ask again"):
        features.complete(spark, made, early)
    assert (len(seen), first in seen, len({*seen} & {*small})) == (3, True, 1)
    assert tuple(parts(spark, made)) == seen
    assert vectors(tables.read(spark, made, "features")) == whole


def test_rows_that_come_after_the_end_count_for_nobody(
    spark: SparkSession, lake: Lake, model: Model, made: str
) -> None:
    extraction.extract(spark, lake.table, made, model)
    whole = vectors(features.under(spark, made, model.id))
    late = tables.append(tables.read(spark, made, "features").limit(5), made, "features")
    assert tables.read(spark, made, "features").count() == 25
    assert vectors(features.live(spark, made, models.one(made, None))) == whole
    extraction.extract(spark, lake.table, made, model)
    assert vectors(tables.read(spark, made, "features")) == whole
    assert late not in parts(spark, made)


def test_a_table_with_copies_is_not_complete_and_a_repair_that_is_stopped_loses_nothing(
    spark: SparkSession, lake: Lake, model: Model, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = vectors(tables.read(spark, made, "features"))
    second = parts(spark, made)[1]
    rows = tables.read(spark, made, "features")
    copied = rows.where(F.col("part") != second).limit(3)
    tables.append(copied.union(rows.where(F.col("part") == second)), made, "features")
    tables.drop(spark, made, "features", [second])

    with monkeypatch.context() as patched:
        patched.setattr(extraction, "_drop_copies", lambda *given: None)
        with pytest.raises(RuntimeError, match="3 rows of contents that have one already: run extract again"):
            extraction.extract(spark, lake.table, made, model)

    with monkeypatch.context() as patched:
        patched.setattr(tables, "drop", killed)
        with pytest.raises(KeyboardInterrupt):
            extraction.extract(spark, lake.table, made, model)
    assert {row["sha256"] for row in tables.read(spark, made, "features").collect()} == set(whole)
    with pytest.raises(UsageError, match="incomplete"):
        models.one(made, None)
    extraction.extract(spark, lake.table, made, model)
    assert vectors(tables.read(spark, made, "features")) == whole
