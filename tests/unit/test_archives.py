"""Archives: their members are files with paths of their own, and whatever an archive claims harms nobody."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.archives import Members, entry, tar, zipped

from dedup import archives, members, packing, storage
from dedup.errors import Reason, Reject
from dedup.packing import FORMATS, Index

Put = Callable[[Iterable[str]], list[str]]

TREE: Members = {"a.jpg": b"1", "a.txt": b"22", "x/b.jpg": b"333", "x/y/c.jpg": b"", "[1].jpg": b"4"}


def indexed(content: bytes, ending: str) -> Index:
    return packing.index(at(content), len(content), 512, FORMATS[ending])


def at(content: bytes) -> members.ReadAt:
    return lambda offset, size: content[offset : offset + size]


def unpacked(content: bytes, ending: str) -> dict[str, bytes | Reason]:
    """Return the bytes of all members, or why there are none; the archive's own reason by no name."""
    index = indexed(content, ending)
    found: dict[str, bytes | Reason] = {"": index.reject.reason} if index.reject else {}
    for name, member in index.members.items():
        try:
            if isinstance(member, Reject):
                raise member
            found[name] = FORMATS[ending].unpack(at(content), member)
        except Reject as reject:
            found[name] = reject.reason
    return found


def listed(location: str | Path) -> list[str]:
    return sorted(entry.path for entry in archives.entries(os.fspath(location)) if entry.reject is None)


def rejected(location: str | Path) -> dict[str, Reason]:
    return {entry.path: entry.reject.reason for entry in archives.entries(os.fspath(location)) if entry.reject}


names = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=60).filter(
        lambda part: part not in {".", ".."}
    ),
    min_size=1,
    max_size=4,
).map("/".join)
trees = st.dictionaries(names, st.binary(max_size=2000), max_size=6)


