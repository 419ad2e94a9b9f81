"""A lake from end to end against the same in plain Python, and what later runs make of what earlier ones left."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from tests.samples import Contents, Near, Stored, clumps, descriptions, near_by, near_pairs, store
from tests.spark.test_manifest import Lake, Oracle, Row, partitions

from dedup import candidates, deduplication, delivery, state, storage, tables, thresholds
from dedup.counters import deduplicated
from dedup.deduplication import deduplicate
from dedup.distances import METRICS, distances
from dedup.errors import UsageError
from dedup.keepers import Policy
from dedup.summary import Deduplicated, Request, told
from dedup.thresholds import Thresholds

MODEL = "synthetic"
POLICY = Policy(prefer=("/lake/gold",), protect=("/lake/safe",))
NAMES = ['"quoted", with a comma', "two\nlines", "ends with a blank ", "ünïcode", "back\\slash"]


def sha(number: int | str) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def made() -> list[Stored]:
    """Files of 90 contents: clumps, equal vectors, equal pixels, zeros, what is not finite, and copies."""
    random = np.random.default_rng(11)
    rows = clumps(11, 90, 16)
    near = near_by(rows, 3, 0.06)
    others = (near.agreeing(distances(rows, rows)) >= near.votes).sum(axis=1)
    rows[[4, 20, 23]] = rows[np.argsort(-others, kind="stable")[[0, 5, 10]]] * np.float32(1.0001)
    rows[5:9] = rows[4]
    rows[40] = rows[4]
    rows[10:12] = 0
    rows[12:15, 0] = [np.nan, np.inf, np.nan]
    rows[21] = rows[20]
    pixels = {12: "broken", 14: "broken", 20: "same", 21: "same", 23: "other", 24: "other", 25: "other"}
    files = []
    for number, row in enumerate(rows):
        folder = random.choice(["a", "b", "gold", "safe", "golden"], p=[0.4, 0.3, 0.1, 0.1, 0.1])
        name = NAMES[number] if number < len(NAMES) else f"{number}.jpg"
        one = Stored(
            f"/lake/{folder}/{name}",
            sha(number),
            row,
            pixels.get(number),
            int(random.integers(100, 104)),
            int(random.integers(1, 4)),
            int(random.choice([100, 200])),
            str(random.choice(["JPEG", "PNG"])),
        )
        copies = range(int(random.choice([0, 0, 0, 1, 2])))
        files += [one, *[replace(one, path=f"/lake/b/copy {copy} of {number}") for copy in copies]]
    return files


FILES = made()
VECTORS = {file.sha256: file.vector for file in FILES}
FINITE = np.stack([row for row in VECTORS.values() if np.isfinite(row).all()])
NEAR = near_by(FINITE, 3, 0.06, MODEL)
EVERY = near_pairs(VECTORS, replace(NEAR, votes=0))


def exacts(files: list[Stored]) -> dict[str, str]:
    """Return for each content the one that names its exact set."""
    by_pixels: dict[str, list[str]] = {}
    for file in files:
        by_pixels.setdefault(file.pixels or file.sha256, []).append(file.sha256)
    return {name: min(names) for names in by_pixels.values() for name in names}


class Measured(Lake):
    """A lake whose pairs measure what a comparison of all with all says."""

    def measure(self, left: str, right: str) -> Row:
        measured = EVERY.get((min(left, right), max(left, right)), (0, *[float("inf")] * len(METRICS)))
        return dict(zip(("votes", *METRICS), measured, strict=True))


def expected_pairs(files: list[Stored], within: Thresholds = NEAR, against: tuple[Stored, ...] = ()) -> Near:
    exact = exacts([*files, *against])
    outside = {exact[file.sha256] for file in against}
    names = frozenset(exact.values())
    return Contents({name: VECTORS[name] for name in names}, names, names - outside).expected(within)


def expected(
    files: list[Stored], within: Thresholds = NEAR, policy: Policy = POLICY, against: tuple[Stored, ...] = ()
) -> dict[str, Row]:
    """Return the manifest by path, without thresholds."""
    paths = {file.path for file in against}
    mine = [file for file in files if file.path not in paths]
    exact = exacts([*mine, *against])
    described = [
        {
            "path": file.path,
            "sha256": file.sha256,
            "exact": exact[file.sha256],
            "length": file.length,
            "modified": datetime(2024, 1, file.day, tzinfo=UTC),
            "width": file.width,
            "height": 100,
            "format": file.format,
            "own": file.path not in paths,
            "model": MODEL,
        }
        for file in [*mine, *against]
    ]
    pairs = expected_pairs(mine, within, against)
    near = {pair: dict(zip(("votes", *METRICS), measured, strict=True)) for pair, measured in pairs.items()}
    rows = Oracle(Measured(described, near, set()), within, policy).rows
    return {path: _plain(rows[path]) for path in sorted(rows)}


def _plain(row: Row) -> Row:
    return {name: value for name, value in row.items() if not name.endswith("_threshold")}


def identified(rows: dict[str, Row], before: dict[str, Row]) -> tuple[dict[str, str], set[tuple[str, str]]]:
    """Return the ids of groups, given by their smallest content, after an earlier manifest; and what merged."""
    old: dict[str, set[str]] = {}
    new: dict[str, set[str]] = {}
    for manifest, found in ((before, old), (rows, new)):
        for row in manifest.values():
            if row["group_id"]:
                found.setdefault(row["group_id"], set()).add(row["sha256"])
    claims: dict[str, list[tuple[int, str]]] = {}
    for group, contents in old.items():
        shared = {name: len(contents & others) for name, others in new.items() if contents & others}
        if shared:
            best = min(shared, key=lambda name: (group not in new[name], -shared[name], name))
            claims.setdefault(best, []).append((-shared[best], group))
    ids = {name: min(claims[name])[1] if name in claims else name for name in new}
    return ids, {(ids[name], group) for name, groups in claims.items() for _, group in groups if group != ids[name]}


@dataclass(frozen=True)
class Place:
    """Where a lake and what is made of it are."""

    spark: SparkSession
    features: str
    output: str

    def fill(self, files: list[Stored], rejects: int = 0) -> Place:
        store(self.spark, self.features, files, rejects=rejects)
        return self

    def run(self, within: Thresholds = NEAR, **options: Any) -> Deduplicated:
        request = Request(self.features, self.output, within, **{"policy": POLICY} | options)
        return deduplicate(self.spark, request)

    def rows(self) -> dict[str, Row]:
        rows = tables.read(self.spark, self.output, "manifest").drop("part").orderBy("path").collect()
        return {row["path"]: _plain(row.asDict()) for row in rows}

    def pairs(self) -> Near:
        rows = tables.read(self.spark, self.output, "pairs").collect()
        near = {(row["sha256_l"], row["sha256_r"]): tuple(row[name] for name in ("votes", *METRICS)) for row in rows}
        assert len(near) == len(rows), "each pair once"
        return near

    def merges(self) -> set[tuple[int, str, str]]:
        return {(row[0], row[1], row[2]) for row in tables.read(self.spark, self.output, "merges").collect()}

    def copied(self, folder: Path) -> Place:
        """Return a copy of what was made, for another lake."""
        shutil.copytree(self.output, folder / "output")
        return Place(self.spark, str(folder / "features"), str(folder / "output"))


@pytest.fixture
def place(spark: SparkSession, tmp_path: Path) -> Place:
    return Place(spark, str(tmp_path / "features"), str(tmp_path / "output"))


def without(*numbers: int | str) -> list[Stored]:
    gone = {sha(number) if isinstance(number, int) else number for number in numbers}
    return [file for file in FILES if file.sha256 not in gone]


FIRST = [min(map(sha, numbers)) for numbers in ((4, 5, 6, 7, 8, 40), (20, 21), (23, 24, 25))]
"""Contents that stand for others, with the same vector or the same pixels."""

EARLY = without(*FIRST, 10, *range(60, 75))
LATER = without(7, 10, 25, *range(40, 55))


@pytest.fixture(scope="module", autouse=True)
def roomy() -> Iterator[None]:
    """Let every content keep all its candidates: in so few dimensions there are many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "MOST", 200)
        yield


