"""Files, wherever they are: listing them, reading one, and the small files that jobs keep beside their tables.

Everything goes through Arrow's file systems, on the executors as on the driver. A location is a plain path or a URI;
names are taken literally (`%20` is three characters), as Hadoop does. Tables are Spark's to read and write, not ours.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from pyarrow import fs

from dedup.errors import Reason, Reject, UsageError

MAX_BYTES = 256 << 20
"""The largest file that is read, 256 MiB: it has to fit in a Python worker together with its pixels."""

_URI = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]+):(//(?P<authority>[^/]*))?(?P<path>.*)", re.DOTALL)
_MAGIC = re.compile(r"[*?\[]")


def _azure(authority: str) -> tuple[fs.FileSystem, str]:
    container, _, account = authority.partition("@")
    return fs.AzureFileSystem(account_name=account.partition(".")[0]), container


_SCHEMES: dict[str, Callable[[str], tuple[fs.FileSystem, str]]] = {
    "file": lambda _: (fs.LocalFileSystem(), ""),
    "dbfs": lambda _: (fs.LocalFileSystem(), "/dbfs"),
    "s3": lambda bucket: (fs.S3FileSystem(), bucket),
    "s3a": lambda bucket: (fs.S3FileSystem(), bucket),
    "gs": lambda bucket: (fs.GcsFileSystem(), bucket),
    "abfs": _azure,
    "abfss": _azure,
    "hdfs": lambda host: (fs.HadoopFileSystem.from_uri(f"hdfs://{host or 'default'}"), ""),
}
"""By scheme, what stands between // and / becomes a file system and the path there that is the root of such URIs."""


@cache  # a client is made once in a process, not for every file
def _root(scheme: str, authority: str) -> tuple[fs.FileSystem, str]:
    return _SCHEMES[scheme](authority)


