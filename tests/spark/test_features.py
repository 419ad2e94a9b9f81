from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from numpy.typing import NDArray
from PIL import Image
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from tests.samples import Lake, make_images

from dedup import (
    answers,
    batches,
    extraction,
    features,
    formats,
    images,
    models,
    pixels,
    rounds,
    tables,
)
from dedup.arithmetic import Arithmetic
from dedup.errors import Reason, UsageError
from dedup.model import Model


def vectors(spark: SparkSession, location: str) -> dict[str, bytes]:
    rows = tables.read(spark, location, "features").select("sha256", "features").collect()
    assert len({row["sha256"] for row in rows}) == len(rows), "one row for each content"
    return {row["sha256"]: bytes(row["features"]) for row in rows}


def test_files_are_features_and_rejects(spark: SparkSession, lake: Lake) -> None:
    done = lake.extracted
    assert (done.files, done.described, done.rejected) == (26, 22, 4)
    assert (done.contents, done.computed) == (23, 23)
    reasons = {
        Path(row["path"]).name: (row["stage"], row["reason"])
        for row in tables.read(spark, lake.features, "rejects").collect()
    }
    assert reasons == {
        "empty.jpg": ("decode", Reason.EMPTY),
        "notes": ("decode", Reason.NOT_AN_IMAGE),
        "short.png": ("decode", Reason.TRUNCATED),
        "gone.png": ("list", Reason.MISSING),
    }


def test_a_content_has_the_digest_of_its_decoded_file(spark: SparkSession, lake: Lake) -> None:
    contents = {row["sha256"]: bytes(row["content"]) for row in tables.read(spark, lake.table, "images").collect()}
    found = tables.read(spark, lake.features, "features").select("sha256", "pixels").collect()
    assert {row["pixels"] for row in found} != {None}
    for sha256, digest in found:
        assert digest == pixels.decode(contents[sha256]).digest


def test_a_table_from_before_digests_has_none_of_them(spark: SparkSession, lake: Lake, tmp_path: Path) -> None:
    old = tables.read(spark, lake.features, "features").drop("pixels", "part")
    old.write.partitionBy("model", "bucket").parquet(str(tmp_path / "features" / "part=000001-01234567"))
    tables.append(tables.read(spark, lake.features, "features"), str(tmp_path), "features")
    rows = tables.read(spark, str(tmp_path), "features").groupBy("part").agg(F.count("*"), F.count("pixels"))
    assert [counts for _, *counts in rows.orderBy("part").collect()] == [[20, 0], [20, 20]]


def test_a_list_of_files_has_few_files_in_a_bucket_however_many_tasks_spark_makes(
    spark: SparkSession, lake: Lake, tmp_path: Path
) -> None:
    files = images.inventory(spark, lake.table).repartition(24, "path")
    extraction._list(files, images.unread(spark, lake.table), lake.table, str(tmp_path))
    rows = tables.read(spark, str(tmp_path), "images")
    found = rows.select("bucket", F.input_file_name().alias("file")).distinct().groupBy("bucket").count()
    assert rows.count() == files.count()
    assert max(row["count"] for row in found.collect()) <= rounds.slots(spark)


def test_a_second_run_computes_nothing(spark: SparkSession, lake: Lake, model: Model) -> None:
    def parts() -> list[set[str]]:
        names = ("features", "images", "rejects")
        return [formats.of(lake.features).parts(spark, f"{lake.features}/{name}") for name in names]

    before, made = vectors(spark, lake.features), parts()
    done = extraction.extract(spark, lake.table, lake.features, model)
    assert done.computed == 0
    assert (done.files, done.described, done.rejected) == (26, 22, 4)
    assert vectors(spark, lake.features) == before
    assert parts() == made, "nothing is written"


@pytest.mark.parametrize("tasks", [1, 8])
def test_the_same_bytes_at_any_partitioning(
    spark: SparkSession,
    lake: Lake,
    model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tasks: int,
) -> None:
    monkeypatch.setattr(rounds, "slots", lambda spark: tasks)
    images.ingest(spark, str(lake.images), str(tmp_path), keep_bytes=False)
    extraction.extract(spark, str(tmp_path), str(tmp_path), model)
    assert vectors(spark, str(tmp_path)) == vectors(spark, lake.features)


