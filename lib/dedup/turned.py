"""The contents of a lake in their mirror images and turns: made by the network once, and kept for later runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup import features, groups, progress, rounds, tables, viewed, views
from dedup.claims import Claim
from dedup.errors import UsageError
from dedup.features import Task
from dedup.model import Model
from dedup.page import plural

_FINDING = "deduplicate: find views to make"


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
            f"{plural(self.lacking, 'image')} cannot be read any more, so that not all views could be made: that "
            "others are like one of them, flipped or turned, may not be told. The next run tries again; --table says "
            "where else their bytes are."
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
    return rows.where(viewed.number("sha256") < count)


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
    looking = partial(progress.step, contents.sparkSession, _FINDING)
    with looking():
        total = contents.count()
        lacking = _lacking(contents, count, output, model, f"{scratch}/0")
        before = left = lacking.count()
    for number, place in enumerate(places, 1):
        if left:
            _make(lacking, place, output, model, network, claim)
            with looking():
                lacking = _lacking(contents, count, output, model, f"{scratch}/{number}")
                left = lacking.count()
    if left == total:
        raise UsageError(f"--views {count}: none of the images can be read: give the table that has them by --table")
    return Turned(count, total, before - left, left)


def _lacking(contents: DataFrame, count: int, output: str, model: str, scratch: str) -> DataFrame:
    """Return the contents that have not all views: sha256, and `views`, what their names end in, of those lacking."""
    every = F.explode(F.array(*[F.lit(views.named("", view)) for view in views.first_views(count)[1:]]))
    wanted = contents.select(F.col("sha256").alias("content"), every.alias("end"))
    named = wanted.withColumn("sha256", F.concat("content", "end"))
    without = named.join(there(contents.sparkSession, output, model, count), "sha256", how="left_anti")
    ends = F.array_sort(F.collect_list("end")).alias("views")
    return groups.kept(without.groupBy(F.col("content").alias("sha256")).agg(ends), scratch)


def _make(lacking: DataFrame, place: str, output: str, model: str, network: Callable[[], Model], claim: Claim) -> None:
    """Put the views that contents lack through the network, as far as a place has their bytes."""

    def work(rows: DataFrame, task: Task) -> None:
        with rounds.held(features.describe(rows, task)) as described:
            good = described.where("reason is null").withColumn("model", F.lit(model))
            good.count()  # the network runs here, and takes minutes: another run may have come since
            claim.require()
            tables.append(rounds.gathered(good), output, "views")

    label = "deduplicate: views"
    features.each_round(lacking.sparkSession, place, lacking, network, work, label, _FINDING)
