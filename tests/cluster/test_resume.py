"""Runs that are killed, with kill -9, and started again: what is durable stays, and nothing shows of it in the end.

And what a reader sees of a run meanwhile.
"""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pyarrow.dataset
import pytest
from tests.cluster.conftest import (
    Cluster,
    Options,
    at_work,
    command,
    in_delta,
    kill,
    on,
    started_by,
    vectors,
    wait_for,
    written,
)
from tests.cluster.test_jobs import Submit
from tests.libraries import need

pytestmark = pytest.mark.slow

Job = subprocess.Popen[str]


def java(job: Job) -> list[int]:
    """Return the JVM of the driver: submit.sh has become it."""
    return [job.pid]


def python(job: Job) -> list[int]:
    """Return the Python of the driver."""
    return [process for process in started_by(job.pid) if "/jobs/" in command(process)]


def both(job: Job) -> list[int]:
    """Return the driver, and the Python workers that it has started where it is the executor too."""
    return [job.pid, *started_by(job.pid)]


def parts(folder: Path, mark: str = "") -> list[Path]:
    return sorted(part for part in folder.glob("part=*") if (part / mark).exists())


def killed(job: Job, what: Callable[[Job], list[int]], when: Callable[[], object]) -> None:
    """Kill what there is of a job at a moment, and wait until all of it has ended."""
    wait_for("the moment", lambda: when() or job.poll() is not None, 240)
    assert job.poll() is None, job.communicate()
    kill(*what(job))
    job.communicate(timeout=120)
    assert job.returncode != 0


def finished(job: Job) -> str:
    out, err = job.communicate(timeout=400)
    assert job.returncode == 0, err
    return out


def computed(said: str) -> int:
    found = re.search(r" 120 contents = (\d+) computed \+ \d+ known", said)
    assert found is not None
    return int(found[1])


@contextmanager
def standing_still(job: Job) -> Iterator[None]:
    """Hold a job, as a machine does that has other things to do: it goes on after the `with`."""
    held = both(job)
    try:
        kill(*held, by=signal.SIGSTOP)
        yield
        assert job.poll() is None, job.communicate()
    finally:
        kill(*held, by=signal.SIGCONT)


Extract = Callable[..., Job]


@pytest.fixture(scope="module")
def extract(submit: Submit, model: Options, local: Path) -> Extract:
    """Return a function that starts an extract of the table of images."""

    def start(features: Path, *options: str, after: Options = ()) -> Job:
        return submit(*options, "extract", "--table", f"{local}/table", "--features", str(features), *model, *after)

    return start


ONE_CORE = ("--master", "local[1,2]")
"""One core makes two rounds of 120 images; it tries a task once more."""


@pytest.fixture(scope="module")
def whole(local: Path) -> dict[str, bytes]:
    """Return the vectors of a run that is not killed."""
    return vectors(local / "features")


def test_an_extract_killed_at_several_moments_ends_in_the_same_bytes(
    extract: Extract, whole: dict[str, bytes], tmp_path: Path
) -> None:
    features = tmp_path / "features"
    made = features / "features"

    def start() -> Job:
        return extract(features, *ONE_CORE)

    killed(start(), java, lambda: parts(features / "images"))  # the files are being listed
    second = start()
    killed(second, python, lambda: at_work(second.pid))
    assert not vectors(features)
    killed(start(), both, lambda: parts(made, "_SUCCESS"))  # a part counts, the next one does not yet
    durable = vectors(features)
    assert 0 < len(durable) < 120

    last = start()
    found = wait_for("the network at work", lambda: at_work(last.pid) or last.poll() is not None, 240)
    assert isinstance(found, list), "there are workers to kill"
    kill(*found)
    said = finished(last)
    assert computed(said) == 120 - len(durable), "nothing that counted is computed again"
    assert vectors(features) == whole
    assert parts(made) == parts(made, "_SUCCESS"), "what killed runs have begun is gone"

    before_all = {path.relative_to(features): path.stat().st_mtime_ns for path in made.rglob("*")}
    said = finished(start())
    assert computed(said) == 0
    assert {path.relative_to(features): path.stat().st_mtime_ns for path in made.rglob("*")} == before_all


def test_an_extract_into_delta_that_is_killed_goes_on_from_its_last_transaction(
    extract: Extract, whole: dict[str, bytes], tmp_path: Path
) -> None:
    need("delta")
    made = tmp_path / "features" / "features"

    def start() -> Job:
        return extract(tmp_path / "features", *ONE_CORE, after=("--format", "delta"))

    killed(start(), both, lambda: len(written(made, "delta")) > 1)
    durable = in_delta(made)
    assert 0 < len(durable) < 120
    assert computed(finished(start())) == 120 - len(durable)
    assert in_delta(made) == whole


