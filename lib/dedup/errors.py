"""The ways in which things go wrong: bad use and a storage that does not answer end a job, bad data is a row."""

from __future__ import annotations

from enum import StrEnum


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
    TOO_MANY_PIXELS = "too_many_pixels"  # its header claims more than `pixels.MAX_PIXELS`
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
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
