"""All jobs through submit.sh with everything in buckets of a real S3 server, which refuses, dies and comes back."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.cluster.conftest import Options, bad_use, in_delta, in_iceberg, vectors, wait_for
from tests.libraries import need
from tests.samples import picture
from tests.store import Gateway, Store, environment

from dedup import models, thresholds
from dedup.distances import METRICS
from dedup.thresholds import Thresholds

Submit = Callable[..., subprocess.Popen[str]]

ODD = ("a b/ü ä.png", "x=1/日本.png", "%20/100%.png", "#1/+&'().png")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = Store(tmp_path_factory.mktemp("store") / "buckets")
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def gateway(store: Store) -> Iterator[Gateway]:
    """Stand before the store, and refuse each thirtieth request, as a store does that is asked too often."""
    made = Gateway()
    made.stand_before(store, lambda number: 503 if number % 30 == 0 else 0.0)
    yield made
    made.close()


@pytest.fixture(scope="module")
def on_store(gateway: Gateway, submit: Submit) -> Submit:
    """Return `submit` with the variables by which the store is found."""
    return partial(submit, **environment(gateway.port))


def finished(job: subprocess.Popen[str]) -> str:
    out, err = job.communicate(timeout=400)
    assert job.returncode == 0, err
    return out


def nothing_near(out: Path) -> Thresholds:
    """Return thresholds for the features in a bucket that no two images are within."""
    return Thresholds(models.one(str(out / "features"), None).model, 5, dict.fromkeys(METRICS, 1e-9), "a test", views=2)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_jobs_make_in_buckets_what_they_make_on_a_disk(
    store: Store, gateway: Gateway, on_store: Submit, images: Path, model: Options, local: Path
) -> None:
    photos, out = store.bucket("photos"), store.bucket("out")
    files = sorted(path for path in images.glob("set [01]/*") if path.is_file())
    for path in files:
        copy = photos / path.relative_to(images)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    for path, name in zip(files, ODD, strict=False):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(path.read_bytes())

    ingest = ("ingest", "--images", "s3a://photos", "--table", "s3a://out/the lake")
    said = finished(on_store(*ingest, "--metrics", "s3a://out/counted.json"))
    assert "64 files = 64 in the table + 0 rejected" in said
    assert json.loads((out / "counted.json").read_text())["outcome"] == "done"

    extract = ("extract", "--table", "s3a://out/the lake", "--features", "s3a://out/features", *model)
    job = on_store(*extract)
    wait_for("an extract that writes", lambda: (out / "features/_models").exists() or job.poll(), 120)
    assert job.poll() is None, "there is work left when the server dies"
    store.kill()
    time.sleep(4)
    store.start()
    out_, err = job.communicate(timeout=400)
    assert job.returncode == 0 or (
        job.returncode == 1 and "the storage does not answer" in out_ + err and "Traceback" not in out_ + err
    )
    said = finished(on_store(*extract))
    assert "64 files = 64 with features + 0 rejected" in said
    assert "60 contents = " in said
    made = vectors(out / "features")
    assert len(made) == 60
    assert made.items() <= vectors(local / "features").items()

    asked = f"s3a://photos/{ODD[0]}"
    query = ("query", "--features", "s3a://out/features", "--query", asked, "--report", "s3a://out/report")
    assert asked in finished(on_store(*query))
    assert "<img" in (out / "report/report.html").read_text()

    nothing_near(out).save(str(out / "thresholds.json"))
    deduplicate = ("deduplicate", "--features", "s3a://out/features", "--output", "s3a://out/dd", "--csv")
    said = finished(on_store(*deduplicate, "--thresholds", "s3a://out/thresholds.json", "--views", "2"))
    assert "64 files" in said
    assert "60 seen in views = 60 made + 0 made before + 0 not readable" in said
    lines = (out / "dd/manifest.csv").read_text().splitlines()
    assert len(lines) == 65

    sampled = ("--features", "s3a://out/features", "--table", "s3a://out/the lake", "--output")
    said = finished(on_store("calibrate", *sampled, "s3a://out/limits", "--sample", "2", "--precision", "0.5"))
    assert "report: s3a://out/limits/calibration.html" in said
    assert thresholds.load(str(out / "limits/thresholds.json")).calibrated
    named = ["query_path,duplicate_path,relation", *(f"{ODD[0]},{name},odd" for name in ODD[1:])]
    (photos / "labels.csv").write_text("\n".join(named))
    labelled = ("evaluate", *sampled, "s3a://out/found", "--labels", "s3a://photos/labels.csv", "--views", "2")
    assert "report: s3a://out/found/evaluation.html" in finished(on_store(*labelled))
    assert json.loads((out / "found/evaluation.json").read_text())["originals"] == 1
    assert not [path for path in (out / "dd").iterdir() if path.name.startswith("_scratch")]
    assert gateway.refused["Hadoop"] > 10, "Spark itself was refused"
    assert gateway.refused["aws-sdk-cpp"] > 10, "and so was Arrow"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["delta", "iceberg"])
def test_tables_with_transactions_lie_in_buckets_too_and_a_profile_has_the_keys(
    name: str, store: Store, gateway: Gateway, submit: Submit, images: Path, model: Options, local: Path, tmp_path: Path
) -> None:
    need(name)
    found_by = environment(gateway.port)
    keys = [f"{name.lower()} = {found_by.pop(name)}" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    profiles = tmp_path / "credentials"
    profile = {"delta": "default", "iceberg": "lakes"}[name]
    profiles.write_text("\n".join([f"[{profile}]", *keys, ""]))
    found_by |= {"AWS_SHARED_CREDENTIALS_FILE": str(profiles)}
    found_by |= {"AWS_PROFILE": profile} if profile != "default" else {}
    photos, out = store.bucket(f"for-{name}"), store.bucket(name)
    files = sorted(path for path in images.glob("set 2/*") if path.is_file())[:12]
    for path in files:
        (photos / path.name).write_bytes(path.read_bytes())
    contents = {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def run(*words: str) -> str:
        return finished(submit(*words, "--format", name, **found_by))

    assert "12 files = 12 in the table" in run(
        "ingest", "--images", f"s3a://for-{name}", "--table", f"s3a://{name}/lake"
    )
    features = ("--features", f"s3a://{name}/features")
    assert f"{len(contents)} computed + 0 known" in run("extract", "--table", f"s3a://{name}/lake", *features, *model)
    made = {"delta": in_delta, "iceberg": in_iceberg}[name](out / "features/features")
    assert set(made) == contents
    assert made.items() <= vectors(local / "features").items()
    asked = f"s3a://for-{name}/{files[0].name}"
    assert asked in run("query", *features, "--query", asked, "--report", f"s3a://{name}/report")
    log = {"delta": "_delta_log", "iceberg": "metadata"}[name]
    assert (out / "report/results" / log).is_dir()
    nothing_near(out).save(str(out / "thresholds.json"))
    within = ("--thresholds", f"s3a://{name}/thresholds.json", "--views", "1")
    assert f"12 files = {len(contents)} keep" in run("deduplicate", *features, "--output", f"s3a://{name}/dd", *within)
    assert (out / "dd/manifest" / log).is_dir()


def test_wrong_credentials_are_one_line(store: Store, on_store: Submit) -> None:
    for name in ("photos", "out"):
        (store.folder / name).mkdir(exist_ok=True)
    ingest = ("ingest", "--images", "s3a://photos", "--table", "s3a://out/t")
    said = bad_use(on_store(*ingest, AWS_SECRET_ACCESS_KEY="not hers"))
    assert "s3a://photos: not permitted: do the credentials and the region fit the store?" in said
    assert "not hers" not in said
    said = bad_use(on_store("ingest", "--images", "s3a://nobodys", "--table", "s3a://out/t"))
    assert said == "error: s3a://nobodys: no such file, folder or pattern"


def test_whoever_brings_hadoop_aws_is_trusted_to_bring_it(store: Store, on_store: Submit, tmp_path: Path) -> None:
    for name in ("few", "out"):
        (store.folder / name).mkdir(exist_ok=True)
    picture(1).save(store.folder / "few" / "a.png")
    with zipfile.ZipFile(tmp_path / "hadoop-aws.jar", "w") as empty:
        empty.writestr("META-INF/MANIFEST.MF", "")
    job = on_store("--jars", f"{tmp_path}/hadoop-aws.jar", "ingest", "--images", "s3a://few", "--table", "s3a://out/t")
    out, err = job.communicate(timeout=120)
    assert job.returncode == 2, err
    lines = (out + err).splitlines()
    assert any(line.startswith("error: Spark lacks the library for s3a: locations: ") for line in lines)
    assert "Traceback" not in out + err
