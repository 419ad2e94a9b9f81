"""The sums of a manifest: how many files it treats alike, by method, by score, by size of group and by folder."""

from __future__ import annotations

from dataclasses import replace

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup import rounds
from dedup.distances import METRICS
from dedup.report import Band, Folder, Gallery, Sizes, Tally

BANDS = ("bytes", "pixels", "0–0.25", "0.25–0.5", "0.5–0.75", "0.75–1", "linked")
"""Files by how sure they are, surest first: equal, near by their score, and near only through others."""

LINKED = len(BANDS) - 1

FOLDERS = 20
"""How many folders are shown by name."""

_STEPS: tuple[tuple[int, int | None], ...] = ((1, 1), (2, 2), (3, 5), (6, 20), (21, 100), (101, 1000), (1001, None))


def score(votes: int) -> Column:
    """Return the score of a near file: the votes-th smallest of its distances, each divided by its threshold."""
    ratios = [
        F.when(F.col(metric) <= 0, 0.0)
        .when(F.col(f"{metric}_threshold") > 0, F.col(metric) / F.col(f"{metric}_threshold"))
        .otherwise(F.lit(float("inf")))
        for metric in METRICS
    ]
    return F.get(F.array_sort(F.array(*ratios)), votes - 1)


def banded(manifest: DataFrame, votes: int) -> DataFrame:
    """Add the columns `score` and `band`, the place in BANDS; both null for what is kept, score for equal files."""
    scored = manifest.withColumn("score", F.when(F.col("method") == "near", score(votes)))
    band = F.when(F.col("method") == "bytes", 0).when(F.col("method") == "pixels", 1)
    band = band.when(F.col("reason") == "linked", LINKED)
    for place, end in enumerate((0.25, 0.5, 0.75), 2):
        band = band.when(F.col("score") <= end, place)
    return scored.withColumn("band", F.when(F.col("action") != "keep", band.otherwise(LINKED - 1)))


def _count(condition: Column) -> Column:
    return F.count(F.when(condition, 1))


def _sum(column: str | Column) -> Column:
    return F.coalesce(F.sum(column), F.lit(0))


def _is(action: str) -> Column:
    return F.col("action") == action


def _saved() -> Column:
    return _sum(F.when(_is("drop"), F.col("length"))).alias("saved")


def groups(rows: DataFrame) -> DataFrame:
    """Return one row for each group; `band` is that of its least sure file, linked ones aside."""
    return (
        rows.where(F.col("group_id").isNotNull())
        .groupBy("group_id")
        .agg(
            F.count("*").alias("files"),
            *(_count(_is(action)).alias(action) for action in ("keep", "drop", "review")),
            _saved(),
            F.max(F.when(F.col("band") < LINKED, F.col("band"))).alias("band"),
        )
    )


def tallies(rows: DataFrame) -> tuple[list[Tally], list[Band]]:
    """Return how many files there are of each action, method and reason, and of each band, with nothing to show."""
    by = ("action", "method", "reason", "band")
    sums = rows.groupBy(*by).agg(F.count("*").alias("files"), _sum("length").alias("length")).orderBy(*by).collect()
    alike: dict[tuple[str, str | None, str], Tally] = {}
    bands = [Band(name, 0, 0, 0, 0, []) for name in BANDS]
    for action, method, reason, band, files, length in sums:
        before = alike.get((action, method, reason), Tally(action, method, reason, 0, 0))
        alike[action, method, reason] = replace(before, files=before.files + files, length=before.length + length)
        if band is not None:
            one = bands[band]
            drop, review = (files, 0) if action == "drop" else (0, files)
            bands[band] = replace(one, drop=one.drop + drop, review=one.review + review, length=one.length + length)
    return list(alike.values()), bands


def in_bands(groups: DataFrame) -> dict[int, int]:
    """Return how many groups stand in each band, by its place in BANDS."""
    counted = groups.where(F.col("band").isNotNull()).groupBy("band").agg(F.count("*").alias("groups"))
    return {row["band"]: row["groups"] for row in counted.collect()}


def sizes(groups: DataFrame) -> list[Sizes]:
    """Return the groups by how many files they have."""
    step = F.lit(0)
    for place, (first, _) in enumerate(_STEPS[1:], 1):
        step = F.when(F.col("files") >= first, place).otherwise(step)
    sums = groups.groupBy(step.alias("step")).agg(
        F.count("*").alias("groups"), *(F.sum(name).alias(name) for name in ("files", "drop", "saved"))
    )
    return [
        Sizes(_STEPS[row["step"]][0], _STEPS[row["step"]][1], row["groups"], row["files"], row["drop"], row["saved"])
        for row in sums.orderBy("step").collect()
    ]


def folders(rows: DataFrame) -> tuple[list[Folder], Folder, int]:
    """Return the folders that save most, the sum of all others, and how many these are."""
    sums = [
        F.count("*").alias("files"),
        _count(_is("drop")).alias("drop"),
        _count(_is("review")).alias("review"),
        _sum("length").alias("length"),
        _saved(),
    ]
    names = ("files", "drop", "review", "length", "saved")
    by_folder = rows.groupBy(F.regexp_replace("path", "/[^/]*$", "").alias("name")).agg(*sums)
    with rounds.held(by_folder):
        order = (F.desc("saved"), F.desc("drop"), F.desc("review"), F.desc("files"), F.asc("name"))
        first = [Folder(**row.asDict()) for row in by_folder.orderBy(*order).limit(FOLDERS).collect()]
        (whole,) = by_folder.agg(F.count("*").alias("folders"), *(_sum(name).alias(name) for name in names)).collect()
    rest = {name: whole[name] - sum(getattr(one, name) for one in first) for name in names}
    return first, Folder("", **rest), whole["folders"] - len(first)


def check(gallery: Gallery) -> None:
    """Make sure that sums agree which count the same files.

    Raises
    ------
    RuntimeError
        If two do not.
    """
    tallies, folders = gallery.tallies, [*gallery.folders, gallery.elsewhere]
    drop = sum(tally.files for tally in tallies if tally.action == "drop")
    review = sum(tally.files for tally in tallies if tally.action == "review")
    saved = sum(tally.length for tally in tallies if tally.action == "drop")
    grouped = sum(tally.files for tally in tallies if tally.reason != "alone")
    for what, counted, expected in (
        ("files to drop, by folder", sum(folder.drop for folder in folders), drop),
        ("files to drop, by band", sum(band.drop for band in gallery.bands), drop),
        ("files to drop, by size of group", sum(size.drop for size in gallery.sizes), drop),
        ("files under review, by folder", sum(folder.review for folder in folders), review),
        ("files under review, by band", sum(band.review for band in gallery.bands), review),
        ("files, by folder", sum(folder.files for folder in folders), sum(tally.files for tally in tallies)),
        ("files of groups, by size", sum(size.files for size in gallery.sizes), grouped),
        ("bytes saved, by folder", sum(folder.saved for folder in folders), saved),
        ("bytes saved, by size of group", sum(size.saved for size in gallery.sizes), saved),
    ):
        if counted != expected:
            raise RuntimeError(f"the manifest does not add up: {what}: {counted}, but {expected} in all")
