"""The manifest against the same rules in plain Python, on random lakes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dedup import manifest, tables
from dedup.distances import METRICS
from dedup.keepers import Policy
from dedup.thresholds import Thresholds
from dedup.views import VIEWS

FILES = (
    "path string, sha256 string, exact string, length long, modified timestamp, width int, height int, "
    "format string, own boolean, model string"
)
PAIRS = T.StructType([*tables.SCHEMAS["pairs"].fields, T.StructField("view", T.IntegerType())])
TURNED = [None, *list(VIEWS)[1:]]
UNDONE = [{"turned left": "turned right", "turned right": "turned left"}.get(view or "", view) for view in TURNED]
WITHIN = {metric: 10.0 + place for place, metric in enumerate(METRICS)}
CALIBRATED = Thresholds("vgg16", 3, WITHIN, "a test")
DEFAULTS = replace(CALIBRATED, model="")
POLICY = Policy(prefer=("/gold", "/silver"), protect=("/safe", "/gold/safe"))

Row = dict[str, Any]


@dataclass
class Lake:
    files: list[Row]
    near: dict[tuple[str, str], Row]  #: near pairs, as the search found them
    missed: set[tuple[str, str]]  #: near pairs that it did not find

    def measure(self, left: str, right: str) -> Row:
        """What any pair measures: the same on both sides, and near for those that are."""
        pair = (min(left, right), max(left, right))
        if pair in self.near:
            return self.near[pair]
        chance = random.Random("".join(pair))
        votes = chance.randrange(3, 6) if pair in self.missed else chance.randrange(3)
        return {"votes": votes} | {metric: chance.random() for metric in METRICS} | {"view": chance.randrange(8)}


def made(seed: int, sets: int = 90, pairs: int = 60) -> Lake:
    """A lake of random exact sets in random places, and near pairs that chain some of them."""
    chance = random.Random(seed)
    files: list[Row] = []
    exacts: list[str] = []
    for number in range(sets):
        hashes = sorted(f"{chance.randrange(1 << 40):010x}{number:04d}" for _ in range(chance.choice([1, 1, 2])))
        exacts.append(hashes[0])
        wanted = [*hashes, *chance.choices(hashes, k=chance.choice([0, 0, 0, 1, 3]))]
        for place, sha256 in enumerate(wanted):
            folder = chance.choice(["/a", "/b", "/c", "/d", "/gold", "/silver", "/safe", "/goldish", "/safe.jpg", "/e"])
            files.append(
                {
                    "path": f"{folder}/{chance.randrange(99):02d} {number} {place}.jpg",
                    "sha256": sha256,
                    "exact": hashes[0],
                    "length": 100 + int(sha256[:1], 16) // 4,
                    "modified": datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=chance.randrange(-1, 3)),
                    "width": 100 * chance.randrange(1, 3),
                    "height": 100,
                    "format": chance.choice(["JPEG", "PNG"]),
                    "own": chance.random() > 0.1,
                    "model": "vgg16",
                }
            )
    # Few in the first third, so that some are alone; a chain in the last.
    drawn = {tuple(sorted(chance.sample(exacts[sets // 3 :], 2))) for _ in range(pairs)}
    near = {
        (left, right): {"votes": chance.randrange(3, 6)} | {metric: chance.random() for metric in METRICS}
        for left, right in sorted(drawn)
    }
    for (left, right), row in near.items():
        row["view"] = random.Random(left + right).choice([0, *range(8)])
    every = [(min(a, b), max(a, b)) for a in exacts for b in exacts if a != b]
    return Lake(files, near, set(chance.sample(every, len(every) // 4)) - set(near))


class Oracle:
    """The rules as plain loops over one group at a time."""

    def __init__(self, lake: Lake, thresholds: Thresholds, policy: Policy) -> None:
        self.lake, self.thresholds, self.policy = lake, thresholds, policy
        self.graph = nx.Graph()
        self.sets: dict[str, list[Row]] = {}
        for file in lake.files:
            self.sets.setdefault(file["exact"], []).append(file)
        for files in self.sets.values():
            files.sort(key=self.key)
        self.graph.add_nodes_from(self.sets)
        self.graph.add_edges_from(lake.near)
        self.rows: dict[str, Row] = {}
        for component in nx.connected_components(self.graph):
            self.decide(sorted(component))

    def protected(self, file: Row) -> bool:
        return not file["own"] or self.place(file["path"], self.policy.protect) < len(self.policy.protect)

    @staticmethod
    def place(path: str, prefixes: tuple[str, ...]) -> int:
        for place, prefix in enumerate(prefixes):
            if path == prefix or path.startswith(prefix + "/"):
                return place
        return len(prefixes)

    def key(self, file: Row) -> list[Any]:
        rules = {
            "protected": not self.protected(file),
            "preferred": self.place(file["path"], self.policy.prefer),
            "resolution": -file["width"] * file["height"],
            "lossless": file["format"] != "PNG",
            "bytes": -file["length"],
            "oldest": file["modified"],
            "path": file["path"],
        }
        return [rules[name] for name in self.policy.order]

    def decided(self, winner: Row, loser: Row) -> str:
        for name, a, b in zip(self.policy.order, self.key(winner), self.key(loser), strict=True):
            if a != b:
                assert a < b
                return name
        raise AssertionError("two files with one key")

    def decide(self, component: list[str]) -> None:
        files = sorted((file for one in component for file in self.sets[one]), key=self.key)
        best = files[0]
        staying = [one for one in component if any(self.protected(file) for file in self.sets[one])] or [best["exact"]]
        for one in component:
            standing = [other for other in staying if other in self.graph[one]]
            if one in staying:
                self.settle(self.sets[one], files)
            elif standing:
                keeper = min((self.sets[other][0] for other in standing), key=self.key)
                self.near(self.sets[one], keeper, self.lake.measure(one, keeper["exact"]), None)
            else:
                measured = self.lake.measure(one, best["exact"])
                link = None if measured["votes"] >= self.thresholds.votes else self.link(best["exact"], one)
                self.near(self.sets[one], best, measured, link)
        for file in files:
            if file["own"]:
                self.rows[file["path"]]["group_id"] = min(component) if len(files) > 1 else None

    def settle(self, files: list[Row], group: list[Row]) -> None:
        best = files[0]
        for file in files:
            if self.protected(file) or file is group[0]:
                reason = "protected" if self.protected(file) else ""
                reason = "alone" if len(group) == 1 else reason or self.decided(file, group[1])
                self.put(file, "keep", file, None, reason)
            else:
                self.copy(file, best)

    def copy(self, file: Row, best: Row) -> None:
        zeros = {"votes": 5} | dict.fromkeys(METRICS, 0.0)
        method = "bytes" if file["sha256"] == best["sha256"] else "pixels"
        self.put(file, "drop", best, method, self.decided(best, file), zeros)

    def near(self, files: list[Row], keeper: Row, measured: Row, link: list[str] | None) -> None:
        # What is done to the first by name; it is the keeper to which it must not be done.
        back = files[0]["exact"] > keeper["exact"]
        measured = measured | {"view": (UNDONE if back else TURNED)[measured.get("view", 0)]}
        within = {f"{metric}_threshold": value for metric, value in WITHIN.items()}
        if self.thresholds.calibrated and link is None:
            for file in files:
                self.put(file, "drop", keeper, "near", self.decided(keeper, file), measured | within)
            return
        reason = "uncalibrated" if link is None else "linked"
        self.put(files[0], "review", keeper, "near", reason, measured | within | {"link": link})
        for file in files[1:]:
            self.copy(file, files[0])

    def link(self, root: str, node: str) -> list[str]:
        before: dict[str, str | None] = {root: None}
        waiting = [root]
        for one in waiting:
            for other in sorted(self.graph[one]):
                if other not in before:
                    before[other] = one
                    waiting.append(other)
        way: list[str] = []
        at: str | None = node
        while at is not None:
            way.insert(0, self.sets[at][0]["path"])
            at = before[at]
        return way

    def put(
        self, file: Row, action: str, keeper: Row, method: str | None, reason: str, more: Row | None = None
    ) -> None:
        if not file["own"]:
            return
        row = dict.fromkeys(tables.SCHEMAS["manifest"].names)
        row |= {name: file[name] for name in ("path", "sha256", "length", "model")}
        row |= {"action": action, "keeper": keeper["path"], "method": method, "reason": reason} | (more or {})
        assert file["path"] not in self.rows
        self.rows[file["path"]] = row


def frames(spark: SparkSession, lake: Lake) -> tuple[DataFrame, DataFrame]:
    pairs = [{"sha256_l": l, "sha256_r": r} | row for (l, r), row in lake.near.items()]  # noqa: E741
    return spark.createDataFrame(lake.files, FILES), spark.createDataFrame(pairs, PAIRS)


class Verify:
    """Measures pairs as the lake says, and remembers which it was asked for."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.asked: list[tuple[str, str]] = []

    def __call__(self, asked: DataFrame) -> DataFrame:
        self.asked = [(row["sha256_l"], row["sha256_r"]) for row in asked.collect()]
        rows = [{"sha256_l": a, "sha256_r": b} | self.lake.measure(a, b) for a, b in self.asked]
        return asked.sparkSession.createDataFrame(rows, PAIRS)