def test_an_extract_into_iceberg_that_is_killed_goes_on_from_its_last_snapshot(
    extract: Extract, whole: dict[str, bytes], tmp_path: Path
) -> None:
    need("iceberg")
    made = tmp_path / "features" / "features"

    def start() -> Job:
        return extract(tmp_path / "features", *ONE_CORE, after=("--format", "iceberg"))

    def rows() -> list[tuple[str, bytes]]:  # also those of files that came into no snapshot
        files = pyarrow.dataset.dataset(made / "data", format="parquet", exclude_invalid_files=True)
        return [(row["sha256"], row["features"]) for row in files.to_table(["sha256", "features"]).to_pylist()]

    killed(start(), both, lambda: len(written(made, "iceberg")) > 1)
    begun = len(rows())
    fresh = computed(finished(start()))
    assert 0 < fresh < 120
    assert dict(rows()) == whole
    assert len(rows()) == begun + fresh
    assert computed(finished(start())) == 0


@pytest.mark.parametrize("form", ["parquet", "delta", "iceberg"])
def test_a_query_while_an_extract_is_at_work_sees_what_was_complete_before_it(
    form: str, extract: Extract, submit: Submit, images: Path, model: Options, tmp_path: Path
) -> None:
    need(form)
    features, report = tmp_path / "features", tmp_path / "report"
    made = features / "features"

    def asked_for(*words: str) -> set[str]:
        """Ask for more results than there are contents; return those that are named."""
        asked = str(next(images.glob("set 3/*.jpg")))
        query = submit("query", "--features", str(features), "--query", asked, "--report", str(report), *words)
        assert "An extract is at work on these features, or was stopped" in " ".join(finished(query).split())
        rows = pyarrow.dataset.dataset([*map(str, report.glob("results/**/*.parquet"))]).to_table(["sha256"])
        return set(rows["sha256"].to_pylist())

    first = ("--images", f"{images}/set 0", "--features", str(features), *model, "--format", form)
    assert " 30 contents = 30 computed" in finished(submit("extract", *first))
    complete = {hashlib.sha256(path.read_bytes()).hexdigest() for path in images.glob("set 0/*")}
    before = written(made, form)
    job = extract(features, *ONE_CORE, after=("--format", form))
    wait_for("a first round", lambda: written(made, form) - before or job.poll() is not None, 240)
    with standing_still(job):
        assert asked_for("--top", "200", "--format", form) == complete
    assert " 120 contents = 90 computed + 30 known" in finished(job)


def test_a_cluster_that_is_killed_and_started_again_makes_the_same_features(
    clusters: Callable[[], AbstractContextManager[Cluster]],
    extract: Extract,
    whole: dict[str, bytes],
    tmp_path: Path,
) -> None:
    features = tmp_path / "features"

    def start(cluster: Cluster) -> Job:
        one_core = ("--total-executor-cores", "1", "--conf", "spark.default.parallelism=1")
        return extract(features, *on(cluster), *one_core)

    with clusters() as cluster:
        job = start(cluster)
        wait_for("a first part", lambda: parts(features / "features", "_SUCCESS") or job.poll() is not None, 240)
        assert job.poll() is None, job.communicate()
        kill(*both(job))  # first, as nothing counts without it
        cluster.kill()
        job.communicate(timeout=60)
    durable = vectors(features)
    assert 0 < len(durable) < 120
    with clusters() as cluster:
        assert computed(finished(start(cluster))) == 120 - len(durable)
    assert vectors(features) == whole


def test_an_ingest_that_is_killed_ends_in_the_same_table(
    submit: Submit, local: Path, images: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table"

    def ingest() -> Job:
        return submit("ingest", "--images", str(images), "--table", str(table))

    def files(table: Path) -> dict[str, tuple[str, bytes]]:
        rows = [
            row
            for part in parts(table / "images", "_SUCCESS")
            for row in pyarrow.dataset.dataset(part, format="parquet", exclude_invalid_files=True)
            .to_table()
            .to_pylist()
        ]
        assert len({row["path"] for row in rows}) == len(rows), "one row for each file"
        return {row["path"]: (row["sha256"], row["content"]) for row in rows}

    killed(ingest(), both, lambda: parts(table / "images"))
    said = finished(ingest())
    assert "120 files = 120 in the table + 0 rejected" in said
    assert "120 to read = 120 new + 0 changed + 0 tried again" in said
    assert files(table) == files(local / "table")
    assert parts(table / "images") == parts(table / "images", "_SUCCESS")
