from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from PIL import Image, ImageOps
from pyspark.sql import DataFrame, SparkSession
from tests.samples import Lake, make_images, picture

from dedup import answers, extraction, formats, images, models, tables
from dedup.answers import Question
from dedup.distances import METRICS
from dedup.edits import EDITS
from dedup.errors import UsageError
from dedup.focus import Focus, box
from dedup.model import Model
from dedup.models import Chosen


def no_model() -> NoReturn:
    raise AssertionError("the network is not needed")


def without(lake: Lake) -> Chosen:
    return Chosen(models.one(lake.features, None), no_model)


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("cloud*")}


def test_an_image_of_the_table_finds_itself_and_its_copies_without_the_network(
    spark: SparkSession, lake: Lake, tmp_path: Path
) -> None:
    known = next(lake.images.rglob("cloud 000.png"))
    sha256 = hashes(lake.images)["cloud 000.png"]
    question = Question(lake.features, [str(known), sha256], str(tmp_path))
    answered = answers.ask(spark, question, without(lake))
    assert answered.queries == [str(known), sha256]
    for query in answered.queries:
        first = answered.rows[query][0]
        assert (first["sha256"], first["votes"], first["rank"]) == (sha256, 5, 1)
        assert [first[metric] for metric in ("euclidean", "manhattan", "cosine", "minkowski", "dice")] == [0] * 5
        assert len(first["paths"]) == 3
    stored = tables.read(spark, str(tmp_path), "results").count()
    assert stored == sum(map(len, answered.rows.values()))
    page = Path(answered.page).read_text()
    assert page.count('<li class="result">') == stored
    assert "0%20 #1.png" in page


def test_a_path_that_only_the_table_knows_can_be_asked(spark: SparkSession, lake: Lake, tmp_path: Path) -> None:
    hidden = lake.images.parent / "moved"
    lake.images.rename(hidden)
    try:
        asked = str(lake.images / "set 1" / "cloud 001.jpg")
        answered = answers.ask(spark, Question(lake.features, [asked], str(tmp_path)), without(lake))
    finally:
        hidden.rename(lake.images)
    assert asked in answered.rows[asked][0]["paths"]
    assert "the file cannot be read now" in Path(answered.page).read_text()


