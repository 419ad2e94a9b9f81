"""Views of a picture: as it is, in its mirror image, and turned by quarters. Pure arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

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


def first_views(count: int) -> tuple[str, ...]:
    """Return the names of the first views.

    >>> first_views(2)
    ('plain', 'mirrored')
    """
    return tuple(VIEWS)[:count]
