"""Images in a bucket of a real S3 server, tables on the disk: what is listed, what vanishes, what fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from tests.archives import tar, zipped
from tests.samples import make_images, picture
from tests.store import BREAK, Fault, Gateway, Store, environment

from dedup import archives, extraction, files, following, images, job, listing, storage, stores, tables
from dedup.errors import Outage, Reason, Reject, UsageError
from dedup.images import Ingested
from dedup.model import Model

ODD = ("a b/ü ä.png", "x=1/日本.png", "%20/100%.png", "#1/?&+'()[*].png", "set/.hidden.png")


@pytest.fixture
def store(tmp_path: Path, gateway: Gateway) -> Iterator[Store]:
    """Return a store that is reached through the gateway."""
    made = Store(tmp_path / "store")
    made.start()
    gateway.stand_before(made)
    yield made
    made.kill()
    gateway.stand_before(None)


def put(bucket: Path, names: tuple[str, ...]) -> None:
    for seed, name in enumerate(names):
        (bucket / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(bucket / name)


def rejects(rows: str, spark: SparkSession) -> dict[str, str]:
    found = tables.read(spark, rows, "rejects").collect()
    return {row["path"].rpartition("/")[2]: row["reason"] for row in found}


def test_names_are_what_they_are(store: Store) -> None:
    bucket = store.bucket("photos")
    put(bucket, ODD)
    found = {entry.path: entry for entry in listing.entries("s3a://photos")}
    assert set(found) == {f"s3a://photos/{name}" for name in ODD}
    for name in ODD:
        content = (bucket / name).read_bytes()
        assert found[f"s3a://photos/{name}"].length == len(content)
        assert storage.read(f"s3a://photos/{name}") == content
    assert {entry.path for entry in listing.entries("s3a://photos/a*/*.png")} == {"s3a://photos/a b/ü ä.png"}
    assert {entry.path for entry in listing.entries("s3://photos/")} == set(found), "it is the same bucket"


MONTHS = [f"{year}/{month}" for year in (2023, 2024) for month in range(1, 13)]
DATED = [f"{month}/{name}" for month in MONTHS for name in ("a.png", "b/c.jpg")]


@pytest.mark.parametrize(
    ("pattern", "names", "tasks"),
    [
        ("", r".*", 5),
        ("/20*", r"20.*", 5),
        ("/*/1?/*.png", r"\d+/1\d/a\.png", 0),
        ("/**/c.*", r".*/c\.jpg", 5),
        ("/2023/1*", r"2023/1.*", 2),
        ("/2023/1/a.png", r"2023/1/a\.png", 0),
        ("/none*", r"none", 0),
    ],
)
def test_folders_are_listed_by_many_and_all_in_them_once(
    spark: SparkSession, store: Store, pattern: str, names: str, tasks: int
) -> None:
    bucket = store.bucket("photos")
    there = ["top.png", "2023/beside.png", "200/x/y/z/deep.png", *ODD, *DATED]
    for name in there:
        (bucket / name).parent.mkdir(parents=True, exist_ok=True)
        (bucket / name).write_bytes(name.encode())
    with files.listing(spark, f"s3a://photos{pattern}") as found:
        rows = found.withColumn("task", F.spark_partition_id()).collect()
    assert sorted((row["path"], row["length"], row["reason"]) for row in rows) == sorted(
        (f"s3a://photos/{name}", len(name.encode()), None) for name in there if re.fullmatch(names, name, re.DOTALL)
    )
    assert len({row["task"] for row in rows if row["path"].endswith("/b/c.jpg")}) >= tasks


@pytest.mark.parametrize("names", [["a.png"], ["x/a.png"], ["x/y/z/a.png", "x/b.png"]])
def test_a_bucket_with_few_folders_is_listed_too(spark: SparkSession, store: Store, names: list[str]) -> None:
    bucket = store.bucket("photos")
    for name in names:
        (bucket / name).parent.mkdir(parents=True, exist_ok=True)
        (bucket / name).write_bytes(b"1")
    with files.listing(spark, "s3a://photos") as found:
        assert sorted(row["path"] for row in found.collect()) == sorted(f"s3a://photos/{name}" for name in names)


def test_what_is_written_is_there_what_is_deleted_is_gone_and_a_folder_is_no_object(store: Store) -> None:
    bucket = store.bucket("out")
    storage.write("s3a://out/a b/mark", b"done")
    assert [entry.path for entry in listing.entries("s3a://out")] == ["s3a://out/a b/mark"]
    storage.move("s3a://out/a b/mark", "s3a://out/c/d/mark")
    assert storage.names("s3a://out/c") == ["d"]
    assert storage.read("s3a://out/c/d/mark") == b"done"
    storage.write("s3a://out/c/x/y/z", b"")
    storage.delete("s3a://out/c")
    assert not storage.exists("s3a://out/c")
    assert not (bucket / "c").exists()


def test_objects_that_vanish_or_change_are_rejects(
    spark: SparkSession, store: Store, model: Model, tmp_path: Path
) -> None:
    bucket = store.bucket("photos")
    make_images(bucket, 12)
    features = f"{tmp_path}/features"
    images.ingest(spark, "s3a://photos", features, keep_bytes=False)
    first, second, *_ = sorted(bucket.rglob("cloud*"))
    first.unlink()
    second.write_bytes(b"others")
    done = extraction.extract(spark, features, features, model)
    assert (done.files, done.described, done.rejected) == (12, 10, 2)
    assert rejects(features, spark) == {first.name: Reason.MISSING, second.name: Reason.CHANGED}


def test_an_object_that_changes_between_listing_and_reading_is_told(store: Store) -> None:
    bucket = store.bucket("photos")
    put(bucket, ("a.png", "b.png"))
    rows = {entry.path: files._listed(entry) for entry in listing.entries("s3a://photos")}
    (bucket / "a.png").write_bytes(b"shorter")
    (bucket / "b.png").unlink()
    assert files._read(True, rows["s3a://photos/a.png"])["reason"] == Reason.CHANGED
    assert files._read(True, rows["s3a://photos/b.png"])["reason"] == Reason.MISSING


@pytest.mark.usefixtures("classic")
def test_a_stream_follows_a_bucket(spark: SparkSession, store: Store, tmp_path: Path) -> None:
    bucket, table = store.bucket("photos"), f"{tmp_path}/table"
    put(bucket, ("a.png", "b c/ü.png"))

    def follow(source: str) -> tuple[int, int, int]:
        done = following.ingest(spark, source, table, following.NOW)
        return done.files, done.new, done.gone

    assert follow("s3a://photos") == (2, 2, 0)
    (bucket / "a.png").unlink()
    put(bucket, ("d.png",))
    assert follow("s3://photos") == (2, 1, 1), "it is the same bucket"
    assert rejects(table, spark) == {}


@pytest.fixture
def others_secret(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Have another secret than the store."""
    secret = environment(gateway.port, "another")["AWS_SECRET_ACCESS_KEY"]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    stores._root.cache_clear()
    yield secret
    stores._root.cache_clear()


