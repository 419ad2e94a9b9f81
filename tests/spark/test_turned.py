"""Flipped and turned copies in a whole lake: views are made once, and what they are near to is in the manifest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from tests.samples import Stored, Vectors, clumps, make_images, near_by, picture
from tests.spark.test_deduplication import MODEL, POLICY, Place, _plain, exacts, sha
from tests.spark.test_manifest import TURNED, UNDONE, Lake, Oracle, Row, partitions

from dedup import (
    candidates,
    deduplication,
    extraction,
    features,
    images,
    pairs,
    pixels,
    state,
    tables,
    viewed,
    views,
)
from dedup.distances import METRICS, distances
from dedup.errors import UsageError
from dedup.keepers import Policy
from dedup.model import Model
from dedup.onnx_model import ENGINE, OnnxModel
from dedup.summary import told
from dedup.thresholds import Thresholds
from dedup.turned import Turned
from dedup.views import VIEWS, named, parsed

WIDTH = 16
TURNS = [np.arange(WIDTH), *(np.random.default_rng(view).permutation(WIDTH) for view in range(1, 8))]
"""What a view does to a vector here: no two go well together, so that each has to be looked at by itself."""


def made() -> list[Stored]:
    """Files of 40 contents in clumps, some of which are views of others, and copies of some."""
    rows = clumps(23, 40, WIDTH)
    random = np.random.default_rng(2)
    for content, (of, view) in enumerate([(20, 1), (20, 4), (21, 5), (30, 7), (31, 0), (32, 3), (33, 4)]):
        rows[content] = np.maximum(rows[of][TURNS[view]] + random.normal(0, 0.2, WIDTH), 0)
    rows[39] = rows[20][TURNS[2]]  # as near as can be
    rows[38, 0] = np.nan
    pixels = {25: "same", 26: "same"}
    folders = random.choice(["a", "b", "gold", "safe"], len(rows))
    files = [
        Stored(f"/lake/{folder}/{number}.jpg", sha(number), row, pixels.get(number), length=100 + number % 7)
        for number, (folder, row) in enumerate(zip(folders, rows, strict=True))
    ]
    return [*files, replace(files[0], path="/lake/b/copy of 0.jpg")]


FILES = made()
VECTORS = {file.sha256: file.vector for file in FILES}
FINITE = np.stack([row for row in VECTORS.values() if np.isfinite(row).all()])
NEAR = replace(near_by(FINITE, 3, 0.03, MODEL), views=8)


def seen(sha256: str, view: int) -> Vectors:
    row: Vectors = VECTORS[sha256][TURNS[view]]
    return row


@dataclass(frozen=True)
class Views:
    """What is expected of a lake, its pairs in so many views."""

    count: int

    def measured(self, left: str, right: str, both: bool = True) -> dict[tuple[str, str], Row]:
        """Return what a pair measures in each view of one of the two, or only of the first, by names of views."""
        rows = {}
        for view in range(self.count):
            ways = [(left, right, view, view)]
            if both and view:
                ways.append((right, left, view, {4: 5, 5: 4}.get(view, view)))
            for turned, plain, place, done in ways:
                found = distances(seen(turned, place)[None], seen(plain, 0)[None])
                votes = int(NEAR.agreeing(found)[0, 0])
                row = {"votes": votes} | {name: float(found[name][0, 0]) for name in METRICS} | {"view": done}
                ends = sorted([named(turned, list(VIEWS)[place]), plain])
                rows[ends[0], ends[1]] = row
        return rows

    @staticmethod
    def best(rows: list[Row]) -> Row:
        return min(rows, key=lambda row: (-row["votes"], *[row[name] for name in METRICS], row["view"]))

    def measure(self, left: str, right: str) -> Row:
        return self.best(list(self.measured(left, right).values()))

    def pairs(self, files: list[Stored], against: tuple[Stored, ...] = ()) -> dict[tuple[str, str], Row]:
        """Return near pairs of names of views: of files with each other, and with those that they are held against."""
        exact = exacts([*files, *against])
        outside = {exact[file.sha256] for file in against}
        sets = sorted({one for one in exact.values() if np.isfinite(VECTORS[one]).all()})
        near: dict[tuple[str, str], Row] = {}
        for i, left in enumerate(sets):
            for right in sets[i + 1 :]:
                if {left, right} <= outside:
                    continue
                turned, plain = (left, right) if left in outside else (right, left)
                both = not {left, right} & outside
                near |= self.measured(turned, plain, both)
        return {ends: row for ends, row in near.items() if row["votes"] >= NEAR.votes}

    def rows(self, files: list[Stored], against: tuple[Stored, ...] = ()) -> dict[str, Row]:
        exact = exacts([*files, *against])
        by: dict[tuple[str, str], list[Row]] = {}
        for ends, row in self.pairs(files, against).items():
            left, right = sorted(parsed(name)[0] for name in ends)
            by.setdefault((left, right), []).append(row)
        described = [
            {"path": file.path, "sha256": file.sha256, "exact": exact[file.sha256], "length": file.length}
            | {"modified": file.day, "width": file.width, "height": 100, "format": file.format, "model": MODEL}
            | {"own": file not in against}
            for file in [*files, *against]
        ]
        lake = Measured(described, {ends: self.best(some) for ends, some in by.items()}, set(), self)
        rows = Oracle(lake, NEAR, POLICY).rows
        return {path: _plain(rows[path]) for path in sorted(rows)}


@dataclass
class Measured(Lake):
    views: Views

    def measure(self, left: str, right: str) -> Row:
        left, right = sorted([left, right])
        return self.views.measure(left, right)


def filled(place: Place, files: list[Stored], *others: Stored) -> Place:
    """Leave features of files, and in the output the views of these and of others that are not there yet."""
    place.fill(files)
    there = {row["sha256"] for row in tables.read(place.spark, place.output, "views").select("sha256").collect()}
    rows = [
        (name, seen(sha256, view).tobytes(), 1, 1, "PNG", None, MODEL, view % 4)
        for sha256 in sorted({file.sha256 for file in [*files, *others]})
        for view in range(1, 8)
        if (name := named(sha256, list(VIEWS)[view])) not in there
    ]
    tables.append(place.spark.createDataFrame(rows, tables.SCHEMAS["views"]).coalesce(1), place.output, "views")
    return place


@pytest.fixture
def place(spark: SparkSession, tmp_path: Path) -> Place:
    return Place(spark, str(tmp_path / "features"), str(tmp_path / "output"))


@pytest.fixture(autouse=True)
def prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every content keep all its candidates: in so few dimensions there are many."""
    monkeypatch.setattr(candidates, "MOST", 400)