def test_a_run_that_dies_goes_on_where_it_stopped(
    spark: SparkSession, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "LEAST_FILES", 16)
    make_images(tmp_path / "in", 80)
    images.ingest(spark, str(tmp_path / "in"), str(tmp_path / "table"))
    location = str(tmp_path / "features")
    append = tables.append
    written: list[str] = []

    def failing(rows: DataFrame, where: str, table: str) -> str:
        if table == "features":
            if len(written) == 1:
                raise OSError("the disk is full")
            written.append(table)
        return append(rows, where, table)

    monkeypatch.setattr(tables, "append", failing)
    with pytest.raises(OSError, match="disk is full"):
        extraction.extract(spark, str(tmp_path / "table"), location, model)
    monkeypatch.undo()
    kept = vectors(spark, location)
    assert 0 < len(kept) < 80

    with pytest.raises(UsageError, match="incomplete: run the same extract again"):
        models.choose(location, None, None)

    done = extraction.extract(spark, str(tmp_path / "table"), location, model)
    assert done.computed == 80 - len(kept)
    assert (done.files, done.described) == (80, 80)
    assert kept.items() <= vectors(spark, location).items()


def test_a_file_that_changed_since_it_was_listed_is_rejected_and_tried_again(
    spark: SparkSession, model: Model, tmp_path: Path
) -> None:
    paths = make_images(tmp_path / "in", 3)
    location = str(tmp_path / "features")
    images.ingest(spark, str(tmp_path / "in"), location, keep_bytes=False)
    before = paths[0].read_bytes()
    paths[0].write_bytes(b"something else")
    paths[1].unlink()
    done = extraction.extract(spark, location, location, model)
    assert (done.files, done.described, done.rejected) == (3, 1, 2)
    found = {row["path"]: row["reason"] for row in tables.read(spark, location, "rejects").collect()}
    assert found == {str(paths[0]): "changed", str(paths[1]): "missing"}
    paths[0].write_bytes(before)
    done = extraction.extract(spark, location, location, model)
    assert (done.computed, done.described, done.rejected) == (2, 2, 1)


def test_an_image_that_does_not_fit_in_memory_now_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(Image, "open", full)
    row = {"sha256": "a", "path": "/a", "bucket": 0, "content": b"\xff\xd8 an image"}
    ((told, picture),) = features._look(row, 224)
    assert picture is None
    assert (told["stage"], told["reason"], told["detail"]) == (
        "fetch",
        Reason.TOO_MANY_PIXELS,
        "its pixels do not fit in memory",
    )


def test_files_of_another_table_are_listed_no_more_and_counted(
    spark: SparkSession, model: Model, tmp_path: Path
) -> None:
    location = str(tmp_path / "features")
    for name, count, gone in (("one", 3, 0), ("other", 2, 3)):
        folder = tmp_path / name
        make_images(folder, count)
        images.ingest(spark, str(folder), f"{tmp_path}/table of {name}")
        done = extraction.extract(spark, f"{tmp_path}/table of {name}", location, model)
        assert (done.files, done.gone) == (count, gone)
    assert extraction.extract(spark, location, location, model).gone is None


def test_a_file_that_cannot_be_read_any_more_is_rejected_and_not_gone(
    spark: SparkSession, model: Model, tmp_path: Path
) -> None:
    paths, table, location = make_images(tmp_path / "in", 2), f"{tmp_path}/table", f"{tmp_path}/features"
    for gone in (False, True):
        if gone:
            paths[0].unlink()
            paths[0].symlink_to("nothing")
        images.ingest(spark, str(tmp_path / "in"), table)
        done = extraction.extract(spark, table, location, model)
        assert (done.files, done.rejected, done.gone) == (2, int(gone), 0)


