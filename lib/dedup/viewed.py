"""What is in columns with names of views of contents: a content as it is goes by its sha256, a view by `HASH/3`."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

from dedup.views import MARK, PLAIN, VIEWS

_TURNS = ("turned left", "turned right")
"""The views that undo each other; every other one undoes itself."""


def content(column: str) -> Column:
    """Return the contents whose views the names in a column stand for."""
    return F.substring_index(column, MARK, 1)


def number(column: str) -> Column:
    """Return the places in VIEWS of the views that the names in a column stand for, 0 for what is plain."""
    return F.coalesce(F.get(F.split(column, MARK), F.lit(1)).cast("int"), F.lit(0))


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
