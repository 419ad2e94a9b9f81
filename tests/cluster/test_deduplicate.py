"""Deduplication through submit.sh: the same bytes on one machine and on a cluster that loses a worker."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from tests.cluster.conftest import Cluster, on, wait_for
from tests.cluster.test_jobs import Submit
from tests.samples import WEIGHTS, make_images

from dedup import thresholds

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def copied(submit: Submit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the features of 24 images, of copies of 6 with the same bytes, and of 6 re-encoded."""
    folder = tmp_path_factory.mktemp("copied")
    for number, path in enumerate(make_images(folder / "images", 24)[:6]):
        (folder / "images" / f"same {number}{path.suffix}").write_bytes(path.read_bytes())
        with Image.open(path) as image:
            image.convert("RGB").save(folder / "images" / f"again {number}.jpg", quality=95)
    (folder / "images" / "notes.txt").write_text("no image")
    extract = submit(
        "extract", "--images", f"{folder}/images", "--features", f"{folder}/features", "--weights", WEIGHTS
    )
    out, err = extract.communicate(timeout=300)
    assert extract.returncode == 0, err
    assert "37 files = 36 with features + 1 rejected" in out
    return folder


@pytest.fixture(scope="module")
def local(copied: Path, submit: Submit) -> bytes:
    """Return the manifest that a local run makes, as CSV."""
    job = submit("deduplicate", "--features", f"{copied}/features", "--output", f"{copied}/local", "--csv")
    out, err = job.communicate(timeout=300)
    assert job.returncode == 0, err
    assert "37 files = 24 keep + 6 drop + 6 review + 1 rejected" in out
    assert "thresholds: the defaults, made with seeded weights" in out
    assert f"report: {copied}/local/report.html" in out
    assert not [path for path in (copied / "local").iterdir() if path.name.startswith("_scratch")]
    return (copied / "local" / "manifest.csv").read_bytes()


def test_copies_are_dropped_or_to_be_reviewed_for_their_originals(local: bytes) -> None:
    rows = list(csv.DictReader(io.StringIO(local.decode())))
    assert Counter((row["action"], row["method"]) for row in rows) == {
        ("keep", ""): 24,
        ("drop", "bytes"): 6,
        ("review", "near"): 6,
    }
    for row in rows:
        if row["action"] != "keep":
            number, keepers = (int(Path(row[name]).stem.split()[-1]) for name in ("path", "keeper"))
            assert number == keepers, "a file and its keeper are of one original"
            assert row["votes"] == "5"


def test_a_cluster_that_loses_a_worker_makes_the_same_manifest(
    local: bytes, copied: Path, cluster: Cluster, submit: Submit, tmp_path: Path
) -> None:
    job = submit(
        *(*on(cluster), "--conf", "spark.sql.shuffle.partitions=3"),
        *("deduplicate", "--features", f"{copied}/features", "--output", f"{tmp_path}/out", "--csv"),
    )
    wait_for("sketches", lambda: [*(tmp_path / "out/sketches").glob("part=*/_SUCCESS")] or job.poll(), 240)
    assert job.poll() is None, "there is work left when the worker dies"
    cluster.kill_worker()
    _, err = job.communicate(timeout=500)
    assert job.returncode == 0, err
    assert (tmp_path / "out" / "manifest.csv").read_bytes() == local


def test_a_calibration_leaves_thresholds(copied: Path, submit: Submit) -> None:
    made = submit(
        *("calibrate", "--features", f"{copied}/features", "--output", f"{copied}/calibration"),
        *("--sample", "2", "--precision", "0.5"),
    )
    out, err = made.communicate(timeout=300)
    assert made.returncode == 0, err
    assert f"report: {copied}/calibration/calibration.html" in out
    assert thresholds.load(f"{copied}/calibration/thresholds.json").calibrated
