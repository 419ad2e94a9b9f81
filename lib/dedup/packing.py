"""How members are packed: a tar and a zip become an index of their members by name, and a member its bytes."""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dedup.errors import Outage, Reason, Reject, UsageError
from dedup.members import MAX_HEADER, Found, Headers, Packed, ReadAt, checked, named, printable

MAX_MEMBERS = 1_000_000
"""The most members that are read of an archive."""

MAX_GROWTH = 200
"""How many times its own bytes the members of an archive may have, if that is more than MAX_UNPACKED bytes."""

MAX_UNPACKED = 1 << 30

_MAX_DIRECTORY = 128 << 20  # bytes of that of a zip
_ENTRY = b"PK\1\2"  # what an entry of it begins with: zipfile makes some 450 bytes of the shortest ones of 47


@dataclass(frozen=True)
class Format:
    """A format of archives."""

    members: Callable[[Headers], Iterator[tuple[str, Found]]]  #: all but the folders, by the names that it gives them
    unpack: Callable[[ReadAt, Packed], bytes]
    in_place: bool  #: whether the bytes of members lie in it as they are


@dataclass
class Index:
    """What is in an archive."""

    members: dict[str, Found] = field(default_factory=dict)  #: by name; none leads out of the archive
    reject: Reject | None = None  #: why something in it is not among the members
    whole: bool = False  #: whether there are no names in it but those of the members


def _tar(file: Headers) -> Iterator[tuple[str, Found]]:
    end = count = 0
    with tarfile.TarFile(fileobj=file, encoding="utf-8", errors="surrogateescape") as tar:
        while (info := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # not in the stubs: it would keep a million of them
            file.allow(MAX_HEADER)
            if tar.offset <= end:
                raise Reject(Reason.CORRUPT, f"broken after {count:,} members: the next one lies before them")
            end, count = tar.offset, count + 1
            if not info.isdir():
                yield info.name, _of_tar(info)
            if end > file.length:
                raise Reject(Reason.TRUNCATED, f"it ends within member {count:,}: more may be missing")
    file.allow(MAX_HEADER)
    file.seek(end)  # tarfile takes whatever is no header for the end
    rest = file.read(64 << 10)
    if len(rest) < tarfile.BLOCKSIZE:
        raise Reject(Reason.TRUNCATED, f"no mark of the end after {count:,} members: more may be missing")
    if rest[: tarfile.BLOCKSIZE].strip(b"\0"):
        raise Reject(Reason.CORRUPT, f"broken after {count:,} members: no header follows")
    if rest.strip(b"\0"):
        raise Reject(Reason.CORRUPT, f"more after the mark of the end, which is not read; {count:,} members before it")


def _of_tar(info: tarfile.TarInfo) -> Found:
    if info.issym() or info.islnk():
        return Reject(Reason.UNREADABLE, "a link")
    if not info.isreg():
        return Reject(Reason.UNREADABLE, "not a regular file")
    if info.issparse():
        return Reject(Reason.UNSUPPORTED, "a sparse file, which leaves out its empty stretches")
    return Packed(info.offset_data, info.size, info.size)


def _plain(read_at: ReadAt, member: Packed) -> bytes:
    return _all(read_at, member.offset, member.packed)


def _all(read_at: ReadAt, offset: int, size: int) -> bytes:
    content = read_at(offset, size)
    if len(content) != size:
        raise Reject(Reason.CHANGED, "the archive is shorter than it was")
    return content


_LOCAL = b"PK\3\4"  # what the header before a member begins with
_LOCAL_BYTES = 30  # of that header, without the name and what else is between it and the member
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_UTF8 = 0x800


def _zip(file: Headers) -> Iterator[tuple[str, Found]]:
    file.allow(_MAX_DIRECTORY, _ENTRY, MAX_MEMBERS)
    begins = file.read(len(_LOCAL))
    try:
        directory = zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        if begins == _LOCAL:
            raise Reject(Reason.TRUNCATED, "the directory, which ends a zip, is not there or broken") from None
        raise
    for info in directory.infolist():
        if not info.filename.endswith("/"):
            yield _name_in_zip(info), _of_zip(info)


def _name_in_zip(info: zipfile.ZipInfo) -> str:
    """Return the name: UTF-8 where it can be, though the zip does not say so, or else what the standard says, cp437."""
    if info.flag_bits & _UTF8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode()
    except UnicodeDecodeError:
        return info.filename


def _of_zip(info: zipfile.ZipInfo) -> Found:
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        return Reject(Reason.UNREADABLE, "a link")
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
        return Reject(Reason.UNREADABLE, "not a regular file")
    if info.flag_bits & _ENCRYPTED:
        return Reject(Reason.UNSUPPORTED, "encrypted")
    if info.compress_type not in _METHODS:
        return Reject(Reason.UNSUPPORTED, f"compressed by method {info.compress_type}; possible are store and deflate")
    return Packed(info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC)


def _unzipped(read_at: ReadAt, member: Packed) -> bytes:
    header = _all(read_at, member.offset, _LOCAL_BYTES)
    if not header.startswith(_LOCAL):
        raise Reject(Reason.CORRUPT, "the zip's directory leads to something else")
    between = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    content = _all(read_at, member.offset + _LOCAL_BYTES + between, member.packed)
    if member.method == zipfile.ZIP_DEFLATED:
        try:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, member.length + 1)
        except zlib.error as error:
            raise Reject(Reason.CORRUPT, str(error)) from error
    if len(content) > member.length:
        raise Reject(Reason.CORRUPT, f"unpacks to more than the {member.length} bytes that it claims")
    if len(content) < member.length or zlib.crc32(content) != member.crc:
        raise Reject(Reason.CORRUPT, "unpacks to other bytes than those that were packed")
    return content


