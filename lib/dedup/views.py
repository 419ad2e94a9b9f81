"""Views of a picture: as it is, in its mirror image, and turned by quarters; and what tables call them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column
from pyspark.sql import functions as F

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


_MARK = "/"

LONGEST = 66
"""The most letters that the name of a view of a content has: its sha256, a mark, a digit."""

_TURNS = ("turned left", "turned right")
"""The views that undo each other; every other one undoes itself."""


def named(sha256: str, view: str) -> str:
    """Return what tables call a view of a content; a content as it is goes by its bare sha256.

    >>> named("00ff", "plain"), named("00ff", "turned left")
    ('00ff', '00ff/4')
    """
    return sha256 if view == PLAIN else f"{sha256}{_MARK}{list(VIEWS).index(view)}"


def parsed(name: str) -> tuple[str, str]:
    """Return the content and the view that a name stands for.

    >>> parsed("00ff"), parsed("00ff/4")
    (('00ff', 'plain'), ('00ff', 'turned left'))
    """
    sha256, _, number = name.partition(_MARK)
    return sha256, list(VIEWS)[int(number or 0)]


def content(column: str) -> Column:
    """Return the contents whose views the names in a column stand for."""
    return F.substring_index(column, _MARK, 1)


def number(column: str) -> Column:
    """Return the places in VIEWS of the views that the names in a column stand for, 0 for what is plain."""
    return F.coalesce(F.get(F.split(column, _MARK), F.lit(1)).cast("int"), F.lit(0))


def undone(number: Column) -> Column:
    """Return the places in VIEWS of what makes of the views at such places the picture again."""
    left, right = (list(VIEWS).index(turn) for turn in _TURNS)
    return F.when(number == left, right).when(number == right, left).otherwise(number)


def word(number: Column) -> Column:
    """Return the views at places in VIEWS, by name; null for what is plain."""
    return F.get(F.array(*[F.lit(None if view == PLAIN else view) for view in VIEWS]), number)


def first(*columns: str) -> Column:
    """Return the first of rows whose `sha256` are names of views, as a struct with more columns.

    What is plain comes before any view: a view never stands for a content.
    """
    return F.min(F.struct(number("sha256").alias("view"), "sha256", *columns))
