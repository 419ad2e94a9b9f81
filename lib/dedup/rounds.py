"""Long work in rounds of whole buckets: what is done is durable, and what is being done is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager

from pyspark import StorageLevel
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup import delivery, progress

BUCKET_FILES = 512
"""About how many files a bucket holds at most, and the most that a round has for each task: the unit of work."""

LEAST_FILES = 64
"""The files of a round for each task, where there are so many: some seconds of work, more than a round costs."""

_MOST_BUCKETS = 16384
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


def plan(counts: list[tuple[int, int]], slots: int) -> list[tuple[int, int, int]]:
    """Group consecutive buckets into rounds: long enough to keep all slots busy, short enough to see it go on.

    Parameters
    ----------
    counts
        Bucket and number of rows in it, by bucket.
    slots
        How many tasks run at a time.

    Returns
    -------
    list
        First bucket, last bucket and rows of each round: at most BUCKET_FILES for each slot, or one bucket.

    Examples
    --------
    >>> plan([(0, 30), (2, 90), (3, 20), (7, 300)], slots=2)
    [(0, 0, 30), (2, 3, 110), (7, 7, 300)]
    """
    total = sum(rows for _, rows in counts)
    size = min(max(total // 8, LEAST_FILES * slots), BUCKET_FILES * slots)
    found: list[tuple[int, int, int]] = []
    for bucket, rows in counts:
        if found and found[-1][2] + rows <= size:
            first, _, before = found[-1]
            found[-1] = (first, bucket, before + rows)
        else:
            found.append((bucket, bucket, rows))
    return found


def counted(todo: DataFrame) -> list[tuple[int, int]]:
    """Return what there is to do: each bucket of rows, and the number of rows in it, in order."""
    counts = todo.groupBy("bucket").count().orderBy("bucket").collect()
    return [(row["bucket"], row["count"]) for row in counts]


def run(
    todo: DataFrame,
    counts: list[tuple[int, int]],
    work: Callable[[DataFrame, int, int], None],
    label: str,
    unit: str = "images",
    at_once: int = 2,
) -> int:
    """Do work on all rows, round by round, showing progress, and return how many rows there were.

    Parameters
    ----------
    todo
        Rows with a column `bucket`; read several times, so persist it.
    counts
        What `counted` says of them.
    work
        Called with the rows of a round, its first and its last bucket. Makes its outcome durable.
    label
        What is done, as progress and Spark's UI say.
    unit
        What its rows are.
    at_once
        How many rounds are under way at a time. Of two, the second's tasks fill the cores that the first's last ones
        leave idle; of one, a kill costs less.
    """
    if not counts:
        return 0
    spark = todo.sparkSession
    total = sum(rows for _, rows in counts)
    planned = plan(counts, slots(spark))

    def round_(number: int, first: int, last: int) -> None:  # in a thread of its own, which has its own description
        with delivery.described(spark, f"{label}: round {number} of {len(planned)}, buckets {first} to {last}"):
            work(todo.where(F.col("bucket").between(first, last)), first, last)

    shown = progress.Progress(label, total, unit)
    with closing(shown), ThreadPoolExecutor(at_once) as pool:
        futures = {
            pool.submit(round_, number, first, last): rows for number, (first, last, rows) in enumerate(planned, 1)
        }
        pending: set[Future[None]] = set(futures)
        try:
            while pending:
                ended, pending = wait(pending, _TICK, FIRST_COMPLETED)
                for future in ended:
                    future.result()
                shown.add(sum(futures[future] for future in ended))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what is in flight ends; the rest does not begin
            raise
    return total
