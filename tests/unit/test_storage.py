"""Files: what is listed, what a name means, why a file cannot be read, and that nothing is half written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dedup import storage
from dedup.errors import Reason, Reject, UsageError

NAMES = [
    "plain.jpg",
    "with space.jpg",
    "ünïcode 写真 🦊.png",
    "100%.jpg",
    "%20.jpg",
    "hash#1.jpg",
    "a?b.jpg",
    "star*.jpg",
    "[brackets].jpg",
    "[a-z]",
    "{curly}.jpg",
    "no ending",
    ".hidden",
    "new\nline.jpg",
    "back\\slash.jpg",
    "quote'\".jpg",
    "colon:1.jpg",
    "a=b.jpg",
]


def put(folder: Path, names: Iterable[str]) -> list[str]:
    """Make small files and return their paths, sorted."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return sorted(os.fspath(folder / name) for name in names)


def listed(location: str | Path) -> list[str]:
    """Return the paths of all files under a location that can be read, sorted."""
    return sorted(entry.path for entry in storage.listing(os.fspath(location)) if entry.reject is None)


def rejected(location: str | Path) -> dict[str, Reason]:
    return {entry.path: entry.reject.reason for entry in storage.listing(os.fspath(location)) if entry.reject}


def unread(path: str | Path, limit: int = storage.MAX_BYTES) -> Reason:
    with pytest.raises(Reject) as caught:
        storage.read(os.fspath(path), limit)
    return caught.value.reason


def test_a_folder_stands_for_all_that_is_in_it(tmp_path: Path) -> None:
    paths = put(tmp_path, ["a.jpg", "x/b.jpg", "x/y/z/c", "x/y/d.txt"])
    (tmp_path / "empty").mkdir()
    assert listed(tmp_path) == listed(f"{tmp_path}/") == listed(f"file://{tmp_path}") == paths


def test_an_entry_has_the_length_and_time_of_its_file(tmp_path: Path) -> None:
    (path,) = put(tmp_path, ["a.jpg"])
    os.utime(path, (0, 1_700_000_000.25))
    (entry,) = storage.listing(os.fspath(tmp_path))
    assert entry == storage.Entry(path, 5, datetime.fromtimestamp(1_700_000_000.25, UTC), None)


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_listed_and_read_as_it_is(tmp_path: Path, name: str) -> None:
    (path,) = put(tmp_path, [name])
    assert listed(tmp_path) == [path]
    assert storage.read(path) == name.encode()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_exists_is_no_pattern(tmp_path: Path, name: str) -> None:
    put(tmp_path, ["star1.jpg", "aXb.jpg", "b.jpg", "b", "a"])
    (path,) = put(tmp_path, [name])
    (inside,) = put(tmp_path, [f"in/{name}/file.jpg"])
    assert listed(path) == [path]
    assert listed(tmp_path / "in" / name) == [inside]


PATTERNS = ["a1.jpg", "a2.png", "b1.jpg", "x/a1.jpg", "x/y/a3.jpg", "x/y/n.txt", "z/a1.jpg"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", PATTERNS),
        ("*.jpg", ["a1.jpg", "b1.jpg"]),
        ("a?.*", ["a1.jpg", "a2.png"]),
        ("[ab]1.jpg", ["a1.jpg", "b1.jpg"]),
        ("[!a]1.jpg", ["b1.jpg"]),
        ("*/a1.jpg", ["x/a1.jpg", "z/a1.jpg"]),
        ("x/*", ["x/a1.jpg", "x/y/a3.jpg", "x/y/n.txt"]),
        ("x/*/*.jpg", ["x/y/a3.jpg"]),
        ("**/a?.jpg", ["a1.jpg", "x/a1.jpg", "x/y/a3.jpg", "z/a1.jpg"]),
        ("**", PATTERNS),
        ("x/**/*.jpg", ["x/a1.jpg", "x/y/a3.jpg"]),
        ("**/y", ["x/y/a3.jpg", "x/y/n.txt"]),
        ("[xz]", ["x/a1.jpg", "x/y/a3.jpg", "x/y/n.txt", "z/a1.jpg"]),
        ("[xz]/", ["x/a1.jpg", "x/y/a3.jpg", "x/y/n.txt", "z/a1.jpg"]),
        ("*.gif", []),
        ("A*", []),
        ("none/*", []),
    ],
)
@pytest.mark.parametrize("scheme", ["", "file://", "file:"])
def test_a_pattern_stands_for_what_it_matches(tmp_path: Path, scheme: str, pattern: str, names: list[str]) -> None:
    put(tmp_path, PATTERNS)
    assert listed(f"{scheme}{tmp_path}/{pattern}") == sorted(os.fspath(tmp_path / name) for name in names)


@pytest.mark.parametrize("pattern", ["*.jpg", "./*.jpg", "../*/*.jpg"])
def test_a_relative_pattern_is_one_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    (path,) = put(tmp_path, ["here/a.jpg"])
    monkeypatch.chdir(tmp_path / "here")
    assert listed(pattern) == listed("a.jpg") == listed("") == [path]


@pytest.mark.parametrize("location", ["nothing", "nothing/at/all", "a.jpg/below"])
def test_where_nothing_is_nothing_is_listed(tmp_path: Path, location: str) -> None:
    put(tmp_path, ["a.jpg"])
    assert list(storage.listing(f"{tmp_path}/{location}")) == []


