"""A calibration from end to end, and its parts on tables."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from tests.samples import Lake

from dedup import (
    calibration,
    copies,
    images,
    models,
    neighbours,
    pixels,
    storage,
    tables,
    thresholds,
)
from dedup.calibration import Wish
from dedup.distances import METRICS, distances
from dedup.edits import EDITS
from dedup.errors import UsageError
from dedup.model import Model
from dedup.models import Made
from dedup.onnx_model import ENGINE, OnnxModel

WIDTH = 16


@pytest.fixture(scope="module")
def vectors() -> dict[str, NDArray[np.float32]]:
    """Return 130 vectors by hash: the last 20 equal the first ones, one is not finite."""
    rows = np.random.default_rng(3).random((130, WIDTH)).astype(np.float32)
    rows[110:] = rows[:20]
    rows[50, 3] = np.nan
    return {hashlib.sha256(b"%d" % number).hexdigest(): row for number, row in enumerate(rows)}


def put(spark: SparkSession, vectors: dict[str, NDArray[np.float32]], location: str, partitions: int) -> Made:
    rows = [(sha256, row.tobytes(), 1, 1, "PNG", "m", i % 8) for i, (sha256, row) in enumerate(vectors.items())]
    names = ["sha256", "features", "width", "height", "format", "model", "bucket"]
    schema = [field for field in tables.SCHEMAS["features"] if field.name in names]
    table = spark.createDataFrame(rows, ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in schema))
    for name in set(tables.SCHEMAS["features"].names) - set(names):
        table = table.selectExpr("*", f"cast(null as string) as {name}")
    tables.append(table.repartition(partitions), location, "features")
    return Made("m", "seeded", "float32", (), complete=True, listed=0)  # no table of images, which none has left


@pytest.mark.parametrize("partitions", [1, 8])
def test_a_sample_has_its_nearest_different_images_at_any_partitioning(
    spark: SparkSession, vectors: dict[str, NDArray[np.float32]], tmp_path: Path, partitions: int
) -> None:
    made = put(spark, vectors, str(tmp_path), partitions)
    sample = neighbours.draw(spark, str(tmp_path), made, 20, 3.0, "a test")
    assert sample.images == 110, "equal vectors are one image"
    assert len(sample.sha256) == 20
    first = {row.tobytes(): sha256 for sha256, row in sorted(vectors.items(), reverse=True)}
    different = {sha256: vectors[sha256] for sha256 in first.values()}
    for i, sha256 in enumerate(sample.sha256):
        np.testing.assert_array_equal(sample.vectors[i], different[sha256])
        others = np.stack([row for name, row in different.items() if name != sha256])
        found = distances(others, sample.vectors[i : i + 1])
        for number, metric in enumerate(METRICS):
            nearest = np.sort(found[metric][:, 0])[: neighbours.LISTED]
            nearest = nearest[np.isfinite(nearest)]
            mine = np.sort(sample.distance[i, sample.named[i, :, number], number])
            assert mine.tolist() == nearest.tolist()
    again = neighbours.draw(spark, str(tmp_path), made, 10, 3.0, "a test")
    assert again.sha256 == sample.sha256[:10], "a larger sample has all of a smaller one"


def test_too_few_different_images_are_refused(spark: SparkSession, lake: Lake, tmp_path: Path) -> None:
    made = models.of(lake.features)[0]
    with pytest.raises(UsageError, match=r"20 different images under .* at least 21 are needed"):
        neighbours.draw(spark, lake.features, made, 5, 3.0, "a test")


@pytest.fixture(scope="module")
def measured(spark: SparkSession, lake: Lake, model: Model) -> tuple[list[str], NDArray[np.float64]]:
    sample = sorted(row["sha256"] for row in images.inventory(spark, lake.table).select("sha256").distinct().collect())
    return sample[:2], copies.measure(spark, lake.table, sample[:2], model, 3.0, "calibrate")[0]


def test_copies_are_measured_against_their_image(
    spark: SparkSession, lake: Lake, model: OnnxModel, measured: tuple[list[str], NDArray[np.float64]]
) -> None:
    sample, found = measured
    assert found.shape == (2, len(EDITS), len(METRICS))
    path = next(file for file in sorted(lake.images.rglob("cloud*")) if _sha256(file) == sample[0])
    image = pixels.open_upright(storage.read(str(path)))
    sides = (model.side, model.side)
    small = [np.asarray(one.resize(sides, Image.Resampling.BILINEAR)) for one in (image, EDITS["text"](image))]
    vectors = ENGINE.load(model.blob, model.arithmetic, 1, 1)(np.stack(small))
    expected = distances(vectors[1:], vectors[:1])
    text = list(EDITS).index("text")
    assert found[0, text] == pytest.approx([expected[metric][0, 0] for metric in METRICS], rel=1e-4)
    assert (found > 0).all(), "no edit leaves these images as they are"


def test_bytes_come_from_the_paths_where_no_table_has_them(
    spark: SparkSession, lake: Lake, model: Model, measured: tuple[list[str], NDArray[np.float64]]
) -> None:
    sample, expected = measured
    path = next(file for file in sorted(lake.images.rglob("cloud*")) if _sha256(file) == sample[1])
    hidden = path.with_name("hidden")
    path.rename(hidden)
    try:
        found, _ = copies.measure(spark, lake.features, sample, model, 3.0, "calibrate")
    finally:
        hidden.rename(path)
    np.testing.assert_array_equal(found[0], expected[0])
    assert np.isnan(found[1]).all(), "what cannot be read is known not to be measured"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_calibration_leaves_thresholds_that_load(spark: SparkSession, location: str, tmp_path: Path) -> None:
    chosen = models.choose(location, None, None)
    made, network = chosen.made, chosen.network()
    assert made.model == network.id
    wish = Wish(location, str(tmp_path / "out"), sample=3, precision=0.99)
    done = calibration.calibrate(spark, wish, made, network)
    loaded = thresholds.load(str(tmp_path / "out" / "thresholds.json"))
    assert loaded == done.thresholds
    assert (loaded.model, loaded.votes, loaded.calibrated) == (made.model, 3, True)
    assert all(0 < loaded.within[metric] < np.inf for metric in METRICS)
    assert loaded.made.startswith(f"3 of 24 different images under {network.source}, altered in ")
    figures = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert set(figures["recall"]) == set(EDITS)
    assert figures["factor"]["low"] <= figures["factor"]["value"] <= figures["factor"]["high"]
    assert made.model in Path(done.page).read_text()
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    calibration.calibrate(spark, wish, made, network)
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before


def test_a_calibration_in_views_finds_flips_and_turns_and_bears_an_image_that_is_gone(
    spark: SparkSession, location: str, tmp_path: Path
) -> None:
    chosen = models.choose(location, None, None)
    wish = Wish(location, str(tmp_path / "out"), sample=4, precision=0.99, views=8)
    listed = images.inventory(spark, location).orderBy(F.xxhash64("sha256"), "sha256").limit(4)
    path = Path(listed.collect()[0]["path"])
    hidden = path.rename(path.with_name("hidden"))
    try:
        done = calibration.calibrate(spark, wish, chosen.made, chosen.network())
    finally:
        hidden.rename(path)
    assert thresholds.load(str(tmp_path / "out" / "thresholds.json")) == done.thresholds
    assert done.thresholds.views == json.loads((tmp_path / "out" / "calibration.json").read_text())["views"] == 8
    assert all(0 < within < np.inf for within in done.thresholds.within.values())
    assert done.calibration.unread == 1
    for edit in ("mirrored", "upside down", "turned left", "turned over", "turned right"):
        assert done.calibration.recall[edit].poll.value == 1
    assert "mirrored and turned right" in Path(done.page).read_text()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sample": 0}, "--sample 0"),
        ({"precision": 1.0}, "--precision 1"),
        ({"precision": 0.0}, "--precision 0"),
        ({"votes": 6}, "possible are 1 to 5"),
        ({"duplicates": 0.0}, "--duplicates 0"),
        ({"duplicates": float("nan")}, "--duplicates nan"),
        ({"p": 0.5}, "only from 1 up"),
    ],
)
def test_a_wish_that_cannot_be_fulfilled_says_what_is_possible(change: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Wish("f", "o", **change).check()
