"""Archives among the images of a lake: their members are rows like files, and what is wrong with them is counted."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from tests.archives import entry, tar, zipped
from tests.samples import make_images, picture

from dedup import archives, extraction, files, images, queries, report, rounds, tables
from dedup.errors import Reason, UsageError
from dedup.model import Model


def encoded(seed: int) -> bytes:
    file = io.BytesIO()
    picture(seed).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    """Return pictures by the names that they have in archives."""
    return {f"set/{seed}.png": encoded(seed) for seed in range(6)}


@pytest.fixture
def lake(tmp_path: Path, contents: dict[str, bytes]) -> Path:
    """Return a folder with two plain images, a tar of six pictures, their labels and a folder, and a zip of the six."""
    folder = tmp_path / "in"
    make_images(folder, 2)
    labels = {f"set/{seed}.json": b"{}" for seed in range(6)}
    (folder / "1.tar").write_bytes(tar(contents | labels, [entry("set", type=tarfile.DIRTYPE)]))
    (folder / "2.zip").write_bytes(zipped(contents))
    return folder


def rejects(spark: SparkSession, location: str) -> dict[str, str]:
    return {row["path"]: row["reason"] for row in tables.read(spark, location, "rejects").collect()}


def test_members_are_rows_like_files_and_a_second_run_reads_nothing(
    spark: SparkSession, lake: Path, contents: dict[str, bytes], tmp_path: Path
) -> None:
    table = str(tmp_path / "table")
    assert images.ingest(spark, str(lake), table) == images.Ingested(files=20, read=20, kept=20, rejected=0)
    rows = {row["path"]: row for row in tables.read(spark, table, "images").collect()}
    assert len(rows) == 20
    for archive in ("1.tar", "2.zip"):
        for name, content in contents.items():
            row = rows[f"{lake}/{archive}!/{name}"]
            assert (row["content"], row["length"]) == (content, len(content))
            assert row["sha256"] == hashlib.sha256(content).hexdigest()
            assert row["modified"].timestamp() == pytest.approx((lake / archive).stat().st_mtime, abs=1e-3)
    assert images.ingest(spark, str(lake), table) == images.Ingested(files=20, read=0, kept=20, rejected=0)

    (lake / "1.tar").write_bytes(tar({"set/0.png": contents["set/1.png"], "new.png": b"1"}))
    expected = images.Ingested(files=10, read=2, kept=10, rejected=0, changed=1, gone=11)
    assert images.ingest(spark, str(lake), table) == expected, "members that an archive lost are gone"
    latest = {row["path"]: row["sha256"] for row in images.current(spark, table).collect()}
    assert latest[f"{lake}/1.tar!/set/0.png"] == latest[f"{lake}/2.zip!/set/1.png"]
    (lake / "2.zip").unlink()
    assert images.ingest(spark, str(lake), table).gone == 6
    assert images.inventory(spark, table).count() == 4


def test_members_that_an_archive_lost_are_gone_though_it_has_a_name_twice(
    spark: SparkSession, contents: dict[str, bytes], tmp_path: Path
) -> None:
    folder, table = tmp_path / "in", str(tmp_path / "table")
    folder.mkdir()
    twice = [entry("a.png", size=0)]
    (folder / "1.tar").write_bytes(tar({"a.png": b"1", "b.png": b"2", "c.png": b"3"}, twice))
    assert images.ingest(spark, str(folder), table).kept == 3
    (folder / "1.tar").write_bytes(tar({"a.png": b"1", "c.png": b"3"}, twice))
    done = images.ingest(spark, str(folder), table)
    assert (done.gone, done.reasons) == (1, {"corrupt": 1})
    names = [row["path"] for row in images.inventory(spark, table).orderBy("path").collect()]
    assert names == [f"{folder}/1.tar!/a.png", f"{folder}/1.tar!/c.png"]


def test_a_pattern_picks_the_pictures_of_shards(spark: SparkSession, lake: Path, tmp_path: Path) -> None:
    done = images.ingest(spark, f"{lake}/*.tar!/**/*.png", str(tmp_path / "table"))
    assert done == images.Ingested(files=6, read=6, kept=6, rejected=0)
    with pytest.raises(UsageError, match="no such file, folder or pattern"):
        images.ingest(spark, f"{lake}/*.tar!/*.gif", str(tmp_path / "table"))


def test_members_stay_where_they_are_and_have_the_features_of_their_bytes(
    spark: SparkSession, lake: Path, contents: dict[str, bytes], model: Model, tmp_path: Path
) -> None:
    (lake / "plain.png").write_bytes(contents["set/0.png"])
    location = str(tmp_path / "features")
    images.ingest(spark, str(lake), location, keep_bytes=False)
    done = extraction.extract(spark, location, location, model)
    assert (done.files, done.described, done.rejected) == (21, 15, 6)
    assert (done.contents, done.computed) == (9, 9)
    assert set(rejects(spark, location).values()) == {Reason.NOT_AN_IMAGE}
    described = {row["sha256"] for row in tables.read(spark, location, "features").select("sha256").collect()}
    assert {hashlib.sha256(content).hexdigest() for content in contents.values()} < described

    member = f"{lake}/2.zip!/set/3.png"
    asked, _ = queries.collect(spark, location, [member, f"{lake}/1.tar!/**/*.png"])
    assert [query.name for query in asked] == [member, *(f"{lake}/1.tar!/{name}" for name in contents)]
    sha256 = hashlib.sha256(contents["set/3.png"]).hexdigest()
    shown = report.thumbnails(spark.createDataFrame([(sha256, [member])], "sha256 string, paths array<string>"))
    assert shown[sha256].startswith("data:")


def test_what_is_wrong_with_archives_is_counted_until_it_is_right(
    spark: SparkSession, contents: dict[str, bytes], tmp_path: Path
) -> None:
    folder, table = tmp_path / "in", str(tmp_path / "table")
    folder.mkdir()
    link = entry("link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    (folder / "evil.tar").write_bytes(tar(contents | {"../../up.png": b"1", "/etc/abs.png": b"2"}, [link]))
    (folder / "cut.tar").write_bytes(tar({"a.png": b"1" * 600, "b.png": b"2" * 600})[:2048])
    (folder / "cut.zip").write_bytes(zipped(contents)[:-40])
    (folder / "shard.tar.gz").write_bytes(b"\x1f\x8b")
    damaged = bytearray(zipped({"a.png": b"1" * 600, "b.png": b"2" * 600}))
    damaged[40] ^= 255
    (folder / "damaged.zip").write_bytes(damaged)
    done = images.ingest(spark, str(folder), table)
    reasons = {"corrupt": 1, "truncated": 3, "unreadable": 3, "unsupported": 1}
    assert done == images.Ingested(files=16, read=9, kept=8, rejected=8, failed=1, reasons=reasons)
    assert {Path(path).relative_to(folder).as_posix(): reason for path, reason in rejects(spark, table).items()} == {
        "evil.tar!/\\x2e\\x2e/\\x2e\\x2e/up.png": Reason.UNREADABLE,
        "evil.tar!/\\x2fetc/abs.png": Reason.UNREADABLE,
        "evil.tar!/link.png": Reason.UNREADABLE,
        "cut.tar": Reason.TRUNCATED,
        "cut.tar!/b.png": Reason.TRUNCATED,
        "cut.zip": Reason.TRUNCATED,
        "shard.tar.gz": Reason.UNSUPPORTED,
        "damaged.zip!/a.png": Reason.CORRUPT,
    }
    (folder / "cut.tar").write_bytes(tar({"b.png": b"1"}))
    (folder / "cut.zip").write_bytes(zipped({}))
    done = images.ingest(spark, str(folder), table)
    assert (done.files, done.kept, done.rejected) == (13, 8, 5)
    assert not [path for path in rejects(spark, table) if "cut." in path]


def test_an_archive_that_vanishes_or_changes_before_it_is_read_is_rejected(
    spark: SparkSession, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = images._new

    def changing(files: DataFrame, table: str, buckets: int) -> DataFrame:
        (lake / "1.tar").unlink()
        (lake / "2.zip").write_bytes(zipped({"set/0.png": b"another length"}))
        return new(files, table, buckets)

    monkeypatch.setattr(images, "_new", changing)
    done = images.ingest(spark, str(lake), str(tmp_path / "table"))
    assert done == images.Ingested(20, 20, kept=2, rejected=18, failed=18, reasons={"changed": 1, "missing": 17})
    found = rejects(spark, str(tmp_path / "table"))
    assert {reason for path, reason in found.items() if "1.tar!/" in path} == {Reason.MISSING}
    assert found.pop(f"{lake}/2.zip!/set/0.png") == Reason.CHANGED
    assert {reason for path, reason in found.items() if "2.zip!/" in path} == {Reason.MISSING}


def test_the_members_of_an_archive_are_in_buckets_side_by_side(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "BUCKET_FILES", 4)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/1.tar").write_bytes(tar({f"{i:02d}.png": bytes([i]) for i in range(20)}))
    images.ingest(spark, str(tmp_path / "in"), str(tmp_path / "table"))
    rows = tables.read(spark, str(tmp_path / "table"), "images").select("path", "bucket").orderBy("path").collect()
    first = rows[0]["bucket"]
    assert [(row["bucket"] - first) % 8 for row in rows] == [i // 4 for i in range(20)]


def test_a_tar_is_looked_through_once_to_be_listed_and_never_to_be_read(
    lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_kept", {})
    listed = [files._listed(member) for member in archives.members(f"{lake}/1.tar", "**/*.png")]
    monkeypatch.setattr(archives, "_kept", {})
    monkeypatch.setattr(archives, "index", None)  # it cannot be called
    os.utime(lake / "2.zip", (1, 1))
    for row in listed:
        assert files._read(True, row)["reason"] is None
