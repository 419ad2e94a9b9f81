from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from tests.samples import stored

from dedup import images, results, tables
from dedup.distances import METRICS, distances
from dedup.queries import Queries

TOP, WIDTH = 4, 16


@pytest.fixture(scope="module")
def vectors() -> dict[str, NDArray[np.float32]]:
    """Return 300 vectors by hash, many of them equal, so that ties are everywhere."""
    random = np.random.default_rng(3)
    rows = random.integers(0, 3, (300, WIDTH)).astype(np.float32)
    rows[100:200] = rows[:100]
    return {f"{number:064x}": row for number, row in enumerate(random.permutation(rows))}


def expected(vectors: dict[str, NDArray[np.float32]], query: NDArray[np.float32]) -> list[tuple[str, int]]:
    """Return hash and votes by rank, from sorted lists and nothing else."""
    hashes = list(vectors)
    found = distances(np.stack(list(vectors.values())), query[None], 3.0)
    votes: dict[str, int] = {}
    for metric in METRICS:
        for _, sha256 in sorted(zip(found[metric][:, 0].tolist(), hashes, strict=True))[:TOP]:
            votes[sha256] = votes.get(sha256, 0) + 1
    euclidean = dict(zip(hashes, found["euclidean"][:, 0].tolist(), strict=True))
    return sorted(votes.items(), key=lambda vote: (-vote[1], euclidean[vote[0]], vote[0]))


@pytest.mark.parametrize("partitions", [1, 8, 50])
def test_the_poll_is_that_of_sorted_lists_at_any_partitioning(
    spark: SparkSession,
    vectors: dict[str, NDArray[np.float32]],
    partitions: int,
    tmp_path: Path,
) -> None:
    rows = [(sha256, vector.tobytes()) for sha256, vector in vectors.items()]
    spread = spark.createDataFrame(rows, "sha256 string, features binary").repartition(partitions, F.rand(partitions))
    features = stored(spread, tmp_path / "a b%20=ü")
    asked = Queries(("a", "b"), np.stack([vectors[f"{5:064x}"], np.full(WIDTH, 1.5, np.float32)]))
    spark.conf.set("spark.sql.files.maxPartitionBytes", 4 << 20)  # what a file costs: each is a task
    try:
        nominees = results.nominate(features, asked, TOP, 3.0, list(METRICS))
        tasks = nominees.select(F.spark_partition_id()).distinct().count()
        assert min(partitions, 40) <= tasks <= partitions
        voted = results.poll(nominees, TOP, list(METRICS)).orderBy("query", "rank").collect()
    finally:
        spark.conf.unset("spark.sql.files.maxPartitionBytes")
    for name, query in zip(asked.names, asked.vectors, strict=True):
        mine = [row for row in voted if row["query"] == name]
        assert [(row["sha256"], row["votes"]) for row in mine] == expected(vectors, query)
        assert [row["rank"] for row in mine] == list(range(1, len(mine) + 1))
        for row in mine:
            found = distances(vectors[row["sha256"]][None], query[None], 3.0)
            for metric in METRICS:
                assert row[metric] == found[metric][0, 0], "the same bits, whatever stood beside it"
            assert row["votes"] == sum(row[f"{metric}_place"] is not None for metric in METRICS)


def test_each_metric_has_the_places_of_its_own_list(
    spark: SparkSession, vectors: dict[str, NDArray[np.float32]], tmp_path: Path
) -> None:
    rows = [(sha256, vector.tobytes()) for sha256, vector in vectors.items()]
    features = stored(spark.createDataFrame(rows, "sha256 string, features binary"), tmp_path / "features")
    asked = Queries(("q",), vectors[f"{7:064x}"][None])
    voted = results.poll(results.nominate(features, asked, TOP, 3.0, ["cosine"]), TOP, ["cosine"]).collect()
    assert sorted(row["cosine_place"] for row in voted) == [1, 2, 3, 4]
    assert all(row["votes"] == 1 and row["euclidean_place"] is None for row in voted)


def test_a_margin_is_measured_against_the_first_image_that_is_not_named(
    spark: SparkSession, vectors: dict[str, NDArray[np.float32]], tmp_path: Path
) -> None:
    rows = [(sha256, vector.tobytes()) for sha256, vector in vectors.items()]
    features = stored(spark.createDataFrame(rows, "sha256 string, features binary").repartition(8), tmp_path / "f")
    query = np.linspace(0, 2, WIDTH, dtype=np.float32)
    asked = Queries(("q",), query[None])
    found = distances(np.stack(list(vectors.values())), query[None], 3.0)
    for named in (TOP, len(vectors)):
        nominees = results.nominate(features, asked, named + 1, 3.0, list(METRICS))
        for row in results.poll(nominees, named, list(METRICS)).collect():
            for metric in METRICS:
                margin, place = row[f"{metric}_margin"], row[f"{metric}_place"]
                if place is None or named == len(vectors):
                    assert margin is None, "not named, or there is no image that is not"
                else:
                    beyond = np.sort(found[metric][:, 0])[named]
                    assert margin == pytest.approx(1 - row[metric] / beyond, abs=1e-12)
                    assert 0 <= margin <= 1


def test_of_images_at_distance_0_none_is_far_from_not_being_named(spark: SparkSession, tmp_path: Path) -> None:
    same = [(f"{number:064x}", np.ones(WIDTH, np.float32).tobytes()) for number in range(3)]
    features = stored(spark.createDataFrame(same, "sha256 string, features binary"), tmp_path / "features")
    asked = Queries(("q",), np.ones((1, WIDTH), np.float32))
    voted = results.poll(results.nominate(features, asked, 3, 3.0, ["dice"]), 2, ["dice"]).collect()
    assert [row["dice_margin"] for row in voted] == [0, 0]


def test_a_content_shows_all_its_paths(spark: SparkSession, tmp_path: Path) -> None:
    schema = tables.SCHEMAS["images"]
    files = [("/b", "1" * 64), ("/a", "1" * 64), ("/c", "2" * 64)]
    rows = [(path, sha256, 1, None, None, 0) for path, sha256 in files]
    tables.append(spark.createDataFrame(rows, schema), str(tmp_path), "images")
    tables.append(spark.createDataFrame([("/c", "1" * 64, 1, None, None, 0)], schema), str(tmp_path), "images")
    one = spark.createDataFrame([("1" * 64, b"\0" * 64)], "sha256 string, features binary")
    features = stored(one, tmp_path / "features")
    asked = Queries(("q",), np.zeros((1, WIDTH), np.float32))
    voted = results.poll(results.nominate(features, asked, 1, 3.0, list(METRICS)), 1, list(METRICS))
    row = results.with_paths(voted, images.inventory(spark, str(tmp_path))).collect()[0]
    assert row["paths"] == ["/a", "/b", "/c"]
    assert row.__fields__ == tables.SCHEMAS["results"].names


def test_a_vector_of_another_width_is_an_error(spark: SparkSession, tmp_path: Path) -> None:
    one = spark.createDataFrame([("1" * 64, b"\0" * 60)], "sha256 string, features binary")
    features = stored(one, tmp_path / "features")
    asked = Queries(("q",), np.zeros((1, WIDTH), np.float32))
    for rows, says in ((features, "a file of features cannot be read"), (one, "the table of features")):
        with pytest.raises(Exception, match=rf"UsageError: .*{says}: a row of features is not 16 float32 long"):
            results.nominate(rows, asked, 1, 3.0, list(METRICS)).collect()