@given(trees, st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_what_was_put_into_a_tar_comes_out(tree: Members, format: int) -> None:
    assert unpacked(tar(tree, format=format), ".tar") == tree


@given(trees, st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
def test_what_was_put_into_a_zip_comes_out(tree: Members, method: int) -> None:
    assert unpacked(zipped(tree, method), ".zip") == tree


@pytest.mark.parametrize(("ending", "make"), [(".tar", tar), (".zip", zipped)])
@given(data=st.data())
def test_damage_raises_nothing_and_makes_no_wrong_bytes_of_a_zip(
    data: st.DataObject, ending: str, make: Callable[[Members], bytes]
) -> None:
    tree = {f"{i}.jpg": bytes([i]) * 700 for i in range(4)}
    content = bytearray(make(tree))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    found = unpacked(bytes(content[: data.draw(st.integers(0, len(content)))]), ending)
    if ending == ".zip":
        whole = set(tree.values())
        assert all(isinstance(one, Reason) or one in whole for one in found.values())


def test_a_tar_that_is_cut_anywhere_says_so_and_gives_what_is_whole() -> None:
    tree = {f"{i}.jpg": bytes([i + 1]) * 600 for i in range(3)}
    content = tar(tree)
    member = 512 + 1024
    for size in range(512, 3 * member + 511, 100):
        found = unpacked(content[:size], ".tar")
        assert found.pop("") == Reason.TRUNCATED
        whole = sum(size >= i * member + 512 + 600 for i in range(3))
        assert [one for one in found.values() if isinstance(one, bytes)] == list(tree.values())[:whole]
    assert unpacked(content[: 3 * member + 512], ".tar") == tree


@pytest.mark.parametrize(
    ("name", "shown", "why"),
    [
        ("../up.jpg", r"\x2e\x2e/up.jpg", "a name that leads out of its folder"),
        ("a/../../up.jpg", r"a/\x2e\x2e/\x2e\x2e/up.jpg", "a name that leads out of its folder"),
        ("/etc/passwd", r"\x2fetc/passwd", "an absolute name"),
        ("//host/a", r"\x2fhost/a", "an absolute name"),
        ("caf\udce9.jpg", r"caf\xe9.jpg", "the name is not UTF-8"),
        (".", "", "no name"),
    ],
)
def test_no_name_leads_out_of_its_archive(name: str, shown: str, why: str) -> None:
    index = indexed(tar({"good.jpg": b"1", name: b"2"}), ".tar")
    reject = index.members[shown]
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.detail) == (Reason.UNREADABLE, why)
    assert set(index.members) == {"good.jpg", shown}
    if "\udce9" not in name:
        assert set(indexed(zipped({"good.jpg": b"1", name: b"2"}), ".zip").members) == {"good.jpg", shown}


def test_names_are_spelled_in_one_way_and_folders_are_none() -> None:
    folder = entry("x", type=tarfile.DIRTYPE)
    assert unpacked(tar({"./a.jpg": b"1", "x//b.jpg": b"2"}, [folder]), ".tar") == {"a.jpg": b"1", "x/b.jpg": b"2"}
    assert unpacked(zipped({"./a.jpg": b"1", "x//b.jpg": b"2", "x/": b""}), ".zip") == {"a.jpg": b"1", "x/b.jpg": b"2"}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (entry("bad", type=tarfile.SYMTYPE, linkname="/etc/passwd"), Reason.UNREADABLE),
        (entry("bad", type=tarfile.LNKTYPE, linkname="good.jpg"), Reason.UNREADABLE),
        (entry("bad", type=tarfile.CHRTYPE), Reason.UNREADABLE),
        (entry("bad", type=tarfile.FIFOTYPE), Reason.UNREADABLE),
        (entry("bad", size=0, pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"}), Reason.UNSUPPORTED),
        (entry("bad", size=storage.MAX_BYTES + 1), Reason.TOO_LARGE),
    ],
)
def test_what_is_no_file_in_a_tar_is_rejected_and_the_rest_read(header: tarfile.TarInfo, reason: Reason) -> None:
    found = unpacked(tar({"good.jpg": b"1"}, [header]), ".tar")
    assert (found["good.jpg"], found["bad"]) == (b"1", reason)


def link() -> zipfile.ZipInfo:
    made = zipfile.ZipInfo("bad")
    made.external_attr = (stat.S_IFLNK | 0o777) << 16
    return made


def test_what_is_no_file_in_a_zip_is_rejected_and_the_rest_read() -> None:
    content = zipped({"good.jpg": b"1"}, more=[(link(), b"/etc/passwd")])
    assert unpacked(content, ".zip") == {"good.jpg": b"1", "bad": Reason.UNREADABLE}
    assert str(indexed(content, ".zip").members["bad"]) == "unreadable: a link"
    assert unpacked(zipped({"bad": b"1"}, zipfile.ZIP_LZMA), ".zip") == {"bad": Reason.UNSUPPORTED}


def patched(content: bytes, member: str, at: int, value: bytes) -> bytes:
    """Return a zip with other bytes in the directory's entry of a member."""
    place = content.rindex(b"PK\1\2", 0, content.rindex(member.encode())) + at
    return content[:place] + value + content[place + len(value) :]


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (8, b"\1", Reason.UNSUPPORTED),  # encrypted
        (16, b"\0\0\0\0", Reason.CORRUPT),  # its check sum
        (20, b"\xff\xff\0\0", Reason.TRUNCATED),  # its packed bytes, beyond the archive
        (24, b"\x01\0\0\0", Reason.CORRUPT),  # fewer bytes than it unpacks to
        (24, b"\xff\x0f\0\0", Reason.CORRUPT),  # more
        (24, b"\xff\xff\xff\x7f", Reason.TOO_LARGE),
        (42, b"\1\0\0\0", Reason.CORRUPT),  # where it lies
    ],
)
def test_a_member_of_a_zip_that_lies_is_rejected_and_the_rest_read(at: int, value: bytes, reason: Reason) -> None:
    content = patched(zipped({"good.jpg": b"1" * 99, "bad.jpg": b"2" * 999}), "bad.jpg", at, value)
    assert unpacked(content, ".zip") == {"good.jpg": b"1" * 99, "bad.jpg": reason}


