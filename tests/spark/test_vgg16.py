"""VGG16 itself on workers: the same bits in every session, and in every place of a batch."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from tests.samples import make_images
from tests.spark.test_features import vectors

from dedup import engines, extraction, images, models, pixels, rounds, tables
from dedup.arithmetic import PRECISIONS
from dedup.vgg16_model import Vgg16Model


def test_a_vector_is_what_the_network_makes_of_the_decoded_file(
    spark: SparkSession, under_vgg16: Path, vgg16: Vgg16Model
) -> None:
    found = vectors(spark, str(under_vgg16 / "features"))
    files = [path for path in (under_vgg16 / "images").rglob("*") if path.is_file()]
    assert len(found) == len(files) == 6
    predict = engines.ENGINES["ncnn"].load(vgg16.weights.flat, vgg16.arithmetic, 32, 2)
    for file in files:
        content = file.read_bytes()
        expected = predict(pixels.decode(content).pixels[None])[0]
        vector = np.frombuffer(found[hashlib.sha256(content).hexdigest()], "<f4")
        np.testing.assert_array_equal(vector, expected)


def test_vgg16_makes_the_same_bytes_at_any_partitioning(
    spark: SparkSession, under_vgg16: Path, vgg16: Vgg16Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "slots", lambda spark: 4)
    images.ingest(spark, str(under_vgg16 / "images"), str(tmp_path), keep_bytes=False)
    extraction.extract(spark, str(tmp_path), str(tmp_path), vgg16)
    assert vectors(spark, str(tmp_path)) == vectors(spark, str(under_vgg16 / "features"))


def test_models_have_rows_of_their_own(spark: SparkSession, vgg16: Vgg16Model, tmp_path: Path) -> None:
    make_images(tmp_path / "in", 2)
    location = str(tmp_path / "features")
    images.ingest(spark, str(tmp_path / "in"), location, keep_bytes=False)
    for precision in PRECISIONS:
        extraction.extract(spark, location, location, Vgg16Model(vgg16.weights, precision))
    counts = tables.read(spark, location, "features").groupBy("model").agg(F.count_distinct("sha256")).collect()
    assert [count for _, count in counts] == [2] * len(PRECISIONS)
    assert {entry.model for entry in models.of(location)} == {row["model"] for row in counts}
