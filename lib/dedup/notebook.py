"""What every notebook does the same way: the session's properties, what was counted, and a page in a cell."""

from __future__ import annotations

import logging

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from dedup import releases, storage
from dedup.counters import Counts

PROPERTIES = {
    "spark.sql.parquet.columnarReaderBatchSize": "32",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "256",
    "spark.sql.execution.arrow.maxBytesPerBatch": "16m",
    "spark.sql.files.maxPartitionBytes": "1g",
}
"""Those of the files in `conf/` that a session can set for itself: rows that hold whole files go in small batches."""

_log = logging.getLogger(__name__)


def prepare(spark: SparkSession) -> list[str]:
    """Set the properties that jobs get from `conf/`, and return the names of those that the session refuses.

    Parameters
    ----------
    spark
        The notebook's session.

    Raises
    ------
    UsageError
        If its release of Spark is too old.
    """
    releases.require(spark)
    refused = []
    for name, value in PROPERTIES.items():
        try:
            spark.conf.set(name, value)
        except PySparkException:
            refused.append(name)
    if refused:
        _log.warning("this session does not let itself be set %s: see docs/databricks.md", ", ".join(refused))
    return refused


def told(counts: Counts) -> str:
    """Return what was counted, a line for each sum."""
    return "\n".join(f"{one.total:,} {one}" for one in counts.sums)


def page(location: str) -> str:
    """Return a page that a job has left, to be shown in a cell.

    Raises
    ------
    Reject
        If it cannot be read.
    """
    return storage.read(location).decode()
