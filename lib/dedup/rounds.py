"""Long work in rounds: what is done is durable, and what is being done is shown."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass

from pyspark import StorageLevel
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from dedup import delivery, progress

BUCKET_FILES = 512
"""About how many files of a run a bucket holds at most, and images that `extract` has under way for each core."""

LEAST_FILES = 64
"""The files of a round for each task, where there are so many: some seconds of work, more than a round costs."""

_MOST_BUCKETS = 16384
_BY_CHANCE = 1.25  # how many times as long as it should be a bucket of one run may get, as files are spread by hashes
_TICK = 1.0  # seconds after which progress is shown again, whatever ends


def buckets(files: int) -> int:
    """Return into how many buckets a number of files is spread: a power of two, 8 to 16384.

    >>> buckets(10), buckets(5000), buckets(10**9)
    (8, 16, 16384)
    """
    return min(max(8, 1 << (files // BUCKET_FILES).bit_length()), _MOST_BUCKETS)


def slots(spark: SparkSession) -> int:
    """Return how many tasks Spark runs at a time: cores, as many as it cuts a range into, by cores of a task."""
    spark_context = delivery.context(spark)
    if spark_context is not None:
        cores = spark_context.defaultParallelism
    else:  # what a range is cut into is only seen by cutting one: a job
        partitions = spark.range(1 << 16).select(F.spark_partition_id().alias("partition"))
        cores = partitions.distinct().count()
    try:
        cpus = float(spark.conf.get("spark.task.cpus", "1") or 1)
    except PySparkException:  # some sessions tell nothing of themselves
        cpus = 1.0
    return max(1, int(cores / cpus))


@contextmanager
def held(rows: DataFrame) -> Iterator[DataFrame]:
    """Keep rows on the executors' disks for the time of a `with`: two tables are written from one computation.

    A session that keeps none (Databricks serverless may refuse it) computes them each time that they are asked for.
    """
    try:
        rows.persist(StorageLevel.DISK_ONLY)
    except PySparkException as error:
        if "SERVERLESS" not in (error.getCondition() or str(error)):
            raise
        yield rows
        return
    try:
        yield rows
    finally:
        rows.unpersist()


def spread(rows: DataFrame) -> DataFrame:
    """Return rows without bytes cut into as many equal tasks as run at a time, a bucket in few of them, sorted."""
    return rows.repartitionByRange(slots(rows.sparkSession), "bucket", "path").sortWithinPartitions("bucket", "path")


def gathered(rows: DataFrame) -> DataFrame:
    """Return rows with those of a bucket in one task, sorted: it writes one file for each, however many made them."""
    return rows.repartition(slots(rows.sparkSession), "bucket").sortWithinPartitions("bucket", "sha256")


@dataclass(frozen=True)
class Round:
    """Rows to do work on together: those of consecutive buckets, or of one bucket a range of paths."""

    first: int  #: bucket
    last: int  #: bucket
    rows: int  #: how many there are
    start: str | None = None  #: the first path of a range
    end: str | None = None  #: the first path after a range; None where the bucket ends

    @property
    def within(self) -> Column:
        """Whether a row is of this round. Of files sorted by path, Parquet reads those row groups only that may be."""
        chosen = F.col("bucket").between(self.first, self.last)
        if self.start is not None:
            chosen &= F.col("path") >= self.start
        if self.end is not None:
            chosen &= F.col("path") < self.end
        return chosen


def plan(counts: list[tuple[int, int]], slots: int, size: int) -> list[Round]:
    """Group consecutive buckets into rounds: long enough to keep all slots busy, short enough to see it go on.

    Parameters
    ----------
    counts
        Bucket and number of rows in it, by bucket.
    slots
        How many tasks run at a time.
    size
        How many rows for each slot a round has at most, if it has more than one bucket.

    Examples
    --------
    >>> found = plan([(0, 90), (2, 20), (3, 20), (7, 500)], slots=2, size=128)
    >>> [(one.first, one.last, one.rows) for one in found]
    [(0, 3, 130), (7, 7, 500)]
    """
    total, most = sum(rows for _, rows in counts), size * slots
    wanted = min(max(total // 8, LEAST_FILES * slots), most)
    found: list[Round] = []
    for bucket, rows in counts:
        if found and found[-1].rows < wanted and found[-1].rows + rows <= most:
            found[-1] = Round(found[-1].first, bucket, found[-1].rows + rows)
        else:
            found.append(Round(bucket, bucket, rows))
    return found


def _cut(todo: DataFrame, planned: list[Round], most: int, size: int) -> list[Round]:
    """Cut rounds with far more than `most` rows, of one bucket that many runs or archives have added to, by paths."""
    long = [found.first for found in planned if found.rows > _BY_CHANCE * most]
    if not long:
        return planned
    bucket = Window.partitionBy("bucket")
    rows, place = F.count("*").over(bucket), F.row_number().over(bucket.orderBy("path")) - 1
    piece = F.floor(place * F.ceil(rows / size) / rows).alias("piece")  # they are equally long
    placed = todo.where(F.col("bucket").isin(long)).select("bucket", "path", piece)
    pieces = placed.groupBy("bucket", "piece").agg(F.min("path").alias("start"), F.count("*").alias("rows"))
    end = F.lead("start").over(bucket.orderBy("piece")).alias("end")
    cut: dict[int, list[Round]] = {bucket: [] for bucket in long}
    for row in pieces.select("*", end).orderBy("bucket", "piece").collect():
        cut[row["bucket"]].append(Round(row["bucket"], row["bucket"], row["rows"], row["start"], row["end"]))
    return [one for found in planned for one in cut.get(found.first, [found])]


def counted(todo: DataFrame) -> list[tuple[int, int]]:
    """Return what there is to do: each bucket of rows, and the number of rows in it, in order."""
    counts = todo.groupBy("bucket").count().orderBy("bucket").collect()
    return [(row["bucket"], row["count"]) for row in counts]


def run(
    todo: DataFrame,
    counts: list[tuple[int, int]],
    work: Callable[[DataFrame, Round], None],
    label: str,
    unit: str = "images",
    at_once: int = 4,
    most: int = BUCKET_FILES,
    whole: bool = False,
) -> int:
    """Do work on all rows, round by round, showing progress, and return how many rows there were.

    Parameters
    ----------
    todo
        Rows with columns `bucket` and, unless each bucket is one row, `path`; read several times, so persist it.
    counts
        What `counted` says of them.
    work
        Called with the rows of a round, and the round. Makes its outcome durable.
    label
        What is done, as progress and Spark's UI say.
    unit
        What its rows are.
    at_once
        How many rounds are under way at a time, so that the cores that one leaves idle at its end have work.
    most
        How many rows for each task that runs at a time are under way: what a kill costs at most. It may be a bucket
        that is a little longer.
    whole
        Whether a bucket stays whole, however long it is: what reads a part of it would read all.
    """
    if not counts:
        return 0
    spark = todo.sparkSession
    total = sum(rows for _, rows in counts)
    tasks = slots(spark)
    size = most // at_once
    planned = plan(counts, tasks, size)
    if not whole:
        planned = _cut(todo, planned, most * tasks, size * tasks)
    waiting = deque(enumerate(planned, 1))
    under_way: dict[Future[None], int] = {}

    def do(number: int, chosen: Round) -> None:  # in a thread of its own, which has its own description
        buckets = f"buckets {chosen.first} to {chosen.last}"
        with delivery.described(spark, f"{label}: round {number} of {len(planned)}, {buckets}"):
            work(todo.where(chosen.within), chosen)

    shown = progress.Progress(label, total, unit)
    with closing(shown), ThreadPoolExecutor(at_once) as pool:  # when one fails, what is under way ends, and none begins
        while waiting or under_way:
            while waiting and len(under_way) < at_once:
                number, chosen = waiting[0]
                if under_way and sum(under_way.values()) + chosen.rows > most * tasks:
                    break
                waiting.popleft()
                under_way[pool.submit(do, number, chosen)] = chosen.rows
            ended, _ = wait(under_way, _TICK, FIRST_COMPLETED)
            for future in ended:
                future.result()
            shown.add(sum(under_way.pop(future) for future in ended))
    return total
