"""Files, wherever they are: listing them, reading one, and the small files that jobs keep beside their tables.

Everything goes through Arrow's file systems, on the executors as on the driver. A location is a plain path or a URI;
names are taken literally (`%20` is three characters), as Hadoop does. Tables are Spark's to read and write, not ours.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

import pyarrow as pa
from pyarrow import fs

from dedup.errors import Outage, Reason, Reject, UsageError
from dedup.lines import holds_secret, printable

MAX_BYTES = 256 << 20
"""The largest file that is read, 256 MiB: it has to fit in a Python worker together with its pixels."""

MAX_NOTE = 1 << 20
"""The most bytes of a note, 1 MiB, which takes 100 MB at most when it is read."""

_ATTEMPTS = 10  # after the first, with pauses of 0.05 s, 0.1 s, 0.2 s, ...: half a minute
_PATIENCE = 20.0  # seconds without a byte after which a request is made anew

_URI = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]+):(//(?P<authority>[^/]*))?(?P<path>.*)", re.DOTALL)
_MAGIC = re.compile(r"[*?\[]")
_VOLUMES = "/Volumes/"  # of Databricks: to Arrow they are files, to Spark not always those of the machine


def _s3(bucket: str) -> tuple[fs.FileSystem, str]:
    # Arrow looks for credentials and the region where all of Amazon's tools do, but not for the endpoint.
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    store = fs.S3FileSystem(
        endpoint_override=endpoint,
        retry_strategy=fs.AwsDefaultS3RetryStrategy(max_attempts=_ATTEMPTS),
        connect_timeout=_PATIENCE,
        request_timeout=_PATIENCE,
    )
    return store, bucket


def _azure(authority: str) -> tuple[fs.FileSystem, str]:
    container, _, account = authority.partition("@")
    return fs.AzureFileSystem(account_name=account.partition(".")[0]), container


_SCHEMES: dict[str, Callable[[str], tuple[fs.FileSystem, str]]] = {
    "file": lambda _: (fs.LocalFileSystem(), ""),
    "dbfs": lambda _: (fs.LocalFileSystem(), "/dbfs"),
    "s3": _s3,
    "s3a": _s3,
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
        If the location's scheme is not one of those that can be read, it holds a key, or its storage cannot be reached
        from here.
    """
    if holds_secret(location):  # tables, logs and pages would hold it too
        raise UsageError(f"{printable(location)}: a location cannot hold a key: let the store's own settings have it")
    try:
        location.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{os.fsencode(location)!r}: a location must be UTF-8") from error
    if location.startswith(f"dbfs:{_VOLUMES}"):
        location = location.removeprefix("dbfs:")
    uri = _URI.fullmatch(location)
    if uri is None:
        return fs.LocalFileSystem(), re.sub("^/+", "/", os.path.abspath(location))
    scheme = uri["scheme"].lower()
    if scheme not in _SCHEMES:
        raise UsageError(f"{location}: cannot read {scheme}: locations; possible are paths and {', '.join(_SCHEMES)}")
    with asking(location):
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

    Volumes of Databricks are in its default one.

    Raises
    ------
    UsageError
        If Spark would take the location for a pattern.
    """
    if re.search(r"[*?\[\]{}]", location):
        raise UsageError(f"{location}: Spark takes it for a pattern: it cannot hold any of * ? [ ] {{ }}")
    location = absolute(location)
    local = location.startswith("/") and not location.startswith(_VOLUMES)
    return "file://" + location if local else location


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
        If the storage does not tell: no permission, no such host.
    Outage
        If it does not answer.
    """
    return bool(_info(location).type != fs.FileType.NotFound)


def is_folder(location: str) -> bool:
    """Tell whether there is a folder.

    Raises
    ------
    UsageError, Outage
        As `exists`.
    """
    return bool(_info(location).type == fs.FileType.Directory)


def _info(location: str) -> fs.FileInfo:
    where, path = locate(location)
    with asking(location):
        return where.get_file_info(path)


def names(location: str) -> list[str]:
    """Return the sorted names in a folder; of a folder that does not exist, none.

    Raises
    ------
    UsageError, Outage
        If it is not a folder, or cannot be listed.
    """
    where, path = locate(location)
    with asking(location):
        return sorted(info.base_name for info in where.get_file_info(fs.FileSelector(path, allow_not_found=True)))


def is_pattern(location: str) -> bool:
    """Tell whether a location would be taken for a pattern, if there is nothing of its name."""
    return _MAGIC.search(location) is not None


