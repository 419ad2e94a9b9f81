"""What a file makes a decoder do beside its pixels: numbers in tags and passes over the picture, told from its bytes.

The number of pixels is no measure of these: a megabyte of tags becomes forty of Python's numbers, and a few hundred
bytes of JPEG are one more pass over all pixels.
"""

from __future__ import annotations

import re
import struct

from dedup.errors import Reason, Reject

MOST_NUMBERS = 1 << 20
"""The most numbers in a tag of a TIFF: the places of a hundred million pixels in the smallest tiles are fewer."""

MOST_EXIF = 1 << 20
"""The most bytes of EXIF that are looked at; a JPEG holds 64 KiB of it."""

MOST_PASSES = 100
"""The most passes over a JPEG of as many pixels as an image may have; usual are ten, of the largest too."""

_BYTES = frozenset({1, 2, 6, 7})  # kinds of a TIFF's values that stay bytes
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # in a scan; others belong to it
SCAN = b"\xff\xda"
"""What each scan of a JPEG begins with; other parts of a file may hold the same bytes."""

_SCAN, _END = SCAN[1], 0xD9


def require_few_numbers(content: bytes) -> None:
    """Make sure that no tag in the first directory of a TIFF holds very many numbers.

    Raises
    ------
    Reject
        If one does. Of a file that is broken or no TIFF, nothing is said here.
    """
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None or len(content) < 16:
        return
    big = content[2:4] in {b"+\0", b"\0+"}
    try:
        (place,) = struct.unpack_from(f"{order}Q" if big else f"{order}L", content, 8 if big else 4)
        (count,) = struct.unpack_from(f"{order}Q" if big else f"{order}H", content, place)
        place, entry = (place + 8, f"{order}HHQ8x") if big else (place + 2, f"{order}HHL4x")
        tags = content[place : place + count * struct.calcsize(entry)]
    except (struct.error, OverflowError):
        return
    for tag, kind, numbers in struct.iter_unpack(entry, tags[: len(tags) - len(tags) % struct.calcsize(entry)]):
        if kind not in _BYTES and numbers > MOST_NUMBERS:
            raise Reject(Reason.UNSUPPORTED, f"tag {tag} has {numbers} numbers, more than {MOST_NUMBERS}")


def passes(content: bytes) -> int:
    """Return the number of scans in the first image of a JPEG, each of which is a pass over its pixels."""
    found, place = 0, 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        kind = content[place + 1]
        if kind == _END:
            break
        if kind == 0xFF:
            place += 1
            continue
        found += kind == _SCAN
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        if kind == _SCAN:
            following = _MARKER.search(content, place)
            if following is None:
                break
            place = following.start(1) - 1
    return found