def test_wrong_credentials_are_one_line_and_reject_no_file(store: Store, others_secret: str) -> None:
    (store.bucket("photos") / "x").write_bytes(b"no image")
    asked = (storage.exists, storage.names, storage.require_writable, storage.read)
    for ask in (*asked, lambda at: list(listing.entries(at))):
        with pytest.raises(
            UsageError, match=r"^s3a://photos/x.*: not permitted: do the credentials and the region fit"
        ) as caught:
            ask("s3a://photos/x")
        assert "\n" not in str(caught.value)
        assert others_secret not in str(caught.value)


def test_a_missing_bucket_is_said(store: Store) -> None:
    with pytest.raises(UsageError, match=r"^s3a://nowhere/t: cannot be written: no such bucket$"):
        storage.require_writable("s3a://nowhere/t")
    assert list(listing.entries("s3a://nowhere/t")) == []


@pytest.mark.parametrize(("status", "raised"), [(429, Outage), (503, Outage), (301, UsageError), (403, UsageError)])
def test_what_is_said_of_every_file_rejects_none(
    status: int, raised: type[Exception], store: Store, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store.bucket("photos"), ("a.png",))
    monkeypatch.setattr(stores, "_ATTEMPTS", 1)
    stores._root.cache_clear()
    gateway.stand_before(store, lambda _: status)
    with pytest.raises(raised):
        storage.read("s3a://photos/a.png")
    stores._root.cache_clear()