def listing(location: str) -> Iterator[Entry]:
    """List every file under a location: a file, a folder with all that is in it, or a pattern of `*`, `?`, `[..]`.

    A name that exists is never taken for a pattern. A pattern's match that is a folder stands for all that is in it,
    and `**` for any number of folders. Links are followed, but not to a folder that
    has been listed already.

    Yields
    ------
    Entry
        In the order of the file system. Where nothing matches: nothing.

    Raises
    ------
    UsageError, Outage
        As `exists`.
    """
    if exists(location):
        yield from _walk(location)
    elif is_pattern(location):
        base, pattern = _split(location)
        for entry in _walk(base) if base else ():
            if matches(entry.path[len(base) :].strip("/").split("/"), pattern):
                yield entry


def covers(location: str) -> Callable[[str], bool]:
    """Return what tells of any path whether `listing` speaks for it: has it if it is there. Workers can be sent it.

    Raises
    ------
    UsageError, Outage
        As `exists`.
    """
    base, pattern = (absolute(location), []) if exists(location) else _split(location)
    return partial(_covers, base.rstrip("/"), pattern)


def _covers(base: str, pattern: list[str], path: str) -> bool:
    return path == base or (path.startswith(f"{base}/") and matches(path[len(base) + 1 :].split("/"), pattern))


def _split(location: str) -> tuple[str, list[str]]:
    """Return the longest folder that exists on the way to a pattern, or "", and the names of the pattern below it."""
    names = absolute(location).split("/")
    least = 3 if _URI.fullmatch(absolute(location)) else 1  # never above a bucket: that would be all buckets
    for length in range(len(names) - 1, least - 1, -1):
        base = "/".join(names[:length]) or "/"
        if is_folder(base):
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


def _walk(location: str) -> Iterator[Entry]:
    where, path = locate(location)
    if isinstance(where, fs.LocalFileSystem):
        yield from _walk_local(path)
        return
    info = _info(location)
    with asking(location):
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
    UsageError, Outage
        If the storage lets nothing be read, or does not answer: that says nothing about the file.
    """
    size, _ = status(path)
    if size > limit:
        raise Reject(Reason.TOO_LARGE, f"{size} bytes, more than {limit}")
    where, name = locate(path)
    with reading(path):
        if isinstance(where, fs.LocalFileSystem):
            with open(name, "rb") as file:
                return file.read()
        with where.open_input_stream(name) as stream:
            return bytes(stream.read())


def status(path: str) -> tuple[int, datetime | None]:
    """Return how many bytes a file has, and when it was last changed.

    Raises
    ------
    Reject, UsageError, Outage
        As `read`.
    """
    where, name = locate(path)
    with reading(path):
        if isinstance(where, fs.LocalFileSystem):
            found = os.stat(name)
            if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
                raise Reject(Reason.UNREADABLE, "not a regular file")
            return found.st_size, datetime.fromtimestamp(found.st_mtime, UTC)
        info = where.get_file_info(name)
        if info.type != fs.FileType.File:
            raise Reject(Reason.MISSING, "no such object")
        return info.size, info.mtime


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Make a `Reject` of whatever a storage raises in a `with`, or what `refused` says where no file is to blame."""
    try:
        yield
    except _FAILURES as error:
        if _SILENT.search(_detail(error)) or _SHUT.search(_detail(error)):
            raise refused(path, error) from error
        raise _reject(error) from error


def read_note(location: str) -> Any:
    """Return what stands in one of the small JSON files that jobs keep beside their tables.

    Raises
    ------
    ValueError
        If it is no JSON, or lists in lists without end.
    Reject, UsageError, Outage
        As `read`; a note has at most MAX_NOTE bytes.
    """
    return parsed(read(location, MAX_NOTE))


def parsed(note: bytes) -> Any:
    """Return what stands in JSON, whoever wrote it.

    Raises
    ------
    ValueError
        If it is none, or lists in lists without end.
    """
    try:
        return json.loads(note)
    except RecursionError as error:
        raise ValueError("lists in lists in lists") from error


_FAILURES = (OSError, ValueError, OverflowError, pa.ArrowException)
"""How storages say no: Arrow raises a ValueError for names that it does not take, Python for times out of range."""

_NAMED = re.compile("key '.*' in bucket '[^']*'", re.DOTALL)
"""How Arrow names an object in what it says: names are anybody's, and may read like a store's own words."""

_SILENT = re.compile(
    r"AWS Error (NETWORK_CONNECTION|SERVICE_UNAVAILABLE|SLOW_DOWN|INTERNAL_FAILURE|THROTTLING|REQUEST_TIMEOUT)\b"
    r"|HTTP status (408|429|5\d\d)|curlCode: "
)
_SHUT = re.compile(
    "SIGNATURE_DOES_NOT_MATCH|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID|REQUEST_TIME_TOO_SKEWED|HTTP status 30[17]"
    "|ExpiredToken|InvalidToken|TokenRefreshRequired|RequestTimeTooSkewed"
)
_DENIED = re.compile("AWS Error ACCESS_DENIED|HTTP status 403")
_GONE = re.compile("AWS Error (NO_SUCH_BUCKET|NO_SUCH_KEY|RESOURCE_NOT_FOUND)")
"""Arrow's words for what S3 says: not now; not to you, whatever you ask for; not this; there is none."""