def _compressed(_: Headers) -> Iterator[tuple[str, Found]]:
    raise Reject(Reason.UNSUPPORTED, "a compressed tar can only be read from its beginning: make a .tar or .zip of it")


FORMATS: dict[str, Format] = {
    ".tar": Format(_tar, _plain, in_place=True),
    ".zip": Format(_zip, _unzipped, in_place=False),
    **dict.fromkeys(
        (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst"),
        Format(_compressed, _plain, in_place=False),
    ),
}
"""By the end of a file's name, in small letters."""


def index(read_at: ReadAt, length: int, ahead: int, format: Format) -> Index:
    """Return what is in an archive; of a broken one, what comes before the damage.

    Parameters
    ----------
    read_at
        Reads the archive.
    length
        Its bytes.
    ahead
        How many bytes are read at a time.
    format
        One of FORMATS.
    """
    if not length:
        return Index(reject=Reject(Reason.EMPTY, "no bytes"))
    found = Index()
    again: list[str] = []
    try:
        for name, member in format.members(Headers(read_at, length, ahead)):
            if len(found.members) == MAX_MEMBERS:
                raise Reject(Reason.TOO_LARGE, f"more than {MAX_MEMBERS:,} members: those after them are not read")
            shown, reject = named(name)
            if shown in found.members:  # as for tar, the last one counts
                again.append(shown)
                del found.members[shown]
            found.members[shown] = reject or checked(member, length)
    except Reject as reject:
        found.reject = reject
    except (UsageError, Outage):
        raise
    except Exception as error:  # bytes that contradict themselves make the readers raise almost anything
        found.reject = Reject(Reason.CORRUPT, printable(f"a broken archive: {error or type(error).__name__}"))
    else:
        found.whole = True
    unpacked = sum(member.length for member in found.members.values() if isinstance(member, Packed))
    if unpacked > max(MAX_UNPACKED, MAX_GROWTH * length):
        detail = f"{length:,} bytes that unpack to {unpacked:,}, more than {MAX_GROWTH} times as many: nothing is read"
        return Index(reject=Reject(Reason.TOO_LARGE, detail))
    if again and found.reject is None:
        detail = f"{len(again):,} members have the name of a later one, which counts: {again[0]}"
        found.reject = Reject(Reason.CORRUPT, detail)
    return found
