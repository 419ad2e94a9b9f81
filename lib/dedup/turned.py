"""The contents of a lake in their mirror images and turns: made by the network once, and kept for later runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup import features, groups, images, progress, rounds, tables, views
from dedup.claims import Claim
from dedup.model import Model


@dataclass(frozen=True)
class Turned:
    """In how many views contents are compared, and what became of these; contents = made + known + lacking."""

    views: int  #: of each content, as it is among them
    contents: int  #: different images
    made: int  #: those whose views this run made
    lacking: int  #: those that have not all views: their bytes are gone, or others than they were

    @property
    def known(self) -> int:
        """Contents whose views an earlier run made."""
        return self.contents - self.made - self.lacking

    @property
    def note(self) -> str | None:
        """What whoever reads the outcome must know of it, if anything."""
        if not self.lacking:
            return None
        return (
            f"Of {self.lacking:,} images not all views could be made, as they cannot be read any more: where they are "
            "flipped or turned, others may not be told to be near. The next run tries again."
        )


def there(spark: SparkSession, output: str, model: str, count: int) -> DataFrame:
    """Return the features of views that have been made: rows of the table of views, with their addresses.

    Parameters
    ----------
    output
        The location of the table of views.
    model
        The id of the model that made them.
    count
        How many views there are of each content.
    """
    rows = tables.addressed(spark, output, "views").where(F.col("model") == model)
    return rows.where(views.number("sha256") < count)


def make(
    contents: DataFrame,
    count: int,
    places: Sequence[str],
    output: str,
    model: str,
    network: Callable[[], Model],
    claim: Claim,
    scratch: str,
) -> Turned:
    """Make the views of contents that are not there yet, round by round.

    Parameters
    ----------
    contents
        A column sha256, each content once; read several times, so let it be a table.
    count
        How many views there are of each, one of `views.COUNTS`.
    places
        The locations of tables of images where the bytes of contents are, or paths that have them. What the first one
        cannot give is asked of the next.
    output
        The location of the table of views.
    model
        The id of the model that makes them.
    network
        Called for the model itself if there is anything to make.
    claim
        On the output.
    scratch
        A folder that does not exist yet.
    """
    total = contents.count()
    lacking = before = _lacking(contents, count, output, model, f"{scratch}/0")
    for number, place in enumerate(places, 1):
        if lacking.isEmpty():
            break
        _make(lacking, place, output, model, network, claim)
        lacking = _lacking(contents, count, output, model, f"{scratch}/{number}")
    left = lacking.count()
    return Turned(count, total, before.count() - left, left)


def _lacking(contents: DataFrame, count: int, output: str, model: str, scratch: str) -> DataFrame:
    """Return the contents that have not all views: sha256, and `views`, the names of those that are not there."""
    every = F.explode(F.array(*[F.lit(views.named("", view)) for view in views.first_views(count)[1:]]))
    wanted = contents.select("sha256", every.alias("view")).select(F.concat("sha256", "view").alias("sha256"))
    without = wanted.join(there(contents.sparkSession, output, model, count), "sha256", how="left_anti")
    names = F.array_sort(F.collect_list("sha256")).alias("views")
    return groups.kept(without.groupBy(views.content("sha256").alias("sha256")).agg(names), scratch)


def _make(lacking: DataFrame, place: str, output: str, model: str, network: Callable[[], Model], claim: Claim) -> None:
    """Put the views that contents lack through the network, as far as a place has their bytes."""
    spark = lacking.sparkSession
    files = images.inventory(spark, place).join(lacking, "sha256", how="left_semi")
    with rounds.held(features.files_of(files).join(lacking, "sha256")) as todo:
        with progress.step(spark, "deduplicate: find views to make"):
            counts = rounds.counted(todo)
        if not counts:
            return
        source = features.Source(spark, place)
        with features.task(spark, network()) as task:

            def work(rows: DataFrame, first: int, last: int) -> None:
                described = features.describe(source.contents(rows, first, last), task)
                claim.require()
                good = described.where("reason is null").withColumn("model", F.lit(model))
                tables.append(good, output, "views")

            rounds.run(todo, counts, work, "deduplicate: views")
