"""The libraries for tables under the PySpark that runs the tests: which exist, and which submit.sh has fetched."""

from __future__ import annotations

import sys
from pathlib import Path

import pyspark
import pytest
from tests.lacking import without
from tests.samples import ROOT

RELEASES = {
    words[0]: dict(zip(("pyspark", "delta", "iceberg"), words[1:], strict=True))
    for line in (ROOT / "conf" / "releases.txt").read_text().splitlines()
    if not line.startswith("#") and (words := line.split())
}
"""What stands for each release of Spark: a PySpark, and the versions of the libraries, "-" where there is none."""

RELEASE = ".".join(pyspark.__version__.split(".")[:2])


def jars(name: str) -> list[Path]:
    """Return the files of a library of this release; none where it is not there."""
    return list(Path(sys.prefix).glob(f"{name}-{RELEASES[RELEASE][name]}-spark-{RELEASE}-*/*.jar"))


def need(name: str) -> None:
    """Skip a test where a library is not there; plain Parquet needs none."""
    if name == "parquet" or jars(name):
        return
    if RELEASES[RELEASE][name] == "-":
        pytest.skip(f"{name} has no library for Spark {RELEASE} yet")
    without(name, f"the library of {name} has not been fetched: ./submit.sh test does that")
