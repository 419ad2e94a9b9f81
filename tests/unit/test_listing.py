"""Listing: which files a location stands for, and that an odd name, link or pipe among them stops nobody."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from dedup import listing, storage
from dedup.errors import Reason, Reject, UsageError

Put = Callable[[Iterable[str]], list[str]]

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


def listed(location: str | Path) -> list[str]:
    """Return the paths of all files under a location that can be read, sorted."""
    return sorted(entry.path for entry in listing.entries(os.fspath(location)) if entry.reject is None)


def rejected(location: str | Path) -> dict[str, Reason]:
    return {entry.path: entry.reject.reason for entry in listing.entries(os.fspath(location)) if entry.reject}


def test_a_folder_stands_for_all_that_is_in_it(tmp_path: Path, put: Put) -> None:
    paths = put(["a.jpg", "x/b.jpg", "x/y/z/c", "x/y/d.txt"])
    (tmp_path / "empty").mkdir()
    assert listed(tmp_path) == listed(f"{tmp_path}/") == listed(f"file://{tmp_path}") == paths


def test_an_entry_has_the_length_and_time_of_its_file(tmp_path: Path, put: Put) -> None:
    (path,) = put(["a.jpg"])
    os.utime(path, (0, 1_700_000_000.25))
    (entry,) = listing.entries(os.fspath(tmp_path))
    assert entry == listing.Entry(path, 5, datetime.fromtimestamp(1_700_000_000.25, UTC), None)


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_listed_and_read_as_it_is(tmp_path: Path, put: Put, name: str) -> None:
    (path,) = put([name])
    assert listed(tmp_path) == [path]
    assert storage.read(path) == name.encode()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_exists_is_no_pattern(tmp_path: Path, put: Put, name: str) -> None:
    put(["star1.jpg", "aXb.jpg", "b.jpg", "b", "a"])
    (path,) = put([name])
    (inside,) = put([f"in/{name}/file.jpg"])
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
def test_a_pattern_stands_for_what_it_matches(
    tmp_path: Path, put: Put, scheme: str, pattern: str, names: list[str]
) -> None:
    put(PATTERNS)
    assert listed(f"{scheme}{tmp_path}/{pattern}") == sorted(os.fspath(tmp_path / name) for name in names)


@pytest.mark.parametrize("pattern", ["*.jpg", "./*.jpg", "../*/*.jpg"])
def test_a_relative_pattern_is_one_of_the_working_folder(
    tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    (path,) = put(["here/a.jpg"])
    monkeypatch.chdir(tmp_path / "here")
    assert listed(pattern) == listed("a.jpg") == listed("") == [path]


@pytest.mark.parametrize("location", ["nothing", "nothing/at/all", "a.jpg/below"])
def test_where_nothing_is_nothing_is_listed(tmp_path: Path, put: Put, location: str) -> None:
    put(["a.jpg"])
    assert list(listing.entries(f"{tmp_path}/{location}")) == []


def test_links_are_followed(tmp_path: Path, put: Put) -> None:
    put(["real/a.jpg", "in/b.jpg"])
    os.symlink(tmp_path / "real", tmp_path / "in/folder")
    os.symlink(tmp_path / "real/a.jpg", tmp_path / "in/file")
    assert listed(tmp_path / "in") == [f"{tmp_path}/in/{name}" for name in ("b.jpg", "file", "folder/a.jpg")]
    os.symlink(tmp_path / "in", tmp_path / "link")
    assert listed(tmp_path / "link") == [f"{tmp_path}/link/{name}" for name in ("b.jpg", "file", "folder/a.jpg")]


def test_what_is_listed_is_not_listed_by_the_name_of_a_link_too(tmp_path: Path, put: Put) -> None:
    put(["in/real/a.jpg", "out/c.jpg"])
    links: dict[str, str | Path] = {
        "a link.jpg": "real/a.jpg",
        "real/b link.jpg": "a.jpg",
        "folder": "real",
        "up": tmp_path,  # leads to what is outside, and to all of this once more
        "self": ".",
    }
    for name, target in links.items():
        os.symlink(target, tmp_path / "in" / name)
    assert listed(tmp_path / "in") == [f"{tmp_path}/in/{name}" for name in ("real/a.jpg", "up/out/c.jpg")]
    assert listed(tmp_path / "in/real") == [f"{tmp_path}/in/real/a.jpg"]
    assert listed(tmp_path / "in/folder") == [f"{tmp_path}/in/folder/a.jpg"], "the name that was given"
    assert listed(tmp_path / "in/a link.jpg") == [f"{tmp_path}/in/a link.jpg"]


def test_a_pattern_finds_by_a_link_what_it_does_not_find_by_another_name(tmp_path: Path, put: Put) -> None:
    put(["v42/a.jpg", "store/xx"])
    os.symlink("v42", tmp_path / "current")
    os.symlink("store/xx", tmp_path / "b.jpg")
    for pattern, names in {
        "current*": ["current/a.jpg"],
        "cur*/*.jpg": ["current/a.jpg"],
        "*.jpg": ["b.jpg"],
        "[cv]*/*.jpg": ["v42/a.jpg"],
        "**/*.jpg": ["b.jpg", "v42/a.jpg"],
    }.items():
        assert listed(f"{tmp_path}/{pattern}") == [f"{tmp_path}/{name}" for name in names], pattern


def test_a_link_that_matches_nothing_hides_no_other(tmp_path: Path, put: Put) -> None:
    put(["out/1.jpg", "in/2024/2.jpg"])
    for link in ("in/2023", "in/2024/b"):
        (tmp_path / link).symlink_to(tmp_path / "out")
    found = [os.path.relpath(entry.path, tmp_path) for entry in listing.entries(f"{tmp_path}/in/2024*/**")]
    assert sorted(found) == ["in/2024/2.jpg", "in/2024/b/1.jpg"]


@pytest.mark.timeout(20)
def test_a_loop_of_links_is_listed_once(tmp_path: Path, put: Put) -> None:
    put(["top/a.jpg", "top/x/b.jpg"])
    os.symlink(tmp_path / "top", tmp_path / "top/x/up")
    os.symlink(".", tmp_path / "top/self")
    assert listed(tmp_path / "top") == [f"{tmp_path}/top/a.jpg", f"{tmp_path}/top/x/b.jpg"]


def test_links_to_nothing_are_rejected(tmp_path: Path, put: Put) -> None:
    put(["a.jpg"])
    os.symlink(tmp_path / "gone", tmp_path / "broken")
    os.symlink(tmp_path / "around", tmp_path / "around")
    assert rejected(tmp_path) == {f"{tmp_path}/broken": Reason.MISSING, f"{tmp_path}/around": Reason.UNREADABLE}
    assert listed(tmp_path) == [f"{tmp_path}/a.jpg"]


@pytest.mark.timeout(20)
def test_nobody_waits_at_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert listed(tmp_path) == listed(tmp_path / "pipe") == [f"{tmp_path}/pipe"]
    with pytest.raises(Reject) as caught:
        storage.read(f"{tmp_path}/pipe")
    assert caught.value.reason == Reason.UNREADABLE


def test_a_name_that_is_not_utf8_is_rejected_by_a_name_that_is(tmp_path: Path, put: Put) -> None:
    (path,) = put(["a.jpg"])
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jpg", "wb"):
        os.mkdir(os.fsencode(tmp_path) + b"/f\xff")
    assert rejected(tmp_path) == dict.fromkeys([f"{tmp_path}/caf\\xe9.jpg", f"{tmp_path}/f\\xff"], Reason.UNREADABLE)
    assert listed(tmp_path) == [path]


def test_a_location_that_is_not_utf8_is_bad_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be UTF-8"):
        list(listing.entries(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")))


@pytest.mark.parametrize(
    ("location", "spoken_for"),
    [
        ("in", {"in/a/1.png", "in/a/x/2.jpg", "in/b/3.jpg"}),
        ("in/", {"in/a/1.png", "in/a/x/2.jpg", "in/b/3.jpg"}),
        ("in/a", {"in/a/1.png", "in/a/x/2.jpg"}),
        ("in/b/3.jpg", {"in/b/3.jpg"}),
        ("in/*/*.jpg", {"in/b/3.jpg"}),
        ("in/**/*.jpg", {"in/a/x/2.jpg", "in/b/3.jpg"}),
        ("i[n]/a", {"in/a/1.png", "in/a/x/2.jpg"}),
    ],
)
def test_a_listing_speaks_for_what_it_would_find(tmp_path: Path, put: Put, location: str, spoken_for: set[str]) -> None:
    names = ["in/a/1.png", "in/a/x/2.jpg", "in/b/3.jpg", "inn/4.jpg", "other/in/5.jpg"]
    paths = put(names)
    covers = listing.extent(f"{tmp_path}/{location}").has
    assert {name for name in names if covers(f"{tmp_path}/{name}")} == spoken_for
    assert [path for path in sorted(paths) if covers(path)] == listed(f"{tmp_path}/{location}")


def by_levels(extent: listing.Extent, folder: str, levels: int) -> list[str]:
    """Return the paths of all files in a folder as several workers list them: some levels first, then what is left."""
    if levels == 0:
        return [entry.path for entry in extent.files(folder)]
    found: list[str] = []
    for one in extent.level(folder, enough=3):
        if isinstance(one, listing.Folder):
            found += by_levels(extent, one.path, levels - 1 if one.deeper else 0)
        else:
            found.append(one.path)
    return found


TREE = ["1.jpg", "x/a1.jpg", "x/y/z/a3.jpg", "x/y/n.txt", "z/a1.jpg", "many/1/a.jpg", "many/2/a.jpg", "many/3/x/a.jpg"]


@pytest.mark.parametrize("levels", [0, 1, 2, 5])
@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("", TREE),
        ("/*", TREE),
        ("/x/*", ["x/a1.jpg", "x/y/z/a3.jpg", "x/y/n.txt"]),
        ("/**/a*.jpg", ["x/a1.jpg", "x/y/z/a3.jpg", "z/a1.jpg", "many/1/a.jpg", "many/2/a.jpg", "many/3/x/a.jpg"]),
        ("/many/[12]/*", ["many/1/a.jpg", "many/2/a.jpg"]),
        ("/*/y", ["x/y/z/a3.jpg", "x/y/n.txt"]),
        ("/m*/*/x/*.jpg", ["many/3/x/a.jpg"]),
        ("/*.gif", []),
    ],
)
def test_levels_and_what_is_left_are_the_whole(
    tmp_path: Path, put: Put, pattern: str, names: list[str], levels: int
) -> None:
    put(TREE)
    (tmp_path / "empty").mkdir()
    extent = listing.extent(f"{tmp_path}{pattern}")
    assert sorted(by_levels(extent, extent.base, levels)) == sorted(f"{tmp_path}/{name}" for name in names)


@pytest.mark.parametrize("location", ["", "file.jpg", "none/*", "*.jpg"])
def test_a_disk_has_no_levels_and_googles_store_tells_of_none(tmp_path: Path, put: Put, location: str) -> None:
    put(["file.jpg", "x/a.jpg"])
    assert not listing.extent(f"{tmp_path}/{location}").has_levels
    assert not listing.Extent(f"gs://bucket/{location}").has_levels


def test_folders_in_which_nothing_can_match_are_not_looked_into(
    tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(["a/1.jpg", "a/x/2.jpg", "b/3.jpg", "b/y/4.jpg", "c.jpg"])
    looked: list[str] = []
    scandir = os.scandir

    def scan(path: str) -> Any:
        looked.append(os.path.relpath(path, tmp_path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    for pattern, expected in (("b/*.jpg", ["b"]), ("n?/*.jpg", ["."]), ("[a]", [".", "a", "a/x"])):
        looked.clear()
        list(listing.entries(f"{tmp_path}/{pattern}"))
        assert sorted(looked) == expected, pattern


def test_a_folder_that_may_not_be_looked_into_is_a_reject_where_something_in_it_may_match(
    tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(["shut/a.jpg", "open/b.jpg"])
    scandir = os.scandir

    def scan(path: str) -> Any:
        if path.endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    for pattern, rejects in {
        "*/*.jpg": ["shut"],
        "**/*.jpg": ["shut"],
        "o*/*": [],
        "*.jpg": [],
        "s*": ["shut"],
    }.items():
        found = rejected(f"{tmp_path}/{pattern}")
        assert found == {f"{tmp_path}/{name}": Reason.PERMISSION for name in rejects}, pattern


def test_a_level_leads_to_no_folder_in_which_nothing_can_match(tmp_path: Path, put: Put) -> None:
    put(TREE)
    extent = listing.extent(f"{tmp_path}/*/y/*.txt")
    assert {one.path for one in extent.level(str(tmp_path), 9)} == {f"{tmp_path}/{name}" for name in ("x", "z", "many")}
    assert list(extent.level(f"{tmp_path}/many", 9)) == []
    assert list(extent.level(f"{tmp_path}/x", 9)) == [listing.Folder(f"{tmp_path}/x/y", deeper=True)]


def test_folders_are_enough_when_each_worker_has_some(tmp_path: Path, put: Put) -> None:
    put(TREE)
    level = listing.extent(str(tmp_path)).level
    assert {one.deeper for one in level(f"{tmp_path}/many", 4) if isinstance(one, listing.Folder)} == {True}
    assert {one.deeper for one in level(f"{tmp_path}/many", 3) if isinstance(one, listing.Folder)} == {False}


def test_a_folder_of_very_many_is_listed_as_one(tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    put(TREE)
    extent = listing.extent(str(tmp_path))
    monkeypatch.setattr(listing, "_MOST_FOLDERS", 2)
    assert list(extent.level(f"{tmp_path}/many", 9)) == [listing.Folder(f"{tmp_path}/many", deeper=False)]
    assert len(list(extent.level(f"{tmp_path}/x", 9))) == 2


@pytest.mark.parametrize("odd", ["a", "a/", "a/b/", "a/b/c"])
def test_a_folder_with_keys_that_are_no_paths_is_listed_as_one(odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [fs.FileInfo("bucket/a/x", fs.FileType.Directory), fs.FileInfo(f"bucket/{odd}", fs.FileType.Directory)]
    monkeypatch.setattr(listing, "_found", lambda folder, recursive: ("bucket/a", found))
    extent = listing.Extent("s3a://bucket")
    assert list(extent.level("s3a://bucket/a", 9)) == [listing.Folder("s3a://bucket/a", deeper=False)]


def test_a_folder_that_goes_before_it_is_listed_has_no_files(tmp_path: Path) -> None:
    extent = listing.extent(str(tmp_path))
    assert list(extent.files(f"{tmp_path}/gone")) == list(extent.level(f"{tmp_path}/gone", 9)) == []
