from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.cluster.conftest import Cluster, Options, at_work, bad_use, on, vectors, wait_for
from tests.libraries import need
from tests.networks import WIDTH, network, save
from tests.samples import WEIGHTS

from dedup.models import Made

Submit = Callable[..., subprocess.Popen[str]]


def test_the_library_is_not_importable_by_accident(environment: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import dedup"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No module named 'dedup'" in done.stderr


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_makes_the_same_features(
    cluster: Cluster, submit: Submit, images: Path, model: Options, local: Path, tmp_path: Path
) -> None:
    table, features = tmp_path / "table", tmp_path / "features"
    ingest = submit(*on(cluster), "ingest", "--images", str(images), "--table", str(table))
    _, err = ingest.communicate(timeout=300)
    assert ingest.returncode == 0, err

    extract = submit(*on(cluster), "extract", "--table", str(table), "--features", str(features), *model)
    worker = cluster.workers[0].pid
    wait_for("the network at work", lambda: at_work(worker) or extract.poll() is not None, 240)
    assert at_work(worker), "it dies in the middle of a task"
    assert not vectors(features)
    cluster.kill_worker()
    out, err = extract.communicate(timeout=400)
    assert extract.returncode == 0, err
    assert "120 files = 120 with features + 0 rejected" in out
    assert vectors(features) == vectors(local / "features")


def test_a_query_through_submit_answers_and_names_the_page(
    local: Path, images: Path, submit: Submit, tmp_path: Path
) -> None:
    asked = str(next(images.rglob("*.jpg")))
    query = submit("query", "--features", f"{local}/features", "--query", asked, "--report", f"{tmp_path}/report")
    out, err = query.communicate(timeout=300)
    assert query.returncode == 0, err
    assert f"report: {tmp_path}/report/report.html" in out
    assert "Traceback" not in err


@pytest.mark.slow
def test_tables_of_a_catalog_are_named_in_all_jobs(submit: Submit, images: Path, tmp_path: Path) -> None:
    need("iceberg")
    catalog = {
        "spark.sql.catalog.ice": "org.apache.iceberg.spark.SparkCatalog",
        "spark.sql.catalog.ice.type": "hadoop",
        "spark.sql.catalog.ice.warehouse": str(tmp_path / "warehouse"),
    }
    options = [word for name, value in catalog.items() for word in ("--conf", f"{name}={value}")]
    (tmp_path / "warehouse" / "photos").mkdir(parents=True)
    table, features, output = "ice.photos.lake", "ice.photos.features", f"{tmp_path}/duplicates"
    asked = str(next(images.glob("set 0/*.jpg")))
    for words, says in (
        (("ingest", "--images", f"{images}/set 0", "--table", table), "30 files = 30 in the table + 0 rejected"),
        (("extract", "--table", table, "--features", features, "--weights", WEIGHTS), "30 computed + 0 known"),
        (("extract", "--table", table, "--features", features, "--weights", WEIGHTS), "0 computed + 30 known"),
        (("query", "--features", features, "--query", asked, "--report", f"{tmp_path}/report"), asked),
        (("deduplicate", "--features", features, "--output", output), "30 files = 30 keep"),
    ):
        job = submit(*options, *words, "--format", "iceberg")
        out, err = job.communicate(timeout=300)
        assert job.returncode == 0, err
        assert says in out


def test_bad_use_is_exit_code_2_and_one_line(submit: Submit, images: Path) -> None:
    said = bad_use(submit("ingest", "--images", str(images), "--table", "/proc/nowhere"))
    assert "/proc/nowhere: cannot be written" in said


def test_what_was_counted_is_left_as_json(local: Path) -> None:
    told = json.loads((local / "ingest.json").read_text())
    assert (told["job"], told["outcome"], told["error"]) == ("ingest", "done", None)
    counters = {"files": 120, "in_the_table": 120, "rejected": 0, "read": 120, "known": 0, "to_read": 120, "new": 120}
    nothing = {"changed": 0, "tried_again": 0, "gone": 0}
    assert told["steps"]["ingest"]["counters"] == counters | nothing


def test_help_of_a_job_names_its_options(submit: Submit) -> None:
    job = submit("query", "--help")
    out, _ = job.communicate(timeout=120)
    assert job.returncode == 0
    for option in (
        "--features",
        "--query",
        "--top",
        "--minkowski-p",
        "--report",
        "--weights",
        "--distances",
        "--metrics",
    ):
        assert option in out


def test_a_job_that_fails_does_not_end_in_0(submit: Submit, images: Path, tmp_path: Path) -> None:
    broken = tmp_path / "features"
    part = broken / "features" / "part=000001-x" / "model=m" / "bucket=0"
    part.mkdir(parents=True)
    (part.parents[1] / "_SUCCESS").touch()
    (part / "a.parquet").write_bytes(b"PAR1" + bytes(1000) + b"PAR1")
    (part / ".a.parquet.crc").write_bytes(b"crc\0" + (512).to_bytes(4, "big") + bytes(8))  # a disk that forgets
    Made("m", "seeded", "float32", (), complete=True, listed=0).save(str(broken))
    asked = str(next(images.rglob("*.png")))
    counted = ("--metrics", f"{tmp_path}/query.json")
    job = submit("query", "--features", str(broken), "--query", asked, *counted, DEDUP_LOG="json")
    out, err = job.communicate(timeout=120)
    assert job.returncode == 1, err
    told = json.loads((tmp_path / "query.json").read_text())
    assert (told["outcome"], told["steps"].keys()) == ("failed", {"query"})
    assert "a.parquet" in told["error"]
    lines = [json.loads(line) for line in (out + err).splitlines() if not line.startswith("WARNING: Using incubator")]
    assert all({"ts", "level", "logger", "msg"} <= line.keys() for line in lines)
    assert {line["logger"].partition(".")[0] for line in lines} > {"dedup"}, "the JVM's lines are there too"
    (last,) = [line for line in lines if line["logger"] == "dedup.job"]
    assert last["context"] == {"job": "query", "features": str(broken), "report": "report"}
    assert "a.parquet" in last["exception"]["msg"]


@pytest.mark.slow
def test_another_network_goes_to_the_executors(cluster: Cluster, submit: Submit, images: Path, tmp_path: Path) -> None:
    features, said = f"{tmp_path}/features", save(network(), tmp_path / "a network.onnx")
    made = ("--images", str(images / "set 0"), "--features", features, "--model", said)
    extract = submit(*on(cluster), "extract", *made, "--size", "40", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
    out, err = extract.communicate(timeout=300)
    assert extract.returncode == 0, err
    assert "30 files = 30 with features + 0 rejected" in out
    assert {len(vector) for vector in vectors(Path(features)).values()} == {4 * WIDTH}
    new = tmp_path / "new.jpg"
    with Image.open(next(images.rglob("*.png"))) as image:
        image.convert("RGB").save(new)
    query = submit(*on(cluster), "query", "--features", features, "--query", str(new), "--report", f"{tmp_path}/report")
    out, err = query.communicate(timeout=300)
    assert query.returncode == 0, err
    assert "5/5" in out


@pytest.mark.slow
def test_of_two_runs_on_one_output_one_goes_on_and_the_other_says_why_not(
    submit: Submit, local: Path, tmp_path: Path
) -> None:
    features = tmp_path / "features"
    extract = ("extract", "--table", f"{local}/table", "--features", str(features), "--weights", WEIGHTS)
    first = submit("--master", "local[1]", *extract)
    wait_for("a first run", lambda: (features / "_running").exists() or first.poll(), 120)
    second = submit(*extract)
    assert f"{features}: another run writes there (extract on " in bad_use(second)
    assert first.poll() is None, "it goes on"
    out, err = first.communicate(timeout=300)
    assert first.returncode == 0, err
    assert "120 contents = 120 computed + 0 known" in out
    assert len(vectors(features)) == 120
    assert not (features / "_running").exists()
