"""What is shown of a manifest: sums of all rows, few of the files, and the same ones every time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from tests.samples import picture

from dedup import gallery, ledger, tables
from dedup.distances import METRICS
from dedup.report import Gallery

Row = dict[str, Any]
MODEL, VOTES = "m", 3


def row(path: str, action: str, reason: str, group: str | None = None, **more: Any) -> Row:
    """A row of a manifest for a file of 100 bytes; `score` are all five distances, where thresholds are 1."""
    near = "score" in more
    score = more.pop("score", None)
    made = dict.fromkeys(tables.SCHEMAS["manifest"].names) | {
        "path": path,
        "sha256": hashlib.sha256(path.encode()).hexdigest(),
        "length": 100,
        "group_id": group,
        "action": action,
        "keeper": path,
        "reason": reason,
        "model": MODEL,
    }
    if near:
        made |= {"method": "near", "votes": 5 if score <= 1 else 0}
        made |= dict.fromkeys(METRICS, score) | {f"{metric}_threshold": 1.0 for metric in METRICS}
    return made | more


@pytest.fixture
def manifest(spark: SparkSession) -> Callable[[list[Row]], DataFrame]:
    def made(rows: list[Row]) -> DataFrame:
        schema = tables.SCHEMAS["manifest"]
        return spark.createDataFrame([tuple(one[name] for name in schema.names) for one in rows], schema)

    return made


def many(groups: int) -> list[Row]:
    """Groups of a keeper and one to five files, by every method, some under review; and files alone."""
    rows = [row(f"/lake/alone/{i}.jpg", "keep", "alone", length=i) for i in range(30)]
    for i in range(groups):
        group, keeper = f"{i:064x}", f"/lake/keep/{i}.jpg"
        rows.append(row(keeper, "keep", "resolution", group))
        kinds: list[Row] = [{"method": "bytes"}, {"method": "pixels"}, *({"score": n / 4 - 0.05} for n in range(1, 5))]
        for j in range(1 + i % 5):
            kind = kinds[(i + j) % 6]
            path = f"/lake/{i % 40}/{i}-{j}.jpg"
            rows.append(row(path, "drop", "bytes", group, keeper=keeper, length=7, **kind))
        if i % 7 == 0:
            link = [keeper, f"/lake/{i % 40}/{i}-0.jpg", f"/lake/odd/{i}.jpg"]
            odd = row(link[-1], "review", "linked", group, keeper=keeper, score=1.5, link=link)
            rows.append(odd)
    return rows


def test_sums_count_every_row_and_few_are_shown(
    spark: SparkSession, manifest: Callable[[list[Row]], DataFrame]
) -> None:
    rows = many(140)
    found = gallery.collect(spark, manifest(rows), VOTES)
    assert found.total().files == len(rows)
    assert found.total().length == sum(one["length"] for one in rows)
    dropped = [one for one in rows if one["action"] == "drop"]
    assert found.total(action="drop", method="near").files == sum(one["method"] == "near" for one in dropped)
    assert sum(size.groups for size in found.sizes) == sum(band.groups for band in found.bands) == 140
    assert [size.first for size in found.sizes] == [2, 3, 6]
    assert [band.name for band in found.bands] == list(ledger.BANDS)
    assert all(len(band.shown) == min(band.groups, gallery.GROUPS) for band in found.bands)
    assert found.bands[-1].review == len(found.reviews) == 20
    assert len(found.folders) == ledger.FOLDERS
    assert found.others == 43 - ledger.FOLDERS
    by_folder: dict[str, int] = {}
    for one in dropped:
        folder = str(Path(one["path"]).parent)
        by_folder[folder] = by_folder.get(folder, 0) + one["length"]
    first = sorted(by_folder.items(), key=lambda item: (-item[1], item[0]))[: ledger.FOLDERS]
    assert [folder.saved for folder in found.folders] == [saved for _, saved in first]
    assert len(found.largest) == gallery.LARGEST
    assert found.largest[0].files == max(group.files for group in found.largest) == 7


def test_a_group_stands_in_the_band_of_its_least_sure_file(
    spark: SparkSession, manifest: Callable[[list[Row]], DataFrame]
) -> None:
    kinds: list[Row] = [{"method": "bytes"}, {"method": "pixels"}, *({"score": s} for s in (0.0, 0.25, 0.3, 0.75, 1.0))]
    rows = []
    for i, kind in enumerate(kinds):
        group = f"{i:064x}"
        rows += [
            row(f"/k{i}", "keep", "path", group),
            row(f"/a{i}", "drop", "path", group, keeper=f"/k{i}", method="bytes"),
            row(f"/b{i}", "drop", "path", group, keeper=f"/k{i}", **kind),
            row(f"/c{i}", "review", "linked", group, keeper=f"/k{i}", score=2.0),
        ]
    found = gallery.collect(spark, manifest(rows), VOTES)
    shown = [[int(group.group_id, 16) for group in band.shown] for band in found.bands]
    assert [sorted(ids) for ids in shown] == [[0], [1], [2, 3], [4], [5], [6], []]
    assert [band.drop for band in found.bands] == [8, 1, 2, 1, 1, 1, 0]
    assert [band.review for band in found.bands] == [0, 0, 0, 0, 0, 0, 7]
    (lane,) = found.bands[5].shown[0].lanes
    assert lane.keeper.path == "/k6"
    assert [file.path for file in lane.files] == ["/b6", "/a6", "/c6"], "the least sure first, linked ones last"
    assert [file.score for file in lane.files] == [1.0, None, 2.0]


def test_the_score_is_the_smallest_that_enough_distances_are_within(
    spark: SparkSession, manifest: Callable[[list[Row]], DataFrame]
) -> None:
    ratios = dict(zip(METRICS, (0.9, 0.1, 7.0, 0.5, 0.3), strict=True))
    near = row("/b", "drop", "path", "g", keeper="/a", score=0.0)
    near |= {metric: 4 * ratio for metric, ratio in ratios.items()} | {f"{metric}_threshold": 4.0 for metric in METRICS}
    table = manifest([row("/a", "keep", "path", "g"), near])
    for votes, score in enumerate((0.1, 0.3, 0.5, 0.9), 1):
        scored = ledger.banded(table, votes).where("path = '/b'").first()
        assert scored is not None
        assert scored["score"] == pytest.approx(score)
    zero = near | {f"{metric}_threshold": 0.0 for metric in METRICS} | {"euclidean": 0.0, "cosine": 0.0}
    scores = [ledger.banded(manifest([zero]), votes).first() for votes in (2, 3)]
    assert [one and one["score"] for one in scores] == [0.0, float("inf")]


def test_the_same_is_shown_whatever_the_partitions(
    spark: SparkSession, manifest: Callable[[list[Row]], DataFrame]
) -> None:
    table = manifest(many(60))

    def shown(partitions: int, reverse: bool) -> Gallery:
        spark.conf.set("spark.sql.shuffle.partitions", str(partitions))
        try:
            order = table.orderBy(table["path"].desc() if reverse else table["path"].asc())
            return gallery.collect(spark, order.repartition(partitions), VOTES)
        finally:
            spark.conf.set("spark.sql.shuffle.partitions", "2")

    assert shown(1, True) == shown(8, False)


def test_pictures_come_from_the_files_that_are_shown_and_sizes_from_files(
    spark: SparkSession, manifest: Callable[[list[Row]], DataFrame], tmp_path: Path
) -> None:
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    for i, path in enumerate(paths):
        picture(i).save(path)
    hashes = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths]
    changed = paths[2]
    picture(9).save(changed)
    rows = [
        row(paths[1], "drop", "protected", "g", keeper=paths[0], score=0.5, sha256=hashes[1]),
        row(changed, "drop", "protected", "g", keeper=paths[0], score=0.6, sha256=hashes[2]),
    ]
    known = [(paths[0], hashes[0], 11, 160, 120, "PNG"), (paths[1], hashes[1], 12, 160, 120, "PNG")]
    schema = "path string, sha256 string, length long, width int, height int, format string"
    found = gallery.collect(spark, manifest(rows), VOTES, spark.createDataFrame(known, schema))
    assert set(found.thumbnails) == set(hashes[:2]), "a file whose bytes changed has no picture"
    ((lane,),) = [group.lanes for group in found.largest]
    assert (lane.keeper.action, lane.keeper.sha256, lane.keeper.length) == ("against", hashes[0], 11)
    assert [(file.path, file.width, file.format) for file in lane.files] == [
        (changed, None, None),
        (paths[1], 160, "PNG"),
    ]
    assert found.largest[0].hidden == 0
    without = gallery.collect(spark, manifest(rows), VOTES)
    assert set(without.thumbnails) == {hashes[1]}
    assert without.largest[0].lanes[0].keeper.sha256 is None


def test_long_groups_and_long_links_are_cut(spark: SparkSession, manifest: Callable[[list[Row]], DataFrame]) -> None:
    link = ["/a", *(f"/{i:03d}" for i in range(30)), "/z"]
    rows = [
        row("/a", "keep", "resolution", "g"),
        *(row(path, "drop", "path", "g", keeper="/a", score=0.1) for path in link[1:-1]),
        row("/z", "review", "linked", "g", keeper="/a", score=3.0, link=link),
        *(row(f"/protected/{i}", "keep", "protected", "p") for i in range(20)),
    ]
    found = gallery.collect(spark, manifest(rows), VOTES)
    assert [(group.files, group.hidden) for group in found.largest] == [(32, 24), (20, 12)]
    assert [len(lane.files) for group in found.largest for lane in group.lanes] == [7, 7]
    (review,) = found.reviews
    assert [file.path for file in review.link] == ["/000", "/001", "/002", "/027", "/028", "/029"]
    assert review.skipped == 24
    assert (review.keeper.action, review.file.action, review.group_id) == ("keep", "review", "g")


def test_a_review_that_could_not_be_measured_has_no_distances(
    spark: SparkSession, manifest: Callable[[list[Row]], DataFrame]
) -> None:
    unknown = {**dict.fromkeys(METRICS), "votes": None, "link": None}
    rows = [
        row("/a", "keep", "bytes", "g"),
        row("/b", "drop", "bytes", "g", keeper="/a", score=0.5),
        row("/c", "review", "linked", "g", keeper="/a", score=0.0) | unknown,
    ]
    found = gallery.collect(spark, manifest(rows), VOTES)
    (review,) = found.reviews
    assert (review.file.score, review.file.votes, review.file.distances, review.link) == (None, None, {}, [])
    assert [band.review for band in found.bands] == [0, 0, 0, 0, 0, 0, 1]


def test_a_group_with_several_keepers_shows_each_file_beside_its_own(
    spark: SparkSession, manifest: Callable[[list[Row]], DataFrame]
) -> None:
    rows = [
        row("/k1", "keep", "protected", "g"),
        row("/k2", "keep", "protected", "g"),
        row("/a", "drop", "protected", "g", keeper="/k1", score=0.9),
        row("/b", "review", "uncalibrated", "g", keeper="/k2", score=0.8),
        row("/c", "drop", "path", "g", keeper="/b", method="bytes"),
    ]
    (group,) = gallery.collect(spark, manifest(rows), VOTES).largest
    lanes = [(lane.keeper.path, [file.path for file in lane.files]) for lane in group.lanes]
    assert lanes == [("/k1", ["/a"]), ("/k2", ["/b"]), ("/b", ["/c"])]
    assert group.hidden == 0


def test_reviews_are_of_as_many_groups_as_possible_linked_ones_first(
    spark: SparkSession, manifest: Callable[[list[Row]], DataFrame]
) -> None:
    rows = []
    for i in range(60):
        group, kind = f"{i:02d}", "linked" if i % 2 else "uncalibrated"
        rows.append(row(f"/{i}/k", "keep", "path", group))
        rows += [row(f"/{i}/{j}", "review", kind, group, keeper=f"/{i}/k", score=0.5) for j in range(1 + 9 * (i % 2))]
    found = gallery.collect(spark, manifest(rows), VOTES)
    assert len(found.reviews) == gallery.REVIEWS
    assert {review.file.reason for review in found.reviews} == {"linked"}
    assert len({review.group_id for review in found.reviews}) == 30


@pytest.mark.parametrize("alone", [0, 1])
def test_a_lake_without_groups_has_a_gallery_too(
    spark: SparkSession, manifest: Callable[[list[Row]], DataFrame], alone: int
) -> None:
    found = gallery.collect(spark, manifest([row("/a", "keep", "alone")] * alone), VOTES)
    assert found.total().files == alone
    assert not found.sizes
    assert not found.largest
    assert not found.reviews
    assert found.thumbnails == {}
    assert not any(band.shown for band in found.bands)


def test_sums_that_do_not_agree_end_it(spark: SparkSession, manifest: Callable[[list[Row]], DataFrame]) -> None:
    grouped = [row("/a", "keep", "path", "g"), row("/b", "drop", "path", None, keeper="/a", method="bytes")]
    with pytest.raises(RuntimeError, match="size of group: 0, but 1 in all"):
        gallery.collect(spark, manifest(grouped), VOTES)
