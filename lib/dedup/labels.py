"""Labelled pairs: which images are copies of which, as a person says in a file."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dedup import delivery, features, images, storage, stores
from dedup.errors import Reject, UsageError
from dedup.models import Made
from dedup.ranks import ALL

COLUMNS = ("query_path", "duplicate_path", "relation")
"""The columns of a file of labels."""

_MOST_BYTES = 256 << 20
_MOST_KINDS = 100  # of which the page of an evaluation has a drawing each


@dataclass(frozen=True)
class Pair:
    """A line of the file: by paths, as tables spell them."""

    query: str
    duplicate: str
    relation: str


@dataclass(frozen=True)
class Labelled:
    """Pairs of contents that have features."""

    query: NDArray[np.str_]  #: shape (pairs,), sha256
    duplicate: NDArray[np.str_]
    relation: NDArray[np.str_]
    equal: int  #: pairs of equal bytes, which are left out
    repeated: int  #: pairs whose contents another one names too, by the same relation: they count once
    without: int  #: pairs one of which has no features, which are left out too

    @property
    def groups(self) -> dict[str, int]:
        """The number of the group that each content is in, by sha256: those that pairs connect."""
        names = np.unique(np.concatenate([self.query, self.duplicate]))
        ends = np.searchsorted(names, self.query), np.searchsorted(names, self.duplicate)
        edges = coo_array((np.ones(len(self.query), np.int8), ends), (len(names), len(names)))
        _, numbers = connected_components(edges, directed=False)
        return dict(zip(names.tolist(), numbers.tolist(), strict=True))


def read(location: str) -> list[Pair]:
    """Return the pairs in a file of CSV with a header; paths are absolute, or go on from the folder of the file.

    Raises
    ------
    UsageError
        If it cannot be read, has other columns, or no pairs.
    """
    said = f"--labels {location}"
    try:
        text = storage.read(location, limit=_MOST_BYTES).decode("utf-8-sig")
        lines = csv.DictReader(io.StringIO(text), strict=True)
        if not set(COLUMNS) <= set(lines.fieldnames or ()):
            raise UsageError(f"{said}: its first line must name the columns {', '.join(COLUMNS)}")
        folder = stores.absolute(location).rpartition("/")[0]
        found = []
        for line in lines:
            if None in line.values() or None in line:
                raise UsageError(f"{said}: line {lines.line_num} has not as many fields as the first one")
            if line["relation"] in {"", ALL}:
                raise UsageError(
                    f"{said}: line {lines.line_num} has the relation {line['relation']!r}, which says nothing"
                )
            query, duplicate = (_path(line[name], folder) for name in COLUMNS[:2])
            found.append(Pair(query, duplicate, line["relation"]))
    except Reject as reject:
        raise UsageError(f"{said}: {reject}") from reject
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{said}: not a file of CSV in UTF-8: {error}") from error
    if not found:
        raise UsageError(f"{said}: no pairs in it")
    if (kinds := len({pair.relation for pair in found})) > _MOST_KINDS:
        raise UsageError(f"{said}: {kinds:,} relations: they are kinds of copies, of which {_MOST_KINDS} are possible")
    return found


def _path(path: str, folder: str) -> str:
    own = path.startswith("/") or stores.URI.fullmatch(path)
    return stores.absolute(path if own else f"{folder}/{path}")


def known(spark: SparkSession, location: str, made: Made, pairs: list[Pair], said: str) -> Labelled:
    """Return the pairs by content.

    Parameters
    ----------
    location
        The location of a table of features.
    made
        The model whose features count.
    pairs
        What a file says.
    said
        What the file is called in messages.

    Raises
    ------
    UsageError
        If a path is not in the tables, or no pair is left.
    """
    paths = sorted({path for pair in pairs for path in (pair.query, pair.duplicate)})
    wanted = delivery.column(spark, "path", paths)
    files = images.inventory(spark, location).join(wanted, "path").select("path", "sha256").collect()
    contents = {row["path"]: row["sha256"] for row in files}
    rejects = images.unread(spark, location).join(wanted, "path").select("path").distinct().collect()
    rejected = {row["path"] for row in rejects}
    if missing := next((path for path in paths if path not in contents and path not in rejected), None):
        raise UsageError(f"{said}: {missing} is not among the files of {location}")
    hashes = delivery.column(spark, "sha256", set(contents.values()))
    described = features.live(spark, location, made).join(hashes, "sha256", how="left_semi")
    there = {row["sha256"] for row in described.select("sha256").collect()}
    ends = [(contents.get(pair.query), contents.get(pair.duplicate), pair.relation) for pair in pairs]
    left = [(query, duplicate, relation) for query, duplicate, relation in ends if {query, duplicate} <= there]
    different = [one for one in left if one[0] != one[1]]
    kept = sorted(set(different))
    if not kept:
        raise UsageError(f"{said}: no pair of two different contents that have features")
    query_of, duplicate_of, relation_of = (np.array(column) for column in zip(*kept, strict=True))
    return Labelled(
        query=query_of,
        duplicate=duplicate_of,
        relation=relation_of,
        equal=len(left) - len(different),
        repeated=len(different) - len(kept),
        without=len(ends) - len(left),
    )