def grouped(rows: dict[str, Row]) -> dict[str, Row]:
    """Return a manifest with all files of a group for its name, which goes on from run to run."""
    groups: dict[str, list[str]] = {}
    for path, row in rows.items():
        groups.setdefault(row["group_id"], []).append(path)
    return {path: row | {"group_id": row["group_id"] and groups[row["group_id"]]} for path, row in rows.items()}


def near(rows: dict[tuple[str, str], Row]) -> dict[tuple[str, str], tuple[float, ...]]:
    return {ends: tuple(row[name] for name in ("votes", *METRICS)) for ends, row in rows.items()}


@pytest.mark.slow
def test_every_row_is_what_plain_python_says_in_views_with_any_number_of_partitions(place: Place) -> None:
    expected = Views(8).rows(FILES)
    assert len({row["view"] for row in expected.values()}) > 4, "the lake is made so that views matter"
    found = near(Views(8).pairs(FILES))
    for number in (1, 7):
        there = filled(replace(place, output=f"{place.output}{number}"), FILES)
        with partitions(place.spark, number):
            done = there.run(NEAR)
        assert there.pairs() == found
        assert there.rows() == expected
    sets = len(set(exacts(FILES).values()))
    assert done.turned == Turned(8, sets, 0, 0)
    assert (done.exact_sets, done.compared) == (sets, sets), "views are no contents"


