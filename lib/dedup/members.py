"""A member of an archive: where its bytes lie, what its name is worth, and how headers are read that may lie.

Whoever made an archive may have meant harm. Nothing is unpacked to a disk, no name leads out of its archive, and no
more memory is taken than the limits say, whatever an archive claims.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, NamedTuple

from dedup.errors import Reason, Reject
from dedup.storage import MAX_BYTES

MAX_HEADER = 1 << 20
"""The most bytes that a header may have; a long name takes a thousandth of it."""

ReadAt = Callable[[int, int], bytes]
"""Given an offset and a size, the bytes of a file there; fewer at its end."""


class Packed(NamedTuple):
    """Where the bytes of a member lie in its archive, and how."""

    offset: int  #: of its bytes; in a zip, of the header before them
    packed: int  #: bytes there
    length: int  #: bytes of the member itself
    method: int = 0  #: of those that zip counts; 0 is as they are
    crc: int = 0


Found = Packed | Reject
"""A member, or why it gives no bytes."""


def printable(text: str) -> str:
    """Return a text of an archive as UTF-8 can hold it."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def named(name: str) -> tuple[str, Reject | None]:
    r"""Return a member's name as paths show it, and why it is rejected for it.

    >>> named("./a//b.jpg")
    ('a/b.jpg', None)
    >>> named("../x")[0], named("/etc/x")[0], named("caf\udce9.jpg")[0]
    ('\\x2e\\x2e/x', '\\x2fetc/x', 'caf\\xe9.jpg')
    """
    parts = [part for part in name.split("/") if part not in {"", "."}]
    shown = "/".join(r"\x2e\x2e" if part == ".." else printable(part) for part in parts)
    if name.startswith("/"):
        return rf"\x2f{shown}", Reject(Reason.UNREADABLE, "an absolute name")
    if ".." in parts:
        return shown, Reject(Reason.UNREADABLE, "a name that leads out of its folder")
    if shown != "/".join(parts):
        return shown, Reject(Reason.UNREADABLE, "the name is not UTF-8")
    return shown, None if shown else Reject(Reason.UNREADABLE, "no name")


def checked(member: Found, length: int) -> Found:
    """Return a member, or why its place in an archive of so many bytes, or its length, cannot be."""
    if isinstance(member, Reject):
        return member
    if max(member.length, member.packed) > MAX_BYTES:
        return Reject(Reason.TOO_LARGE, f"{max(member.length, member.packed)} bytes, more than {MAX_BYTES}")
    if member.offset < 0 or member.offset + member.packed > length:
        return Reject(Reason.TRUNCATED, "the archive ends before it does")
    return member


class _Archive(io.RawIOBase):
    """An archive as a file of Python's."""

    def __init__(self, read_at: ReadAt, length: int) -> None:
        self._read_at, self._length, self._at = read_at, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self._length - self._at)
        content = self._read_at(self._at, size) if size > 0 else b""
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


class Headers(io.BufferedReader):
    """The same, read ahead, so that a store is not asked for every header; with a limit to what a header takes.

    Parameters
    ----------
    read_at
        Reads the archive.
    length
        Its bytes.
    ahead
        How many of them are read at a time.
    """

    def __init__(self, read_at: ReadAt, length: int, ahead: int) -> None:
        super().__init__(_Archive(read_at, length), ahead)
        self.length = length
        self.allow(MAX_HEADER)

    def allow(self, size: int, mark: bytes = b"", most: int = 0) -> None:
        """Let so many bytes be read from here on; if a mark is given, at most so many of it at a time."""
        self._allowed = self._left = size
        self._mark, self._most = mark, most

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes; all to the end, if the size is negative."""
        if size is None or size < 0:
            size = max(0, self.length - self.tell())
        self._left -= size
        if self._left < 0:
            raise Reject(Reason.CORRUPT, f"a header of more than {self._allowed:,} bytes")
        content = super().read(size)
        if self._mark and content.count(self._mark) > self._most:
            raise Reject(Reason.TOO_LARGE, f"more than {self._most:,} entries: none of them is read")
        return content
