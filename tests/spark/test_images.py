from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from pyspark.sql import DataFrame, SparkSession
from tests.samples import make_images

from dedup import files, images, rounds, tables
from dedup.errors import UsageError


def rows(spark: SparkSession, location: str, table: str) -> list[dict[str, Any]]:
    return [row.asDict() for row in tables.read(spark, location, table).orderBy("path").collect()]


def test_every_file_is_a_row_with_its_bytes_and_hash(spark: SparkSession, tmp_path: Path) -> None:
    paths = make_images(tmp_path / "in", 5)
    odd = tmp_path / "in" / "ünï %41 #? [x] 'q'.jpg"
    odd.write_bytes(paths[0].read_bytes())
    done = images.ingest(spark, str(tmp_path / "in"), str(tmp_path / "table"))
    assert done == images.Ingested(files=6, read=6, kept=6, rejected=0)
    found = {row["path"]: row for row in rows(spark, str(tmp_path / "table"), "images")}
    assert set(found) == {str(path) for path in [*paths, odd]}
    for path in [*paths, odd]:
        content = path.read_bytes()
        assert found[str(path)]["content"] == content
        assert found[str(path)]["sha256"] == hashlib.sha256(content).hexdigest()
        assert found[str(path)]["length"] == len(content)
        assert found[str(path)]["modified"].timestamp() == pytest.approx(path.stat().st_mtime, abs=1e-3)


def test_the_table_is_partitioned_by_bucket(spark: SparkSession, tmp_path: Path) -> None:
    make_images(tmp_path / "in", 12)
    images.ingest(spark, str(tmp_path / "in"), str(tmp_path / "table"))
    assert len(list((tmp_path / "table" / "images").glob("part=*/bucket=*"))) > 1


def test_a_bucket_of_many_bytes_can_be_read_by_several_tasks(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "buckets", lambda files: 1)
    source = tmp_path / "in"
    source.mkdir()
    for number in range(16):
        (source / f"{number}.jpg").write_bytes(os.urandom(3 << 20))
    images.ingest(spark, str(source), str(tmp_path / "table"))
    described = [
        pyarrow.parquet.ParquetFile(file).metadata for file in (tmp_path / "table" / "images").rglob("*.parquet")
    ]
    lengths = [file.row_group(i).total_byte_size for file in described for i in range(file.num_row_groups)]
    assert sum(lengths) > 48 << 20
    assert max(lengths) < 16 << 20


def test_a_second_run_reads_nothing(spark: SparkSession, tmp_path: Path) -> None:
    make_images(tmp_path / "in", 4)
    images.ingest(spark, str(tmp_path / "in"), str(tmp_path / "table"))
    before = rows(spark, str(tmp_path / "table"), "images")
    again = images.ingest(spark, str(tmp_path / "in"), str(tmp_path / "table"))
    assert again == images.Ingested(files=4, read=0, kept=4, rejected=0)
    assert rows(spark, str(tmp_path / "table"), "images") == before


def test_new_and_changed_files_are_read_and_the_latest_counts(spark: SparkSession, tmp_path: Path) -> None:
    paths = make_images(tmp_path / "in", 3)
    table = str(tmp_path / "table")
    images.ingest(spark, str(tmp_path / "in"), table)
    paths[0].write_bytes(paths[1].read_bytes())
    os.utime(paths[0], (1, 1))  # older than before: it is the order of the runs that counts
    make_images(tmp_path / "in", 5)
    os.utime(paths[0], (1, 1))
    paths[0].write_bytes(paths[1].read_bytes())
    done = images.ingest(spark, str(tmp_path / "in"), table)
    assert (done.files, done.kept, done.rejected) == (5, 5, 0)
    latest = tables.latest(tables.read(spark, table, "images"), "path").collect()
    assert len(latest) == 5
    hashes = {row["path"]: row["sha256"] for row in latest}
    assert hashes[str(paths[0])] == hashes[str(paths[1])]