@pytest.fixture(scope="module")
def early(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A first run over some of the files."""
    folder = tmp_path_factory.mktemp("early")
    place = Place(spark, str(folder / "features"), str(folder / "output")).fill(EARLY)
    done = place.run()
    assert done.compared == done.exact_sets == len(set(exacts(EARLY).values()))
    return place


def read_csv(output: str) -> list[Row]:
    with open(f"{output}/manifest.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_every_row_is_what_plain_python_says_with_any_number_of_partitions(place: Place) -> None:
    wholes = []
    for number in (1, 3, 17):
        there = replace(place, output=f"{place.output}{number}").fill(FILES, rejects=3)
        with partitions(place.spark, number):
            before = descriptions(place.spark)
            done = there.run(csv=True)
            said = [text for number, text in descriptions(place.spark).items() if number not in before]
        if delivery.context(place.spark):
            assert {(text or "").partition(":")[0] for text in said} == {"deduplicate"}
        assert there.pairs() == expected_pairs(FILES)
        assert there.rows() == expected(FILES)
        assert done.others.rejected == 3
        assert done.counts["files"] == len(FILES)
        wholes.append(Path(there.output, "manifest.csv").read_bytes())
    assert wholes[0] == wholes[1] == wholes[2]

    assert [row["path"] for row in read_csv(there.output)] == sorted(file.path for file in FILES)
    for row, found in zip(read_csv(there.output), there.rows().values(), strict=True):
        for name, value in found.items():
            text = row[name]
            if value is None:
                assert text == ""
            elif name == "link":
                assert json.loads(text) == value
            else:
                assert type(value)(text) == value
        near = found["method"] == "near"
        assert [row[f"{metric}_threshold"] for metric in METRICS] == [
            str(NEAR.within[metric]) if near else "" for metric in METRICS
        ]
    counts = deduplicated(done)
    assert (counts.sums[0].total, counts.rejects) == (len(FILES) + 3, {"empty": 3})
    page = Path(done.page).read_text(encoding="utf-8")
    assert "&#34;quoted&#34;, with a comma" in page
    assert not [name for name in storage.names(there.output) if name.startswith("_scratch")]


def test_no_text_of_the_csv_is_a_formula(spark: SparkSession) -> None:
    harmless = ["/lake/=1+1.jpg", "s3a://lake/a", "'=1", "a=b", " =1", "", None]
    formulas = [f"{sign}1+1" for sign in "=+-@\t\r\n＝＋－＠"]
    rows = spark.createDataFrame([(text, -1.5) for text in [*harmless, *formulas]], "path string, dice double")
    found = [tuple(row) for row in deduplication._unobeyed(rows).collect()]
    assert found == [(text, -1.5) for text in [*harmless, *(f"'{text}" for text in formulas)]]


def test_the_csv_of_hostile_names_is_read_as_texts(place: Place) -> None:
    formulas = ['=HYPERLINK("http://a","b").jpg', "+1+1", "-1", "@SUM(1,2)", "\t=1", "\r=1", "\n=1", "＝1"]
    others = [
        '/lake/"=1".jpg',
        '/lake/a","=1',
        "/lake/a\n=1",
        "/lake/a\r=1",
        "/lake/a\r\n=1",
        "/lake/a\\",
        '/lake/a\\"',
        " =1 ",
    ]
    vector = np.ones(16, np.float32)
    place.fill([Stored(path, sha(number % 2), vector) for number, path in enumerate([*formulas, *others])])
    place.run(policy=Policy(), csv=True)
    shown = {path: f"'{path}" for path in formulas} | {path: path for path in others}
    rows = place.rows()
    assert rows.keys() == shown.keys()
    assert {row["keeper"] for row in rows.values()} & set(formulas), "names stand in other columns too"
    found = {row["path"]: row for row in read_csv(place.output)}
    assert found.keys() == set(shown.values())
    for path, row in rows.items():
        assert found[shown[path]]["action"] == row["action"]
        assert found[shown[path]]["keeper"] == shown[row["keeper"]]
        assert None not in found[shown[path]], "no name makes a column"


def goes_on(
    there: Place, files: list[Stored], before: list[Stored], within: Thresholds = NEAR, run: int = 2
) -> Deduplicated:
    """Run once more, and make sure that all is as if it were the first run, but for ids, which go on."""
    earlier, logged = there.fill(files).rows(), there.merges()
    done = there.run(within)
    assert there.pairs() == expected_pairs(files, within)
    plain = expected(files, within)
    ids, merged = identified(plain, earlier)
    assert len(set(ids.values())) == len(ids)
    assert there.rows() == {path: row | {"group_id": ids.get(row["group_id"])} for path, row in plain.items()}
    assert there.merges() - logged == {(run, *ends) for ends in merged}
    assert done.exact_sets == len(set(exacts(files).values()))
    assert done.compared == len(set(exacts(files).values()) - set(exacts(before).values()))
    return done


@pytest.mark.slow
def test_a_later_run_compares_what_is_new_and_ids_go_on(early: Place, tmp_path: Path) -> None:
    there = early.copied(tmp_path)
    done = goes_on(there, FILES, EARLY)
    assert 0 < done.compared < done.exact_sets / 2
    assert there.merges(), "the lake is made so that groups merge"
    # Now those go that stood for others: what they were near to has to be known of the others.
    shutil.copy(__file__, f"{there.output}/manifest.csv")
    goes_on(there, without(*FIRST), FILES, run=3)
    assert not Path(there.output, "manifest.csv").exists(), "one of an earlier run says what is true no more"


@pytest.mark.slow
def test_files_that_go_and_come_back_are_compared_with_what_came_in_between(early: Place, tmp_path: Path) -> None:
    there = early.copied(tmp_path)
    goes_on(there, LATER, EARLY)
    goes_on(there, FILES, LATER, run=3)


@pytest.mark.slow
def test_where_pairs_were_cut_and_a_file_has_gone_everything_is_compared_anew(
    early: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "MOST", 1)
    there, scratch = (replace(early, output=str(tmp_path / name)) for name in ("output", "scratch"))
    there.fill(FILES).run()
    there.fill(without(*FIRST))
    for place in (there, scratch):
        done = place.run()
        assert done.found.hot, "some contents have more candidates than they keep"
        assert done.compared == done.exact_sets
    others = scratch.rows()
    assert set(there.rows()) == set(others)
    for path, row in there.rows().items():
        assert all(row[name] == others[path][name] for name in ("action", "keeper", "method"))


def test_a_place_that_holds_no_file_and_a_file_that_was_forgotten_are_refused(early: Place, tmp_path: Path) -> None:
    there = early.copied(tmp_path).fill(EARLY)
    with pytest.raises(UsageError, match="--protect /lake/saef: no file of the features lies there"):
        there.run(policy=Policy(protect=("/lake/saef",)))
    listed = tables.read(there.spark, there.features, "images").drop("part")
    more = listed.limit(1).withColumns({"path": F.lit("/lake/new.jpg"), "sha256": F.lit(sha("new"))})
    tables.append(more, there.features, "images")
    with pytest.raises(UsageError, match="1 files have neither features nor a reject: run extract again"):
        there.run()


def test_with_other_settings_everything_is_compared_anew(early: Place, tmp_path: Path) -> None:
    there = early.copied(tmp_path)
    goes_on(there, EARLY, [], replace(NEAR, votes=5))


def test_pairs_that_were_deleted_are_looked_for_again(early: Place, tmp_path: Path) -> None:
    there = early.copied(tmp_path)
    shutil.rmtree(f"{there.output}/pairs")
    goes_on(there, EARLY, [])


class Killed(Exception):
    pass


@contextmanager
def killed(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, when: Callable[..., bool]) -> Iterator[None]:
    """Stop a run right after a call."""
    work = getattr(owner, name)

    def stopping(*given: Any, **named: Any) -> Any:
        done = work(*given, **named)
        if when(*given):
            raise Killed
        return done

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stopping)
        with pytest.raises(Killed):
            yield


@pytest.mark.slow
def test_a_run_that_is_killed_is_finished_by_the_next(
    early: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = early.copied(tmp_path).fill(FILES)
    with killed(monkeypatch, tables, "replace", lambda rows, location, table: table == "pairs"):
        there.run()
    Path(there.output, "_scratch-of one that was killed").mkdir()
    earlier = there.rows()
    with killed(monkeypatch, tables, "replace", lambda rows, location, table: table == "manifest"):
        there.run()
    ids, merged = identified(expected(FILES), earlier)
    assert there.merges() == {(2, *ends) for ends in merged}
    done = there.run()
    assert done.compared == len(set(exacts(FILES).values()) - set(exacts(EARLY).values()))
    assert there.pairs() == expected_pairs(FILES)
    assert there.merges() == {(2, *ends) for ends in merged}
    assert there.rows() == {path: row | {"group_id": ids.get(row["group_id"])} for path, row in expected(FILES).items()}
    assert not [name for name in storage.names(there.output) if name.startswith("_scratch")]
    assert {len(storage.names(f"{there.output}/{table}")) for table in ("pairs", "manifest")} == {1}


def test_axes_and_what_was_made_with_them_go_together(
    early: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = early.copied(tmp_path).fill(FILES)
    before = state.load(there.output)
    assert before is not None
    other = state.State(0, {}, (), "", False, np.eye(2, 16))
    with killed(monkeypatch, storage, "write", lambda location, content: location.endswith(".npy")):
        other.save(there.output)
    after = state.load(there.output)
    assert after is not None
    np.testing.assert_array_equal(after.axes, before.axes)
    other.save(there.output)
    again = state.load(there.output)
    assert again is not None
    np.testing.assert_array_equal(again.axes, other.axes)
    assert len([name for name in storage.names(there.output) if name.endswith(".npy")]) == 1


@pytest.mark.slow
def test_files_compared_against_stay_and_are_left_alone(place: Place) -> None:
    mine = [file for number, file in enumerate(FILES) if number % 3]
    theirs = [replace(file, path=file.path.replace("/lake/", "/old/")) for file in FILES[::2]] + mine[:3]
    old = Place(place.spark, f"{place.features}-old", "").fill(theirs, rejects=2)
    done = place.fill(mine).run(against=old.features)
    rows = place.rows()
    assert rows == expected(mine, against=tuple(theirs))
    assert done.others.rejected == 0
    assert set(rows) == {file.path for file in mine[3:]}
    pairs = place.pairs()
    outside = {file.sha256 for file in theirs}
    assert not [pair for pair in pairs if set(pair) <= outside and not set(pair) & {file.sha256 for file in mine}]
    assert any(row["keeper"].startswith("/old/") and row["method"] == "near" for row in rows.values())
    assert place.run(against=old.features).compared == 0
    assert place.rows() == rows


def test_without_a_calibration_what_is_near_is_for_review(place: Place) -> None:
    within = replace(NEAR, model="")
    files = EARLY[:60]
    done = place.fill(files).run(within, csv=True)
    rows = place.rows()
    assert rows == expected(files, within)
    assert {row["method"] for row in rows.values() if row["action"] == "drop"} == {"bytes", "pixels"}
    assert "calibrate" in told(done, within)[-2]
    assert "for you to review" in Path(done.page).read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["one", "bytes", "broken"])
def test_lakes_with_nothing_to_compare(place: Place, kind: str) -> None:
    row = np.full(16, np.nan if kind == "broken" else 1, np.float32)
    count = 1 if kind == "one" else 6
    files = [Stored(f"/lake/{number}.png", sha(number * (kind != "bytes")), row) for number in range(count)]
    done = place.fill(files).run(policy=Policy())
    kept = 6 if kind == "broken" else 1
    assert (done.counts["keep"], done.counts["drop"], done.counts["review"]) == (kept, count - kept, 0)
    assert done.counts["bytes"] == count - kept
    assert done.exact_sets == kept
    assert (done.counts["groups"], place.pairs()) == (int(count > kept), {})


@pytest.mark.slow
def test_a_hot_clump_becomes_one_group(place: Place) -> None:
    random = np.random.default_rng(5)
    centre = random.gamma(1, 100, 16)
    rows = np.asarray(centre + random.normal(0, 0.5, (400, 16)), np.float32)
    files = [Stored(f"/lake/{number:03d}.jpg", sha(number), row, length=number) for number, row in enumerate(rows)]
    within = near_by(rows, 3, 0.9, MODEL)
    near = near_pairs({file.sha256: file.vector for file in files}, within)
    assert nx.number_connected_components(nx.Graph(list(near))) == 1
    done = place.fill(files).run(within, policy=Policy())
    found = place.rows()
    best = "/lake/399.jpg"
    assert done.counts["groups"] == done.counts["keep"] == 1
    for file in files[:-1]:
        row = found[file.path]
        pair = (min(file.sha256, sha(399)), max(file.sha256, sha(399)))
        assert row["keeper"] == best
        assert row["action"] == ("drop" if pair in near else "review")
        if pair in near:
            assert tuple(row[name] for name in ("votes", *METRICS)) == near[pair]
        else:
            assert row["reason"] == "linked"
            steps = [sha(int(path[6:9])) for path in row["link"]]
            assert all((min(a, b), max(a, b)) in near for a, b in pairwise(steps))
    assert place.pairs().items() < near.items()
    assert len(done.found.hot) == 20
    assert candidates.MOST < done.found.hot[0][1] < 400
    assert "compared with those most alike" in Path(done.page).read_text(encoding="utf-8")


def test_what_cannot_be_done_is_refused(place: Place) -> None:
    one = [Stored("/lake/a.jpg", sha(1), np.ones(16, np.float32))]
    with pytest.raises(UsageError, match=r"no table of features .*submit.sh extract"):
        place.run()
    store(place.spark, place.features, one, models=(MODEL, "another"))
    default = thresholds.defaults()
    for within, options, message in (
        (default, {}, "several models: choose one with --model: another .*, synthetic"),
        (default, {"model": "third"}, "was made with another .*, not with third"),
        (replace(NEAR, model="third"), {}, "was made with another .*, not with third"),
        (NEAR, {"model": "another"}, "thresholds were made for synthetic, not for another"),
        (NEAR, {"against": place.features + "/"}, "these are the features themselves"),
        (NEAR, {"against": place.features + "-none"}, "no table of features"),
        (NEAR, {"policy": Policy(rules=("biggest",))}, "unknown rule 'biggest'"),
        (NEAR, {"way": "fast"}, "--search fast: possible are exact, approximate"),
    ):
        with pytest.raises(UsageError, match=message):
            place.run(within, **options)
        assert not Path(place.output).exists()
    with pytest.raises(UsageError, match="the output needs another place"):
        replace(place, output=f"{place.features}/").run()
    old = Place(place.spark, f"{place.features}-old", "").fill(one)
    with pytest.raises(UsageError, match="the output needs another place"):
        replace(place, output=old.features).run(against=old.features)
    store(place.spark, f"{old.features}er", one, models=("another",))
    with pytest.raises(UsageError, match="was made with another"):
        place.run(against=f"{old.features}er")
    store(place.spark, place.features, [])
    with pytest.raises(UsageError, match="no image has features of synthetic"):
        place.run()


def test_a_sample_is_the_same_with_any_partitions(spark: SparkSession) -> None:
    rows = [(file.sha256, file.vector.tobytes(), number % 5) for number, file in enumerate(FILES)]
    given: DataFrame = spark.createDataFrame(rows, "sha256 string, features binary, bucket int")
    one, other = (deduplication._sample(given.repartition(number), "here") for number in (1, 7))
    np.testing.assert_array_equal(one, other)
    assert np.isfinite(one).all()