def test_a_query_goes_on_where_an_ingest_replaces_what_it_reads(
    spark: SparkSession, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, location = tmp_path / "in", str(tmp_path / "features")
    paths = make_images(folder, 3)
    (folder / "gone.png").symlink_to("nothing")
    images.ingest(spark, str(folder), location, keep_bytes=False)
    extraction.extract(spark, location, location, model)
    inventory = images.inventory
    begun: list[DataFrame] = []

    def replaced(session: SparkSession, table: str) -> DataFrame:
        begun.append(inventory(session, table))
        if len(begun) == 1:
            (folder / "gone.png").unlink()
            images.ingest(spark, str(folder), location, keep_bytes=False)
        return begun[-1]

    monkeypatch.setattr(images, "inventory", replaced)
    question = Question(location, [str(paths[0])], str(tmp_path / "report"))
    answered = answers.ask(spark, question, Chosen(models.one(location, model.id), no_model))
    assert len(begun) > 1, "it was asked again"
    assert answered.rows[str(paths[0])][0]["paths"] == [str(paths[0])]


def test_of_two_queries_with_one_report_none_shows_the_answer_of_the_other(
    spark: SparkSession, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = hashes(lake.images)["cloud 001.jpg"], hashes(lake.images)["cloud 002.webp"]
    tidy = tables.tidy

    def overtaken(location: str, table: str) -> None:
        monkeypatch.setattr(tables, "tidy", tidy)
        assert answers.ask(spark, Question(lake.features, [other], str(tmp_path)), without(lake)).rows[other]
        tidy(location, table)

    monkeypatch.setattr(tables, "tidy", overtaken)
    with pytest.raises(UsageError, match="another query has put its answer there: let each have a --report of its own"):
        answers.ask(spark, Question(lake.features, [one], str(tmp_path)), without(lake))
    assert {row["query"] for row in tables.read(spark, str(tmp_path), "results").collect()} == {other}
    assert other in (tmp_path / "report.html").read_text()


def test_a_new_image_goes_through_the_network_and_a_folder_may_hold_others(
    spark: SparkSession, lake: Lake, model: Model, tmp_path: Path
) -> None:
    (tmp_path / "asked").mkdir()
    altered = picture(5, (125, 105)).convert("L")
    altered.save(tmp_path / "asked" / "grey.png")
    (tmp_path / "asked" / "no image.txt").write_text("words")
    question = Question(lake.features, [str(tmp_path / "asked")], str(tmp_path / "report"), top=3)
    answered = answers.ask(spark, question, Chosen(models.one(lake.features, model.id), lambda: model))
    assert answered.queries == [str(tmp_path / "asked" / "grey.png")]
    assert [(Path(path).name, reject.reason) for path, reject in answered.rejects] == [("no image.txt", "not_an_image")]
    rows = answered.rows[answered.queries[0]]
    assert rows[0]["votes"] >= rows[-1]["votes"]
    assert any(path.endswith("cloud 005.webp") for row in rows for path in row["paths"])


@pytest.mark.parametrize(("edit", "back"), [("mirrored", "mirrored"), ("turned left", "turned right")])
def test_a_flipped_or_turned_query_finds_its_image_in_a_view(
    spark: SparkSession, lake: Lake, model: Model, tmp_path: Path, edit: str, back: str
) -> None:
    known = next(lake.images.rglob("cloud 000.png"))
    asked = str(tmp_path / "altered.png")
    EDITS[edit](Image.open(known).convert("RGB")).save(asked)
    chosen = Chosen(models.one(lake.features, model.id), lambda: model)
    question = Question(lake.features, [asked, str(known)], str(tmp_path / "report"), views=8)
    answered = answers.ask(spark, question, chosen)
    found, itself = answered.rows[asked][0], answered.rows[str(known)][0]
    assert (found["sha256"], found["votes"], found["view"]) == (itself["sha256"], 5, back)
    assert (itself["euclidean"], itself["view"]) == (0, "plain"), "also where other views are asked for"
    assert f"like the query {back}" in Path(answered.page).read_text()
    plain = answers.ask(spark, replace(question, views=1), chosen).rows[asked]
    distance = next((row["euclidean"] for row in plain if row["sha256"] == found["sha256"]), plain[-1]["euclidean"])
    assert found["euclidean"] < distance / 20


def test_only_the_focus_of_a_query_counts(spark: SparkSession, lake: Lake, model: Model, tmp_path: Path) -> None:
    known = Image.open(next(lake.images.rglob("cloud 000.png"))).convert("RGB")
    sha256 = hashes(lake.images)["cloud 000.png"]
    pasted = Image.new("RGB", (known.width * 2, known.height), "red")
    pasted.paste(known)
    pasted.save(tmp_path / "pasted.png")
    chosen = Chosen(models.one(lake.features, model.id), lambda: model)
    question = Question(lake.features, [str(tmp_path / "pasted.png")], str(tmp_path / "report"), top=3)

    def ask(focus: Focus, name: str = "pasted.png") -> list[dict[str, Any]]:
        asked = replace(question, asked=[str(tmp_path / name)], focus=focus)
        return [row | {"query": None, "part": None} for row in answers.ask(spark, asked, chosen).rows[asked.asked[0]]]

    first = ask(Focus(on=(box("0,0,.5,1"),)))[0]
    assert (first["sha256"], first["votes"]) == (sha256, 5)
    assert first["euclidean"] == 0, "what counts is that image, pixel by pixel"
    pasted.paste(model.neutral, (known.width, 0, *pasted.size))
    pasted.save(tmp_path / "painted.png")
    half = box(f"{known.width},0,{known.width},{known.height}")
    assert ask(Focus(off=(half,))) == ask(Focus(), "painted.png"), "what does not count is painted over, and stays"
    assert ask(Focus(off=(half,))) != ask(Focus())
    assert all(row["euclidean"] > 0 for row in ask(Focus()))
    assert all(row["euclidean"] > 0 for row in ask(Focus(on=(box("0,0,1,1"),), off=(box("0,0,20,20"),))))


def test_the_focus_of_a_query_is_asked_for_in_all_views(
    spark: SparkSession, lake: Lake, model: Model, tmp_path: Path
) -> None:
    known = Image.open(next(lake.images.rglob("cloud 000.png"))).convert("RGB")
    pasted = Image.new("RGB", (known.width * 3, known.height * 2), "red")
    pasted.paste(ImageOps.mirror(known), (known.width, known.height))
    pasted.save(tmp_path / "pasted.png")
    chosen = Chosen(models.one(lake.features, model.id), lambda: model)
    asked = [str(tmp_path / "pasted.png")]
    focus = Focus(on=(box(f"{known.width},{known.height},{known.width},{known.height}"),))
    question = Question(lake.features, asked, str(tmp_path / "report"), focus=focus, views=8)
    first = answers.ask(spark, question, chosen).rows[asked[0]][0]
    assert (first["sha256"], first["votes"]) == (hashes(lake.images)["cloud 000.png"], 5)
    assert (first["view"], first["euclidean"]) == ("mirrored", pytest.approx(0, abs=1e-3))

    painted, turned = known.copy(), ImageOps.mirror(known)
    painted.paste(model.neutral, (0, 0, known.width // 4, known.height))
    painted.save(tmp_path / "painted.png")
    turned.save(tmp_path / "turned.png")
    off = Focus(off=(box(f"{known.width - known.width // 4},0,{known.width // 4},{known.height}"),))

    def distances(name: str, focus: Focus) -> dict[str, tuple[Any, ...]]:
        ask = replace(question, asked=[str(tmp_path / name)], focus=focus)
        rows = answers.ask(spark, ask, chosen).rows[ask.asked[0]]
        return {row["sha256"]: tuple(row[metric] for metric in METRICS) for row in rows}

    plain, mirrored = distances("painted.png", Focus()), distances("turned.png", off)
    assert plain.keys() == mirrored.keys(), "what is painted over in a view is what was painted over"
    for sha256, row in plain.items():
        assert row == pytest.approx(mirrored[sha256], rel=1e-3, abs=1e-3)


def test_views_that_there_are_none_of_are_refused(spark: SparkSession, lake: Lake, tmp_path: Path) -> None:
    question = Question(lake.features, [str(lake.images)], str(tmp_path / "report"), views=3)
    with pytest.raises(UsageError, match="--views 3: possible are 1, 2, 4, 8"):
        answers.ask(spark, question, without(lake))
    assert not [*tmp_path.iterdir()]


def test_what_the_table_knows_is_read_again_for_a_focus_and_views(
    spark: SparkSession, lake: Lake, model: Model, tmp_path: Path
) -> None:
    sha256 = hashes(lake.images)["cloud 000.png"]
    chosen = Chosen(models.one(lake.features, model.id), lambda: model)
    question = Question(lake.features, [sha256], str(tmp_path), focus=Focus(on=(box("0,0,1,1"),)), views=2)
    first = answers.ask(spark, question, chosen).rows[sha256][0]
    assert (first["sha256"], first["euclidean"], first["view"]) == (sha256, 0, "plain")
    hidden = lake.images.parent / "moved"
    lake.images.rename(hidden)
    try:
        with pytest.raises(UsageError, match=f"--query {sha256}: its bytes cannot be read from /.*: missing"):
            answers.ask(spark, question, chosen)
    finally:
        hidden.rename(lake.images)


def test_the_same_question_gives_the_same_page(spark: SparkSession, lake: Lake, tmp_path: Path) -> None:
    question = Question(lake.features, [str(lake.images / "set 2")], str(tmp_path))
    first = Path(answers.ask(spark, question, without(lake)).page).read_bytes()
    assert Path(answers.ask(spark, question, without(lake)).page).read_bytes() == first
    written = formats.of(str(tmp_path)).parts(spark, f"{tmp_path}/results")
    assert len(written) == 1, "results are replaced, not added to"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"asked": ["nowhere.png"]}, "no such file, folder or pattern, and no such sha256 or path"),
        ({"asked": ["f" * 64]}, "no such sha256 or path"),
        ({"asked": ["{lake}/notes"]}, "not an image that can be read: not_an_image"),
        ({"asked": ["{lake}/*.png.txt"]}, "no such file"),
        ({"metrics": ["hamming"]}, "possible are euclidean, manhattan, cosine, minkowski, dice"),
        ({"metrics": []}, "at least one"),
        ({"top": 0}, "--top 0"),
        ({"p": 0.5}, "only from 1 up"),
        ({"report": "{lake}/notes/report"}, "cannot be written"),
    ],
)
def test_bad_use_says_what_is_possible(
    spark: SparkSession, lake: Lake, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return [filled(one) for one in value]
        return value.replace("{lake}", str(lake.images)) if isinstance(value, str) else value

    given: dict[str, Any] = {"features": lake.features, "asked": [str(lake.images)], "report": str(tmp_path)}
    with pytest.raises(UsageError, match=says):
        answers.ask(spark, Question(**given | {k: filled(v) for k, v in change.items()}), without(lake))