def test_what_cannot_be_read_is_a_row_of_the_rejects_until_it_can(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in" / "pipe.jpg")
    (tmp_path / "in" / "later.png").symlink_to(tmp_path / "later.png")
    done = images.ingest(spark, str(tmp_path / "in"), str(tmp_path / "table"))
    assert done == images.Ingested(2, 1, 0, rejected=2, failed=1, reasons={"missing": 1, "unreadable": 1})
    reasons = {Path(str(row["path"])).name: row["reason"] for row in rows(spark, str(tmp_path / "table"), "rejects")}
    assert reasons == {"pipe.jpg": "unreadable", "later.png": "missing"}
    (tmp_path / "later.png").write_bytes(b"anything")
    done = images.ingest(spark, str(tmp_path / "in"), str(tmp_path / "table"))
    assert done == images.Ingested(2, 2, kept=1, rejected=1, failed=1, again=2, reasons={"unreadable": 1})


def test_what_is_rejected_as_before_is_said_again_and_nothing_is_written(spark: SparkSession, tmp_path: Path) -> None:
    make_images(tmp_path / "in", 2)
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    source, table = str(tmp_path / "in"), str(tmp_path / "table")

    def files() -> set[tuple[Path, int]]:
        return {(path, path.stat().st_mtime_ns) for path in (tmp_path / "table").rglob("*") if path.is_file()}

    first = images.ingest(spark, source, table)
    assert (first.files, first.kept, first.rejected) == (3, 2, 1)
    before = files()
    second = images.ingest(spark, source, table)
    assert (second.files, second.read, second.kept, second.reasons) == (3, 0, 2, first.reasons)
    assert files() == before

    (tmp_path / "in" / "gone.png").unlink()
    third = images.ingest(spark, source, table)
    assert (third.files, third.kept, third.rejected) == (2, 2, 0)
    assert images.unread(spark, table).count() == 0


def test_two_folders_share_a_table(spark: SparkSession, tmp_path: Path) -> None:
    make_images(tmp_path / "one", 3)
    (tmp_path / "one" / "gone").symlink_to("nowhere")
    make_images(tmp_path / "two", 2)
    table = str(tmp_path / "table")
    images.ingest(spark, str(tmp_path / "one"), table)
    done = images.ingest(spark, str(tmp_path / "two"), table)
    assert done == images.Ingested(files=2, read=2, kept=2, rejected=0)
    assert len(rows(spark, table, "images")) == 5
    assert len(rows(spark, table, "rejects")) == 1


def test_bytes_can_stay_where_they_are(spark: SparkSession, tmp_path: Path) -> None:
    make_images(tmp_path / "in", 3)
    images.ingest(spark, str(tmp_path / "in"), str(tmp_path / "table"), keep_bytes=False)
    assert [row["content"] for row in rows(spark, str(tmp_path / "table"), "images")] == [None] * 3


@pytest.mark.parametrize(
    ("source", "says"), [("nothing", "no such file"), ("empty", "no files in it"), ("*.gif", "no such")]
)
def test_no_files_is_bad_use(spark: SparkSession, tmp_path: Path, source: str, says: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=says):
        images.ingest(spark, str(tmp_path / source), str(tmp_path / "table"))


def test_a_part_without_its_mark_does_not_exist(spark: SparkSession, tmp_path: Path) -> None:
    make_images(tmp_path / "in", 6)
    table = str(tmp_path / "table")
    images.ingest(spark, str(tmp_path / "in"), table)
    part = next((tmp_path / "table" / "images").glob("part=*"))
    (part / "_SUCCESS").unlink()  # as a job leaves it that is killed while it writes
    assert not any(str(row["part"]) in part.name for row in rows(spark, table, "images"))
    done = images.ingest(spark, str(tmp_path / "in"), table)
    assert (done.files, done.kept) == (6, 6)
    assert len(rows(spark, table, "images")) == 6


def test_a_table_inside_the_folder_of_its_images_does_not_hold_itself(spark: SparkSession, tmp_path: Path) -> None:
    make_images(tmp_path, 3)
    table = str(tmp_path / "table")
    for _ in range(2):
        assert images.ingest(spark, str(tmp_path), table).files == 3
    with pytest.raises(UsageError, match="cannot be kept in the folder of the images"):
        images.ingest(spark, table, table)


def test_a_stopped_ingest_is_not_read_as_whole(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "LEAST_FILES", 16)
    make_images(tmp_path / "in", 80)
    table, append = str(tmp_path / "table"), tables.append
    written: list[str] = []

    def failing(rows: DataFrame, where: str, name: str) -> str:
        if len(written) == 1:
            raise OSError("the disk is full")
        written.append(name)
        return append(rows, where, name)

    monkeypatch.setattr(tables, "append", failing)
    with pytest.raises(OSError, match="disk is full"):
        images.ingest(spark, str(tmp_path / "in"), table)
    monkeypatch.undo()
    assert tables.exists(table, "images")
    with pytest.raises(UsageError, match="run it again to finish"):
        images.require_finished(table)
    assert images.ingest(spark, str(tmp_path / "in"), table).kept == 80
    images.require_finished(table)


def test_a_file_that_grows_while_it_is_read_is_rejected(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_images(tmp_path / "in", 3)
    new = images._new

    def growing(files: DataFrame, table: str, buckets: int) -> DataFrame:
        paths[0].write_bytes(paths[0].read_bytes() + b"more")
        return new(files, table, buckets)

    with files.listing(spark, str(tmp_path / "in")) as found:
        files_listed = found.count()
    monkeypatch.setattr(images, "_new", growing)
    done = images.ingest(spark, str(tmp_path / "in"), str(tmp_path / "table"))
    assert files_listed == done.files == 3
    assert (done.kept, done.rejected) == (2, 1)
    assert [row["reason"] for row in rows(spark, str(tmp_path / "table"), "rejects")] == ["changed"]