def test_no_table_of_images_is_bad_use(spark: SparkSession, model: Model, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no table of images"):
        extraction.extract(spark, str(tmp_path / "nothing"), str(tmp_path / "features"), model)


def test_reasons_are_counted(spark: SparkSession, lake: Lake) -> None:
    counted = extraction.reasons(spark, lake.features)
    assert list(counted.items()) == [("empty", 1), ("missing", 1), ("not_an_image", 1), ("truncated", 1)]


def test_a_copy_that_is_left_gives_the_features_of_one_that_is_gone(
    spark: SparkSession, model: Model, tmp_path: Path
) -> None:
    path = make_images(tmp_path / "in", 1)[0]
    (tmp_path / "in" / "zzz.png").write_bytes(path.read_bytes())
    location = str(tmp_path / "features")
    images.ingest(spark, str(tmp_path / "in"), location, keep_bytes=False)
    path.unlink()
    done = extraction.extract(spark, location, location, model)
    assert (done.files, done.described, done.rejected) == (2, 2, 0)


def test_a_content_that_no_file_has_any_more_does_not_vote(spark: SparkSession, model: Model, tmp_path: Path) -> None:
    paths = make_images(tmp_path / "in", 3)
    location = str(tmp_path / "features")
    for _ in range(2):
        images.ingest(spark, str(tmp_path / "in"), location, keep_bytes=False)
        extraction.extract(spark, location, location, model)
        paths[0].write_bytes(paths[1].read_bytes())
    assert models.of(location)[0].stale == 1
    question = answers.Question(location, [str(paths[1])], str(tmp_path / "report"))
    answered = answers.ask(spark, question, models.choose(location, None, None))
    rows = answered.rows[str(paths[1])]
    assert [len(row["paths"]) for row in rows] == [2, 1]


def test_a_query_during_an_extract_answers_from_what_was_complete_before_it(
    spark: SparkSession, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_images(tmp_path / "in", 3)
    location = str(tmp_path / "features")
    asked = str(paths[0])
    question = answers.Question(location, [asked], str(tmp_path / "report"))

    def ask() -> answers.Answered:
        return answers.ask(spark, question, models.choose(location, None, None))

    def killed(*_: object) -> None:
        raise RuntimeError("killed when all was computed")

    images.ingest(spark, str(tmp_path / "in"), location, keep_bytes=False)
    extraction.extract(spark, location, location, model)
    before = ask()
    assert (len(before.rows[asked]), before.notes) == (3, [])
    make_images(tmp_path / "in", 4)
    images.ingest(spark, str(tmp_path / "in"), location, keep_bytes=False)
    with monkeypatch.context() as patch:
        patch.setattr(extraction, "_reject", killed)
        with pytest.raises(RuntimeError, match="killed"):
            extraction.extract(spark, location, location, model)
    assert features.under(spark, location, model.id).count() == 4, "the fourth is there, and no answer yet"
    during = ask()
    assert [row | {"part": ""} for row in during.rows[asked]] == [row | {"part": ""} for row in before.rows[asked]]
    assert during.notes[0].startswith("An extract is at work on these features, or was stopped")
    with pytest.raises(UsageError, match="incomplete"):
        models.one(location, None)
    assert extraction.extract(spark, location, location, model).computed == 0
    after = ask()
    assert (len(after.rows[asked]), after.notes) == (4, [])


def test_features_are_not_put_over_a_table_with_bytes(spark: SparkSession, model: Model, tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_images(tmp_path / f"{name} in", 2)
        images.ingest(spark, str(tmp_path / f"{name} in"), str(tmp_path / name))
    with pytest.raises(UsageError, match="choose another place"):
        extraction.extract(spark, str(tmp_path / "one"), str(tmp_path / "two"), model)
    assert tables.read(spark, str(tmp_path / "two"), "images").where("content is not null").count() == 2


def test_a_content_whose_only_file_cannot_be_read_any_more_does_not_vote(
    spark: SparkSession, model: Model, tmp_path: Path
) -> None:
    paths = make_images(tmp_path / "in", 2)
    location = str(tmp_path / "features")
    for _ in range(2):
        images.ingest(spark, str(tmp_path / "in"), location, keep_bytes=False)
        done = extraction.extract(spark, location, location, model)
        paths[0].unlink(missing_ok=True)
        paths[0].symlink_to(tmp_path / "nowhere")
    assert (done.files, done.described, done.rejected) == (2, 1, 1)
    assert models.of(location)[0].stale == 1
    question = answers.Question(location, [str(paths[1])], str(tmp_path / "report"))
    answered = answers.ask(spark, question, models.choose(location, None, None))
    assert [row["paths"] for row in answered.rows[str(paths[1])]] == [[str(paths[1])]]


def test_features_are_written_in_lz4(lake: Lake) -> None:
    file = next((Path(lake.features) / "features").rglob("*.parquet"))
    group = pyarrow.parquet.ParquetFile(file).metadata.row_group(0)
    assert {group.column(i).compression for i in range(group.num_columns)} == {"LZ4"}


def test_what_a_part_has_of_a_bucket_is_one_file(lake: Lake) -> None:
    folders = [*(Path(lake.features) / "features").glob("part=*/model=*/bucket=*")]
    assert len(folders) > 2
    assert [len([*folder.glob("*.parquet")]) for folder in folders] == [1] * len(folders)


class Nothing:
    """Weights that nobody needs."""

    name = ""

    def open(self) -> NDArray[np.float32]:
        raise AssertionError("no network is loaded")


def test_image_bytes_that_wait_for_the_network_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def rows() -> Iterator[pa.RecordBatch]:
        for number in range(20):
            taken.append(number)
            names = ["sha256", "path", "other", "bucket", "content"]
            columns = [["a"], ["a"], ["a"], [0], [bytes(batches.AHEAD_BYTES // 4)]]
            yield pa.RecordBatch.from_arrays([pa.array(column) for column in columns], names=names)

    seen: list[int] = []

    def described(known: list[dict[str, object]], *_: object) -> None:
        seen.append(len(taken))

    monkeypatch.setattr(features, "_described", described)
    monkeypatch.setattr(features, "_ROWS", 1)

    list(features._extract(rows(), features.Task(Nothing(), Arithmetic("float32"), 224)))
    assert seen[0] == 5, "four wait, and one is at hand"


def test_a_picture_is_decoded_while_the_network_computes_those_before_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    patience = 60  # seconds after which what does not come has failed
    size = features.engine(Arithmetic("float32")).batch_size
    contents = [path.read_bytes() for path in make_images(tmp_path, size + 1)]
    computing, decoded = threading.Event(), threading.Event()
    decode = pixels.decode

    def last_waits(content: bytes, side: int) -> pixels.Picture:
        if content != contents[-1]:
            return decode(content, side)
        assert computing.wait(patience), "the network does not wait for it"
        found = decode(content, side)
        decoded.set()
        return found

    def compute(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        computing.set()
        assert decoded.wait(patience), "it does not wait for the network"
        return pictures[:, 0, 0].astype(np.float32)

    monkeypatch.setattr(pixels, "decode", last_waits)
    monkeypatch.setattr(features, "network", lambda task: compute)
    rows = [
        {"sha256": str(number), "path": "", "other": "", "bucket": 0, "content": content}
        for number, content in enumerate(contents)
    ]
    task = features.Task(Nothing(), Arithmetic("float32"), 224)
    made = pa.Table.from_batches(features._extract(iter([pa.RecordBatch.from_pylist(rows)]), task))
    assert made["sha256"].to_pylist() == [row["sha256"] for row in rows]
    expected = [decode(content, 224).pixels[0, 0].astype("<f4").tobytes() for content in contents]
    assert made["features"].to_pylist() == expected


def broken(folder: Path) -> None:
    """Two images, and a file that cannot be read."""
    make_images(folder, 2)
    (folder / "gone.png").symlink_to(folder / "nowhere")


def test_a_file_without_features_or_reject_ends_the_job(
    spark: SparkSession, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(tmp_path / "in")
    images.ingest(spark, str(tmp_path / "in"), str(tmp_path / "table"), keep_bytes=False)
    location = str(tmp_path / "features")
    with monkeypatch.context() as patched:
        patched.setattr(extraction, "_reject", lambda *given: None)
        with pytest.raises(RuntimeError, match=r"the counts do not add up: .*'rejected': 0, 'files': 3"):
            extraction.extract(spark, str(tmp_path / "table"), location, model)
    assert not models.of(location)[0].complete
    done = extraction.extract(spark, str(tmp_path / "table"), location, model)
    assert (done.files, done.described, done.rejected, done.computed) == (3, 2, 1, 0)


def test_a_table_of_images_that_cannot_be_written_ends_the_job_before_the_network(
    spark: SparkSession, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / "in", 2)
    images.ingest(spark, str(tmp_path / "in"), str(tmp_path / "table"), keep_bytes=False)

    def full(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(extraction, "_list", full)
    with pytest.raises(OSError, match="the disk is full"):
        extraction.extract(spark, str(tmp_path / "table"), str(tmp_path / "features"), model)
    assert not models.of(str(tmp_path / "features"))[0].complete
    assert not tables.exists(str(tmp_path / "features"), "features")