@pytest.mark.parametrize("around", [0.0, "AccessDenied"])
@pytest.mark.parametrize(("status", "reason"), [(400, Reason.UNREADABLE), (403, Reason.PERMISSION)])
def test_a_file_that_is_refused_without_a_word_where_a_list_is_not_is_a_reject(
    status: int, reason: Reason, around: Fault, store: Store, gateway: Gateway
) -> None:
    put(store.bucket("photos"), ("a.png",))
    gateway.stand_before(store, lambda number: status if number == 1 else around)
    with pytest.raises(Reject) as rejected:
        storage.read("s3a://photos/a.png")
    assert rejected.value.reason == reason
    assert gateway.requests == 2


@pytest.mark.parametrize("around", [400, 403, "ExpiredToken", "InvalidAccessKeyId"])
def test_no_file_is_rejected_where_a_list_is_refused_as_well(around: Fault, store: Store, gateway: Gateway) -> None:
    put(store.bucket("photos"), ("a.png",))
    gateway.stand_before(store, lambda number: 403 if number == 1 else around)
    with pytest.raises(UsageError, match=r"^s3a://photos/a\.png: not permitted: do the credentials"):
        storage.read("s3a://photos/a.png")
    assert gateway.requests == 2


def test_a_pattern_in_a_bucket_that_is_not_there_is_nothing(store: Store) -> None:
    put(store.bucket("photos"), ("a.png",))
    assert list(listing.entries("s3a://nowhere/*.png")) == []


@pytest.mark.parametrize("location", ["s3a:///photos", "s3a://photos//x"])
def test_a_location_that_is_none_is_one_line(store: Store, location: str) -> None:
    for ask in (storage.exists, storage.names, storage.require_writable):
        with pytest.raises(UsageError, match=f"^{location}"):
            ask(location)


def test_a_store_that_is_away_for_a_while_is_waited_for(store: Store, gateway: Gateway) -> None:
    put(store.bucket("photos"), ("a.png",))
    gateway.stand_before(store, lambda number: 503 if number <= 4 else 0.0)
    assert storage.read("s3a://photos/a.png") == (store.folder / "photos" / "a.png").read_bytes()
    assert gateway.refused.total() == 4


def test_a_file_whose_bytes_stop_coming_is_asked_for_again(store: Store, gateway: Gateway) -> None:
    content = bytes(range(256)) * 4000
    (store.bucket("photos") / "a.png").write_bytes(content)
    gateway.stand_before(store, lambda _: BREAK if gateway.broken < 2 else 0.0)
    assert storage.read("s3a://photos/a.png") == content
    assert gateway.broken == 2


def test_a_store_that_stays_away_is_nobody_elses_fault(
    store: Store, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store.bucket("photos"), ("a.png",))
    monkeypatch.setattr(stores, "_ATTEMPTS", 2)
    stores._root.cache_clear()  # a client is made with so many attempts
    store.kill()
    gateway.stand_before(None)
    for ask in (storage.read, storage.exists, storage.names, storage.require_writable):
        with pytest.raises(Outage, match=r"^s3a://photos/a\.png.*: the storage does not answer"):
            ask("s3a://photos/a.png")
    stores._root.cache_clear()


