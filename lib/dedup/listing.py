"""Which files there are under a location: a file, a folder, or a pattern."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

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


def entries(location: str) -> Iterator[Entry]:
    """List every file under a location: a file, a folder with all that is in it, or a pattern of `*`, `?`, `[..]`.

    A name that exists is never taken for a pattern. A pattern's match that is a folder stands for all that is in it,
    and `**` for any number of folders. Links are followed, but not to what is listed by another name: were a link the
    duplicate to be kept, its file would be the one to be dropped.

    Yields
    ------
    Entry
        In the order of the file system. Where nothing matches: nothing.

    Raises
    ------
    UsageError, Outage
        As `storage.exists`.
    """
    location = stores.absolute(location)
    if storage.exists(location):
        yield from _walk(location, [])
    elif is_pattern(location):
        base, pattern = _split(location)
        for entry in _walk(base, pattern) if base else ():
            if matches(entry.path[len(base) :].strip("/").split("/"), pattern):
                yield entry


def covers(location: str) -> Callable[[str], bool]:
    """Return what tells of any path whether `entries` speaks for it: has it if it is there. Workers can be sent it.

    Raises
    ------
    UsageError, Outage
        As `storage.exists`.
    """
    base, pattern = (stores.absolute(location), []) if storage.exists(location) else _split(location)
    return partial(_covers, base.rstrip("/"), pattern)


def _covers(base: str, pattern: list[str], path: str) -> bool:
    return path == base or (path.startswith(f"{base}/") and matches(path[len(base) + 1 :].split("/"), pattern))


def _split(location: str) -> tuple[str, list[str]]:
    """Return the longest folder that exists on the way to a pattern, or "", and the names of the pattern below it."""
    location = stores.absolute(location)
    names = location.split("/")
    least = 3 if stores.URI.fullmatch(location) else 1  # never above a bucket: that would be all buckets
    for length in range(len(names) - 1, least - 1, -1):
        base = "/".join(names[:length]) or "/"
        if storage.is_folder(base):
            return base, names[length:]
    return "", names


def matches(path: list[str], pattern: list[str]) -> bool:
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


def _walk(location: str, pattern: list[str]) -> Iterator[Entry]:
    """List what is under a location, but for links to what is listed anyway: what matches a pattern by its own name."""
    where, path = stores.locate(location)
    if isinstance(where, fs.LocalFileSystem):
        yield from _walk_local(path, pattern)
        return
    info = storage.info(location)
    with stores.asking(location):
        found = [info] if info.type == fs.FileType.File else where.get_file_info(fs.FileSelector(path, recursive=True))
    for info in found:
        if info.type != fs.FileType.Directory:
            yield Entry(location.rstrip("/") + info.path[len(path.rstrip("/")) :], info.size, info.mtime)


def _walk_local(root: str, pattern: list[str]) -> Iterator[Entry]:
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