@pytest.mark.slow
def test_in_fewer_views_less_is_near(place: Place) -> None:
    done = filled(place, FILES).run(NEAR, views=2)
    assert done.turned == Turned(2, len(set(exacts(FILES).values())), 0, 0)
    assert place.pairs() == near(Views(2).pairs(FILES))
    assert place.rows() == Views(2).rows(FILES)


def test_what_was_compared_as_it_is_counts_whatever_the_thresholds_are_for(place: Place) -> None:
    place.fill(FILES[:10])
    assert place.run(NEAR, views=1).compared > 0
    left = state.load(place.output)
    assert left is not None
    assert "views" not in {*left.settings, *left.settings["thresholds"]}, "as states were before there were views"
    assert place.run(replace(NEAR, views=1)).compared == 0


@pytest.mark.slow
def test_an_approximate_search_looks_at_views_too(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "CELL", 16)
    done = filled(place, FILES).run(NEAR, way="approximate")
    assert done.found.recall is not None
    every = {tuple(parsed(name)[0] for name in ends) for ends in near(Views(8).pairs(FILES))}
    assert 0 < done.found.recall.found <= done.found.recall.near <= len({one for pair in every for one in pair})
    assert place.pairs() == near(Views(8).pairs(FILES)), "the sample, which is compared with everything, is all"


@pytest.mark.slow
def test_what_comes_later_is_compared_with_the_views_of_what_was_there_and_the_other_way(place: Place) -> None:
    new = {sha(number) for number in (0, 21, 30, 33, 39, 25)}
    early = [file for file in FILES if file.sha256 not in new]
    filled(place, early).run(NEAR)
    assert place.rows() == Views(8).rows(early)
    done = filled(place, FILES).run(NEAR)
    assert place.pairs() == near(Views(8).pairs(FILES))
    assert grouped(place.rows()) == grouped(Views(8).rows(FILES))
    assert done.compared == len(set(exacts(FILES).values()) - set(exacts(early).values()))
    filled(place, early).run(NEAR)
    assert place.pairs() == near(Views(8).pairs(early))


@pytest.mark.slow
def test_the_views_of_what_is_compared_against_are_looked_at(place: Place) -> None:
    theirs = [replace(file, path=file.path.replace("/lake/", "/old/")) for file in FILES[20:35]]
    mine = [file for file in FILES if file not in FILES[20:35]]
    old = Place(place.spark, f"{place.features}-old", "").fill(theirs)
    done = filled(place, mine, *theirs).run(NEAR, against=old.features)
    assert place.pairs() == near(Views(8).pairs(mine, tuple(theirs)))
    rows = place.rows()
    assert rows == Views(8).rows(mine, tuple(theirs))
    assert done.turned == Turned(8, len(set(exacts(FILES).values())), 0, 0)
    assert any(row["keeper"].startswith("/old/") and row["view"] for row in rows.values())


@pytest.mark.slow
def test_a_view_never_stands_for_a_content_that_has_its_vector(place: Place) -> None:
    row = np.arange(1, WIDTH + 1, dtype=np.float32) ** 2
    VECTORS.update({sha("one"): row, sha("two"): row[TURNS[4]], sha("blank"): np.ones(WIDTH, np.float32)})
    try:
        names = [sha(name) for name in ("one", "two", "blank")]
        files = [Stored(f"/lake/a/{number}.jpg", name, VECTORS[name]) for number, name in enumerate(names)]
        filled(place, files).run(NEAR, policy=Policy())
        found = place.rows()
        turned = found["/lake/a/1.jpg"]
        assert (turned["action"], turned["keeper"], turned["view"]) == ("drop", "/lake/a/0.jpg", "turned right")
        assert turned["euclidean"] == 0
        assert found["/lake/a/2.jpg"]["action"] == "keep", "a picture that is like its own views has no copy"
        assert filled(place, files[1:]).run(NEAR, policy=Policy()).counts["groups"] == 0
        assert filled(place, files).run(NEAR, policy=Policy()).counts["groups"] == 1
    finally:
        for name in ("one", "two", "blank"):
            del VECTORS[sha(name)]