def locate(location: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a location, and its path there.

    Raises
    ------
    UsageError
        If the location's scheme is not one of those that can be read.
    """
    try:
        location.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{os.fsencode(location)!r}: a location must be UTF-8") from error
    uri = _URI.fullmatch(location)
    if uri is None:
        return fs.LocalFileSystem(), re.sub("^/+", "/", os.path.abspath(location))
    scheme = uri["scheme"].lower()
    if scheme not in _SCHEMES:
        raise UsageError(f"{location}: cannot read {scheme}: locations; possible are paths and {', '.join(_SCHEMES)}")
    where, base = _root(scheme, uri["authority"] or "")
    return where, base + uri["path"]


def absolute(location: str) -> str:
    """Return the one spelling of a location that tables hold: `/a/b` for local files, else the URI as it was given."""
    where, path = locate(location)
    if isinstance(where, fs.LocalFileSystem):
        return os.path.normpath(path)
    return location.rstrip("/")


def spark_path(location: str) -> str:
    """Return the location as Spark must be told it: local paths with their scheme, or they would mean the default one.

    Raises
    ------
    UsageError
        If Spark would take the location for a pattern.
    """
    if re.search(r"[*?\[\]{}]", location):
        raise UsageError(f"{location}: the location of a table cannot hold any of * ? [ ] {{ }}")
    location = absolute(location)
    return "file://" + location if location.startswith("/") else location


@dataclass(frozen=True)
class Entry:
    """A file that was listed; `reject` says why when it is plain already that it cannot be read."""

    path: str
    length: int | None = None
    modified: datetime | None = None
    reject: Reject | None = None


def exists(location: str) -> bool:
    """Tell whether there is a file or folder.

    Raises
    ------
    UsageError
        If the storage does not answer: no such host, no permission.
    """
    try:
        where, path = locate(location)
        return bool(where.get_file_info(path).type != fs.FileType.NotFound)
    except OSError as error:
        raise UsageError(f"{location}: {str(error).splitlines()[0]}") from error


def is_folder(location: str) -> bool:
    """Tell whether there is a folder."""
    where, path = locate(location)
    return bool(where.get_file_info(path).type == fs.FileType.Directory)


def names(location: str) -> list[str]:
    """Return the sorted names in a folder; of a folder that does not exist, none.

    Raises
    ------
    UsageError
        If it is not a folder, or cannot be listed.
    """
    where, path = locate(location)
    try:
        return sorted(info.base_name for info in where.get_file_info(fs.FileSelector(path, allow_not_found=True)))
    except OSError as error:
        raise UsageError(f"{location}: {str(error).splitlines()[0]}") from error


def listing(location: str) -> Iterator[Entry]:
    """List every file under a location: a file, a folder with all that is in it, or a pattern of `*`, `?`, `[..]`.

    A name that exists is never taken for a pattern. A pattern's match that is a folder stands for all that is in it,
    and `**` for any number of folders. Links are followed, but not to a folder that
    has been listed already.

    Yields
    ------
    Entry
        In the order of the file system. Where nothing matches: nothing.
    """
    if exists(location):
        yield from _walk(location)
    elif _MAGIC.search(location):
        base, pattern = _split(location)
        for entry in _walk(base):
            if matches(entry.path[len(base) :].strip("/").split("/"), pattern):
                yield entry


def _split(location: str) -> tuple[str, list[str]]:
    """Return the longest folder that exists on the way to a pattern, and the names of the pattern below it."""
    names = absolute(location).split("/")
    for length in range(len(names) - 1, 0, -1):
        base = "/".join(names[:length]) or "/"
        if not base.endswith(":/") and is_folder(base):
            return base, names[length:]
    return absolute("."), names


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


def _walk(location: str) -> Iterator[Entry]:
    where, path = locate(location)
    if isinstance(where, fs.LocalFileSystem):
        yield from _walk_local(path)
        return
    info = where.get_file_info(path)
    found = [info] if info.type == fs.FileType.File else where.get_file_info(fs.FileSelector(path, recursive=True))
    for info in found:
        if info.type != fs.FileType.Directory:
            yield Entry(location.rstrip("/") + info.path[len(path.rstrip("/")) :], info.size, info.mtime)


def _walk_local(root: str) -> Iterator[Entry]:
    # Device and inode of every folder so far: one that a link leads to again is not gone through again. Folders that
    # link to each other would else be listed in every order that there is.
    before: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        path = waiting.pop()
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        if shown != path:
            yield Entry(shown, reject=Reject(Reason.UNREADABLE, "the name is not UTF-8"))
            continue
        try:
            status = os.stat(path)
            if not stat.S_ISDIR(status.st_mode):
                yield Entry(path, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
                continue
            here = (status.st_dev, status.st_ino)
            again = here in before and os.path.islink(path)
            before.add(here)
            below = [] if again else sorted(os.listdir(path), reverse=True)
        except _FAILURES as error:
            yield Entry(path, reject=_reject(error))
            continue
        waiting.extend(os.path.join(path, name) for name in below)


def read(path: str, limit: int = MAX_BYTES) -> bytes:
    """Return the bytes of one file.

    Raises
    ------
    Reject
        If it is missing, not permitted, larger than `limit` bytes, or not readable.
    """
    where, name = locate(path)
    try:
        if isinstance(where, fs.LocalFileSystem):
            status = os.stat(name)
            if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
                raise Reject(Reason.UNREADABLE, "not a regular file")
            size = status.st_size
        else:
            info = where.get_file_info(name)
            if info.type != fs.FileType.File:
                raise Reject(Reason.MISSING, "no such object")
            size = info.size
        if size > limit:
            raise Reject(Reason.TOO_LARGE, f"{size} bytes, more than {limit}")
        if isinstance(where, fs.LocalFileSystem):
            with open(name, "rb") as file:
                return file.read()
        with where.open_input_stream(name) as stream:
            return bytes(stream.read())
    except _FAILURES as error:
        raise _reject(error) from error


_FAILURES = (OSError, ValueError, OverflowError)
"""How storages say no: Arrow raises a ValueError for names that it does not take, Python for times out of range."""


def _reject(error: Exception) -> Reject:
    detail = getattr(error, "strerror", None) or str(error)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Reject(Reason.MISSING, detail)
    if isinstance(error, PermissionError) or "ACCESS_DENIED" in detail:
        return Reject(Reason.PERMISSION, detail)
    return Reject(Reason.UNREADABLE, detail)


def write(location: str, content: bytes) -> None:
    """Write a small file whole, making the folders above it.

    Raises
    ------
    UsageError
        If it cannot be written.
    """
    where, path = locate(location)
    try:
        where.create_dir(path.rpartition("/")[0] or "/", recursive=True)
        if isinstance(where, fs.LocalFileSystem):  # an object store shows an object only when it is whole; a disk, not
            with open(path + ".part", "wb") as file:
                file.write(content)
            os.replace(path + ".part", path)
        else:
            with where.open_output_stream(path) as stream:
                stream.write(content)
    except OSError as error:
        raise UsageError(f"{location}: cannot be written: {error.strerror or error}") from error


def move(location: str, target: str) -> None:
    """Move a file on its storage, into the place of one that is there, making the folders above it."""
    where, path = locate(location)
    place = locate(target)[1]
    where.create_dir(place.rpartition("/")[0] or "/", recursive=True)
    where.move(path, place)


def delete(location: str) -> None:
    """Delete a file, or a folder with all that is in it; neither is there afterwards."""
    where, path = locate(location)
    info = where.get_file_info(path)
    if info.type == fs.FileType.Directory:
        where.delete_dir(path)
    elif info.type != fs.FileType.NotFound:
        where.delete_file(path)


def require_writable(location: str) -> None:
    """Make sure, before any work, that a folder can be written.

    Raises
    ------
    UsageError
        If it cannot.
    """
    probe = f"{location.rstrip('/')}/_writable"
    try:
        write(probe, b"")
    except UsageError as error:
        raise UsageError(str(error).replace(probe, location, 1)) from error
    delete(probe)