def built(
    spark: SparkSession,
    lake: Lake,
    scratch: Path,
    thresholds: Thresholds = CALIBRATED,
    policy: Policy = POLICY,
    previous: DataFrame | None = None,
) -> tuple[list[Row], list[Row], Verify]:
    files, pairs = frames(spark, lake)
    verify = Verify(lake)
    rows, merges = manifest.build(files, pairs, thresholds, policy, verify, str(scratch), previous, 7)
    assert rows.schema.simpleString() == tables.SCHEMAS["manifest"].simpleString()
    assert merges.schema.simpleString() == tables.SCHEMAS["merges"].simpleString()
    manifest.check_counts(rows, files)
    return (
        [row.asDict() for row in rows.orderBy("path").collect()],
        [row.asDict() for row in merges.orderBy("group_id", "merged").collect()],
        verify,
    )


@contextmanager
def partitions(spark: SparkSession, number: int) -> Iterator[None]:
    before = spark.conf.get("spark.sql.shuffle.partitions")
    spark.conf.set("spark.sql.shuffle.partitions", str(number))
    try:
        yield
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", str(before))


@pytest.mark.parametrize(
    ("seed", "thresholds", "policy"),
    [
        (1, CALIBRATED, POLICY),
        (2, DEFAULTS, POLICY),
        (3, CALIBRATED, Policy(rules=("oldest", "bytes"))),
        (4, CALIBRATED, Policy(protect=("/a", "/b", "/safe"))),
    ],
)
def test_every_row_is_what_plain_loops_say(
    spark: SparkSession, tmp_path: Path, seed: int, thresholds: Thresholds, policy: Policy
) -> None:
    lake = made(seed)
    rows, merges, verify = built(spark, lake, tmp_path / "scratch", thresholds, policy)
    expected = Oracle(lake, thresholds, policy).rows
    assert rows == [expected[path] for path in sorted(expected)]
    assert merges == []
    assert len(set(verify.asked)) == len(verify.asked)
    assert not set(verify.asked) & set(lake.near)
    if thresholds.calibrated:
        assert {"alone", "linked", "protected"} <= {row["reason"] for row in rows}
        assert {"bytes", "pixels", "near"} == {row["method"] for row in rows if row["action"] == "drop"}
        assert set(verify.asked) & lake.missed
    else:
        assert not [row for row in rows if row["action"] == "drop" and row["method"] == "near"]


