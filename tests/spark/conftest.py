"""One local session for all tests of this level, with the properties that users get.

It knows Delta and Iceberg where submit.sh has fetched their libraries; DEDUP_FORMAT=delta gives all tests such tables.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from tests.samples import ROOT, WEIGHTS, Lake, make_lake
from tests.store import Gateway, environment

from dedup import extraction, formats, images, weights
from dedup.model import Model

FORMAT = os.environ.get("DEDUP_FORMAT", formats.DEFAULT)

_EXTENSIONS = {
    "delta": "io.delta.sql.DeltaSparkSessionExtension",
    "iceberg": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
}


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    """Return where S3 is, for the driver and for Python workers: they keep the variables that Spark began with."""
    made = Gateway()
    os.environ.update(environment(made.port))
    yield made
    made.close()


@pytest.fixture(scope="session")
def spark(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    # Python workers import the library from its sources; the cluster level proves that the zip is enough.
    os.environ["PYTHONPATH"] = str(ROOT / "lib")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.master("local[2]").appName("tests")
    for line in (ROOT / "conf" / "local.conf").read_text().splitlines():
        if line and not line.startswith("#"):
            builder = builder.config(*line.split())
    libraries = {name: list(Path(sys.prefix).glob(f"{name}-*/*.jar")) for name in _EXTENSIONS}
    builder = builder.config("spark.jars", ",".join(str(jar) for found in libraries.values() for jar in found))
    there = [name for name, found in libraries.items() if found]
    builder = builder.config("spark.sql.extensions", ",".join(_EXTENSIONS[name] for name in there))
    if "delta" in there:
        builder = builder.config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        builder = builder.config("spark.databricks.delta.snapshotPartitions", "2")
    if "iceberg" in there:
        builder = builder.config("spark.sql.catalog.ice", "org.apache.iceberg.spark.SparkCatalog")
        builder = builder.config("spark.sql.catalog.ice.type", "hadoop")
        builder = builder.config("spark.sql.catalog.ice.warehouse", str(tmp_path_factory.mktemp("ice")))
    formats.DEFAULT = FORMAT
    scratch = tmp_path_factory.mktemp("spark")
    session = (
        builder.config("spark.sql.shuffle.partitions", "2")
        .config("spark.local.dir", str(scratch / "local"))
        .config("spark.sql.warehouse.dir", str(scratch / "warehouse"))
        .config("spark.log.level", "ERROR")
        # The JVM's second compiler pays in hours; hundreds of small plans only wait for it.
        .config("spark.driver.extraJavaOptions", "-XX:TieredStopAtLevel=1")
        .getOrCreate()
    )
    yield session
    session.stop()


@pytest.fixture(scope="session")
def model() -> Model:
    """VGG16 itself, with weights made from a seed."""
    return Model(weights.load(WEIGHTS), "float32")


@pytest.fixture(scope="session")
def lake(spark: SparkSession, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder = tmp_path_factory.mktemp("lake")
    make_lake(folder / "images")
    table, location = str(folder / "table"), str(folder / "features")
    ingested = images.ingest(spark, str(folder / "images"), table)
    extracted = extraction.extract(spark, table, location, model)
    return Lake(folder / "images", table, location, ingested, extracted)
