"""Archives as folders: the members of a tar or a zip are listed and read where they lie, by paths of their own.

The member `a.jpg` of `s3a://bucket/1.tar` has the path `s3a://bucket/1.tar!/a.jpg`. Where a file or a folder has such a
name itself, it is that file or folder. An archive inside an archive is a member like any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from threading import Lock

from pyarrow import fs

from dedup import listing, storage, stores
from dedup.errors import Reason, Reject, UsageError
from dedup.members import Packed
from dedup.packing import FORMATS, MAX_MEMBERS, Index, index

ENDINGS = tuple(FORMATS)
"""What the name of an archive ends in, in small letters."""

INSIDE = rf"(?i)(?:{'|'.join(re.escape(ending) for ending in ENDINGS)})!/"
"""The pattern, to Python as to Java, of the place where a path goes into an archive."""

_INSIDE = re.compile(INSIDE)

_KEPT = 16  # archives that a worker keeps open, if all together they have no more than MAX_MEMBERS members

_AHEAD = 4 << 20  # bytes of a store that are read at a time: about what it could send while it finds them
_AHEAD_ON_DISK = 64 << 10


@dataclass(frozen=True)
class Member(listing.Entry):
    """A member that was listed, or an archive of which something could not be."""

    offset: int | None = None  #: where its bytes begin, if they lie in the archive as they are
    number: int = 0  #: its place among the members
    whole: bool = False  #: of an archive: whether all that it holds has been listed


class Archive:
    """An archive that is open; several threads may read it."""

    def __init__(self, path: str, length: int, modified: datetime | None) -> None:
        self.length, self.modified = length, modified
        self._path = path
        self._lock = Lock()
        self._index: Index | None = None
        where, name = stores.locate(path)
        ending = next(ending for ending in sorted(ENDINGS, key=len, reverse=True) if path.lower().endswith(ending))
        self.format = FORMATS[ending]
        self._ahead = _AHEAD_ON_DISK if isinstance(where, fs.LocalFileSystem) else _AHEAD
        with stores.reading(path):
            if where.get_file_info(f"{name}!").type == fs.FileType.Directory:
                raise Reject(
                    Reason.UNREADABLE, "beside it is a folder of its name with a !, which has its members' paths"
                )
            self._file = where.open_input_file(name)

    @property
    def size(self) -> int:
        """How many members are known."""
        return len(self._index.members) if self._index else 0

    @property
    def index(self) -> Index:
        """What is in it, looked up once: a tar has no directory, so that all of its headers are read for it."""
        with self._lock:
            if self._index is None:
                self._index = index(self._read_at, self.length, self._ahead, self.format)
                _forget()
            return self._index

    def _read_at(self, offset: int, size: int) -> bytes:
        with stores.reading(self._path):
            return bytes(self._file.read_at(size, offset))

    def read(self, name: str, listed: Member | None) -> bytes:
        """Return the bytes of a member; as it was listed, if the archive is still the same, or else by its name."""
        if listed and listed.offset is not None and listed.length is not None and listed.modified == self.modified:
            return self.format.unpack(self._read_at, Packed(listed.offset, listed.length, listed.length))
        found = self.index.members.get(name) or Reject(Reason.MISSING, "no such member of the archive")
        if isinstance(found, Reject):
            raise found
        return self.format.unpack(self._read_at, found)


_kept: dict[str, Archive] = {}  # the last used one is the last
_keeping = Lock()


def _open(path: str) -> Archive:
    """Return an archive as it is now: a kept one, unless it has changed.

    Raises
    ------
    Reject, UsageError, Outage
        As `storage.read`.
    """
    length, modified = storage.status(path)
    if (archive := _take(path, length, modified)) is None:
        opened = Archive(path, length, modified)
        archive = _take(path, length, modified, opened) or opened  # of several threads all get the first one's
    _forget()
    return archive


def _take(path: str, length: int, modified: datetime | None, opened: Archive | None = None) -> Archive | None:
    """Return the archive that is kept, if it is still the same, or else what was opened, which is kept then."""
    with _keeping:
        archive = _kept.pop(path, None)
        if archive is None or (archive.length, archive.modified) != (length, modified):
            archive = opened
        if archive is not None:
            _kept[path] = archive
        return archive


def _forget() -> None:
    """Keep no more archives than a worker can hold."""
    with _keeping:
        while len(_kept) > 1 and (len(_kept) > _KEPT or sum(one.size for one in _kept.values()) > MAX_MEMBERS):
            del _kept[next(iter(_kept))]


def is_archive(path: str) -> bool:
    """Tell, by its name, whether a file is an archive."""
    return path.lower().endswith(ENDINGS)


def split(location: str) -> tuple[str, str | None]:
    """Return the files that a location stands for, and which of their members; None if it says nothing of members.

    Raises
    ------
    UsageError, Outage
        As `storage.exists`.
    """
    if not storage.exists(location):
        for found in _INSIDE.finditer(f"{location}/"):
            outer = location[: found.end() - 2]
            if not storage.is_folder(f"{outer}!"):
                return outer, "/".join(part for part in location[found.end() :].split("/") if part not in {"", "."})
    return location, None


def members(path: str, inside: str | None) -> Iterator[Member]:
    """List the members of an archive, and the archive itself where it has some that cannot be told.

    Parameters
    ----------
    path
        The archive.
    inside
        Which members: a name, a folder with all that is in it, or a pattern; all, if it is empty or None.

    Raises
    ------
    UsageError, Outage
        If the storage lets nothing be read, or does not answer.
    """
    try:
        archive = _open(path)
        found = archive.index
    except Reject as reject:
        yield Member(path, reject=reject)
        return
    if found.reject:
        yield Member(path, archive.length, archive.modified, found.reject, whole=found.whole)
    pattern = inside.split("/") if inside else []
    literal = bool(pattern) and any(name == inside or name.startswith(f"{inside}/") for name in found.members)
    for number, (name, member) in enumerate(found.members.items()):
        names = name.split("/")
        if names[: len(pattern)] == pattern if literal else listing.matches(names, pattern):
            yield _listed(f"{path}!/{name}", archive, member, number)


def _listed(path: str, archive: Archive, member: Packed | Reject, number: int) -> Member:
    if isinstance(member, Reject):
        return Member(path, None, archive.modified, member, number=number)
    offset = member.offset if archive.format.in_place else None
    return Member(path, member.length, archive.modified, offset=offset, number=number)


def entries(location: str) -> Iterator[listing.Entry]:
    """List every file under a location as `listing.entries` does, archives opened.

    A location may go into archives: `1.tar!/a.jpg`, `1.tar!/folder`, `*.tar!/**/*.jpg`. Without `!/`, an archive stands
    for all that is in it.

    Raises
    ------
    UsageError, Outage
        As `listing.entries`.
    """
    outer, inside = split(location)
    for entry in listing.entries(outer):
        if is_archive(entry.path) and entry.reject is None:
            yield from members(entry.path, inside)
        elif inside is None or is_archive(entry.path):
            yield entry


def covers(location: str) -> Callable[[str], bool]:
    """Return what tells of any path whether `entries` speaks for it: has it if it is there. Workers can be sent it.

    Raises
    ------
    UsageError, Outage
        As `storage.exists`.
    """
    outer, inside = split(location)
    return partial(_covers, listing.extent(outer).has, inside)


def _covers(outer: Callable[[str], bool], inside: str | None, path: str) -> bool:
    for found in _INSIDE.finditer(path):
        if outer(path[: found.end() - 2]):
            return not inside or _is_inside(path[found.end() :], inside)
    return outer(path) and (inside is None or is_archive(path))


def _is_inside(name: str, inside: str) -> bool:
    return f"{name}/".startswith(f"{inside}/") or listing.matches(name.split("/"), inside.split("/"))


def read(path: str, listed: Member | None = None) -> bytes:
    """Return the bytes of a file or of a member.

    Parameters
    ----------
    path
        What is read.
    listed
        How it was listed, which spares looking for it in an archive that is still the same.

    Raises
    ------
    Reject, UsageError, Outage
        As `storage.read`; and `Reject` of a path that is none of a storage that is read here: tables of others have
        such.
    """
    try:
        stores.parsed(path)
    except UsageError as error:
        raise Reject(Reason.UNREADABLE, str(error)) from error
    rejects: list[Reject] = []
    for found in _INSIDE.finditer(path):
        try:
            archive = _open(path[: found.end() - 2])
        except Reject as reject:
            rejects.append(reject)
        else:
            return archive.read(path[found.end() :], listed)
    try:
        return storage.read(path)
    except Reject as reject:
        raise next((one for one in rejects if one.reason != Reason.MISSING), reject) from None