def _detail(error: Exception) -> str:
    said = getattr(error, "strerror", None) or str(error)
    said = _NAMED.sub("the object", said)
    return (said.splitlines() or [type(error).__name__])[0]


def _reject(error: Exception) -> Reject:
    detail = _detail(error)
    if isinstance(error, FileNotFoundError | NotADirectoryError) or _GONE.search(detail):
        return Reject(Reason.MISSING, detail)
    if isinstance(error, PermissionError) or _DENIED.search(detail):
        return Reject(Reason.PERMISSION, detail)
    return Reject(Reason.UNREADABLE, detail)


def refused(location: str, error: Exception, what: str = "") -> UsageError | Outage:
    """Return what to raise where a storage failed in something without which a job cannot go on.

    Parameters
    ----------
    location
        What was asked for.
    error
        How it failed.
    what
        What the storage was to do, as in "cannot be written".
    """
    detail = _detail(error)
    if _SILENT.search(detail):
        return Outage(f"{location}: the storage does not answer: {detail}")
    if "NO_SUCH_BUCKET" in detail:
        detail = "no such bucket"
    elif _SHUT.search(detail) or _DENIED.search(detail):
        detail = f"not permitted: do the credentials and the region fit the store? ({detail})"
    return UsageError(": ".join(part for part in (location, what, detail) if part))


@contextmanager
def asking(location: str, what: str = "") -> Iterator[None]:
    """Make the one clear error of `refused` of whatever a storage raises in a `with`."""
    try:
        yield
    except _FAILURES as error:
        raise refused(location, error, what) from error


def write(location: str, content: bytes) -> None:
    """Write a small file whole, making the folders above it.

    Raises
    ------
    UsageError, Outage
        If it cannot be written.
    """
    where, path = locate(location)
    with asking(location, "cannot be written"):
        _make_folder(where, path)
        if isinstance(where, fs.LocalFileSystem):  # an object store shows an object only when it is whole; a disk, not
            part = f"{path}.{uuid.uuid4().hex[:8]}.part"  # another writer has its own
            with open(part, "wb") as file:
                file.write(content)
            os.replace(part, path)
        else:
            with where.open_output_stream(path) as stream:
                stream.write(content)


def _make_folder(where: fs.FileSystem, path: str) -> None:
    """Make the folders above a path, on storages that have folders: S3 would make objects of them."""
    if not isinstance(where, fs.S3FileSystem):
        where.create_dir(path.rpartition("/")[0] or "/", recursive=True)


def move(location: str, target: str) -> None:
    """Move a file on its storage, into the place of one that is there, making the folders above it.

    Raises
    ------
    UsageError, Outage
        If it cannot be moved.
    """
    where, path = locate(location)
    place = locate(target)[1]
    with asking(target, "cannot be written"):
        _make_folder(where, place)
        where.move(path, place)


def delete(location: str) -> None:
    """Delete a file, or a folder with all that is in it; neither is there afterwards.

    Raises
    ------
    UsageError, Outage
        If it cannot be deleted.
    """
    where, path = locate(location)
    info = _info(location)
    with asking(location, "cannot be deleted"), suppress(FileNotFoundError):  # another run may be as fast
        if info.type == fs.FileType.Directory:
            _delete_folder(where, path)
        elif info.type != fs.FileType.NotFound:
            where.delete_file(path)


def _delete_folder(where: fs.FileSystem, path: str) -> None:
    try:
        where.delete_dir(path)
    except OSError:
        # A gateway that shows a disk as a store has real folders, and refuses to delete one before what is in it.
        below = where.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
        folders = [info.path for info in below if info.type == fs.FileType.Directory]
        for folder in [*sorted(folders, key=lambda folder: folder.count("/"), reverse=True), path]:
            with suppress(FileNotFoundError):  # it went with the last thing in it
                where.delete_dir(folder)


def require_writable(location: str) -> None:
    """Make sure, before any work, that a folder can be written.

    Raises
    ------
    UsageError, Outage
        If it cannot.
    """
    probe = f"{location.rstrip('/')}/_writable"
    try:
        write(probe, b"")
        delete(probe)
    except (UsageError, Outage) as error:
        raise type(error)(str(error).replace(probe, location, 1)) from error
