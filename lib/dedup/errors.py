"""The ways in which things go wrong: bad use and a storage that does not answer end a job, bad data is a row."""

from __future__ import annotations

from enum import StrEnum

try:
    from py4j.protocol import Py4JError as Py4JError
    from py4j.protocol import Py4JNetworkError as Py4JNetworkError
except ImportError:  # clients of Spark Connect alone speak to no JVM, and have none of its errors

    class Py4JError(Exception):  # type: ignore[no-redef]
        """What a JVM reports."""

    class Py4JNetworkError(Py4JError):  # type: ignore[no-redef,misc]
        """The JVM does not answer."""


class UsageError(Exception):
    """The job was asked for something that it cannot do; the message says what was given and what is possible.

    A job prints the message as one line and ends with exit code 2.
    """


class Outage(Exception):
    """A storage did not answer, however often it was asked: that is nobody's bad use, and no file's fault.

    A job prints the message as one line and ends with exit code 1; what it did is kept, and the next run goes on.
    """


class Reason(StrEnum):
    """Why a file gave no features: the closed list of `rejects.reason`."""

    MISSING = "missing"  # listed, and gone when it was read
    PERMISSION = "permission"  # there, and not readable by us
    UNREADABLE = "unreadable"  # any other failure to read: not a regular file, an I/O error, a link in an archive
    CHANGED = "changed"  # its bytes are no longer those that were listed
    TOO_LARGE = "too_large"  # more bytes than `storage.MAX_BYTES`, or an archive beyond the limits of `packing`
    EMPTY = "empty"  # no bytes
    NOT_AN_IMAGE = "not_an_image"  # the bytes are of no image format
    UNSUPPORTED = "unsupported"  # an image format or a packing, or a kind of it, that is not decoded here
    TOO_MANY_PIXELS = "too_many_pixels"  # its header claims more than `pixels.MAX_PIXELS`, or memory was too small
    TRUNCATED = "truncated"  # an image or an archive whose end is missing
    CORRUPT = "corrupt"  # an image or an archive whose bytes contradict themselves


class Reject(Exception):
    """One file that gives no features. Never ends a job: it becomes a row of `rejects`.

    Parameters
    ----------
    reason
        An entry of the closed list.
    detail
        What the reader of the file or the decoder said.
    passing
        Whether the same bytes may give features another time.
    """

    def __init__(self, reason: Reason, detail: str, passing: bool = False) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.passing = passing