def test_a_member_never_unpacks_to_more_than_it_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    unpacker = zlib.decompressobj

    class Watched:
        def __init__(self, bits: int) -> None:
            self._unpacker = unpacker(bits)

        def decompress(self, content: bytes, most: int) -> bytes:
            asked.append(most)
            return self._unpacker.decompress(content, most)

    monkeypatch.setattr(zlib, "decompressobj", Watched)
    content = patched(zipped({"bad.jpg": b"2" * 10_000_000}), "bad.jpg", 24, b"\x0a\0\0\0")
    assert unpacked(content, ".zip") == {"bad.jpg": Reason.CORRUPT}
    assert asked == [11]


def test_an_archive_that_grows_beyond_all_measure_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MAX_UNPACKED", 1 << 20)
    content = zipped({f"{i}.bmp": bytes(1 << 20) for i in range(3)})
    assert unpacked(content, ".zip") == {"": Reason.TOO_LARGE}


def test_of_members_with_one_name_the_last_counts_and_it_is_said() -> None:
    members = [entry("a.jpg", size=0), entry("b.jpg", size=0)]
    found = indexed(tar({"a.jpg": b"old", "./b.jpg": b"old", "c.jpg": b""}, members), ".tar")
    assert found.reject is not None
    assert found.reject.detail == "2 members have the name of a later one, which counts: a.jpg"
    assert {name: isinstance(one, Reject) or one.length for name, one in found.members.items()} == {
        "c.jpg": 0,
        "a.jpg": 0,
        "b.jpg": 0,
    }


def test_more_members_than_a_worker_can_hold_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MAX_MEMBERS", 2)
    assert unpacked(tar(TREE), ".tar") == {"": Reason.TOO_LARGE, "a.jpg": b"1", "a.txt": b"22"}
    assert unpacked(zipped(TREE), ".zip") == {"": Reason.TOO_LARGE}  # its directory is read as one


MEMBERS = """if True:
    import pathlib, sys
    from dedup import archives

    def memory(name):
        return int(pathlib.Path("/proc/self/status").read_text().split(name + ":")[1].split()[0]) << 10

    before = memory("VmRSS")
    (found,) = archives.members(sys.argv[1], None)
    print(found.reject)
    print(memory("VmHWM") - before)
"""


def test_a_directory_of_more_entries_than_members_may_be_takes_little_memory(tmp_path: Path, root: Path) -> None:
    one = zipped({"a": b""})
    entry = one[one.index(packing._ENTRY) : one.index(b"PK\5\6")]
    count = (packing._MAX_DIRECTORY - (1 << 20)) // len(entry)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, count * len(entry), 0, 0)
    (tmp_path / "many.zip").write_bytes(entry * count + end)
    command = [sys.executable, "-c", MEMBERS, str(tmp_path / "many.zip")]
    run = subprocess.run(command, capture_output=True, text=True, cwd=root / "lib", timeout=300, check=True)
    said, peak = run.stdout.splitlines()
    assert said == "too_large: more than 1,000,000 entries: none of them is read"
    assert int(peak) < 4 * packing._MAX_DIRECTORY, f"{int(peak):,}"


def test_paths_that_tables_of_others_have_and_nobody_reads_here_are_rejects() -> None:
    for path in ("https://host/a.jpg", "wasbs://box@account/1.tar!/a.jpg", "s3a://key:secret@bucket/a.jpg"):
        with pytest.raises(Reject, match="unreadable: ") as caught:
            archives.read(path)
        assert "secret" not in str(caught.value)


