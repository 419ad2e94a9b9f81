"""All jobs with another network than VGG16: the width of vectors is that of the table, the network is in a file."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import SparkSession
from tests.networks import WIDTH, network, save
from tests.samples import Lake, make_images

from dedup import (
    answers,
    calibration,
    deduplication,
    evaluation,
    extraction,
    images,
    keepers,
    models,
    onnx_model,
    pixels,
    tables,
    thresholds,
)
from dedup.answers import Question
from dedup.calibration import Wish
from dedup.errors import UsageError
from dedup.onnx_model import ENGINE, OnnxModel
from dedup.summary import Request
from dedup.turned import Turned

SIDE = 40


@dataclass(frozen=True)
class Place:
    """A table of features under a network from a file."""

    paths: list[Path]  #: of the images; the last one is a copy of the first, smaller and in another format
    features: str
    network: OnnxModel


@pytest.fixture(scope="module")
def place(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("networks")
    paths = make_images(folder / "images", 30)
    with Image.open(paths[0]) as image:
        image.convert("RGB").save(folder / "images" / "copy.jpg", quality=90)
    model = onnx_model.load(save(network(), folder / "a.onnx"), SIDE)
    features = str(folder / "features")
    images.ingest(spark, str(folder / "images"), features, keep_bytes=False)
    done = extraction.extract(spark, features, features, model)
    assert (done.model, done.described) == (model.id, 31)
    return Place([*paths, folder / "images" / "copy.jpg"], features, model)


def test_a_vector_is_what_the_network_makes_of_the_decoded_file(spark: SparkSession, place: Place) -> None:
    predict = ENGINE.load(place.network.blob, place.network.recipe, 1, 1)
    listed = tables.read(spark, place.features, "images").select("path", "sha256")
    rows = tables.read(spark, place.features, "features").join(listed, "sha256").collect()
    assert len(rows) == 31
    for row in rows:
        (expected,) = predict(pixels.decode(Path(row["path"]).read_bytes(), SIDE).pixels[None])
        assert (np.frombuffer(row["features"], "<f4") == expected).all()
        assert (len(expected), row["model"]) == (WIDTH, place.network.id)


def test_a_query_goes_through_the_network_of_the_table(spark: SparkSession, place: Place, tmp_path: Path) -> None:
    new = tmp_path / "new.png"
    with Image.open(place.paths[3]) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(new)
    question = Question(place.features, [str(new)], str(tmp_path / "report"), views=2)
    answered = answers.ask(spark, question, models.choose(place.features, None, None))
    first = answered.rows[str(new)][0]
    assert (first["paths"], first["view"], first["votes"]) == ([str(place.paths[3])], "mirrored", 5)


def test_the_lake_is_calibrated_evaluated_and_deduplicated(spark: SparkSession, place: Place, tmp_path: Path) -> None:
    chosen = models.choose(place.features, None, None)
    request = Request(place.features, str(tmp_path / "output"), thresholds.defaults(), policy=keepers.Policy())
    with pytest.raises(UsageError, match=f"default thresholds are for VGG16, not for {place.network.id}"):
        deduplication.deduplicate(spark, request)
    wish = Wish(place.features, str(tmp_path / "calibrated"), sample=10, precision=0.9, views=2)
    calibrated = calibration.calibrate(spark, wish, chosen.made, chosen.network())
    assert calibrated.thresholds.model == place.network.id
    looked = evaluation.Wish(place.features, str(tmp_path / "evaluated"), originals=5, views=2)
    evaluated = evaluation.evaluate(spark, looked, chosen.made, chosen.network)
    assert evaluated.model == place.network.id
    within = thresholds.load(f"{tmp_path}/calibrated/thresholds.json")
    request = Request(place.features, str(tmp_path / "output"), within)
    done = deduplication.deduplicate(spark, request)
    assert done.turned == Turned(views=2, contents=31, made=31, lacking=0)
    rows = {row["path"]: row for row in tables.read(spark, str(tmp_path / "output"), "manifest").collect()}
    assert rows[str(place.paths[0])]["group_id"] == rows[str(place.paths[-1])]["group_id"] is not None


def test_a_file_that_moved_is_told_and_one_that_changed_is_refused(
    spark: SparkSession, lake: Lake, tmp_path: Path
) -> None:
    table, here, there = str(tmp_path / "features"), tmp_path / "a.onnx", tmp_path / "elsewhere.onnx"
    model = onnx_model.load(save(network(), here), SIDE)
    extraction.extract(spark, lake.table, table, model)
    shutil.move(here, there)
    with pytest.raises(UsageError, match=r"--model onnx:.*/a\.onnx: missing"):
        models.choose(table, None, None).network()
    assert models.choose(table, None, None, f"onnx:{there}").network().id == model.id
    assert models.choose(table, None, None, model.id).made.recipe == model.recipe
    save(network(seed=1), here)
    with pytest.raises(UsageError, match=f"{model.id} .*, but this file is now onnx-.*: say where the other is"):
        models.choose(table, None, None).network()
    with pytest.raises(UsageError, match=f"was made with {model.id} .*, not with --model onnx:{here}"):
        models.choose(table, None, None, f"onnx:{here}")


def test_networks_stand_beside_each_other(spark: SparkSession, lake: Lake, tmp_path: Path) -> None:
    table = str(tmp_path / "features")
    said = save(network(), tmp_path / "a.onnx")
    small, large = onnx_model.load(said, SIDE), onnx_model.load(said, 2 * SIDE)
    for model in (small, large):
        extraction.extract(spark, lake.table, table, model)
    with pytest.raises(UsageError, match="choose one by --weights or --model"):
        models.choose(table, None, None)
    with pytest.raises(UsageError, match="choose one by its id"):
        models.choose(table, None, None, said)
    assert models.choose(table, None, None, large.id).network().id == large.id
    with pytest.raises(UsageError, match="not with --precision float32"):
        models.choose(table, None, "float32")
    with pytest.raises(UsageError, match="give one or the other"):
        models.choose(table, "seeded", None, large.id)
    assert extraction.extract(spark, lake.table, table, small).computed == 0
