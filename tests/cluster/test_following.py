"""A job that follows, killed and started again: what arrives is in the tables exactly once."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path

import pyarrow.dataset
import pytest
from tests.cluster.conftest import Options, command, kill, started_by, vectors, wait_for
from tests.cluster.test_jobs import Submit
from tests.samples import arrive


def rows(folder: Path) -> Counter[tuple[str, str]]:
    """Return how often each path is in a table of images with each hash, as a reader without Spark finds it."""
    found: Counter[tuple[str, str]] = Counter()
    for mark in folder.glob("part=*/_SUCCESS"):
        part = pyarrow.dataset.dataset(mark.parent, format="parquet", exclude_invalid_files=True)
        found.update((row["path"], row["sha256"]) for row in part.to_table(["path", "sha256"]).to_pylist())
    return found


def parts(table: Path) -> set[Path]:
    return {*(table / "images").glob("part=*")}


@pytest.mark.slow
def test_a_job_that_follows_and_is_killed_takes_in_each_file_once(
    submit: Submit, images: Path, model: Options, local: Path, tmp_path: Path
) -> None:
    source, table, features = tmp_path / "in", tmp_path / "table", tmp_path / "features"
    source.mkdir()
    paths = sorted(images.rglob("*.png"))[:15]

    def come(first: int, last: int) -> None:
        for path in paths[first:last]:
            arrive(path, source)

    into = ("ingest", "--images", f"{source}/*.png", "--table", str(table), "--follow")
    come(0, 5)
    job = submit(*into, "1 second")
    wait_for("what was there", lambda: len(rows(table / "images")) == 5 or job.poll(), 120)
    assert job.poll() is None, job.communicate()
    before = parts(table)
    come(5, 10)
    wait_for("the next part", lambda: parts(table) > before, 120)
    kill(job.pid, *started_by(job.pid))
    job.communicate(timeout=60)
    come(10, 15)
    job = submit(*into, "now")
    out, err = job.communicate(timeout=120)
    assert job.returncode == 0, err
    assert "15 files = 15 in the table + 0 rejected" in out
    known = rows(local / "table" / "images")
    hashes = {Path(path).name: sha256 for path, sha256 in known}
    assert rows(table / "images") == {(f"{source}/{path.name}", hashes[path.name]): 1 for path in paths}

    extract = ("extract", "--table", str(table), "--features", str(features), *model, "--follow")
    job = submit("--master", "local[1]", *extract, "1 second")  # one core takes its time
    wait_for("features", lambda: [*features.glob("features/part=*")] or job.poll(), 240)
    assert job.poll() is None, job.communicate()
    kill(job.pid, *started_by(job.pid))
    job.communicate(timeout=60)
    assert len(vectors(features)) < 15, "a part has begun that does not count"
    job = submit(*extract, "now")
    out, err = job.communicate(timeout=300)
    assert job.returncode == 0, err
    assert "15 contents = 15 computed + 0 known" in out
    of_all = vectors(local / "features")
    assert vectors(features) == {hashes[path.name]: of_all[hashes[path.name]] for path in paths}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "jvm", "python", "code", "outcome", "error"),
    [
        (signal.SIGINT, True, True, 130, "stopped", "stopped"),  # Ctrl-C reaches all that a terminal has started
        (signal.SIGTERM, True, True, 143, "stopped", "stopped"),  # and so does a supervisor that ends a group
        (signal.SIGTERM, True, False, 143, "failed", "the driver's JVM has ended"),
        (signal.SIGTERM, False, True, 130, "stopped", "stopped"),
    ],
    ids=["Ctrl-C", "all", "spark-submit alone", "Python alone"],
)
def test_a_job_that_follows_and_is_stopped_says_what_it_did(
    what: signal.Signals,
    jvm: bool,
    python: bool,
    code: int,
    outcome: str,
    error: str,
    submit: Submit,
    images: Path,
    tmp_path: Path,
) -> None:
    source, table, file = tmp_path / "in", tmp_path / "table", tmp_path / "counted.json"
    source.mkdir()
    for path in sorted(images.rglob("*.png"))[:5]:
        arrive(path, source)
    into = ("ingest", "--images", str(source), "--table", str(table), "--metrics", str(file), "--follow", "1 second")
    job = submit(*into)
    wait_for("counters", lambda: (file.exists() and "counters" in file.read_text()) or job.poll(), 120)
    assert job.poll() is None, job.communicate()
    found = json.loads(file.read_text())
    assert (found["outcome"], found["steps"]["ingest"]["counters"]["read"]) == ("running", 5)
    (driver,) = [process for process in started_by(job.pid) if "/jobs/" in command(process)]
    for process in [job.pid] * jvm + [driver] * python:
        os.kill(process, what)
    out, err = job.communicate(timeout=120)
    assert job.returncode == code, out + err
    wait_for("the driver's end", lambda: not command(driver))
    last = json.loads(file.read_text())
    assert last["steps"]["ingest"]["counters"] == found["steps"]["ingest"]["counters"]
    assert (last["outcome"], last["error"].partition(" (")[0]) == (outcome, error)
    assert not (table / "_running").exists(), "another run may write there at once"