def test_a_tar_that_goes_in_a_circle_comes_to_an_end() -> None:
    content = tar({"a.jpg": b"1", "b.jpg": b"2"}, [entry("c.jpg", pax_headers={"size": "-4096"})])
    assert unpacked(content, ".tar") == {"a.jpg": b"1", "b.jpg": b"2", "": Reason.CORRUPT}


def long_name(size: int) -> bytes:
    return entry("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=size).tobuf(tarfile.GNU_FORMAT) + b"x" * 512


@pytest.mark.parametrize(
    ("headers", "says"),
    [(long_name(1 << 40), "a header of more than 1,048,576 bytes"), (long_name(512) * 9000, "recursion")],
)
def test_a_header_takes_no_more_memory_than_its_limit(headers: bytes, says: str) -> None:
    index = indexed(tar({"a.jpg": b"1"})[:1024] + headers, ".tar")
    assert set(index.members) == {"a.jpg"}
    assert index.reject is not None
    assert says in index.reject.detail


@pytest.mark.parametrize(
    ("content", "ending", "reason"),
    [
        (b"", ".tar", Reason.EMPTY),
        (b"", ".zip", Reason.EMPTY),
        (b"<html>not found</html>" * 99, ".tar", Reason.CORRUPT),
        (b"<html>not found</html>" * 99, ".zip", Reason.CORRUPT),
        (zipped(TREE)[:-30], ".zip", Reason.TRUNCATED),
        (tar(TREE), ".zip", Reason.CORRUPT),
        (zipped(TREE), ".tar", Reason.CORRUPT),
        (tar(TREE), ".tar.gz", Reason.UNSUPPORTED),
        (tar(TREE), ".tgz", Reason.UNSUPPORTED),
    ],
)
def test_what_is_no_archive_is_one_reject(content: bytes, ending: str, reason: Reason) -> None:
    assert unpacked(content, ending) == {"": reason}


def test_what_follows_damage_or_the_end_of_a_tar_is_not_lost_in_silence() -> None:
    one, two = tar({"a.jpg": b"1"}), tar({"b.jpg": b"2"})
    for content, says in [(one + two, "more after the mark of the end"), (one[:1024] + b"?" * 512 + two, "no header")]:
        index = indexed(content, ".tar")
        assert set(index.members) == {"a.jpg"}
        assert index.reject is not None
        assert says in index.reject.detail


def test_names_of_old_zips_are_read_as_utf8_or_else_as_the_standard_says() -> None:
    def unmarked(name: bytes) -> bytes:
        content = zipped({"x" * len(name): b"1"}, zipfile.ZIP_STORED)
        return content.replace(b"x" * len(name), name)

    assert set(indexed(unmarked("ü写.jpg".encode()), ".zip").members) == {"ü写.jpg"}
    assert set(indexed(unmarked(b"\x81.jpg"), ".zip").members) == {"ü.jpg"}


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Return a folder with a plain file, a tar and a zip."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/plain.jpg").write_bytes(b"0")
    (tmp_path / "in/1.tar").write_bytes(tar(TREE))
    (tmp_path / "in/2.ZIP").write_bytes(zipped(TREE))
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("", ["plain.jpg", *(f"{archive}!/{name}" for archive in ("1.tar", "2.ZIP") for name in TREE)]),
        ("1.tar", [f"1.tar!/{name}" for name in TREE]),
        ("*.tar", [f"1.tar!/{name}" for name in TREE]),
        ("1.tar!", [f"1.tar!/{name}" for name in TREE]),
        ("1.tar!/", [f"1.tar!/{name}" for name in TREE]),
        ("1.tar!/a.jpg", ["1.tar!/a.jpg"]),
        ("1.tar!/x", ["1.tar!/x/b.jpg", "1.tar!/x/y/c.jpg"]),
        ("1.tar!/*.jpg", ["1.tar!/[1].jpg", "1.tar!/a.jpg"]),
        ("1.tar!/[1].jpg", ["1.tar!/[1].jpg"]),
        ("*.tar!/**/*.jpg", ["1.tar!/[1].jpg", "1.tar!/a.jpg", "1.tar!/x/b.jpg", "1.tar!/x/y/c.jpg"]),
        ("**/*.ZIP!/x/*/*.jpg", ["2.ZIP!/x/y/c.jpg"]),
        ("*.jpg", ["plain.jpg"]),
        ("1.tar!/none", []),
        ("plain.jpg!/x", []),
        ("3.tar!/a.jpg", []),
    ],
)
def test_a_location_can_go_into_archives(lake: Path, location: str, found: list[str]) -> None:
    assert listed(f"{lake}/{location}") == sorted(f"{lake}/{name}" for name in found)


