"""What the page of deduplication shows of a manifest: its sums, and few enough files to look at.

Everything is summed up by Spark; only sums and the rows that are shown reach the driver. What is shown depends on ids
and paths alone: the same manifest gives the same page.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from dedup import delivery, ledger, report, rounds
from dedup.distances import METRICS
from dedup.report import File, Gallery, Group, Lane, Review

GROUPS = 6
"""How many groups of a band are shown."""

LARGEST = 10
"""How many of the largest groups are shown."""

FILES = 8
"""How many files of a group are shown."""

REVIEWS = 50
"""How many files under review are shown."""

_LINK = 6  # files of a link that are shown, its ends not counted

Rows = list[dict[str, Any]]


def collect(spark: SparkSession, manifest: DataFrame, votes: int, files: DataFrame | None = None) -> Gallery:
    """Return what is shown of a manifest.

    Parameters
    ----------
    spark
        The session.
    manifest
        The table; it is read several times, so it should be one that is written already.
    votes
        How many distances had to agree.
    files
        path, sha256, length, width, height, format of all files, those that the manifest was made against too: from
        here come the size of an image, and the pictures of keepers that are not in the manifest. Without it they are
        not shown.

    Raises
    ------
    RuntimeError
        If sums that must be equal are not.
    """
    rows = ledger.banded(manifest, votes)
    with rounds.held(ledger.groups(rows)) as groups:
        many, sizes = ledger.in_bands(groups), ledger.sizes(groups)
        chosen, largest = _chosen(groups), _collected(groups.orderBy(F.desc("files"), "group_id").limit(LARGEST))
    members = _members(spark, rows, sorted({row["group_id"] for row in chain(largest, *chosen)}))
    reviews = _reviews(rows)
    shown = _Shown(spark, rows, files, [*reviews, *chain(*members.values())])
    tallies, bands = ledger.tallies(rows)
    folders, elsewhere, others = ledger.folders(rows)
    gallery = Gallery(
        tallies=tallies,
        sizes=sizes,
        folders=folders,
        elsewhere=elsewhere,
        others=others,
        bands=[
            replace(band, groups=many.get(place, 0), shown=[shown.group(row, members[row["group_id"]]) for row in few])
            for place, (band, few) in enumerate(zip(bands, chosen, strict=True))
        ],
        largest=[shown.group(row, members[row["group_id"]]) for row in largest],
        reviews=[shown.review(row) for row in reviews],
        thumbnails=shown.thumbnails(),
    )
    ledger.check(gallery)
    return gallery


def _collected(rows: DataFrame) -> Rows:
    return [row.asDict() for row in rows.collect()]


def _chosen(groups: DataFrame) -> list[Rows]:
    """Return for every band the groups that are shown: those whose ids have the smallest hashes."""
    order = Window.partitionBy("band").orderBy(F.xxhash64("group_id"), "group_id")
    placed = groups.where(F.col("band").isNotNull()).withColumn("place", F.row_number().over(order))
    few = _collected(placed.where(F.col("place") <= GROUPS).orderBy("band", "place"))
    return [[row for row in few if row["band"] == band] for band in range(len(ledger.BANDS))]


def _members(spark: SparkSession, rows: DataFrame, ids: list[str]) -> dict[str, Rows]:
    """Return of each group some files that are kept and some that are not: the least sure first, linked ones last."""
    wanted = delivery.column(spark, "group_id", ids)
    linked = F.coalesce(F.col("band") == ledger.LINKED, F.lit(False))
    order = Window.partitionBy("group_id", F.col("action") == "keep").orderBy(
        linked, F.desc("band"), F.desc("score"), "path"
    )
    placed = rows.join(wanted, "group_id", how="inner").withColumn("place", F.row_number().over(order))
    few = _collected(placed.where(F.col("place") <= FILES).orderBy("group_id", "place", "path"))
    found: dict[str, Rows] = {group: [] for group in ids}
    for row in few:
        found[row["group_id"]].append(row)
    return found


def _reviews(rows: DataFrame) -> Rows:
    """Return the files under review that are shown: linked ones first, a few of many groups before many of a few."""
    chance = F.xxhash64("group_id")
    linked = F.col("reason") == "linked"
    order = Window.partitionBy("group_id").orderBy(F.desc(linked), F.xxhash64("path"), "path")
    placed = rows.where(F.col("action") == "review").withColumn("place", F.row_number().over(order))
    first = placed.where(F.col("place") <= REVIEWS).orderBy(F.desc(linked), "place", chance, "path")
    few = _collected(first.withColumn("chance", chance).limit(REVIEWS))
    return sorted(few, key=lambda row: (row["reason"] != "linked", row["chance"], row["group_id"], row["path"]))


def _through(link: list[str] | None) -> tuple[list[str], int]:
    """Return the paths of a link that are shown, without its ends, and how many are left out in their middle.

    >>> _through(["keeper", "a", "b", "file"]), _through(None)
    ((['a', 'b'], 0), ([], 0))
    >>> _through([str(i) for i in range(12)])
    (['1', '2', '3', '8', '9', '10'], 4)
    """
    paths = (link or [])[1:-1]
    if len(paths) <= _LINK:
        return paths, 0
    return paths[: _LINK // 2] + paths[-(_LINK // 2) :], len(paths) - _LINK


class _Shown:
    """The files that are shown, and those that they name, by path."""

    def __init__(self, spark: SparkSession, rows: DataFrame, files: DataFrame | None, shown: Rows) -> None:
        self._spark = spark
        self._rows = {row["path"]: row for row in shown}
        named = {row["keeper"] for row in shown} | set(chain(*(_through(row["link"])[0] for row in shown)))
        self._rows |= {row["path"]: row for row in self._of(rows, named - set(self._rows))}
        paths = named | set(self._rows)
        columns = ("path", "sha256", "length", "width", "height", "format")
        self._known = {row["path"]: row for row in self._of(files.select(*columns), paths)} if files is not None else {}
        self._paths = paths

    def _of(self, table: DataFrame, paths: Iterable[str]) -> Rows:
        wanted = delivery.column(self._spark, "path", paths)
        return _collected(table.join(wanted, "path", how="inner"))

    def file(self, path: str) -> File:
        row, known = self._rows.get(path), self._known.get(path, {})
        image: dict[str, Any] = {name: known.get(name) for name in ("width", "height", "format")}
        if row is None:
            return File(path, "against", sha256=known.get("sha256"), length=known.get("length"), **image)
        said = {
            name: row[name] for name in ("action", "reason", "method", "keeper", "sha256", "length", "score", "view")
        }
        measured = row["method"] == "near" and row["votes"] is not None
        distances = {metric: row[metric] for metric in METRICS} if measured else {}
        return File(path, votes=row["votes"], distances=distances, **said, **image)

    def review(self, row: dict[str, Any]) -> Review:
        between, skipped = _through(row["link"])
        through = [self.file(path) for path in between]
        return Review(self.file(row["path"]), self.file(row["keeper"]), through, skipped, row["group_id"])

    def group(self, group: dict[str, Any], rows: Rows) -> Group:
        """Return a group with its least sure files, each beside its keeper; where all is kept, with what is kept."""
        beside: dict[str, list[str]] = {}
        paths: set[str] = set()
        others = [row for row in rows if row["action"] != "keep"]
        first = rows[0]["path"]
        for path, keeper in [(row["path"], row["keeper"]) for row in others] or [(row["path"], first) for row in rows]:
            if len(paths | {path, keeper}) > FILES:
                break
            paths |= {path, keeper}
            beside.setdefault(keeper, []).extend([path] if path != keeper else [])
        lanes = [Lane(self.file(keeper), [self.file(path) for path in some]) for keeper, some in beside.items()]
        hidden = group["files"] - sum(path in self._rows for path in paths)
        counts = {name: group[name] for name in ("group_id", "files", "keep", "drop", "review", "saved")}
        return Group(**counts, lanes=lanes, hidden=hidden)

    def thumbnails(self) -> dict[str, str]:
        """Return thumbnails of all files that are shown, by sha256."""
        by_hash: dict[str, list[str]] = {}
        for path in sorted(self._paths):
            if sha256 := self.file(path).sha256:
                by_hash.setdefault(sha256, []).append(path)
        rows = sorted(by_hash.items())
        return (
            report.thumbnails(self._spark.createDataFrame(rows, "sha256 string, paths array<string>")) if rows else {}
        )
