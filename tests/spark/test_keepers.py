"""Which of two files is the better one, by every rule; and policies that cannot be followed."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dedup import keepers
from dedup.errors import UsageError
from dedup.keepers import Policy

COLUMNS = "path string, length long, modified timestamp, width int, height int, format string, own boolean"
NEVER = datetime.fromtimestamp(0, UTC)
POLICY = Policy(prefer=("s3://gold/", "/b/c"), protect=("/safe/",))

# The best first, each with the rule by which it is better than the next.
ORDERED = [
    (("/safe/a.jpg", 4, None, 1, 1, "JPEG", True), "bytes"),
    (("/safe", 2, None, 1, 1, "JPEG", True), "protected"),
    (("s3a://gold/z.jpg", 1, None, 1, 1, "JPEG", True), "preferred"),
    (("/b/c/z.jpg", 1, None, 1, 1, "JPEG", True), "preferred"),
    (("/b/cd.jpg", 1, None, 30, 10, "JPEG", True), "resolution"),
    (("s3a://golden/a.jpg", 1, None, 10, 20, "PNG", True), "lossless"),
    (("/safer/a.jpg", 9, None, 20, 10, "WEBP", True), "bytes"),
    (("/z", 8, datetime(2001, 1, 1, tzinfo=UTC), 200, 1, "WEBP", True), "oldest"),
    (("/y", 8, datetime(2001, 1, 1, 0, 0, 1, tzinfo=UTC), 200, 1, "WEBP", True), "oldest"),
    (("/w", 8, NEVER, 200, 1, "WEBP", True), "path"),
]
LAST = ("/x", 8, None, 200, 1, "WEBP", True)
OUTSIDE = ("/other/b.jpg", 1, None, 900, 900, "PNG", False)


def test_files_are_in_the_order_of_the_rules(spark: SparkSession) -> None:
    rows = [OUTSIDE, *[row for row, _ in ORDERED], LAST]
    expected = [row[0] for row in rows]
    random.Random(1).shuffle(rows)
    files = spark.createDataFrame(rows, COLUMNS)
    assert [row["path"] for row in files.orderBy(keepers.key(POLICY)).collect()] == expected


def test_the_rule_that_decided_is_the_first_that_differs(spark: SparkSession) -> None:
    rows = [(place, *row) for place, row in enumerate([*[row for row, _ in ORDERED], LAST])]
    files = spark.createDataFrame(rows, f"place int, {COLUMNS}")
    keyed = files.select("place", keepers.key(POLICY).alias("key"))
    after = keyed.select((F.col("place") - 1).alias("place"), F.col("key").alias("after"))
    decided = keepers.decided(POLICY, F.col("key"), F.col("after")).alias("rule")
    found = keyed.join(after, "place", how="inner").select("place", decided).orderBy("place").collect()
    assert [row["rule"] for row in found] == [rule for _, rule in ORDERED]


def test_an_archive_stands_for_its_members(spark: SparkSession) -> None:
    paths = ["/a/1.tar!/x.jpg", "/a/1.tar", "/a/1.tar/x.jpg", "/a/1.tarx", "/a/11.tar!/x.jpg", "/a/1.tar!x"]
    files = spark.createDataFrame([(path,) for path in paths], "path string")
    for prefix, count in [("/a/1.tar", 3), ("/a/1.tar!", 1), ("/a/1.tar!/", 1), ("/a/1.tar!/x.jpg", 1), ("/a", 6)]:
        assert files.where(keepers._under(prefix)).count() == count


def test_the_user_chooses_the_rules_in_between(spark: SparkSession) -> None:
    rows = [("/a", 1, None, 9, 9, "PNG", True), ("/b", 2, None, 1, 1, "JPEG", True)]
    files = spark.createDataFrame(rows, COLUMNS)
    for rules, first in [((), "/a"), (("bytes",), "/b"), (("lossless", "bytes"), "/a")]:
        assert files.orderBy(keepers.key(Policy(rules=rules))).collect()[0]["path"] == first


def test_a_relative_folder_is_the_one_that_tables_hold(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [("/0", 1, None, 1, 1, "PNG", True), (f"{tmp_path}/data/a", 1, None, 1, 1, "PNG", True)]
    best = spark.createDataFrame(rows, COLUMNS).orderBy(keepers.key(Policy(prefer=("data",)))).collect()[0]
    assert best["path"] == f"{tmp_path}/data/a"


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Policy(rules=("biggest",)), "unknown rule 'biggest'; possible are resolution, lossless, bytes, oldest"),
        (Policy(rules=("bytes", "bytes")), "twice"),
        (Policy(rules=("path", "bytes")), "path is always last"),
        (Policy(prefer=("",)), "empty"),
        (Policy(protect=("ftp://x/y",)), "ftp"),
    ],
)
def test_a_policy_that_cannot_be_followed_is_refused(policy: Policy, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        keepers.check(policy)


def test_a_policy_that_can_be_followed_is_not_refused() -> None:
    keepers.check(Policy())
    keepers.check(POLICY)
    keepers.check(Policy(rules=("oldest", "bytes", "lossless", "resolution")))
