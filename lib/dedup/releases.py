"""The releases of Spark that are supported; conf/releases.txt has what stands for each."""

from __future__ import annotations

import logging
import re

import pyspark
from pyspark.sql import SparkSession

from dedup.errors import UsageError

TESTED = ("4.0", "4.1", "4.2", "4.3")

_log = logging.getLogger(__name__)


def require_client() -> None:
    """Make sure that PySpark is not too old, before there is a session.

    Raises
    ------
    UsageError
        If it is.
    """
    _require("PySpark", pyspark.__version__)


def require(spark: SparkSession) -> None:
    """Make sure that the Spark of a session is not too old; one that is newer than the tests know is a line of the log.

    Raises
    ------
    UsageError
        If it is too old, or PySpark, which in a session of Spark Connect may be of another release.
    """
    require_client()
    _require("Spark", spark.version)
    if _release(spark.version) > _release(TESTED[-1]):
        _log.warning("Spark %s is newer than what DeDup is tested with: %s", spark.version, ", ".join(TESTED))


def _require(what: str, version: str) -> None:
    if _release(version) < _release(TESTED[0]):
        raise UsageError(f"{what} {version} is too old: possible are {', '.join(TESTED)} (docs/running.md)")


def _release(version: str) -> list[int]:
    """Return the two numbers of a release, of 4.1.0 as of 4.1.2-amzn-0."""
    return [int(number) for number in re.findall(r"\d+", version)[:2]]
