"""What is not the local disk, as Arrow sees it: a file system of another kind, with folders of a disk behind it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyarrow import fs

from dedup import listing, storage, stores
from dedup.errors import Outage, Reason, Reject, UsageError


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder behind mock://bucket."""
    store = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setitem(stores._SCHEMES, "mock", lambda authority: (store, authority))
    (tmp_path / "bucket" / "a b").mkdir(parents=True)
    (tmp_path / "bucket" / "a b" / "x %20#1.jpg").write_bytes(b"123")
    (tmp_path / "bucket" / "y.png").write_bytes(b"4567")
    stores._root.cache_clear()
    return tmp_path / "bucket"


def listed(location: str) -> dict[str, int | None]:
    return {entry.path: entry.length for entry in listing.entries(location)}


@pytest.mark.parametrize("location", ["mock://bucket", "mock://bucket/"])
def test_all_of_a_bucket_is_listed_by_uris_that_can_be_read(bucket: Path, location: str) -> None:
    assert listed(location) == {"mock://bucket/a b/x %20#1.jpg": 3, "mock://bucket/y.png": 4}
    assert storage.read("mock://bucket/a b/x %20#1.jpg") == b"123"


def test_one_object_a_prefix_and_a_pattern(bucket: Path) -> None:
    assert listed("mock://bucket/y.png") == {"mock://bucket/y.png": 4}
    assert listed("mock://bucket/a b") == {"mock://bucket/a b/x %20#1.jpg": 3}
    assert listed("mock://bucket/*.png") == {"mock://bucket/y.png": 4}
    assert listed("mock://bucket/*/*.jpg") == {"mock://bucket/a b/x %20#1.jpg": 3}
    assert listed("mock://bucket/nothing") == {}


def test_an_object_that_is_gone_is_missing(bucket: Path) -> None:
    with pytest.raises(Reject) as caught:
        storage.read("mock://bucket/gone.png")
    assert caught.value.reason == Reason.MISSING


def test_what_is_written_is_there_and_what_is_deleted_is_not(bucket: Path) -> None:
    storage.write("mock://bucket/new/mark", b"done")
    assert storage.names("mock://bucket/new") == ["mark"]
    storage.require_writable("mock://bucket/new")
    storage.delete("mock://bucket/new")
    assert not storage.exists("mock://bucket/new/mark")


@pytest.mark.parametrize(
    ("location", "spelt"),
    [
        ("s3a://lake/a b/", "s3a://lake/a b"),
        ("s3://lake/a", "s3a://lake/a"),
        ("S3://lake//a", "s3a://lake//a"),
        ("s3://lake", "s3a://lake"),
        ("abfs://c@account/s3://x", "abfss://c@account/s3://x"),
        ("GS://lake/a", "gs://lake/a"),
    ],
)
def test_a_store_has_one_spelling(location: str, spelt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_root", lambda *_: (fs.SubTreeFileSystem("/", fs.LocalFileSystem()), ""))
    assert stores.absolute(location) == spelt
    assert stores.absolute(spelt) == spelt


@pytest.mark.parametrize("name", ["AWS Error SLOW_DOWN", "' in bucket 'x': HTTP status 503", "InvalidToken"])
def test_no_name_of_an_object_reads_like_the_stores_own_words(name: str) -> None:
    said = f"When reading information for key '{name}' in bucket 'lake': AWS Error {{}} during HeadObject operation: no"
    assert stores.reject(OSError(said.format("NO_SUCH_KEY"))).reason == Reason.MISSING
    assert isinstance(stores.refused("s3a://lake/a", OSError(said.format("NO_SUCH_KEY"))), UsageError)
    assert "not permitted" not in str(stores.refused("s3a://lake/a", OSError(said.format("NO_SUCH_KEY"))))
    assert isinstance(stores.refused("s3a://lake/a", OSError(said.format("SLOW_DOWN"))), Outage)


@pytest.mark.parametrize(
    ("location", "absolute"),
    [
        ("mock://bucket/lake/", "mock://bucket/lake"),
        ("file:///a/b", "/a/b"),
        ("file:/a/b", "/a/b"),
        ("dbfs:/x", "/dbfs/x"),
    ],
)
def test_a_location_has_one_spelling(bucket: Path, location: str, absolute: str) -> None:
    assert stores.absolute(location) == absolute