def test_the_manifest_is_the_same_with_any_number_of_partitions(spark: SparkSession, tmp_path: Path) -> None:
    lake = made(5)
    found = []
    for number in (1, 3, 17):
        random.Random(number).shuffle(lake.files)
        with partitions(spark, number):
            found.append(built(spark, lake, tmp_path / str(number))[0])
    assert found[0] == found[1] == found[2]


def test_groups_that_go_on_keep_their_ids(spark: SparkSession, tmp_path: Path) -> None:
    lake = made(6)
    before, _, _ = built(spark, lake, tmp_path / "before")
    old = spark.createDataFrame(before, tables.SCHEMAS["manifest"])
    same, merges, _ = built(spark, lake, tmp_path / "same", previous=old)
    assert same == before
    assert merges == []

    # Two groups become one, whose smallest content is new.
    ids = sorted({row["group_id"] for row in before if row["group_id"]})
    first, second = ids[0], ids[1]
    fresh = lake.files[0] | {"path": "/new/0.jpg", "sha256": "!", "exact": "!", "own": True}
    joined = Lake([*lake.files, fresh], dict(lake.near), lake.missed)
    for one in (first, second):
        joined.near["!", one] = {"votes": 5} | dict.fromkeys(METRICS, 0.5)
    after, merges, _ = built(spark, joined, tmp_path / "after", previous=old)
    plain = Oracle(joined, CALIBRATED, POLICY).rows
    sizes = {one: len({row["sha256"] for row in before if row["group_id"] == one}) for one in (first, second)}
    stays = min((first, second), key=lambda one: (-sizes[one], one))
    assert merges == [{"run": 7, "group_id": stays, "merged": first if stays == second else second}]
    assert after == [
        row | {"group_id": stays if row["group_id"] == "!" else row["group_id"]}
        for row in (plain[path] for path in sorted(plain))
    ]


