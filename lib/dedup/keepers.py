"""Which file of a group stays: rules in an order that the user may change, so that any two files are told apart.

Every rule gives a number or a text for a file, the smaller the better. `key` makes one value of them all, by which
Spark orders files; of two files the better one is the one with the smaller key, and `decided` says which rule told
them apart. Files need the columns path, length, modified, width, height, format, and own (false for files that are
only compared against: they stay where they are, as if protected).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup import stores
from dedup.errors import UsageError

LOSSLESS = frozenset({"BMP", "DIB", "PCX", "PNG", "PPM", "PSD", "QOI", "SGI", "TGA", "TIFF"})
"""Formats that are nearly always written without loss. WEBP and JPEG2000 can be either, and GIF loses colours."""

_NEVER = (1 << 63) - 1
_FIRST, _LAST = ("protected", "preferred"), ("path",)


@dataclass(frozen=True)
class Policy:
    """What the user says about which files stay."""

    prefer: tuple[str, ...] = ()  #: folders and files, the most wanted first
    protect: tuple[str, ...] = ()  #: folders and files that are never dropped
    rules: tuple[str, ...] = ("resolution", "lossless", "bytes", "oldest")  #: the rules in between, first wins

    @property
    def order(self) -> tuple[str, ...]:
        """All rules in their order: protected and preferred come first, path decides what nothing else does.

        >>> Policy(rules=("oldest",)).order
        ('protected', 'preferred', 'oldest', 'path')
        """
        return (*_FIRST, *self.rules, *_LAST)


def _protected(policy: Policy) -> Column:
    return F.when(~F.col("own") | (_place(policy.protect) < len(policy.protect)), 0).otherwise(1)


def _resolution(_: Policy) -> Column:
    return -F.coalesce(F.col("width").cast("long") * F.col("height"), F.lit(0))


def _oldest(_: Policy) -> Column:
    # A storage that knows no time of change is said to have changed everything in 1970: it tells nothing.
    changed = F.unix_micros("modified")
    return F.when(changed > 0, changed).otherwise(F.lit(_NEVER))


RULES: dict[str, Callable[[Policy], Column]] = {
    "protected": _protected,
    "preferred": lambda policy: _place(policy.prefer),
    "resolution": _resolution,
    "lossless": lambda _: F.when(F.col("format").isin(*sorted(LOSSLESS)), 0).otherwise(1),
    "bytes": lambda _: -F.coalesce("length", F.lit(0)),
    "oldest": _oldest,
    "path": lambda _: F.col("path"),
}
"""By name, what a rule makes of a file: a column without nulls, smaller for the better file."""


BETWEEN = tuple(name for name in RULES if name not in {*_FIRST, *_LAST})
"""The rules whose order a user chooses."""


def check(policy: Policy) -> None:
    """Make sure that a policy can be followed.

    Raises
    ------
    UsageError
        If a rule is not known, is there twice, or has a place of its own; or a folder cannot be a location.
    """
    for name in policy.rules:
        if name in {*_FIRST, *_LAST}:
            raise UsageError(f"rule {name!r}: protected and preferred are always first, path is always last")
        if name not in BETWEEN:
            raise UsageError(f"unknown rule {name!r}; possible are {', '.join(BETWEEN)}")
        if policy.rules.count(name) > 1:
            raise UsageError(f"rule {name!r} is there twice")
    for prefix in (*policy.prefer, *policy.protect):
        if not prefix:
            raise UsageError("a preferred or protected path is empty")
        stores.locate(prefix)


def check_protected(policy: Policy, files: DataFrame) -> None:
    """Make sure that every protected location holds a file: one that protects nothing is a slip of the pen.

    Raises
    ------
    UsageError
        If one does not.
    """
    if not policy.protect:
        return
    counts = files.agg(*[F.count_if(_under(prefix)).alias(prefix) for prefix in policy.protect]).collect()[0]
    for prefix, count in zip(policy.protect, counts, strict=True):
        if not count:
            raise UsageError(f"--protect {prefix}: no file of the features lies there (a pattern is taken as a name)")


def _place(prefixes: Sequence[str]) -> Column:
    """Return the index of the first prefix that a file's path is under; how many there are if it is under none."""
    found = F.lit(len(prefixes))
    for place, prefix in reversed(list(enumerate(prefixes))):
        found = F.when(_under(prefix), place).otherwise(found)
    return found


def _under(prefix: str) -> Column:
    """Tell whether a path is a location or is below it: /a/b holds /a/b/c.jpg, and not /a/bc.jpg; 1.tar its members."""
    location, path = stores.absolute(prefix).rstrip("/"), F.col("path")
    below = path.startswith(F.lit(f"{location}/")) | path.startswith(F.lit(f"{location}!/"))
    return (path == F.lit(location)) | below


def key(policy: Policy) -> Column:
    """Return a struct with one field for each rule, in their order: the best of several files has the smallest.

    The order is total where paths differ. The last field is the path.
    """
    return F.struct(*[RULES[name](policy).alias(name) for name in policy.order])


def decided(policy: Policy, winner: Column, loser: Column) -> Column:
    """Return the name of the first rule that tells two files apart, given their keys."""
    return F.coalesce(*[F.when(winner[name] != loser[name], F.lit(name)) for name in policy.order])
