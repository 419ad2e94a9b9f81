"""The search for near pairs against a comparison of all with all."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from tests.samples import Contents, Near, Vectors, clumps, near_by, near_pairs, stored

from dedup import candidates, pairs, search, sketches, vectors
from dedup.distances import METRICS
from dedup.search import Found, Search
from dedup.thresholds import Thresholds

WIDTH = 24


def lake(rows: Vectors, fresh: float = 1, own: float = 1, seed: int = 0) -> Contents:
    random = np.random.default_rng(seed)
    names = [f"{random.integers(1 << 60):015x}{number:049x}" for number in range(len(rows))]
    chosen = [frozenset(name for name in names if random.random() < share) for share in (fresh, own)]
    return Contents(dict(zip(names, rows, strict=True)), *chosen)


def features(spark: SparkSession, lake: Contents, folder: Path) -> DataFrame:
    rows = [(name, row.tobytes(), number % 3) for number, (name, row) in enumerate(lake.rows.items())]
    return stored(spark.createDataFrame(rows, "sha256 string, features binary, bucket int"), folder)


def searched(
    spark: SparkSession, lake: Contents, thresholds: Thresholds, folder: Path, way: str | None = "exact", axes: int = 8
) -> tuple[Near, Found, Search]:
    """Search, with sketches that are short enough to leave many candidates that are not near."""
    described = features(spark, lake, folder / "features")
    some = np.array(list(lake.rows.values()), np.float32).reshape(-1, WIDTH)
    made = candidates.sketch(described, sketches.fit(some[np.isfinite(some).all(axis=1)])[:axes])
    flags = [(name, name in lake.own, name in lake.fresh) for name in lake.rows]
    live = made.join(spark.createDataFrame(flags, "sha256 string, own boolean, fresh boolean"), "sha256")
    live = live.where("code is not null").persist(StorageLevel.DISK_ONLY)
    searching = Search(live, described, thresholds, WIDTH, str(folder))
    found = searching.run(way)
    rows = found.pairs.collect()
    live.unpersist()
    near = {(row["sha256_l"], row["sha256_r"]): (row["votes"], *[row[metric] for metric in METRICS]) for row in rows}
    assert len(near) == len(rows), "each pair once"
    return near, found, searching


def groups(near: Near) -> set[frozenset[str]]:
    return {frozenset(component) for component in nx.connected_components(nx.Graph(list(near)))}


@pytest.fixture(scope="module")
def rows() -> Vectors:
    made = clumps(1, 160, WIDTH)
    made[10:14] = made[20]
    made[30:32] = 0
    return made


@pytest.mark.parametrize("votes", range(1, len(METRICS) + 1))
def test_an_exact_search_finds_exactly_the_near_pairs(
    spark: SparkSession, tmp_path: Path, rows: Vectors, votes: int
) -> None:
    some = lake(rows, seed=votes)
    thresholds = near_by(rows, votes, 0.02, p=[1.0, 1.5, 2.0, 3.0, 5.0][votes - 1])
    near, found, _ = searched(spark, some, thresholds, tmp_path, axes=WIDTH)
    expected = some.expected(thresholds)
    assert len(expected) > 40
    assert near == expected
    assert (found.way, found.recall, found.hot) == ("exact", None, [])
    assert len(expected) - 4 <= found.measured < 160 * 159 / 2 / 4


def test_known_contents_are_not_compared_again_nor_those_against_with_each_other(
    spark: SparkSession, tmp_path: Path, rows: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "BLOCK", 12)
    monkeypatch.setattr(candidates, "_COLUMNS", 3)
    some = lake(rows, fresh=0.4, own=0.5)
    thresholds = near_by(rows, 2, 0.03)
    near, found, _ = searched(spark, some, thresholds, tmp_path)
    expected = some.expected(thresholds)
    assert (
        20 < len(expected) < len(Contents(some.rows, frozenset(some.rows), frozenset(some.rows)).expected(thresholds))
    )
    assert near == expected
    assert found.hot == []


def test_what_is_cut_is_looked_for_until_groups_are_whole(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "BLOCK", 16)
    monkeypatch.setattr(candidates, "MOST", 1)
    monkeypatch.setattr(search, "_GROWTH", 2)
    rows = np.concatenate([clumps(2, 110, WIDTH), clumps(3, 1, WIDTH) + np.float32(0.5)])
    rows = np.concatenate([rows, np.random.default_rng(4).normal(rows[-1], 2, (40, WIDTH)).astype(np.float32)])
    some = lake(rows)
    thresholds = near_by(rows, 3, 0.05)
    near, found, searching = searched(spark, some, thresholds, tmp_path, axes=3)
    every = some.expected(thresholds)
    assert near.items() <= every.items()
    assert groups(near) == groups(every)
    assert max(map(len, groups(every))) > 40
    assert len(near) < len(every)
    assert searching._round > 3
    assert found.hot == sorted(found.hot, key=lambda hot: (-hot[1], hot[0]))
    assert len(found.hot) == 20


def test_an_approximate_search_says_what_it_missed_in_a_sample(
    spark: SparkSession, tmp_path: Path, rows: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "EXACT_UP_TO", 10)
    monkeypatch.setattr(search, "_SAMPLE", 20)
    monkeypatch.setattr(candidates, "CELL", 8)
    monkeypatch.setattr(candidates, "BLOCK", 12)
    monkeypatch.setattr(candidates, "_VISITS", 0)
    kept: list[Near] = []
    measure = Search._near

    def remembered(self: Search, found: DataFrame, folder: str) -> DataFrame:
        near = measure(self, found, folder)
        kept.append({(row["sha256_l"], row["sha256_r"]): () for row in near.collect()})
        return near

    monkeypatch.setattr(Search, "_near", remembered)
    some = lake(rows)
    thresholds = near_by(rows, 3, 0.07)
    near, found, _ = searched(spark, some, thresholds, tmp_path, way=None)
    every = some.expected(thresholds)
    assert found.way == "approximate"
    assert near.items() < every.items()
    cells, sample = kept
    assert set(cells) | set(sample) | {pair for pair in every if some.first()[pair[1]] == pair[0]} == set(near)
    assert found.recall is not None
    # The sample is twenty contents that were compared with everything: all their pairs are there.
    first = set(some.first().values())
    of = {name: {pair for pair in every if name in pair and set(pair) <= first} for name in first}
    order = spark.createDataFrame([(name,) for name in sorted(first)], "sha256 string")
    drawn = [
        row["sha256"] for row in order.orderBy(F.xxhash64("sha256", F.lit("recall")), "sha256").limit(20).collect()
    ]
    assert all(of[name] <= set(sample) for name in drawn)
    near_to = [name for name in drawn if of[name]]
    assert (found.recall.sample, found.recall.near) == (20, len(near_to))
    assert found.recall.found == len([name for name in near_to if of[name] <= set(cells)])
    assert 0 < found.recall.found < found.recall.near


@pytest.mark.parametrize("way", search.WAYS)
def test_contents_that_are_all_alike_few_or_none(spark: SparkSession, tmp_path: Path, way: str) -> None:
    thresholds = Thresholds("", 5, dict.fromkeys(METRICS, 0.001), "a test")
    equal = np.repeat(clumps(5, 1, WIDTH), 5, axis=0)
    broken = clumps(6, 4, WIDTH)
    broken[0, 3], broken[1, 0], broken[2] = np.nan, np.inf, broken[3]
    for number, rows in enumerate(
        [np.empty((0, WIDTH), np.float32), clumps(5, 1, WIDTH), equal, equal * 0, broken, broken[:2]]
    ):
        some = lake(rows)
        near, found, _ = searched(spark, some, thresholds, tmp_path / str(number), way)
        assert near == some.expected(thresholds)
        assert len(near) == [0, 0, 4, 4, 1, 0][number]
        assert found.way == way


def test_any_pairs_are_measured_with_the_bits_of_the_distances(
    spark: SparkSession, tmp_path: Path, rows: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "_LOOKED_UP", 20)
    broken = np.concatenate([rows, rows[:1] * np.float32(np.nan)])
    some = lake(broken)
    names = sorted(some.rows)
    asked = [(names[i], names[(7 * i) % 160]) for i in range(160) if i < (7 * i) % 160]
    thresholds = near_by(rows, 3, 0.5)
    wanted = spark.createDataFrame([*asked, (names[0], "none of these")], "sha256_l string, sha256_r string")
    once = features(spark, some, tmp_path / "features")
    twice = once.unionByName(once)
    measured = pairs.measure(wanted, 10, twice, thresholds, WIDTH, str(tmp_path / "vectors")).collect()
    every = near_pairs(some.rows, Thresholds("", 0, thresholds.within, "", thresholds.p))
    assert {
        (row["sha256_l"], row["sha256_r"]): (row["votes"], *[row[metric] for metric in METRICS]) for row in measured
    } == {pair: every[pair] for pair in asked}
    assert len(measured) == len(asked)


def test_pairs_are_named_once_and_in_order(spark: SparkSession) -> None:
    given = spark.createDataFrame([("b", "a"), ("a", "b"), ("a", "a"), ("c", "b")], "one string, two string")
    assert sorted(map(tuple, pairs.ordered(given, "one", "two").collect())) == [("a", "b"), ("b", "c")]


def test_blocks_are_the_same_whatever_was_run_before(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a content that is cut has seen depends on them, and so do the links that people are shown.
    monkeypatch.setattr(candidates, "BLOCK", 1500)
    random = np.random.default_rng(1)
    rows = [(f"{random.integers(1 << 60):015x}", "fresh" if number % 3 else "known") for number in range(6000)]
    given = spark.createDataFrame(rows, "sha256 string, side string")
    some = given.selectExpr("sha256", "cast('' as binary) code", "0d length", "0d total", "-1L label", "side")
    laid = []
    for number in (1, 3):
        folder = tmp_path / str(number)
        layout = candidates.lay(some.repartition(number), str(folder))
        blocks = [(side, file) for (side, _, _), files in layout.files.items() for file in files]
        laid.append([(side, pq.read_table(file, partitioning=None)["sha256"].to_pylist()) for side, file in blocks])
    assert sorted(name for _, names in laid[0] for name in names) == sorted(name for name, _ in rows)
    assert max(len(names) for _, names in laid[0]) <= 1500
    assert len(laid[0]) < 12
    assert laid[0] == laid[1]
    small = candidates.lay(some, str(tmp_path / "small"), most=4 * candidates.MOST)
    assert max(pq.read_metadata(file).num_rows for files in small.files.values() for file in files) <= 1500 // 4