def test_links_are_followed(tmp_path: Path) -> None:
    put(tmp_path, ["real/a.jpg"])
    os.symlink(tmp_path / "real", tmp_path / "folder")
    os.symlink(tmp_path / "real/a.jpg", tmp_path / "file")
    assert listed(tmp_path) == [f"{tmp_path}/{name}" for name in ("file", "folder/a.jpg", "real/a.jpg")]


def test_a_loop_of_links_is_listed_once(tmp_path: Path) -> None:
    put(tmp_path, ["top/a.jpg", "top/x/b.jpg"])
    os.symlink(tmp_path / "top", tmp_path / "top/x/up")
    os.symlink(".", tmp_path / "top/self")
    assert listed(tmp_path / "top") == [f"{tmp_path}/top/a.jpg", f"{tmp_path}/top/x/b.jpg"]


def test_links_to_nothing_are_rejected(tmp_path: Path) -> None:
    put(tmp_path, ["a.jpg"])
    os.symlink(tmp_path / "gone", tmp_path / "broken")
    os.symlink(tmp_path / "around", tmp_path / "around")
    assert rejected(tmp_path) == {f"{tmp_path}/broken": Reason.MISSING, f"{tmp_path}/around": Reason.UNREADABLE}
    assert listed(tmp_path) == [f"{tmp_path}/a.jpg"]


@pytest.mark.timeout(20)
def test_nobody_waits_at_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert listed(tmp_path) == listed(tmp_path / "pipe") == [f"{tmp_path}/pipe"]
    assert unread(tmp_path / "pipe") == Reason.UNREADABLE


def test_a_name_that_is_not_utf8_is_rejected_by_a_name_that_is(tmp_path: Path) -> None:
    (path,) = put(tmp_path, ["a.jpg"])
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jpg", "wb"):
        os.mkdir(os.fsencode(tmp_path) + b"/f\xff")
    assert rejected(tmp_path) == dict.fromkeys([f"{tmp_path}/caf\\xe9.jpg", f"{tmp_path}/f\\xff"], Reason.UNREADABLE)
    assert listed(tmp_path) == [path]


@pytest.mark.xfail(strict=True, raises=UnicodeEncodeError, reason="Arrow is asked first, and takes UTF-8 only")
def test_a_location_that_is_not_utf8_is_rejected_too(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    with open(name, "wb"):
        assert rejected(os.fsdecode(name)) == {f"{tmp_path}/caf\\xe9.jpg": Reason.UNREADABLE}


@pytest.mark.parametrize(
    ("name", "why"), [("gone", Reason.MISSING), ("a/below", Reason.MISSING), ("folder", Reason.UNREADABLE)]
)
def test_what_cannot_be_read_is_rejected_for_its_reason(tmp_path: Path, name: str, why: Reason) -> None:
    put(tmp_path, ["a", "folder/b"])
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
        file, inside, open_to_all = put(Path(made), ["file", "folder/inside", "open"])
        for path, mode in {made: 0o755, file: 0, f"{made}/folder": 0}.items():
            os.chmod(path, mode)
        with nobody():
            assert unread(file) == unread(inside) == Reason.PERMISSION
            assert listed(made) == [file, open_to_all]
            assert rejected(made) == {f"{made}/folder": Reason.PERMISSION}
        os.chmod(f"{made}/folder", 0o700)


def test_a_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    (path,) = put(tmp_path, ["12345"])
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


def test_below_a_file_nothing_can_be_written(tmp_path: Path) -> None:
    (path,) = put(tmp_path, ["file"])
    for work in (storage.require_writable, lambda location: storage.write(location + "/x", b"")):
        with pytest.raises(UsageError, match="cannot be written") as caught:
            work(f"{path}/table")
        assert path in str(caught.value)
    assert storage.names(os.fspath(tmp_path)) == ["file"]


def test_what_is_deleted_is_gone(tmp_path: Path) -> None:
    put(tmp_path, ["file", "folder/x/y"])
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
        ("/a/%20 b", "/a/%20 b"),
        ("file:///a/%20#b", "/a/%20#b"),
        ("/a/s3://b", "/a/s3:/b"),
        pytest.param("//a/b", "/a/b", marks=pytest.mark.xfail(strict=True, reason="normpath keeps two slashes")),
    ],
)
def test_a_location_has_one_spelling(location: str, absolute: str) -> None:
    assert storage.absolute(location) == absolute
    assert storage.absolute(absolute) == absolute


def test_a_relative_location_is_one_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("a/../b") == f"{tmp_path}/b"


def test_spark_is_told_the_scheme_of_local_paths() -> None:
    assert storage.spark_path("/a/b c/%") == storage.spark_path("file:///a/b c/%/") == "file:///a/b c/%"


@pytest.mark.parametrize("location", ["/a/*", "/a?", "/[a]", "/{a,b}", "/a]"])
def test_spark_is_told_no_pattern(location: str) -> None:
    with pytest.raises(UsageError) as caught:
        storage.spark_path(location)
    assert str(caught.value).startswith(f"{location}: ")


@pytest.mark.parametrize("location", ["http://host/a.jpg", "ftp:a", "gopher:///a"])
def test_an_unknown_scheme_is_answered_with_those_that_are_known(location: str) -> None:
    for ask in (storage.absolute, storage.exists, storage.read, listed):
        with pytest.raises(UsageError) as caught:
            ask(location)
        assert str(caught.value).startswith(f"{location}: ")
        assert all(scheme in str(caught.value) for scheme in ("file", "s3a", "gs", "abfss", "hdfs", "dbfs"))
