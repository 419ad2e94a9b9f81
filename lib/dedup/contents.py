"""The files of a lake and what they hold: exact copies are found here, before any distance is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from dedup import features, images, models, tables
from dedup.errors import UsageError
from dedup.parts import ADDRESS


def files(spark: SparkSession, locations: dict[str, bool], model: str) -> DataFrame:
    """Return a row for each file whose content has features under a model.

    Parameters
    ----------
    locations
        The locations of tables of features, and whether their files are to be deduplicated: those of the others are
        only compared with.

    Returns
    -------
    DataFrame
        Columns path, sha256, length, modified, width, height, format, own, model, and `exact`, the smallest sha256 of
        the contents with the same decoded pixels. A file of two locations is one that is only compared with.
    """
    found = [_files(spark, location, model).withColumn("own", F.lit(own)) for location, own in locations.items()]
    rows = found[0]
    for more in found[1:]:
        own = rows.join(more, "path", how="left_anti")
        rows = own.unionByName(more)
    if len(found) > 1:  # one of them may have been made before there were hashes of pixels
        rows = rows.withColumn("pixels", F.max("pixels").over(Window.partitionBy("sha256")))
    same = Window.partitionBy(F.coalesce("pixels", "sha256"))
    return rows.withColumn("exact", F.min("sha256").over(same)).drop("pixels")


@dataclass(frozen=True)
class Others:
    """The files of a location that are not deduplicated."""

    reasons: dict[str, int]  #: how many files without features there are for which reason, by its name
    shared: int  #: files that belong to another location too

    @property
    def rejected(self) -> int:
        """Files without features."""
        return sum(self.reasons.values())


def others(spark: SparkSession, locations: dict[str, bool], model: str, files: DataFrame) -> Others:
    """Return what the first location holds beside the files that are deduplicated, which are given.

    Raises
    ------
    UsageError
        If a file has neither features nor a reject.
    """
    first, *more = locations
    shared = 0
    if more:
        both = _files(spark, first, model).select("path").join(files.where("not own"), "path", how="left_semi")
        shared = both.count()
    unread = images.unread(spark, first).select("path")
    listed = images.inventory(spark, first).select("path").union(unread).distinct()
    rejects = tables.read(spark, first, "rejects").groupBy("path").agg(F.min("reason").alias("reason"))
    without = listed.join(files, "path", how="left_anti").join(rejects, "path", how="left")
    reasons = {row["reason"]: row["count"] for row in without.groupBy("reason").count().orderBy("reason").collect()}
    if lost := reasons.pop(None, 0):
        raise UsageError(f"{first}: {lost:,} files have neither features nor a reject: run extract again")
    return Others(reasons, shared)


def _described(spark: SparkSession, location: str, model: str) -> DataFrame:
    return features.complete(spark, location, models.one(location, model))


def _files(spark: SparkSession, location: str, model: str) -> DataFrame:
    described = _described(spark, location, model).select("sha256", "width", "height", "format", "pixels", "model")
    listed = images.inventory(spark, location).select("path", "sha256", "length", "modified")
    return listed.join(described, "sha256").select("path", "length", "modified", *described.columns)


def vectors(spark: SparkSession, locations: dict[str, bool], model: str, others: Sequence[DataFrame] = ()) -> DataFrame:
    """Return the rows of features of all locations, which `vectors` reads; a content of two locations has two rows.

    Parameters
    ----------
    locations, model
        As of `files`.
    others
        Rows of features of somewhere else, that come with them.
    """
    found = [*(_described(spark, location, model) for location in locations), *others]
    addressed = all(set(ADDRESS) <= set(rows.columns) for rows in found)
    columns = ["sha256", "features", "bucket", *(ADDRESS if addressed else ())]
    found = [rows.select(*columns) for rows in found]
    rows = found[0]
    for more in found[1:]:
        rows = rows.unionByName(more)
    return rows
