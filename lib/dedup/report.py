"""Two pages, each one file that needs nothing else: the answer to a query, and what deduplication found.

The answer shows the query and, under it, the voted images in order. Deduplication shows what its manifest says: counts
that add up, what would be saved, groups by how sure they are, and what a person has to look at.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame

from dedup import archives, page, rounds
from dedup.batches import ddl, each_row, record_batch
from dedup.errors import Outage, Reject, UsageError
from dedup.pixels import thumbnail
from dedup.queries import THUMBNAIL
from dedup.thresholds import Thresholds

CONFIDENCE = 0.95
"""Of intervals."""

_log = logging.getLogger(__name__)

_SIDE_OF_MANY = 96
_MADE = {"sha256": pa.string(), "thumbnail": pa.string()}
_MANY = 2000  # results from which a page would grow beyond tens of megabytes


@dataclass(frozen=True)
class Answer:
    """A query with its results."""

    query: str
    thumbnail: str | None  #: a data: URI
    results: list[dict[str, Any]]  #: rows of the table of results, by rank


@dataclass(frozen=True)
class Report:
    """All that the page says."""

    title: str
    facts: dict[str, str]  #: what was asked of what, in words: shown as a list
    notes: list[str]  #: what the reader must know before trusting the answer
    metrics: Sequence[str]  #: the metrics that voted
    answers: list[Answer]
    thumbnails: dict[str, str]  #: data: URIs by sha256
    groups: Sequence[Group] = ()  #: of a deduplication of the same images, shown under the answers
    focused: bool = False  #: whether only parts of the queries count: their pictures show which


@dataclass(frozen=True)
class Tally:
    """How many files the manifest treats alike."""

    action: str  #: keep, drop or review
    method: str | None  #: bytes, pixels or near; None for keep
    reason: str
    files: int
    length: int  #: their bytes


@dataclass(frozen=True)
class Folder:
    """What would become of the files that lie in one folder, not below it."""

    name: str
    files: int
    drop: int
    review: int
    length: int  #: bytes of all its files
    saved: int  #: bytes of those to drop


@dataclass(frozen=True)
class Sizes:
    """The groups with so many files."""

    first: int
    last: int | None  #: None where there is no upper end
    groups: int
    files: int
    drop: int
    saved: int


@dataclass(frozen=True)
class File:
    """A file on the page, with what the manifest says of it."""

    path: str
    action: str  #: keep, drop or review; `against` for a file that is not of the manifest
    reason: str = ""
    method: str | None = None
    keeper: str = ""
    sha256: str | None = None  #: by which its thumbnail is found
    length: int | None = None
    score: float | None = None  #: see `Band`
    votes: int | None = None
    view: str | None = None  #: what has to be done to it to be like its keeper; None where nothing has
    distances: dict[str, float] = field(default_factory=dict)  #: to the keeper, of near files; else empty
    width: int | None = None
    height: int | None = None
    format: str | None = None


@dataclass(frozen=True)
class Lane:
    """A keeper with files that it stands for."""

    keeper: File
    files: list[File]


@dataclass(frozen=True)
class Group:
    """A group, with some of its files."""

    group_id: str
    files: int
    keep: int
    drop: int
    review: int
    saved: int  #: bytes of the files to drop
    lanes: list[Lane]
    hidden: int  #: files of the group that are not shown


@dataclass(frozen=True)
class Band:
    """Files as near to their keepers, and groups whose least sure file is among them.

    The score of a near file is the votes-th smallest of its five distances, each divided by its threshold: 0 for equal
    vectors, 1 as far as a near file can be, more than 1 for a file that is near only through others.
    """

    name: str  #: bytes, pixels, a range of scores, or linked
    drop: int  #: files to drop
    review: int  #: files under review
    length: int  #: bytes of both
    groups: int
    shown: list[Group]


@dataclass(frozen=True)
class Review:
    """A file that a person has to look at."""

    file: File
    keeper: File
    link: list[File]  #: the files between the keeper and the file, each near to the next
    skipped: int  #: how many are left out in the middle of link
    group_id: str


@dataclass(frozen=True)
class Gallery:
    """What the manifest holds: sums of all of it, and a few of its files and groups."""

    tallies: list[Tally]
    sizes: list[Sizes]
    folders: list[Folder]  #: those that save most
    elsewhere: Folder  #: the sum of all other folders
    others: int  #: how many these are
    bands: list[Band]
    largest: list[Group]
    reviews: list[Review]
    thumbnails: dict[str, str]  #: data: URIs by sha256

    def total(self, **like: str) -> Tally:
        """Return the sum of all tallies, or of those with an action, a method, a reason."""
        some = [one for one in self.tallies if all(getattr(one, name) == value for name, value in like.items())]
        return Tally("", None, "", sum(one.files for one in some), sum(one.length for one in some))


@dataclass(frozen=True)
class Search:
    """How near pairs were looked for."""

    exact: bool  #: whether no pair can be missed
    pairs: int  #: near pairs that were found
    compared: int  #: pairs whose five distances were computed
    recall: float | None = None  #: the share of sampled images for which all that is near to them was found
    low: float | None = None  #: its interval, of CONFIDENCE
    high: float | None = None
    sampled: int = 0  #: how many images of the sample have any that are near


@dataclass(frozen=True)
class Hot:
    """A content like so many others that not all of their pairs were compared."""

    path: str  #: one of its files
    contents: int  #: how many are like it
    done: str  #: what was done about it, in words


@dataclass(frozen=True)
class Deduplication:
    """All that the page of deduplication says."""

    title: str
    facts: dict[str, str]  #: what was looked at and how, in words: shown as a list
    notes: list[str]  #: what the reader must know before acting on the manifest
    rejects: int  #: files that gave no features: they are not in the manifest
    shared: int  #: files that belong to the other set too: they are not in the manifest either
    thresholds: Thresholds
    search: Search
    hot: list[Hot]
    gallery: Gallery


def _make_thumbnails(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    answers = True
    for row in each_row(batches):
        made = None
        try:
            made = _first(row) if answers else None
        except (UsageError, Outage) as error:  # a page without pictures is better than none
            _log.warning("%s: no more pictures are made", error)
            answers = False
        yield record_batch([{"sha256": row["sha256"], "thumbnail": made}], _MADE)


def _first(row: dict[str, Any]) -> str | None:
    """Return the thumbnail of the first path that still has the content."""
    for path in row["paths"][:3]:
        try:
            content = archives.read(path)
            if hashlib.sha256(content).hexdigest() == row["sha256"]:
                return thumbnail(content, row["side"])
        except Reject:
            continue
    return None


def thumbnails(results: DataFrame) -> dict[str, str]:
    """Return thumbnails of the voted images by sha256, made on executors from the first path that can be read."""
    many = results.count() > _MANY
    distinct = results.groupBy("sha256").agg({"paths": "max"}).toDF("sha256", "paths")
    side = distinct.selectExpr("*", f"{_SIDE_OF_MANY if many else THUMBNAIL} as side")
    made = side.repartition(rounds.slots(side.sparkSession)).mapInArrow(_make_thumbnails, ddl(_MADE))
    return {row["sha256"]: row["thumbnail"] for row in made.collect() if row["thumbnail"]}


def render(report: Report) -> str:
    """Return the page. Whatever comes from names of files is escaped."""
    return page.fill("report.html", report=report)


def render_deduplication(found: Deduplication) -> str:
    """Return the page. Whatever comes from names of files is escaped; it is made of sums, and a few of the files."""
    return page.fill("deduplication.html", found=found, gallery=found.gallery, confidence=CONFIDENCE)