def test_pairs_of_views_become_pairs_of_contents(spark: SparkSession) -> None:
    a, b, c = sorted(map(sha, "abc"))
    given = [
        (a, b, 3, 1.0),
        (f"{a}/4", b, 4, 2.0),
        (a, f"{b}/5", 4, 2.0),
        (a, f"{b}/1", 4, 3.0),
        (a, f"{a}/1", 5, 0.0),
        (b, f"{c}/4", 3, 1.0),
        (b, f"{c}/2", 3, 1.0),
        (f"{a}/7", c, 3, 1.0),
    ]
    rows = [(left, right, votes, *[distance] * len(METRICS)) for left, right, votes, distance in given]
    found = pairs.of_contents(spark.createDataFrame(rows, tables.SCHEMAS["pairs"]))
    assert found.columns == [*tables.SCHEMAS["pairs"].names, "view"]
    said = {(row["sha256_l"], row["sha256_r"], row["votes"], row["dice"], row["view"]) for row in found.collect()}
    assert said == {(a, b, 4, 2.0, 4), (b, c, 3, 1.0, 2), (a, c, 3, 1.0, 7)}


def test_columns_say_of_names_what_python_does_and_a_view_is_undone(spark: SparkSession) -> None:
    names = [named(sha(1), view) for view in VIEWS]
    number = viewed.number("sha256")
    rows = spark.createDataFrame([(name,) for name in names], "sha256 string").select(
        "sha256", viewed.content("sha256"), number, viewed.word(number), viewed.undone(number)
    )
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    for name, content, place, word, undone in rows.collect():
        assert (content, word or views.PLAIN) == parsed(name)
        assert list(VIEWS)[place] == parsed(name)[1]
        view, back = list(VIEWS.values())[place], list(VIEWS.values())[undone]
        np.testing.assert_array_equal(back(view(picture)), picture)
        assert UNDONE[place] == TURNED[undone]


def test_what_cannot_be_done_in_views_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.fill(FILES[:3])
    for within, options, message in (
        (replace(NEAR, views=2), {"views": 4}, "--views 4: the thresholds were made for 2: run calibrate --views 4 fi"),
        (NEAR, {"views": 3}, "--views 3: possible are 1, 2, 4, 8"),
        (NEAR, {"table": place.features + "-none"}, "no table of images"),
    ):
        with pytest.raises(UsageError, match=message):
            place.run(within, **options)
        assert not Path(place.output).exists()
    with pytest.raises(UsageError, match=f"weights of {MODEL}"):
        place.run(NEAR)


# From here on with the network, on pictures.

HIDDEN = {number: list(VIEWS)[number] for number in range(1, 8)}
"""Of these pictures a copy is hidden in a view."""


@pytest.fixture(scope="module")
def tight(model: OnnxModel) -> Thresholds:
    """Thresholds that a copy in a view is within by far, and no two pictures are."""
    pictures = [np.asarray(picture(seed).resize((model.side, model.side))) for seed in range(9)]
    nearest = near_by(ENGINE.load(model.blob, model.arithmetic, 1, 1)(np.stack(pictures)), 3, 0, model.id)
    return replace(nearest, within={name: within / 5 for name, within in nearest.within.items()}, views=8)