@pytest.mark.usefixtures("classic")
def test_a_stream_ends_with_exit_code_1_where_the_store_stays_away(
    spark: SparkSession,
    store: Store,
    gateway: Gateway,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(store.bucket("photos"), ("a.png",))
    monkeypatch.setattr(stores, "_ATTEMPTS", 2)
    stores._root.cache_clear()

    def told(done: Ingested, seconds: float) -> None:
        store.kill()
        gateway.stand_before(None)

    with pytest.raises(SystemExit) as ended:
        job.run(lambda: following.ingest(spark, "s3a://photos", f"{tmp_path}/table", "1 second", told=told))
    stores._root.cache_clear()
    assert ended.value.code == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: s3a://photos")
    assert last.endswith("(what was done is kept: run it again)")


def test_a_bucket_is_ingested_although_requests_fail_and_wait(
    spark: SparkSession, store: Store, gateway: Gateway, tmp_path: Path
) -> None:
    bucket = store.bucket("photos")
    make_images(bucket, 40)
    gateway.stand_before(store, lambda number: 503 if number % 4 == 0 else 0.5 if number % 7 == 0 else 0.0)
    done = images.ingest(spark, "s3a://photos", f"{tmp_path}/table")
    assert (done.files, done.kept, done.rejected) == (40, 40, 0)
    found = {row["path"]: bytes(row["content"]) for row in tables.read(spark, f"{tmp_path}/table", "images").collect()}
    assert found == {f"s3a://photos/{path.relative_to(bucket)}": path.read_bytes() for path in bucket.rglob("cloud*")}
    assert gateway.refused.total() > 10
    assert gateway.late > 3


SHARD = {f"{number}.jpg": bytes([number]) * 20_000 for number in range(100)}


def test_members_of_archives_in_a_bucket_are_rows_although_requests_fail(
    spark: SparkSession, store: Store, gateway: Gateway, tmp_path: Path
) -> None:
    bucket = store.bucket("photos")
    (bucket / "1.tar").write_bytes(tar(SHARD))
    (bucket / "2.zip").write_bytes(zipped(SHARD))
    (bucket / "3.tar").write_bytes(tar(SHARD)[:100_000])
    gateway.stand_before(store, lambda number: 503 if number % 5 == 0 else 0.0)
    done = images.ingest(spark, "s3a://photos", f"{tmp_path}/table")
    assert (done.files, done.kept, done.rejected) == (206, 204, 2)
    assert rejects(f"{tmp_path}/table", spark) == {"3.tar": Reason.TRUNCATED, "4.jpg": Reason.TRUNCATED}
    found = {row["path"]: bytes(row["content"]) for row in tables.read(spark, f"{tmp_path}/table", "images").collect()}
    for archive, count in (("1.tar", 100), ("2.zip", 100), ("3.tar", 4)):
        for name in list(SHARD)[:count]:
            assert found[f"s3a://photos/{archive}!/{name}"] == SHARD[name]
    assert gateway.refused.total() > 10


@pytest.mark.parametrize("archive", ["1.tar", "2.zip"])
def test_a_store_is_asked_for_a_member_once_and_for_an_index_in_few_pieces(
    archive: str, store: Store, gateway: Gateway
) -> None:
    (store.bucket("photos") / archive).write_bytes((tar if archive == "1.tar" else zipped)(SHARD))
    gateway.stand_before(store)
    listed = list(archives.members(f"s3a://photos/{archive}", None))
    assert len(listed) == 100
    assert gateway.requests < 12
    before = gateway.requests
    assert [archives.read(member.path, member) for member in listed] == list(SHARD.values())
    assert gateway.requests - before <= 300  # is it the same archive, the header of a zip's member, its bytes


def silent_after(answered: int) -> Callable[[int], int | float]:
    return lambda number: 503 if number > answered else 0.0


@pytest.mark.parametrize("archive", ["1.tar", "2.zip"])
def test_a_store_that_goes_away_while_an_archive_is_looked_through_rejects_nothing(
    archive: str, store: Store, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store.bucket("photos") / archive).write_bytes((tar if archive == "1.tar" else zipped)(SHARD))
    monkeypatch.setattr(stores, "_ATTEMPTS", 1)
    stores._root.cache_clear()
    for answered in range(20):
        monkeypatch.setattr(archives, "_kept", {})
        gateway.stand_before(store, silent_after(answered))
        try:
            listed = [member.path for member in archives.members(f"s3a://photos/{archive}", None)]
        except Outage:
            continue
        assert len(listed) == 100
        break
    assert answered > 3
    stores._root.cache_clear()
