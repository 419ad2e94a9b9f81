"""All near pairs of a lake: candidates from sketches, verified on the vectors, in two ways.

`exact` compares all sketches with all and misses no near pair. `approximate` compares within cells; what it misses is
measured on a sample of the very contents, which is compared with everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from dedup import candidates, groups, pairs, progress, rounds, sketches, storage, stores, tables, viewed
from dedup.thresholds import Thresholds

EXACT_UP_TO = 300_000
"""How many contents are searched exactly where the user does not choose: beyond, all-pairs takes long on few cores."""

WAYS = ("exact", "approximate")

_SAMPLE = 1000  # contents on which an approximate search is measured
_MOST_OF_SAMPLE = 1024  # candidates that each of them keeps
_HOT_SHOWN = 20
_GROWTH = 8  # by which the candidates that a content keeps grow from round to round


@dataclass(frozen=True)
class Recall:
    """How much of what is near to a sample an approximate search had found.

    Pairs of one group are found or missed together, so what is counted is contents.
    """

    sample: int  #: contents that were compared with everything
    near: int  #: those of them that anything is near to
    found: int  #: those of these for which the search had found all of that


@dataclass(frozen=True)
class Found:
    """The outcome of a search; the pairs are a table on the storage."""

    pairs: DataFrame  #: the columns of the table of pairs
    way: str  #: one of WAYS
    recall: Recall | None  #: None where the search was exact
    measured: int  #: candidates whose distances were measured
    hot: list[tuple[str, int]] = field(default_factory=list)  #: contents with too many candidates; how many at least


class Search:
    """A search over the sketches of a lake.

    Parameters
    ----------
    live
        The columns of the table of sketches and `fresh`: whether a content has to be compared with those that are not.
        Each content once, and none whose vector is not finite; read several times, so keep it. Views of contents,
        which are not own, are rows like those of contents.
    features
        Columns sha256, features and bucket.
    thresholds
        When contents are near.
    width
        The length of the vectors.
    folder
        A folder on the storage for the time of the search.
    """

    def __init__(self, live: DataFrame, features: DataFrame, thresholds: Thresholds, width: int, folder: str) -> None:
        self._spark: SparkSession = live.sparkSession
        self._features, self._thresholds, self._width, self._folder = features, thresholds, width, folder
        self._limit = sketches.limits(thresholds, width)
        self._round = 0
        self._measured = 0
        # Contents with the same vector stand for each other: only the first of them is compared.
        first = viewed.first("code", "length", "total").alias("first")
        own, fresh = F.max("own").alias("own"), F.max("fresh").alias("fresh")
        grouped = live.groupBy("vector").agg(first, own, fresh)
        side = F.concat(
            F.when(F.col("fresh"), "fresh").otherwise("known"), F.when(F.col("own"), "").otherwise("_against")
        )
        self._rows = grouped.select("first.sha256", "first.code", "first.length", "first.total", side.alias("side"))
        self._live = live

    def run(self, way: str | None) -> Found:
        """Return all near pairs of fresh contents with others; choose the way by size where None is given."""
        with rounds.held(self._rows):
            with progress.step(self._spark, "deduplicate: count sketches"):
                sides = {row["side"]: row["count"] for row in self._rows.groupBy("side").count().collect()}
            count = sum(sides.values())
            way = way or (WAYS[0] if count <= EXACT_UP_TO else WAYS[1])
            if not any(side.startswith("fresh") for side in sides):
                found = Found(self._none(), way, None, 0)
            else:
                found = self._exactly() if way == WAYS[0] else self._approximately(count)
            return replace(found, pairs=found.pairs.unionByName(self._equal()), measured=self._measured)

    def _none(self) -> DataFrame:
        return self._spark.createDataFrame([], tables.SCHEMAS["pairs"])

    def _next(self) -> str:
        self._round += 1
        return f"{self._folder}/{self._round:03d}"

    def _equal(self) -> DataFrame:
        """Return the pairs of contents with the same vector: each with the first of them, two `against` not."""
        first = self._live.groupBy("vector").agg(viewed.first("own").alias("first"))
        others = self._live.join(first, "vector").where("sha256 != first.sha256 and (own or first.own)")
        ends = (F.least("sha256", "first.sha256"), F.greatest("sha256", "first.sha256"))
        found = others.select(ends[0].alias("sha256_l"), ends[1].alias("sha256_r"), *pairs.equal())
        return found.where(viewed.content("sha256_l") != viewed.content("sha256_r"))

    def _near(self, found: DataFrame, folder: str) -> DataFrame:
        """Measure candidates and keep those that are near, in a folder."""
        measuring = progress.step(self._spark, "deduplicate: measure candidates")
        others = found.where(viewed.content("sha256") != viewed.content("other"))  # than views of itself
        with measuring, rounds.held(pairs.ordered(others, "sha256", "other")) as once:
            count = once.count()
            self._measured += count
            if not count:
                return self._none()
            measured = pairs.measure(once, count, self._features, self._thresholds, self._width, f"{folder}/vectors")
            near = measured.where(F.col("votes") >= self._thresholds.votes)
            near.write.parquet(f"{stores.spark_path(folder)}/pairs")
        storage.delete(f"{folder}/vectors")
        return self._spark.read.schema(tables.SCHEMAS["pairs"]).parquet(f"{stores.spark_path(folder)}/pairs")

    def _exactly(self) -> Found:
        folder = self._next()
        unlabelled = self._rows.withColumn("label", F.lit(-1).cast("bigint"))
        with progress.step(self._spark, "deduplicate: lay out blocks"):
            layout = candidates.lay(unlabelled, f"{folder}/blocks")
        most = candidates.MOST
        found = candidates.search(self._spark, candidates.tasks(layout), self._limit, f"{folder}/found", most)
        hot = _hot(found, most)
        near = self._near(found, folder)
        # A content with more candidates than it may keep has seen only some. What it may be near to, and what is not
        # in its component yet, is looked for until nothing is cut: components are then those of all near pairs.
        cut = found.where(F.col("count") > most).select("sha256").distinct()
        while not cut.isEmpty():
            most *= _GROWTH
            folder = self._next()
            edges = near.select(F.col("sha256_l").alias("l"), F.col("sha256_r").alias("r"))
            with progress.step(self._spark, "deduplicate: components"):
                labelled = _labelled(self._rows, groups.components(edges, f"{folder}/components"))
            with progress.step(self._spark, "deduplicate: lay out what was cut"), rounds.held(labelled) as labelled:
                everything = candidates.lay(labelled, f"{folder}/blocks")
                some = labelled.join(cut, "sha256", how="left_semi")
                chosen = candidates.lay(some, f"{folder}/cut", most=most)
            todo = candidates.beyond(chosen, everything)
            found = candidates.search(self._spark, todo, self._limit, f"{folder}/found", most)
            near = near.unionByName(self._near(found, folder)).distinct()
            cut = found.where(F.col("count") > most).select("sha256").distinct()
        return Found(near, WAYS[0], None, 0, hot)

    def _approximately(self, count: int) -> Found:
        folder = self._next()
        with progress.step(self._spark, "deduplicate: pivots"):
            pivots = self._pivots(count)
        within = self._thresholds.within
        radius = float(np.sqrt(2 * max(within["cosine"], within["dice"])))
        unlabelled = self._rows.withColumn("label", F.lit(-1).cast("bigint"))
        with progress.step(self._spark, "deduplicate: lay out cells"):
            layout = candidates.lay(unlabelled, f"{folder}/blocks", pivots, radius)
        found = candidates.search(self._spark, candidates.tasks(layout), self._limit, f"{folder}/found")
        hot = _hot(found, candidates.MOST)
        near = self._near(found, folder)
        sample = (
            unlabelled.where("side = 'fresh'").orderBy(F.xxhash64("sha256", F.lit("recall")), "sha256").limit(_SAMPLE)
        )
        folder = self._next()
        with progress.step(self._spark, "deduplicate: lay out the sample"):
            sample = groups.kept(sample, f"{folder}/names")
            chosen = candidates.lay(sample, f"{folder}/sample", most=_MOST_OF_SAMPLE)
        todo = candidates.beyond(chosen, layout)
        all_found = candidates.search(self._spark, todo, self._limit, f"{folder}/found", _MOST_OF_SAMPLE)
        true = self._near(all_found, folder)
        with progress.step(self._spark, "deduplicate: recall"):
            recall = _recall(sample, true, near)
        return Found(near.unionByName(true).distinct(), WAYS[1], recall, 0, hot)

    def _pivots(self, count: int) -> NDArray[np.float32]:
        """Return the sketches of the contents with the smallest hashes."""
        wanted = max(1, count // candidates.CELL)
        place = F.xxhash64("sha256")
        # Three times as many as are wanted, and some: sorting all of them would send each task's best to the driver.
        bound = min(2**63 - 1, -(2**63) + (3 * wanted + 30) * 2**64 // count)
        some = self._rows.where(place <= bound).orderBy(place, "sha256").limit(wanted)
        codes = [bytes(row["code"]) for row in some.select("code").collect()]
        return np.frombuffer(b"".join(codes), "<f4").reshape(len(codes), -1)


def _recall(sample: DataFrame, true: DataFrame, found: DataFrame) -> Recall:
    """Return of how many sampled contents all near pairs were found."""
    ends = ["sha256_l", "sha256_r"]
    contents = [viewed.content(end).alias(end) for end in ends]  # one pair of them may be near in several views
    true, known = true.select(*contents).distinct(), found.select(*contents, F.lit(True).alias("known")).distinct()
    pair = F.explode(F.array(*ends)).alias("sha256")
    seen = true.join(known, ends, how="left").select(pair, F.col("known").isNotNull().alias("known"))
    each = seen.join(sample, "sha256", how="left_semi").groupBy("sha256").agg(F.every("known").alias("all"))
    row = each.agg(F.count("*").alias("near"), F.count_if("all").alias("found")).collect()[0]
    return Recall(sample.count(), row["near"], row["found"])


def _hot(found: DataFrame, most: int) -> list[tuple[str, int]]:
    """Return the contents with the most candidates among those that were cut."""
    cut = found.where(F.col("count") > most)
    counts = cut.groupBy(viewed.content("sha256").alias("sha256")).agg(F.max("count").alias("count"))
    rows = counts.orderBy(F.desc("count"), "sha256").limit(_HOT_SHOWN).collect()
    return [(row["sha256"], row["count"]) for row in rows]


def _labelled(rows: DataFrame, components: DataFrame) -> DataFrame:
    """Return rows with the number of the component that they are in; -1 for those in none."""
    names = components.select("component").distinct()
    numbered = names.withColumn("label", F.row_number().over(Window.orderBy("component")).cast("bigint"))
    labels = components.join(numbered, "component").select(F.col("node").alias("sha256"), "label")
    return rows.join(labels, "sha256", how="left").fillna(-1, "label")