def lake_of(*files: Row, near: tuple[tuple[str, str], ...] = ()) -> Lake:
    common = {"length": 9, "modified": None, "width": 1, "height": 1, "format": "PNG", "own": True, "model": "m"}
    measured = {"votes": 4} | dict.fromkeys(METRICS, 0.5)
    return Lake([common | {"exact": file["sha256"]} | file for file in files], dict.fromkeys(near, measured), set())


def test_one_file_no_file_and_copies_only(spark: SparkSession, tmp_path: Path) -> None:
    assert built(spark, lake_of(), tmp_path / "none")[0] == []
    one = built(spark, lake_of({"path": "/a", "sha256": "1"}), tmp_path / "one")[0]
    assert [(row["action"], row["reason"], row["group_id"], row["keeper"]) for row in one] == [
        ("keep", "alone", None, "/a")
    ]
    copies = lake_of(*[{"path": f"/{number}", "sha256": "1"} for number in range(30)])
    rows = built(spark, copies, tmp_path / "copies")[0]
    assert [row["action"] for row in rows] == ["keep"] + ["drop"] * 29
    assert {(row["keeper"], row["group_id"], row["reason"]) for row in rows} == {("/0", "1", "path")}


def test_files_compared_against_stay_and_have_no_rows(spark: SparkSession, tmp_path: Path) -> None:
    lake = lake_of(
        {"path": "/a", "sha256": "1", "width": 9},
        {"path": "/b", "sha256": "2", "own": False},
        {"path": "/b2", "sha256": "2", "own": False},
        near=(("1", "2"),),
    )
    rows, _, _ = built(spark, lake, tmp_path / "scratch")
    assert [(row["path"], row["action"], row["keeper"], row["reason"]) for row in rows] == [
        ("/a", "drop", "/b", "protected")
    ]


def test_what_cannot_be_measured_is_for_review_without_distances(spark: SparkSession, tmp_path: Path) -> None:
    lake = lake_of(*[{"path": f"/{one}", "sha256": one} for one in "123"], near=(("1", "2"), ("2", "3")))
    files, pairs = frames(spark, lake)
    nothing = spark.createDataFrame([], PAIRS)
    rows, _ = manifest.build(files, pairs, CALIBRATED, Policy(), lambda _: nothing, str(tmp_path / "scratch"))
    last = rows.where("path = '/3'").collect()[0]
    assert (last["action"], last["reason"], last["votes"], last["dice"]) == ("review", "linked", None, None)
    assert last["link"] == ["/1", "/2", "/3"]


def test_counts_add_up_and_a_lost_row_is_noticed(spark: SparkSession, tmp_path: Path) -> None:
    lake = made(7)
    files, pairs = frames(spark, lake)
    rows, _ = manifest.build(files, pairs, CALIBRATED, POLICY, Verify(lake), str(tmp_path / "scratch"))
    found = manifest.check_counts(rows, files)
    expected = Oracle(lake, CALIBRATED, POLICY).rows.values()
    assert found["files"] == len(expected)
    assert found["saved"] == sum(row["length"] for row in expected if row["action"] == "drop")
    assert found["near"] == sum(row["action"] == "drop" and row["method"] == "near" for row in expected)
    assert found["groups"] == len({row["group_id"] for row in expected} - {None})

    one = next(row["path"] for row in expected if row["action"] == "drop")
    kept, other = sorted(row["path"] for row in expected if row["action"] == "keep")[:2]
    at = F.col("path") == one
    damaged = {
        f"{found['files']} files, but {found['files'] - 1} rows": rows.where(~at),
        f"{found['files']} files, but {found['files'] + 1} rows": rows.unionByName(rows.where(at)),
        f"{found['files'] - 1} kept": rows.withColumn("action", F.when(~at, F.col("action"))),
        "are dropped, but": rows.withColumn("method", F.when(~at, F.col("method"))),
        "1 keepers that do not stay": rows.withColumn("keeper", F.when(at, "/none").otherwise(F.col("keeper"))),
        "1 keep without": rows.withColumn("keeper", F.when(F.col("path") == kept, other).otherwise(F.col("keeper"))),
        "1 wrongly alone": rows.withColumn("group_id", F.when(~at, F.col("group_id"))),
    }
    for message, wrong in damaged.items():
        with pytest.raises(RuntimeError, match=message):
            manifest.check_counts(wrong, files)
