"""An evaluation from end to end: its figures are those of answers to queries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

import pytest
from PIL import Image
from pyspark.sql import SparkSession
from tests.samples import Lake, make_images, picture

from dedup import evaluation, extraction, images, labels, models
from dedup.edits import EDITS
from dedup.errors import UsageError
from dedup.evaluation import Evaluated, Wish
from dedup.model import Model
from dedup.ranks import ALL, METHODS, PLACES, POLL, RULES


def test_an_evaluation_leaves_figures_for_every_edit_the_same_each_time(
    spark: SparkSession, location: str, tmp_path: Path
) -> None:
    chosen = models.choose(location, None, None)
    wish = Wish(location, str(tmp_path / "out"), originals=3)
    done = evaluation.evaluate(spark, wish, chosen.made, chosen.network)
    assert (done.images, done.originals, done.unread) == (24, 3, 0)
    figures = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert len(figures["recall"]) == (len(EDITS) + 1) * len({*METHODS, *RULES}) * len(PLACES)
    for row in figures["recall"]:
        assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1
    by = {(row["kind"], row["method"], row["first"]): row["value"] for row in figures["recall"]}
    for method in METHODS:
        assert by["re-encoded", method, 1] == 1
        assert by[ALL, method, 1] <= by[ALL, method, 10]
    assert 1 <= figures["agreement"]["opinions"] <= 5
    assert chosen.made.model in Path(done.page).read_text()
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    evaluation.evaluate(spark, wish, chosen.made, chosen.network)
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before


def test_flipped_and_turned_copies_are_found_in_views(spark: SparkSession, location: str, tmp_path: Path) -> None:
    chosen = models.choose(location, None, None)
    wish = Wish(location, str(tmp_path), originals=3, views=8)
    recall = evaluation.evaluate(spark, wish, chosen.made, chosen.network).recall
    for edit in ("mirrored", "upside down", "turned left", "turned over", "turned right"):
        for method in METHODS:
            assert recall[edit][method][1].value == 1


def no_network() -> NoReturn:
    raise AssertionError("the network is not needed")


def labelled(folder: Path, pairs: list[tuple[str, ...]]) -> str:
    lines = [",".join(labels.COLUMNS), *(",".join(pair) for pair in pairs)]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "labels.csv")


def test_labelled_copies_are_asked_for_by_what_the_table_has(spark: SparkSession, model: Model, tmp_path: Path) -> None:
    paths = make_images(tmp_path / "images", 24)
    near, far = tmp_path / "images" / "near.png", tmp_path / "images" / "far.png"
    Image.open(paths[0]).convert("RGB").resize((150, 110)).save(near)
    picture(99).save(far)
    (tmp_path / "images" / "same.png").write_bytes(near.read_bytes())
    (tmp_path / "images" / "none.png").write_text("no image")
    location = str(tmp_path / "features")
    images.ingest(spark, str(tmp_path / "images"), location, keep_bytes=False)
    extraction.extract(spark, location, location, model)
    first = f"images/{paths[0].relative_to(tmp_path / 'images')}"
    file = labelled(
        tmp_path,
        [
            (first, "images/near.png", "resized"),
            (first, "images/same.png", "resized"),
            (str(far), first, "none"),
            ("images/near.png", "images/same.png", "same"),
            (first, "images/none.png", "lost"),
        ],
    )
    wish = Wish(location, str(tmp_path / "out"), labels=file)
    done = evaluation.evaluate(spark, wish, models.one(location, model.id), no_network)
    assert done.copies == {"none": 1, "resized": 1, ALL: 2}
    assert [note.rpartition(": ")[2] for note in done.notes] == [
        "one of the two has no features.",
        "their bytes are equal.",
        "of the same contents there is another one.",
    ]
    for method in METHODS:
        assert done.recall["resized"][method][1].value == 1
        assert done.recall["none"][method][1].value == 0
    assert done.natural > 0, "what is labelled as a copy of the query's copies is none of the different images"


def test_of_labelled_images_all_views_are_asked_for(spark: SparkSession, model: Model, tmp_path: Path) -> None:
    paths = make_images(tmp_path / "images", 24)
    first = tmp_path / "images" / "first.png"
    Image.open(paths[0]).convert("RGB").resize((96, 96)).save(first)
    turned = tmp_path / "images" / "turned.png"
    Image.open(first).transpose(Image.Transpose.ROTATE_90).save(turned)
    location = str(tmp_path / "features")
    images.ingest(spark, str(tmp_path / "images"), location, keep_bytes=False)
    extraction.extract(spark, location, location, model)
    file = labelled(tmp_path, [(str(first), str(turned), "turned")])
    chosen = models.choose(location, None, None)
    found = {}
    for views, network in ((1, no_network), (8, lambda: model)):
        wish = Wish(location, str(tmp_path / "out"), labels=file, views=views)
        found[views] = evaluation.evaluate(spark, wish, chosen.made, network)
    assert (found[1].views, found[8].views) == (1, 8)
    for method in METHODS:
        assert found[8].recall["turned"][method][1].value == 1
    assert found[1].recall["turned"]["poll"][1].value == 0, "as it is, others are nearer"


def test_labelled_images_that_are_gone_are_not_asked_for_in_views(
    spark: SparkSession, model: Model, tmp_path: Path
) -> None:
    paths = make_images(tmp_path / "images", 24)
    copies = [path.with_suffix(".copy.png") for path in paths[:2]]
    for path, copy in zip(paths, copies, strict=False):
        Image.open(path).convert("RGB").resize((120, 80)).save(copy)
    bytes_of, location = str(tmp_path / "table"), str(tmp_path / "features")
    images.ingest(spark, str(tmp_path / "images"), bytes_of)
    images.ingest(spark, str(tmp_path / "images"), location, keep_bytes=False)
    extraction.extract(spark, location, location, model)
    pairs: list[tuple[str, ...]] = [
        (str(path), str(copy), "resized") for path, copy in zip(paths, copies, strict=False)
    ]
    file = labelled(tmp_path, pairs)
    made = models.one(location, model.id)

    def evaluated(table: str | None) -> Evaluated:
        wish = Wish(location, str(tmp_path / "out"), table=table, labels=file, views=2)
        return evaluation.evaluate(spark, wish, made, lambda: model)

    paths[0].unlink()
    some = evaluated(None)
    assert (some.originals, some.unread, some.copies) == (2, 1, {"resized": 1, ALL: 1})
    assert some.recall["resized"][POLL][1].value == 1
    paths[1].unlink()
    with pytest.raises(UsageError, match="none of the images that are asked for can be read"):
        evaluated(None)
    found = evaluated(bytes_of)
    assert (found.originals, found.unread, found.copies) == (2, 0, {"resized": 2, ALL: 2})


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([("a.png", "b.png", "x")], "a.png is not among the files of"),
        ([("cloud 000.png", "cloud 000.png", "x")], "no pair of two different contents"),
        ([], "no pairs in it"),
        ([("a", "b", "c", "d")], "line 2 has not as many fields as the first one"),
    ],
)
def test_labels_that_name_nothing_are_refused(
    spark: SparkSession, location: str, tmp_path: Path, pairs: list[tuple[str, ...]], says: str
) -> None:
    known = next(row["path"] for row in images.inventory(spark, location).collect() if "cloud 000" in row["path"])
    given = [tuple(known if "cloud" in field else field for field in pair) for pair in pairs]
    wish = Wish(location, str(tmp_path / "out"), labels=labelled(tmp_path, given))
    with pytest.raises(UsageError, match=f"--labels .*labels.csv: .*{says}"):
        evaluation.evaluate(spark, wish, models.one(location, None), no_network)


def test_a_lake_of_too_few_images_is_refused(spark: SparkSession, lake: Lake, model: Model, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="20 different images"):
        evaluation.evaluate(spark, Wish(lake.features, str(tmp_path)), models.one(lake.features, None), lambda: model)


def test_a_wish_that_cannot_be_fulfilled_is_refused() -> None:
    with pytest.raises(UsageError, match="--originals 0"):
        Wish("f", "o", originals=0).check()
    with pytest.raises(UsageError, match="only from 1 up"):
        Wish("f", "o", p=0.5).check()
    with pytest.raises(UsageError, match="--views 3: possible are"):
        Wish("f", "o", labels="l", views=3).check()
