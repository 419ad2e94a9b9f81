"""Which files there are under a location: a file, a folder, or a pattern."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pyarrow import fs

from dedup import storage, stores
from dedup.errors import Reason, Reject

_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Entry:
    """A file that was listed; `reject` says why when it is plain already that it cannot be read."""

    path: str
    length: int | None = None
    modified: datetime | None = None
    reject: Reject | None = None


def is_pattern(location: str) -> bool:
    """Tell whether a location would be taken for a pattern, if there is nothing of its name."""
    return _MAGIC.search(location) is not None


@dataclass(frozen=True)
class Folder:
    """A folder of a store, in which nothing has been listed yet."""

    path: str
    deeper: bool  #: whether there were few beside it: if it is listed level by level, more workers have something to do


@dataclass(frozen=True)
class Extent:
    """What a location stands for: a file, a folder, or what matches a pattern there. Workers can be sent it."""

    base: str  #: the file or folder; "" where there is none
    pattern: tuple[str, ...] = ()  #: of the names below the base, which may be no file's; none for all that is there

    @property
    def may_have_files(self) -> bool:
        """Whether there is a place where files can be."""
        return bool(self.base) and (not self.pattern or is_pattern("/".join(self.pattern)))

    @property
    def has_levels(self) -> bool:
        """Whether folders can be listed apart from each other, by `level`."""
        if not self.may_have_files or stores.locate(self.base)[0].type_name not in _WITH_FOLDERS:
            return False
        return storage.is_folder(self.base)

    def has(self, path: str) -> bool:
        """Tell whether a path is listed if there is such a file."""
        return bool(self.base) and (
            path == self.base or (self._holds(path) and matches(self._below(path), self.pattern))
        )

    def _holds(self, path: str) -> bool:
        return path.startswith(f"{self.base.rstrip('/')}/")

    def _below(self, path: str) -> list[str]:
        return path[len(self.base.rstrip("/")) + 1 :].split("/")

    def files(self, folder: str) -> Iterator[Entry]:
        """List the files in a folder that `level` has found; all of them, if it is the base.

        Yields
        ------
        Entry
            In the order of the file system.

        Raises
        ------
        UsageError, Outage
            As `storage.exists`.
        """
        if not self.may_have_files:
            return
        found = _walk(self.base, self.pattern) if folder == self.base else _all_in(folder)
        for entry in found:
            if self.has(entry.path) or (entry.reject and self._might_lead(entry.path, entry.reject)):
                yield entry

    def _might_lead(self, path: str, reject: Reject) -> bool:
        """Tell whether what may not be looked at may be a folder in which something matches: that is not gone then."""
        return reject.reason is Reason.PERMISSION and self._holds(path) and leads(self._below(path), self.pattern)

    def level(self, folder: str, enough: int) -> Iterator[Entry | Folder]:
        """List what is right in a folder of a store: files, and the folders that lead to others.

        Parameters
        ----------
        folder
            One that `level` has found, or the base.
        enough
            From so many folders on, none is listed level by level.

        Yields
        ------
        Entry or Folder
            The folder itself, if it has too many folders, or one that cannot be listed by its name.

        Raises
        ------
        UsageError, Outage
            As `storage.exists`.
        """
        root, found = _found(folder, recursive=False)
        inside = [info.path for info in found if info.type == fs.FileType.Directory]
        # A store's keys need not be paths: of a//b.jpg Arrow says that a has itself as a folder, which would never end.
        if len(inside) > _MOST_FOLDERS or any(path.rpartition("/")[0] != root or path == f"{root}/" for path in inside):
            yield Folder(folder, deeper=False)
            return
        for info in found:
            path = folder.rstrip("/") + info.path[len(root) :]
            if info.type != fs.FileType.Directory:
                if self.has(path):
                    yield Entry(path, info.size, info.mtime)
            elif leads(self._below(path), self.pattern):
                yield Folder(path, deeper=len(inside) < enough)


_WITH_FOLDERS = {"s3", "abfs", "hdfs"}
"""The file systems that tell of all folders in one. Arrow's of Google's store lists no folders that are only names of
objects (apache/arrow#35993), and on a disk links lead from one folder to another.
"""

_MOST_FOLDERS = 4096
"""The most folders in one that are listed apart. Each costs a request, which would else tell of 1000 files."""


def extent(location: str) -> Extent:
    """Return what a location stands for: a file, a folder with all that is in it, or a pattern of `*`, `?`, `[..]`.

    A name that exists is never taken for a pattern. A pattern's match that is a folder stands for all that is in it,
    and `**` for any number of folders. Links are followed, but not to what is listed by another name: were a link the
    duplicate to be kept, its file would be the one to be dropped.

    Raises
    ------
    UsageError, Outage
        As `storage.exists`.
    """
    location = stores.absolute(location)
    return Extent(location) if storage.exists(location) else Extent(*_split(location))


def entries(location: str) -> Iterator[Entry]:
    """List every file of a location's extent.

    Yields
    ------
    Entry
        In the order of the file system. Where nothing matches: nothing.

    Raises
    ------
    UsageError, Outage
        As `storage.exists`.
    """
    whole = extent(location)
    return whole.files(whole.base)


def _split(location: str) -> tuple[str, tuple[str, ...]]:
    """Return the longest folder that exists on the way to a pattern, or "", and the names of the pattern below it."""
    names = location.split("/")
    least = 3 if stores.URI.fullmatch(location) else 1  # never above a bucket: that would be all buckets
    for length in range(len(names) - 1, least - 1, -1):
        base = "/".join(names[:length]) or "/"
        if storage.is_folder(base):
            return base, tuple(names[length:])
    return "", ()


def begins(pattern: str) -> str:
    """Return the folder to which the names of a pattern lead before the first that is one.

    >>> begins("s3a://lake/2024/*/a?.jpg"), begins("/*.jpg")
    ('s3a://lake/2024', '/')
    """
    names = pattern.split("/")
    first = next(number for number, name in enumerate(names) if is_pattern(name))
    return "/".join(names[:first]) or "/"


def matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Tell whether a path's names, or the names of a folder above it, match a pattern's.

    >>> matches(["2024", "a.jpg"], ["20*", "*.jpg"]), matches(["2024", "a.jpg"], ["20*"])
    (True, True)
    >>> matches(["x", "y", "a.jpg"], ["**", "*.jpg"]), matches(["x", "a.png"], ["**", "*.jpg"])
    (True, False)
    """
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(matches(path[i:], pattern[1:]) for i in range(len(path))) or len(pattern) == 1
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and matches(path[1:], pattern[1:])


def leads(folder: Sequence[str], pattern: Sequence[str]) -> bool:
    """Tell whether below a folder, by the names that lead to it, there may be what matches a pattern.

    >>> leads(["2024"], ["20*", "*.jpg"]), leads(["1999"], ["20*", "*.jpg"]), leads(["x", "y"], ["x", "**", "*.jpg"])
    (True, False, True)
    """
    if not folder or not pattern or pattern[0] == "**":
        return True
    return fnmatch.fnmatchcase(folder[0], pattern[0]) and leads(folder[1:], pattern[1:])


def _walk(location: str, pattern: Sequence[str]) -> Iterator[Entry]:
    """List what is under a location, but for links to what is listed anyway: what matches a pattern by its own name."""
    where, path = stores.locate(location)
    if isinstance(where, fs.LocalFileSystem):
        yield from _walk_local(path, pattern)
    elif (info := storage.info(location)).type == fs.FileType.Directory:
        yield from _all_in(location)
    elif info.type != fs.FileType.NotFound:
        yield Entry(location, info.size, info.mtime)


def _all_in(folder: str) -> Iterator[Entry]:
    root, found = _found(folder, recursive=True)
    for info in found:
        if info.type != fs.FileType.Directory:
            yield Entry(folder.rstrip("/") + info.path[len(root) :], info.size, info.mtime)


def _found(folder: str, recursive: bool) -> tuple[str, list[fs.FileInfo]]:
    """Return a folder's path on its store, and what the store says is in it; nothing, if the folder is gone."""
    where, path = stores.locate(folder)
    with stores.asking(folder):
        return path.rstrip("/"), where.get_file_info(fs.FileSelector(path, recursive=recursive, allow_not_found=True))


def _walk_local(root: str, pattern: Sequence[str]) -> Iterator[Entry]:
    inside = os.path.realpath(root).rstrip("/")
    # Device and inode of every folder that links led to: none is gone through again. Folders that link to each other
    # would else be listed in every order that there is.
    before: set[tuple[int, int]] = set()
    waiting = [(root, False)]
    while waiting:
        path, linked = waiting.pop()
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        if shown != path:
            yield Entry(shown, reject=Reject(Reason.UNREADABLE, "the name is not UTF-8"))
            continue
        try:
            status = os.stat(path)
            real = f"{os.path.realpath(path)}/" if linked else ""
            if real.startswith(f"{inside}/") and matches(real[len(inside) + 1 : -1].split("/"), pattern):
                continue
            if not stat.S_ISDIR(status.st_mode):
                yield Entry(path, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
                continue
            if path != root and not leads(path[len(root.rstrip("/")) + 1 :].split("/"), pattern):
                continue
            if linked:
                here = (status.st_dev, status.st_ino)
                if here in before:
                    continue
                before.add(here)
            with os.scandir(path) as found:
                below = sorted(((one.path, linked or one.is_symlink()) for one in found), reverse=True)
        except stores.FAILURES as error:
            yield Entry(path, reject=stores.reject(error))
            continue
        waiting.extend(below)
