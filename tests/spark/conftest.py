"""One local session for all tests of this level, with the properties that users get.

It knows Delta and Iceberg where submit.sh has fetched their libraries; DEDUP_FORMAT=delta gives all tests such tables.
DEDUP_CONNECT=1 runs them all in a session of Spark Connect, whose server listens on loopback for as long as they run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from tests import jvm
from tests.connect import serving
from tests.libraries import jars, need
from tests.networks import network, save
from tests.samples import ROOT, WEIGHTS, Lake, make_features, make_lake
from tests.store import Gateway, environment

from dedup import delivery, extraction, formats, images, onnx_model, weights
from dedup.model import Model
from dedup.onnx_model import OnnxModel
from dedup.vgg16_model import Vgg16Model

FORMAT = os.environ.get("DEDUP_FORMAT", formats.DEFAULT)
CONNECT = os.environ.get("DEDUP_CONNECT") == "1"

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
    need(FORMAT)
    # Python workers import the library from its sources; the cluster level proves that the zip is enough.
    os.environ["PYTHONPATH"] = str(ROOT / "lib")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    scratch = tmp_path_factory.mktemp("spark")
    properties = _properties(scratch)
    if CONNECT:
        with serving(properties, {"PYTHONPATH": f"{ROOT / 'lib'}:{ROOT}"}, scratch / "server.log") as address:
            session = SparkSession.builder.remote(address).getOrCreate()
            yield session
            session.stop()
        return
    builder = SparkSession.builder.master("local[2]").appName("tests")
    for name, value in properties.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


@pytest.fixture
def classic(spark: SparkSession) -> None:
    """Skip a test in a session of Spark Connect, which has no SparkContext."""
    if delivery.context(spark) is None:
        pytest.skip("needs a SparkContext")


def _properties(scratch: Path) -> dict[str, str]:
    lines = (ROOT / "conf" / "local.conf").read_text().splitlines()
    found = dict(line.split(None, 1) for line in lines if line and not line.startswith("#"))
    there = [name for name in _EXTENSIONS if jars(name)]
    found["spark.jars"] = ",".join(str(jar) for name in there for jar in jars(name))
    found["spark.sql.extensions"] = ",".join(_EXTENSIONS[name] for name in there)
    if "delta" in there:
        found["spark.sql.catalog.spark_catalog"] = "org.apache.spark.sql.delta.catalog.DeltaCatalog"
        found["spark.databricks.delta.snapshotPartitions"] = "2"
    if "iceberg" in there:
        found["spark.sql.catalog.ice"] = "org.apache.iceberg.spark.SparkCatalog"
        found["spark.sql.catalog.ice.type"] = "hadoop"
        found["spark.sql.catalog.ice.warehouse"] = str(scratch / "ice")
    formats.DEFAULT = FORMAT
    if not CONNECT and FORMAT == "parquet":
        # What Spark does to be fast with many rows takes a third of the time where there are few. Tests in a session of
        # Spark Connect, with tables in other formats, and of the cluster level have it.
        found["spark.sql.adaptive.enabled"] = "false"
        found["spark.sql.codegen.wholeStage"] = "false"
        found["spark.sql.codegen.factoryMode"] = "NO_CODEGEN"
    return found | {
        "spark.sql.shuffle.partitions": "2",
        "spark.local.dir": str(scratch / "local"),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.log.level": "ERROR",
        "spark.driver.extraJavaOptions": jvm.OPTIONS,
    }


@pytest.fixture(scope="session")
def vgg16() -> Vgg16Model:
    """VGG16 itself, with weights made from a seed."""
    return Vgg16Model(weights.load(WEIGHTS), "float32")


@pytest.fixture(scope="session")
def under_vgg16(spark: SparkSession, vgg16: Vgg16Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of six images and their features under VGG16."""
    folder = tmp_path_factory.mktemp("vgg16")
    make_features(spark, folder, 6, vgg16)
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    """A small network, for whatever does not depend on which one it is: VGG16 takes half a minute to begin."""
    return onnx_model.load(save(network(), tmp_path_factory.mktemp("model") / "network.onnx"), 64)


@pytest.fixture(scope="session")
def lake(spark: SparkSession, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder = tmp_path_factory.mktemp("lake")
    make_lake(folder / "images")
    table, location = str(folder / "table"), str(folder / "features")
    ingested = images.ingest(spark, str(folder / "images"), table)
    extracted = extraction.extract(spark, table, location, model)
    return Lake(folder / "images", table, location, ingested, extracted)


@pytest.fixture(scope="session")
def location(spark: SparkSession, model: Model, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return features of 24 images, whose bytes are at their paths."""
    return make_features(spark, tmp_path_factory.mktemp("unstored"), 24, model)
