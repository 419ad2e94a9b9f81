"""Real processes: jobs through submit.sh, and a standalone cluster of a master and two workers on this machine."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow.dataset
import pyarrow.parquet
import pytest
from tests import jvm
from tests.libraries import RELEASE
from tests.networks import network, save
from tests.samples import ROOT, WEIGHTS, make_images

from dedup import engines, pixels, weights
from dedup.arithmetic import Arithmetic


def wait_for(what: str, found: Callable[[], object], seconds: float = 60) -> object:
    """Return what a function finds, once it finds something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(0.1)
    raise TimeoutError(f"waited {seconds} s for {what}")


def bad_use(job: subprocess.Popen[str]) -> str:
    """Wait for a job that ends with exit code 2, and return the one line that it says."""
    out, err = job.communicate(timeout=120)
    assert job.returncode == 2, err
    # spark-submit sends the stderr of Python to its own stdout.
    lines = [line for line in (out + err).splitlines() if not line.startswith("WARNING: Using incubator modules")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def started_by(process: int) -> list[int]:
    """Return the processes that a process has started, and those that they have, the first ones first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        children.setdefault(int(parent), []).append(int(entry.name))
    found = children.get(process, [])
    for one in found:
        found.extend(children.get(one, []))
    return found


def command(process: int) -> str:
    """Return the words that a process was started with."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def maps(process: int) -> str:
    """Return which files a process has in its memory."""
    try:
        return Path(f"/proc/{process}/maps").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""  # it has ended


def at_work(process: int) -> list[int]:
    """Return the Python workers among what a process has started that have what computes the network of `model`."""
    daemons = [one for one in started_by(process) if "pyspark.daemon" in command(one)]
    return [one for daemon in daemons for one in started_by(daemon) if "/onnxruntime/" in maps(one)]


def kill(*processes: int, by: signal.Signals = signal.SIGKILL) -> None:
    """Kill processes, as a machine does that has no memory left: they learn nothing of it. Some may have ended."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, by)


_WRITTEN = {
    "parquet": "part=*/_SUCCESS",
    "delta": "_delta_log/*.json",
    "iceberg": "metadata/v*.metadata.json",
}


def written(folder: Path, form: str) -> set[Path]:
    """Return what comes with each write to a table; in Delta and Iceberg the first one makes it."""
    return {*folder.glob(_WRITTEN[form])}


def vectors(features: Path) -> dict[str, bytes]:
    """Return the features by hash, as a reader without Spark finds them."""
    parts = [path for path in (features / "features").glob("part=*") if (path / "_SUCCESS").exists()]
    found: dict[str, bytes] = {}
    for part in parts:
        table = pyarrow.dataset.dataset(part, format="parquet", exclude_invalid_files=True).to_table()
        for row in table.select(["sha256", "features"]).to_pylist():
            assert row["sha256"] not in found, "one row for each content"
            found[row["sha256"]] = row["features"]
    return found


def in_delta(folder: Path) -> dict[str, bytes]:
    """Return the features of a Delta table by hash, as its log says."""
    files: set[str] = set()
    for commit in sorted(written(folder, "delta")):
        for line in commit.read_text().splitlines():
            action = json.loads(line)
            files |= {action["add"]["path"]} if "add" in action else set()
            files -= {action["remove"]["path"]} if "remove" in action else set()
    read = [pyarrow.parquet.read_table(folder / unquote(file), partitioning=None) for file in sorted(files)]
    return _one_each([row for table in read for row in table.select(["sha256", "features"]).to_pylist()])


def in_iceberg(folder: Path) -> dict[str, bytes]:
    """Return the features of an Iceberg table by hash, from which nothing was ever taken out."""
    files = pyarrow.dataset.dataset(folder / "data", format="parquet", exclude_invalid_files=True)
    return _one_each(files.to_table(["sha256", "features"]).to_pylist())


def _one_each(rows: list[dict[str, bytes]]) -> dict[str, bytes]:
    found = {str(row["sha256"]): row["features"] for row in rows}
    assert len(found) == len(rows), "one row for each content"
    return found


def by_vgg16(files: list[Path]) -> dict[str, bytes]:
    """Return the features of files by hash, computed in this process, without Spark."""
    float32 = Arithmetic("float32")
    engine = engines.on_cpu(float32)
    predict = engine.load(weights.load(WEIGHTS).flat, float32, engine.batch_size, 1)
    contents = [file.read_bytes() for file in files]
    features = predict(np.stack([pixels.decode(content).pixels for content in contents]))
    hashes = [hashlib.sha256(content).hexdigest() for content in contents]
    return {sha256: vector.tobytes() for sha256, vector in zip(hashes, features, strict=True)}


@dataclass
class Cluster:
    """A standalone cluster whose processes the test may kill."""

    url: str
    master: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def kill_worker(self) -> None:
        """Kill a worker, its executor and the Python there, as a machine does that goes off."""
        worker = self.workers[0]
        kill(worker.pid, *started_by(worker.pid))

    def kill(self) -> None:
        """Kill all of it at once, executors and Python workers too."""
        for process in (self.master, *self.workers):
            kill(process.pid, *started_by(process.pid))
            process.wait()


def on(cluster: Cluster) -> tuple[str, ...]:
    """Return the options by which submit.sh runs a job on a cluster of this machine."""
    return (
        *("--master", cluster.url, "--driver-memory", "2g"),
        *("--conf", "spark.driver.host=127.0.0.1", "--conf", "spark.executor.memory=1500m"),
        *("--conf", "spark.sql.shuffle.partitions=4", "--conf", f"spark.executor.extraJavaOptions={jvm.OPTIONS}"),
    )


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where processes put what they need while they run."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(autouse=True)
def tidied(scratch: Path) -> Iterator[None]:
    """Remove what killed processes have left after each test: up to a gigabyte each, weights for the most part."""
    yield
    for left in scratch.iterdir():
        shutil.rmtree(left, ignore_errors=True)


@pytest.fixture(scope="session")
def environment(scratch: Path) -> dict[str, str]:
    """Return what a user's shell holds: nothing that would make the library importable."""
    others = {"PYTHONPATH", "SPARK_HOME", "PYSPARK_PYTHON", "DEDUP_SPARK"}
    kept = {key: value for key, value in os.environ.items() if key not in others}
    kept |= {"SPARK_SUBMIT_OPTS": f"{jvm.OPTIONS} -Djava.io.tmpdir={scratch}", "SPARK_DAEMON_JAVA_OPTS": jvm.OPTIONS}
    kept |= {"SPARK_LOCAL_DIRS": str(scratch), "TMPDIR": str(scratch)}
    used = Path(sys.prefix)
    if used.name == f"spark-{RELEASE}":  # beside what it takes from the environment that it is in
        return kept | {"DEDUP_VENV": str(used.parent), "DEDUP_SPARK": RELEASE}
    return kept | {"DEDUP_VENV": str(used)}


@pytest.fixture(scope="session")
def submit(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.Popen[str]]:
    """Return a function that starts `./submit.sh ...` from a folder that has nothing to do with it."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def start(*words: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(ROOT / "submit.sh"), *words],
            cwd=elsewhere,
            env=environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Return a function that fills a folder, once for all processes that run tests side by side, and returns it."""
    beside = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp().parent if beside else tmp_path_factory.getbasetemp()

    def folder(name: str, fill: Callable[[Path], object]) -> Path:
        with (base / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (base / name).exists():
                shutil.rmtree(base / f"{name}.begun", ignore_errors=True)
                fill(base / f"{name}.begun")
                (base / f"{name}.begun").rename(base / name)
        return base / name

    return folder


@pytest.fixture(scope="session")
def images(once: Once) -> Path:
    """Return a folder of 120 images: one round of work for two cores, two for one."""
    return once("images", partial(make_images, count=120))


Options = tuple[str, ...]


@pytest.fixture(scope="session")
def model(once: Once) -> Options:
    """Return the options for a network that is there at once, and then takes its time: a kill finds it at work."""

    def fill(folder: Path) -> None:
        folder.mkdir()
        save(network(kernel=15), folder / "network.onnx")

    return ("--model", f"onnx:{once('network', fill)}/network.onnx", "--size", "1024")


@pytest.fixture(scope="session")
def local(images: Path, model: Options, submit: Callable[..., subprocess.Popen[str]], once: Once) -> Path:
    """Return the tables that a local run makes of the images, through submit.sh: table and features."""
    return once("local", partial(_make, submit, images, model))


def _make(submit: Callable[..., subprocess.Popen[str]], images: Path, model: Options, folder: Path) -> None:
    folder.mkdir()
    counted = ("--metrics", f"{folder}/ingest.json")
    ingest = submit("ingest", "--images", str(images), "--table", f"{folder}/table", *counted)
    out, err = ingest.communicate(timeout=300)
    assert ingest.returncode == 0, err
    assert "120 files = 120 in the table + 0 rejected" in out
    assert "\r" not in out + err, "there is no terminal, so there are no bars"
    extract = submit("extract", "--table", f"{folder}/table", "--features", f"{folder}/features", *model)
    out, err = extract.communicate(timeout=300)
    assert extract.returncode == 0, err
    assert "120 files = 120 with features + 0 rejected" in out


def _registered(log: Path) -> bool:
    return "Successfully registered" in log.read_text()


@contextmanager
def _cluster(environment: dict[str, str], folder: Path, of_workers: tuple[str, ...]) -> Iterator[Cluster]:
    import pyspark

    home = Path(pyspark.__file__).parent
    env = environment | {"SPARK_HOME": str(home), "SPARK_LOCAL_DIRS": str(folder / "scratch")}

    def start(name: str, *words: str) -> tuple[subprocess.Popen[bytes], Path]:
        log = folder / f"{name}.log"
        with log.open("wb") as file:
            command = [str(home / "bin" / "spark-class"), *words]
            return subprocess.Popen(command, env=env, stdout=file, stderr=file, cwd=folder), log

    loopback = ("--host", "127.0.0.1", "--port", "0", "--webui-port", "0")
    master, log = start("master", "org.apache.spark.deploy.master.Master", *loopback)
    running = [master]
    try:
        found = wait_for("the master", lambda: re.search(r"Starting Spark master at (spark://\S+)", log.read_text()))
        assert isinstance(found, re.Match)
        one = Cluster(found[1], master)
        for number in range(2):
            size = ("-c", "1", "-m", "2g", "--work-dir", str(folder / f"work{number}"))
            words = (*loopback, *size, *of_workers, one.url)
            worker, log = start(f"worker{number}", "org.apache.spark.deploy.worker.Worker", *words)
            running.append(worker)
            one.workers.append(worker)
            wait_for("a worker", partial(_registered, log))
        yield one
    finally:
        for process in running:
            process.kill()
            process.wait()


@pytest.fixture
def clusters(environment: dict[str, str], tmp_path: Path) -> Callable[..., AbstractContextManager[Cluster]]:
    """Return a function that starts a master and two workers of one core each, for the time of a `with`.

    What it is given are words for the workers.
    """

    def start(*of_workers: str) -> AbstractContextManager[Cluster]:
        folder = tmp_path / f"cluster{len([*tmp_path.glob('cluster*')])}"
        folder.mkdir()
        return _cluster(environment, folder, of_workers)

    return start


@pytest.fixture
def cluster(clusters: Callable[[], AbstractContextManager[Cluster]]) -> Iterator[Cluster]:
    """Start a cluster for the time of a test."""
    with clusters() as one:
        yield one