def test_every_member_that_is_listed_can_be_read_by_its_path(lake: Path) -> None:
    os.utime(lake / "1.tar", (0, 1_700_000_000.25))
    found = {entry.path: entry for entry in archives.entries(os.fspath(lake))}
    for archive in ("1.tar", "2.ZIP"):
        for name, content in TREE.items():
            member = found[f"{lake}/{archive}!/{name}"]
            assert isinstance(member, archives.Member)
            assert archives.read(member.path) == archives.read(member.path, member) == content
            assert member.length == len(content)
    assert found[f"{lake}/1.tar!/a.jpg"].modified == datetime.fromtimestamp(1_700_000_000.25, UTC)
    assert archives.read(f"{lake}/plain.jpg") == b"0"


def unread(path: str | Path, member: archives.Member | None = None) -> Reason:
    with pytest.raises(Reject) as caught:
        archives.read(os.fspath(path), member)
    return caught.value.reason


def test_names_that_exist_are_what_they_are(tmp_path: Path, put: Put) -> None:
    (path,) = put(["a.tar!/b.jpg"])
    (tmp_path / "c.zip!").mkdir()
    (tmp_path / "c.zip!/d.tar").write_bytes(tar(TREE))
    assert listed(path) == [path] == listed(f"{tmp_path}/a.tar!/*.jpg")
    assert archives.read(path) == b"a.tar!/b.jpg"
    inner = f"{tmp_path}/c.zip!/d.tar!/a.jpg"
    assert listed(inner) == [inner]
    assert archives.read(inner) == b"1"
    assert unread(f"{tmp_path}/a.tar!/gone.jpg") == Reason.MISSING


def test_an_archive_whose_members_have_the_paths_of_other_files_is_rejected(tmp_path: Path, put: Put) -> None:
    (path,) = put(["a.tar!/a.jpg"])
    (tmp_path / "a.tar").write_bytes(tar(TREE))
    assert rejected(tmp_path) == {f"{tmp_path}/a.tar": Reason.UNREADABLE}
    assert listed(tmp_path) == [path]
    assert archives.read(path) == b"a.tar!/a.jpg"


def test_an_archive_in_an_archive_is_a_member_like_any_other(tmp_path: Path) -> None:
    inner = tar(TREE)
    (tmp_path / "1.tar").write_bytes(tar({"2.tar": inner, "3.tar!/a.jpg": b"x"}))
    assert listed(tmp_path) == [f"{tmp_path}/1.tar!/2.tar", f"{tmp_path}/1.tar!/3.tar!/a.jpg"]
    assert archives.read(f"{tmp_path}/1.tar!/2.tar") == inner
    assert archives.read(f"{tmp_path}/1.tar!/3.tar!/a.jpg") == b"x"
    assert unread(f"{tmp_path}/1.tar!/2.tar!/a.jpg") == Reason.MISSING


def test_an_archive_that_changed_is_opened_anew_and_one_that_is_gone_is_missing(lake: Path) -> None:
    (member,) = archives.entries(f"{lake}/1.tar!/a.jpg")
    assert isinstance(member, archives.Member)
    assert archives.read(member.path, member) == b"1"
    (lake / "1.tar").write_bytes(tar({"z.jpg": b"9" * 5000, "a.jpg": b"8"}))
    assert archives.read(member.path, member) == archives.read(member.path) == b"8"
    (lake / "1.tar").write_bytes(tar({"z.jpg": b"9"}))
    assert unread(member.path, member) == Reason.MISSING
    (lake / "1.tar").unlink()
    assert unread(member.path, member) == unread(member.path) == Reason.MISSING


