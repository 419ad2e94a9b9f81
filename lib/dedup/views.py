"""Views of a picture: as it is, in its mirror image, and turned by quarters; and what tables call them. Pure arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dedup.errors import UsageError

Pixels = NDArray[np.uint8]

PLAIN = "plain"

VIEWS: dict[str, Callable[[Pixels], Pixels]] = {
    PLAIN: lambda pixels: pixels,
    "mirrored": np.fliplr,
    "upside down": np.flipud,
    "turned over": lambda pixels: np.rot90(pixels, 2),
    "turned left": np.rot90,
    "turned right": lambda pixels: np.rot90(pixels, -1),
    "mirrored and turned left": lambda pixels: np.rot90(np.fliplr(pixels)),
    "mirrored and turned right": lambda pixels: np.rot90(np.fliplr(pixels), -1),
}
"""What is done to a picture, by name: from an array of shape (height, width, 3) to another one.

The first 1, 2, 4 and 8 are groups: what they make of a view is another one of them.
"""

COUNTS = (1, 2, 4, 8)
"""How many of them, from the first on, can be asked for."""


def require(count: int) -> None:
    """Make sure that there can be so many views.

    Raises
    ------
    UsageError
        If there cannot.
    """
    if count not in COUNTS:
        raise UsageError(f"--views {count}: possible are {', '.join(map(str, COUNTS))}")


def first_views(count: int) -> tuple[str, ...]:
    """Return the names of the first views.

    >>> first_views(2)
    ('plain', 'mirrored')
    """
    return tuple(VIEWS)[:count]


MARK = "/"
"""What stands between the sha256 and the place in VIEWS in the name of a view."""

LONGEST = 66
"""The most letters that the name of a view of a content has: its sha256, a mark, a digit."""


def named(sha256: str, view: str) -> str:
    """Return what tables call a view of a content; a content as it is goes by its bare sha256.

    >>> named("00ff", "plain"), named("00ff", "turned left")
    ('00ff', '00ff/4')
    """
    return sha256 if view == PLAIN else f"{sha256}{MARK}{list(VIEWS).index(view)}"


def parsed(name: str) -> tuple[str, str]:
    """Return the content and the view that a name stands for.

    >>> parsed("00ff"), parsed("00ff/4")
    (('00ff', 'plain'), ('00ff', 'turned left'))
    """
    sha256, _, number = name.partition(MARK)
    return sha256, list(VIEWS)[int(number or 0)]
