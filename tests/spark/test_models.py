"""Which model of a table is meant, and that its ranges are found once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from tests.samples import Lake, make_features, make_images

from dedup import answers, arithmetic, convolutions, extraction, models, photographs, storage, weights
from dedup.errors import UsageError
from dedup.vgg16_model import Vgg16Model


@pytest.fixture
def features(under_vgg16: Path) -> str:
    """Return the location of features under VGG16."""
    return str(under_vgg16 / "features")


def test_nothing_need_be_said_of_the_only_model(features: str, vgg16: Vgg16Model) -> None:
    chosen = models.choose(features, None, None)
    assert chosen.made.model == vgg16.id
    assert chosen.network().id == vgg16.id
    assert chosen.network() is chosen.network(), "weights are loaded once"
    assert models.choose(features, vgg16.weights.source, "float32").network().id == vgg16.id
    assert models.one(features, None) == models.one(features, vgg16.id) == chosen.made


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (
            ("seeded:8", None),
            "was made with {made} .*--weights seeded:7 --precision float32.*, not with --weights seeded:8",
        ),
        ((None, "bfloat16"), "was made with {made} .*, not with --weights seeded:7 --precision bfloat16"),
    ],
)
def test_another_model_is_refused_naming_both(
    features: str, vgg16: Vgg16Model, said: tuple[Any, Any], answer: str
) -> None:
    with pytest.raises(UsageError, match=answer.format(made=vgg16.id)):
        models.choose(features, *said)


def test_a_place_without_features_is_refused(lake: Lake) -> None:
    with pytest.raises(UsageError, match="no table of features"):
        models.choose(lake.table, None, None)


def test_weights_that_have_changed_since_are_refused(features: str, tmp_path: Path, vgg16: Vgg16Model) -> None:
    made = models.one(features, None)
    other = models.Made("vgg16-fc2-000000000000-float32-bilinear224", made.weights, "float32", (), complete=True)
    for name in ("images", "features"):
        (tmp_path / name).symlink_to(Path(features) / name)
    other.save(str(tmp_path))
    chosen = models.choose(str(tmp_path), None, None)
    with pytest.raises(UsageError, match=f"these weights are now {vgg16.weights.fingerprint}: say with --weights"):
        chosen.network()


@pytest.fixture(scope="module")
def in_int8(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Vgg16Model]:
    """Features of two images, made in int8."""
    model = Vgg16Model(weights.load("seeded"), "int8")
    return make_features(spark, tmp_path_factory.mktemp("int8"), 2, model), model


def test_ranges_are_found_once_for_a_table(
    spark: SparkSession, in_int8: tuple[str, Vgg16Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location, model = in_int8
    made = models.one(location, None)
    assert (made.precision, made.ranges, made.model) == ("int8", model.arithmetic.ranges, model.id)

    def never(*_: object) -> None:
        raise AssertionError("they are known")

    monkeypatch.setattr(convolutions, "ranges", never)
    again = models.begun(Vgg16Model(model.weights, "int8"), location)
    assert again.id == model.id
    done = extraction.extract(spark, location, location, Vgg16Model(model.weights, "int8"))
    assert (done.model, done.computed) == (model.id, 0)
    assert models.begun(Vgg16Model(model.weights, "bfloat16"), location).precision == "bfloat16"
    new = make_images(tmp_path / "new", 3)[2]
    answered = answers.ask(
        spark,
        answers.Question(location, [str(new)], str(tmp_path / "report")),
        models.choose(location, None, None),
    )
    assert len(answered.rows[str(new)]) == 2


def test_the_ranges_of_seeded_weights_are_the_same_everywhere(in_int8: tuple[str, Vgg16Model]) -> None:
    assert in_int8[1].id == "vgg16-fc2-3c67b0244122-int8.70aebb-bilinear224"


def test_an_int8_that_is_computed_no_more_is_told(
    in_int8: tuple[str, Vgg16Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arithmetic, "_DIVIDED", "in another way")
    with pytest.raises(UsageError, match=rf": this release does not compute {in_int8[1].id} any more: extract anew$"):
        models.choose(in_int8[0], None, None).network()


def test_a_package_without_its_photographs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(photographs.named()) == 14
    assert set(photographs.named()) < set(photographs.files())
    with monkeypatch.context() as patched:
        patched.setattr("importlib.util.find_spec", lambda _: None)
        with pytest.raises(UsageError, match=r"inside scikit-image are needed, .* pip install scikit-image"):
            photographs.named()
    monkeypatch.setattr(Path, "exists", lambda _: False)
    with pytest.raises(UsageError, match=r"astronaut\.png: a photograph that is needed is not there"):
        photographs.named()


def test_a_killed_writing_of_the_word_is_no_model(tmp_path: Path) -> None:
    storage.write(f"{tmp_path}/_models/m.part", b"{")
    assert models.of(str(tmp_path)) == []


@pytest.mark.parametrize("said", [b"", b"{", b"[]", b"{}", b'{"model": "m", "ranges": 3}', b'{"ranges": [], "x": 1}'])
def test_what_is_not_left_by_an_extract_is_named(tmp_path: Path, said: bytes) -> None:
    storage.write(f"{tmp_path}/_models/m", said)
    with pytest.raises(UsageError, match="_models/m: not what an extract leaves"):
        models.of(str(tmp_path))