def test_what_stands_where_an_archive_was_is_no_archive(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tar")
    (tmp_path / "gone.zip").symlink_to("nowhere")
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "folder.tar/a.jpg").write_bytes(b"1")
    (tmp_path / "empty.tar").write_bytes(tar({}))
    found = {f"{tmp_path}/pipe.tar": Reason.UNREADABLE, f"{tmp_path}/gone.zip": Reason.MISSING}
    assert rejected(tmp_path) == found
    assert listed(tmp_path) == [f"{tmp_path}/folder.tar/a.jpg"]
    assert listed(f"{tmp_path}/folder.tar!/a.jpg") == []


def test_threads_share_the_index_of_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shared.zip").write_bytes(zipped({f"{number}.png": b"x%d" % number for number in range(8)}))
    monkeypatch.setattr(archives, "_kept", {})
    made, began = [], Barrier(8)

    def counted(*words: Any) -> Index:
        made.append(words)
        return packing.index(*words)

    monkeypatch.setattr(archives, "index", counted)

    def read(number: int) -> bytes:
        began.wait()
        return archives.read(f"{tmp_path}/shared.zip!/{number}.png")

    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(read, range(8))] == [b"x%d" % number for number in range(8)]
    assert len(made) == 1


def test_a_worker_keeps_few_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_kept", {})
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2 * len(TREE))
    for number in range(20):
        (tmp_path / f"{number}.tar").write_bytes(tar({}))
        assert listed(f"{tmp_path}/{number}.tar") == []
        assert len(archives._kept) == min(number + 1, 16)
    for number in range(3):
        (tmp_path / f"full {number}.tar").write_bytes(tar(TREE))
        listed(f"{tmp_path}/full {number}.tar")
    assert list(archives._kept) == [f"{tmp_path}/full {number}.tar" for number in (1, 2)]


def test_the_headers_of_a_tar_are_read_ahead() -> None:
    content = tar({f"{i}.jpg": bytes(3000) for i in range(1000)})
    asked: list[int] = []

    def read_at(offset: int, size: int) -> bytes:
        asked.append(size)
        return content[offset : offset + size]

    assert len(packing.index(read_at, len(content), 1 << 20, FORMATS[".tar"]).members) == 1000
    assert len(asked) == -(-len(content) // (1 << 20))


@pytest.mark.parametrize(
    ("location", "covered", "others"),
    [
        ("", ["a.jpg", "1.tar", "1.tar!/a.jpg", "x/2.zip!/b/c.jpg"], []),
        ("1.tar", ["1.tar", "1.tar!/a.jpg", "1.tar!/x/b.jpg"], ["1.tarry", "2.tar!/a.jpg", "a.jpg"]),
        ("*.tar", ["1.tar", "1.tar!/a.jpg"], ["2.zip!/a.jpg", "a.jpg"]),
        ("*.tar!/**/*.jpg", ["1.tar", "9.tar!/a.jpg", "1.tar!/x/y/b.jpg"], ["1.tar!/a.png", "2.zip!/a.jpg", "a.jpg"]),
        ("1.tar!/x", ["1.tar!/x/b.jpg", "1.tar!/x"], ["1.tar!/xy", "1.tar!/a.jpg"]),
    ],
)
def test_a_location_speaks_for_what_it_would_list(
    tmp_path: Path, location: str, covered: list[str], others: list[str]
) -> None:
    (tmp_path / "1.tar").write_bytes(tar(TREE))
    covers = archives.covers(f"{tmp_path}/{location}".rstrip("/"))
    assert [path for path in [*covered, *others] if covers(f"{tmp_path}/{path}")] == covered
