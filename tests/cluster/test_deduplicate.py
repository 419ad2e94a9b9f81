"""Deduplication through submit.sh: the same bytes on one machine and on a cluster that loses a worker."""

from __future__ import annotations

import csv
import io
import re
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from tests.cluster.conftest import Cluster, Once, Options, kill, on, started_by, vectors, wait_for, written
from tests.cluster.test_jobs import Submit
from tests.libraries import need
from tests.samples import WEIGHTS, make_images, near_by

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
    wait_for("sketches", lambda: written(tmp_path / "out/sketches", "parquet") or job.poll(), 240)
    assert job.poll() is None, "there is work left when the worker dies"
    cluster.kill_worker()
    _, err = job.communicate(timeout=500)
    assert job.returncode == 0, err
    assert (tmp_path / "out" / "manifest.csv").read_bytes() == local


MIRRORED = 8
"""Of so many pictures, the mirror image is among the images too."""


@pytest.fixture(scope="module")
def mirrored(submit: Submit, model: Options, once: Once) -> Path:
    """Return a folder with features of 120 images, and thresholds by which mirror images are near, and no others."""

    def draw(folder: Path) -> None:
        plain = make_images(folder, 120 - MIRRORED)
        (folder / "mirrored").mkdir()
        for number, path in enumerate(plain[:MIRRORED]):
            with Image.open(path) as image:
                turned = ImageOps.mirror(ImageOps.exif_transpose(image).convert("RGB"))
                turned.save(folder / "mirrored" / f"{number}.png")

    images = once("mirrored-images", draw)  # where they stay: a folder is renamed when it has been filled

    def fill(folder: Path) -> None:
        folder.mkdir()
        smaller = (*model[:-1], "512")  # than that of others, which takes four times as long
        extract = submit("extract", "--images", str(images), "--features", f"{folder}/features", *smaller)
        _, err = extract.communicate(timeout=300)
        assert extract.returncode == 0, err
        (name,) = [path.name for path in (folder / "features" / "_models").iterdir()]
        rows = np.stack([np.frombuffer(row, np.float32) for row in vectors(folder / "features").values()])
        nearest = near_by(rows, 3, 0, name)
        half = {metric: within / 2 for metric, within in nearest.within.items()}
        replace(nearest, within=half, views=2).save(f"{folder}/thresholds.json")

    return once("mirrored", fill)


@pytest.mark.parametrize("name", ["delta", "iceberg"])
def test_what_a_killed_run_has_seen_in_views_counts_and_the_next_ends_in_the_same_manifest(
    name: str, mirrored: Path, submit: Submit, tmp_path: Path
) -> None:
    need(name)

    def start(output: Path, *options: str) -> subprocess.Popen[str]:
        within = ("--thresholds", f"{mirrored}/thresholds.json", "--views", "2", "--csv")
        # One core makes two rounds.
        on_one = ("--master", "local[1]", "deduplicate", "--features", f"{mirrored}/features")
        return submit(*on_one, "--output", str(output), *within, *options)

    def seen(job: subprocess.Popen[str]) -> tuple[int, ...]:
        out, err = job.communicate(timeout=400)
        assert job.returncode == 0, err
        found = re.search(r"120 seen in views = (\d+) made \+ (\d+) made before \+ 0 not readable", out)
        assert found is not None, out
        return tuple(map(int, found.groups()))

    assert seen(start(tmp_path / "whole")) == (120, 0)
    manifest = (tmp_path / "whole" / "manifest.csv").read_bytes()
    views = Counter((row["action"], row["view"]) for row in csv.DictReader(io.StringIO(manifest.decode())))
    assert views == {("keep", ""): 120 - MIRRORED, ("drop", "mirrored"): MIRRORED}

    output = tmp_path / name
    job = start(output, "--format", name)
    wait_for("a round of views", lambda: len(written(output / "views", name)) > 1 or job.poll() is not None, 240)
    assert job.poll() is None, job.communicate()
    kill(job.pid, *started_by(job.pid))
    job.communicate(timeout=60)
    made, before = seen(start(output, "--format", name))
    assert min(made, before) > 0
    assert made + before == 120
    assert (output / "manifest.csv").read_bytes() == manifest


def test_a_calibration_leaves_thresholds(copied: Path, submit: Submit) -> None:
    made = submit(
        *("calibrate", "--features", f"{copied}/features", "--output", f"{copied}/calibration"),
        *("--sample", "2", "--precision", "0.5"),
    )
    out, err = made.communicate(timeout=300)
    assert made.returncode == 0, err
    assert f"report: {copied}/calibration/calibration.html" in out
    assert thresholds.load(f"{copied}/calibration/thresholds.json").calibrated
