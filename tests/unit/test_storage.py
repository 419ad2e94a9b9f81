"""Files: why one cannot be read, that none is half written, and how a location is spelt."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dedup import listing, storage, stores
from dedup.errors import Reason, Reject, UsageError

Put = Callable[[Iterable[str]], list[str]]


def unread(path: str | Path, limit: int = storage.MAX_BYTES) -> Reason:
    with pytest.raises(Reject) as caught:
        storage.read(os.fspath(path), limit)
    return caught.value.reason


@pytest.mark.parametrize(
    ("name", "why"), [("gone", Reason.MISSING), ("a/below", Reason.MISSING), ("folder", Reason.UNREADABLE)]
)
def test_what_cannot_be_read_is_rejected_for_its_reason(tmp_path: Path, put: Put, name: str, why: Reason) -> None:
    put(["a", "folder/b"])
    assert unread(tmp_path / name) == why


@contextmanager
def nobody() -> Iterator[None]:
    """Root may read everything: be somebody else for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_what_is_not_permitted_is_rejected_and_the_rest_listed() -> None:
    with tempfile.TemporaryDirectory() as made:  # nobody may look into pytest's own
        file, folder, free = (Path(made, name) for name in ("file", "folder", "free"))
        folder.mkdir()
        for path in (file, free, folder / "inside"):
            path.write_bytes(b"x")
        for path, mode in {Path(made): 0o755, file: 0, folder: 0}.items():
            path.chmod(mode)
        with nobody():
            assert unread(file) == unread(folder / "inside") == Reason.PERMISSION
            found = {entry.path: entry.reject and entry.reject.reason for entry in listing.entries(made)}
        folder.chmod(0o700)
    assert found == {f"{file}": None, f"{folder}": Reason.PERMISSION, f"{free}": None}


def test_a_file_is_read_up_to_the_limit(tmp_path: Path, put: Put) -> None:
    (path,) = put(["12345"])
    assert storage.read(path, limit=5) == b"12345"
    assert unread(path, limit=4) == Reason.TOO_LARGE


def test_a_file_of_more_than_256_mib_is_too_large(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate((256 << 20) + 1)
    assert unread(tmp_path / "sparse") == Reason.TOO_LARGE


def test_a_file_is_written_with_the_folders_above_it(tmp_path: Path) -> None:
    storage.write(f"{tmp_path}/x/y/file", b"old")
    storage.write(f"file://{tmp_path}/x/y/file", b"new")
    assert (tmp_path / "x/y/file").read_bytes() == b"new"
    assert storage.names(f"{tmp_path}/x/y") == ["file"]


def test_a_file_is_replaced_not_changed(tmp_path: Path) -> None:
    storage.write(f"{tmp_path}/file", b"old")
    with open(tmp_path / "file", "rb") as reader:
        storage.write(f"{tmp_path}/file", b"new")
        assert reader.read() == b"old"  # who has it open keeps what it opened


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    storage.require_writable(f"{tmp_path}/new/")
    assert storage.is_folder(f"{tmp_path}/new")
    assert storage.names(f"{tmp_path}/new") == []


def test_below_a_file_nothing_can_be_written(tmp_path: Path, put: Put) -> None:
    (path,) = put(["file"])
    for work in (storage.require_writable, lambda location: storage.write(location + "/x", b"")):
        with pytest.raises(UsageError, match="cannot be written") as caught:
            work(f"{path}/table")
        assert path in str(caught.value)
    assert storage.names(os.fspath(tmp_path)) == ["file"]


def test_what_is_deleted_is_gone(tmp_path: Path, put: Put) -> None:
    put(["file", "folder/x/y"])
    for name in ("file", "folder", "never there"):
        storage.delete(f"{tmp_path}/{name}")
    assert storage.names(os.fspath(tmp_path)) == storage.names(f"{tmp_path}/folder") == []


@pytest.mark.parametrize(
    ("location", "absolute"),
    [
        ("/a/b", "/a/b"),
        ("/a//b/./c/../", "/a/b"),
        ("file:///a/b/", "/a/b"),
        ("file:/a/b", "/a/b"),
        ("FILE:///a", "/a"),
        ("dbfs:/mnt/lake", "/dbfs/mnt/lake"),
        ("dbfs:/Volumes/main/photos/lake/", "/Volumes/main/photos/lake"),
        ("/a/%20 b", "/a/%20 b"),
        ("file:///a/%20#b", "/a/%20#b"),
        ("/a/s3://b", "/a/s3:/b"),
        ("//a/b", "/a/b"),
        ("file:////a/b", "/a/b"),
        ("dbfs:///mnt/lake", "/dbfs/mnt/lake"),
        ("dbfs:///Volumes/main/photos/lake", "/Volumes/main/photos/lake"),
        ("DBFS:/Volumes/main/photos/lake", "/Volumes/main/photos/lake"),
    ],
)
def test_a_location_has_one_spelling(location: str, absolute: str) -> None:
    assert stores.absolute(location) == absolute
    assert stores.absolute(absolute) == absolute


def test_a_relative_location_is_one_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert stores.absolute("a/../b") == f"{tmp_path}/b"


def test_spark_is_told_the_scheme_of_local_paths() -> None:
    assert stores.spark_path("/a/b c/%") == stores.spark_path("file:///a/b c/%/") == "file:///a/b c/%"
    assert stores.spark_path("dbfs:/Volumes/a/b c/%") == stores.spark_path("/Volumes/a/b c/%") == "/Volumes/a/b c/%"


@pytest.mark.parametrize("location", ["/a/*", "/a?", "/[a]", "/{a,b}", "/a]"])
def test_spark_is_told_no_pattern(location: str) -> None:
    with pytest.raises(UsageError) as caught:
        stores.spark_path(location)
    assert str(caught.value).startswith(f"{location}: ")


@pytest.mark.parametrize("location", ["http://host/a.jpg", "ftp:a", "gopher:///a"])
def test_an_unknown_scheme_is_answered_with_those_that_are_known(location: str) -> None:
    for ask in (stores.absolute, storage.exists, storage.read, stores.spark_path):
        with pytest.raises(UsageError) as caught:
            ask(location)
        assert str(caught.value).startswith(f"{location}: ")
        assert all(scheme in str(caught.value) for scheme in ("file", "s3a", "gs", "abfss", "hdfs", "dbfs"))