@pytest.fixture(scope="module")
def hidden(spark: SparkSession, model: Model, tight: Thresholds, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Return features of nine pictures and of seven in a view, and an output with the views of all."""
    folder = tmp_path_factory.mktemp("hidden")
    for number, path in enumerate(make_images(folder / "images", 9)):
        if number in HIDDEN:
            picture = np.asarray(Image.open(path).convert("RGB"))
            Image.fromarray(np.ascontiguousarray(VIEWS[HIDDEN[number]](picture))).save(
                folder / "images" / f"{number}.png"
            )
    location = str(folder / "features")
    images.ingest(spark, str(folder / "images"), location, keep_bytes=False)
    extraction.extract(spark, location, location, model)
    there = Place(spark, location, str(folder / "output"))
    there.run(tight, views=8, policy=Policy())
    return there


def never(*_: object) -> NoReturn:
    raise AssertionError("the network is not needed")


@pytest.mark.slow
def test_flipped_and_turned_copies_are_found_and_a_second_run_makes_no_view(
    hidden: Place, tight: Thresholds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deduplication, "_network", never)
    there = hidden.copied(tmp_path)
    there = replace(there, features=hidden.features)
    folder = Path(hidden.features).parent / "images"
    policy = Policy(prefer=tuple(str(folder / f"set {number}") for number in range(4)))
    done = there.run(tight, policy=policy)
    assert done.turned == Turned(8, 16, 0, 0)
    assert done.compared == 0
    rows = there.rows()
    for number in range(1, 8):
        row = rows[str(folder / f"{number}.png")]
        assert (row["action"], row["method"], row["view"]) == ("drop", "near", UNDONE[number])
        assert f"cloud {number:03d}" in row["keeper"]
    assert done.counts["groups"] == done.counts["drop"] == 7
    assert "mirrored and turned left, score" in Path(done.page).read_text()


def test_as_they_are_flipped_and_turned_copies_are_not_near(hidden: Place, tight: Thresholds, tmp_path: Path) -> None:
    done = replace(hidden, output=str(tmp_path)).run(tight, policy=Policy(), views=1)
    assert (done.counts["groups"], done.turned) == (0, None)


@pytest.mark.slow
def test_views_that_cannot_be_made_are_counted_and_tried_again(
    hidden: Place, tight: Thresholds, tmp_path: Path
) -> None:
    there = replace(hidden, output=str(tmp_path / "output"))
    folder = Path(hidden.features).parent / "images"
    path = folder / "4.png"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    rows = tables.read(there.spark, hidden.output, "views").where(viewed.content("sha256") != sha256)
    tables.replace(rows, there.output, "views")
    table = str(tmp_path / "table")
    images.ingest(there.spark, str(path), table)
    gone = path.rename(tmp_path / "gone")
    try:
        done = there.run(tight, policy=Policy())
        again = there.run(tight, policy=Policy(), table=table)
    finally:
        gone.rename(path)
    assert done.turned == Turned(8, 16, 0, 1)
    said = "1 image cannot be read any more, so that not all views could be made"
    assert said in " ".join(told(done, tight))
    assert done.counts["groups"] == 7, "it is found by the views of what it is a view of"
    assert again.turned == Turned(8, 16, 1, 0), "a table of images has its bytes"
    assert said not in Path(again.page).read_text()
    names = [row["sha256"] for row in tables.read(there.spark, there.output, "views").select("sha256").collect()]
    assert len(names) == len(set(names)) == 16 * 7
    assert there.pairs() == hidden.pairs()


@pytest.mark.slow
def test_a_view_is_described_as_a_query_sees_it(hidden: Place, spark: SparkSession, model: Model) -> None:
    path = next(iter(sorted((Path(hidden.features).parent / "images").rglob("cloud 001*"))))
    content = path.read_bytes()
    picture = pixels.shrunk(pixels.open_upright(content), model.side)
    names = [named("a", view) for view in ("mirrored", "turned left")]
    schema = "sha256 string, path string, other string, bucket int, content binary"
    asked = [(name, "p", "p", 0, pixels.encoded(VIEWS[parsed(name)[1]](picture))) for name in names]
    with features.task(spark, model) as task:
        expected = features.describe(spark.createDataFrame(asked, schema), task).collect()
        ends = [name.removeprefix("a") for name in names]
        wanted = spark.createDataFrame([("a", "p", "p", 0, content, ends)], f"{schema}, views array<string>")
        found = features.describe(wanted, task).collect()
        (reject,) = features.describe(wanted.withColumn("content", F.lit(b"no image")), task).collect()
    assert {row["sha256"]: row["features"] for row in found} == {row["sha256"]: row["features"] for row in expected}
    assert (found[0]["pixels"], found[0]["format"], reject["sha256"]) == (None, pixels.decode(content).format, "a")
    assert (reject["reason"], reject["features"]) == ("not_an_image", None)
