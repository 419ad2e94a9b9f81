"""Files in and out: whether one is there, reading it, and the small ones that jobs keep beside their tables.

Tables are Spark's to read and write, not ours.
"""

from __future__ import annotations

import json
import os
import stat
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from pyarrow import fs

from dedup import stores
from dedup.errors import Outage, Reason, Reject, UsageError

MAX_BYTES = 256 << 20
"""The largest file that is read, 256 MiB: it has to fit in a Python worker together with its pixels."""

MAX_NOTE = 1 << 20
"""The most bytes of a note, 1 MiB, which takes 100 MB at most when it is read."""


def exists(location: str) -> bool:
    """Tell whether there is a file or folder.

    Raises
    ------
    UsageError
        If the storage does not tell: no permission, no such host.
    Outage
        If it does not answer.
    """
    return bool(info(location).type != fs.FileType.NotFound)


def those_that_exist(locations: Sequence[str]) -> list[str]:
    """Return which of some locations on one storage are there, asking for all of them at once.

    Raises
    ------
    UsageError, Outage
        As `exists`.
    """
    if not locations:
        return []
    where, _ = stores.locate(locations[0])
    with stores.asking(locations[0]):
        told = where.get_file_info([stores.locate(location)[1] for location in locations])
    return [location for location, one in zip(locations, told, strict=True) if one.type != fs.FileType.NotFound]


def is_folder(location: str) -> bool:
    """Tell whether there is a folder.

    Raises
    ------
    UsageError, Outage
        As `exists`.
    """
    return bool(info(location).type == fs.FileType.Directory)


def info(location: str) -> fs.FileInfo:
    """Return what a storage says of a location, which may be that there is nothing.

    Raises
    ------
    UsageError, Outage
        As `exists`.
    """
    where, path = stores.locate(location)
    with stores.asking(location):
        return where.get_file_info(path)


def names(location: str) -> list[str]:
    """Return the sorted names in a folder; of a folder that does not exist, none.

    Raises
    ------
    UsageError, Outage
        If it is not a folder, or cannot be listed.
    """
    where, path = stores.locate(location)
    with stores.asking(location):
        return sorted(one.base_name for one in where.get_file_info(fs.FileSelector(path, allow_not_found=True)))


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
    where, name = stores.locate(path)
    content = b""
    if size <= limit:
        with stores.reading(path), _opened(where, name) as stream:
            content = bytes(stream.read(size + 1))
            if len(content) > size:  # it has grown since then
                content += bytes(stream.read(limit + 1 - len(content)))
    if max(size, len(content)) > limit:
        raise Reject(Reason.TOO_LARGE, f"{max(size, len(content))} bytes, more than {limit}")
    return content


def _opened(where: fs.FileSystem, name: str) -> Any:
    return open(name, "rb") if isinstance(where, fs.LocalFileSystem) else where.open_input_stream(name)


def status(path: str) -> tuple[int, datetime | None]:
    """Return how many bytes a file has, and when it was last changed.

    Raises
    ------
    Reject, UsageError, Outage
        As `read`.
    """
    where, name = stores.locate(path)
    with stores.reading(path):
        if isinstance(where, fs.LocalFileSystem):
            found = os.stat(name)
            if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
                raise Reject(Reason.UNREADABLE, "not a regular file")
            return found.st_size, datetime.fromtimestamp(found.st_mtime, UTC)
        told = where.get_file_info(name)
        if told.type != fs.FileType.File:
            raise Reject(Reason.MISSING, "no such object")
        return told.size, told.mtime


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


def write(location: str, content: bytes) -> None:
    """Write a small file whole, making the folders above it.

    Raises
    ------
    UsageError, Outage
        If it cannot be written.
    """
    where, path = stores.locate(location)
    with stores.asking(location, "cannot be written"):
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
    where, path = stores.locate(location)
    place = stores.locate(target)[1]
    with stores.asking(target, "cannot be written"):
        _make_folder(where, place)
        where.move(path, place)


def delete(location: str) -> None:
    """Delete a file, or a folder with all that is in it; neither is there afterwards.

    Raises
    ------
    UsageError, Outage
        If it cannot be deleted.
    """
    where, path = stores.locate(location)
    found = info(location).type
    with stores.asking(location, "cannot be deleted"), suppress(FileNotFoundError):  # another run may be as fast
        if found == fs.FileType.Directory:
            _delete_folder(where, path)
        elif found != fs.FileType.NotFound:
            where.delete_file(path)


def _delete_folder(where: fs.FileSystem, path: str) -> None:
    try:
        where.delete_dir(path)
    except OSError:
        # A gateway that shows a disk as a store has real folders, and refuses to delete one before what is in it.
        below = where.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
        folders = [one.path for one in below if one.type == fs.FileType.Directory]
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
