"""What a Databricks workspace would be given: notebooks, here in a session of Spark Connect, and a bundle."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.java_gateway import launch_gateway
from tests import jvm
from tests.connect import serving
from tests.notebooks import MARK, cells
from tests.samples import ROOT, WEIGHTS, make_images


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the wheel, unpacked: what is installed on a cluster."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, capture_output=True, timeout=120, check=True)
    (made,) = folder.glob("*.whl")
    with zipfile.ZipFile(made) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def run(
    wheel: Path, environment: dict[str, str], folder: Path, notebooks: list[tuple[str, dict[str, str]]]
) -> list[list[str]]:
    """Execute notebooks in a session of Spark Connect, and return what each says and displays."""
    properties = {
        "spark.driver.extraJavaOptions": jvm.OPTIONS,
        "spark.local.dir": str(folder),
        "spark.sql.shuffle.partitions": "2",
        "spark.ui.enabled": "false",
    }
    server = {"PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(wheel)}
    words = [word for name, given in notebooks for word in (str(ROOT / "notebooks" / name), json.dumps(given))]
    with serving(properties, server, folder / "server.log") as address:
        done = subprocess.run(
            [sys.executable, "-m", "tests.notebooks", address, *words],
            env=environment | {"PYTHONPATH": f"{wheel}{os.pathsep}{ROOT}"},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=550,
            check=False,
        )
    if done.returncode:
        pytest.fail(done.stderr[-3000:])
    return [part.splitlines() for part in done.stdout.split(f"{MARK}\n")[1:]]


@pytest.mark.slow
def test_the_quick_start_and_the_tasks_of_the_job(wheel: Path, environment: dict[str, str], tmp_path: Path) -> None:
    paths = make_images(tmp_path / "images", 24)
    (tmp_path / "images" / "copy.png").write_bytes(paths[0].read_bytes())
    (tmp_path / "images" / "notes.txt").write_text("no image")
    images, output = str(tmp_path / "images"), str(tmp_path / "made")
    lake, features, duplicates = (f"{output}/{name}" for name in ("lake", "features", "duplicates"))
    start, ingest, extract, deduplicate = run(
        wheel,
        environment,
        tmp_path,
        [
            ("quick_start.py", {"images": images, "output": output, "query": str(paths[1]), "weights": WEIGHTS}),
            ("ingest.py", {"images": images, "table": lake}),
            ("extract.py", {"table": lake, "features": features, "weights": WEIGHTS}),
            (
                "deduplicate.py",
                {"table": lake, "features": features, "output": duplicates, "sample": "2", "precision": "0.5"},
            ),
        ],
    )
    assert start[:4] == [
        "26 files = 26 in the table + 0 rejected",
        "26 in the table = 26 read + 0 known",
        "26 to read = 26 new + 0 changed + 0 tried again",
        "0 gone",
    ]
    assert start[4] == "table of 26 rows: path, sha256, length, modified, bucket, part"
    assert start[5:7] == ["26 files = 25 with features + 1 rejected", "25 contents = 25 computed + 0 known"]
    assert start[7] == "0 gone"
    assert start[8] == "table of 1 rows: path, sha256, stage, reason, detail, part"
    assert re.match(r"table of ([5-9]|1\d|2[0-5]) rows: query, rank, sha256, paths, votes", start[9])
    assert start[10:] == ["page: Which images are like this one?"]

    assert ingest[:3] == [
        "26 files = 26 in the table + 0 rejected",
        "26 in the table = 0 read + 26 known",
        "0 to read = 0 new + 0 changed + 0 tried again",
    ]
    assert ingest[-1] == "table of 0 rows: " + start[8].partition(": ")[2]
    assert extract[1] == "25 contents = 0 computed + 25 known"

    assert deduplicate[0].startswith("page: ")
    assert any(line.startswith("26 files = 24 keep + 1 drop + 0 review + 1 rejected") for line in deduplicate)
    assert deduplicate[-2].startswith("table of 1 rows: path, sha256, length, group_id, action, keeper")
    assert deduplicate[-1] == "page: Duplicate images"


@pytest.fixture(scope="module")
def bundle() -> Iterator[dict[str, Any]]:
    """Return databricks.yml with the resources that it includes, read by the YAML parser among Spark's own jars."""
    gateway = launch_gateway()  # type: ignore[no-untyped-call]  # PySpark's own: it has no types
    try:
        jackson = gateway.jvm.com.fasterxml.jackson
        parser = jackson.databind.ObjectMapper(jackson.dataformat.yaml.YAMLFactory())

        def load(file: Path) -> dict[str, Any]:
            found = json.loads(parser.readTree(file.read_text()).toString())
            assert isinstance(found, dict)
            return found

        whole = load(ROOT / "databricks.yml")
        files = [file for pattern in whole["include"] for file in ROOT.glob(pattern)]
        yield whole | {"resources": [load(file)["resources"] | {"file": file} for file in files]}
    finally:
        gateway.shutdown()
        gateway.proc.stdin.close()


def test_a_bundle_names_what_is_there(bundle: dict[str, Any]) -> None:
    (resources,) = bundle["resources"]
    job = resources["jobs"]["dedup"]
    assert [task["task_key"] for task in job["tasks"]] == ["ingest", "extract", "deduplicate"]
    for task, before in zip(job["tasks"][1:], job["tasks"], strict=False):
        assert task["depends_on"] == [{"task_key": before["task_key"]}]
    clusters = {cluster["job_cluster_key"]: cluster["new_cluster"] for cluster in job["job_clusters"]}
    for task in job["tasks"]:
        assert task["job_cluster_key"] in clusters
        assert task["libraries"] == [{"whl": "../dist/*.whl"}], "where the artifact is built"
        called = task["notebook_task"]
        notebook = (resources["file"].parent / called["notebook_path"]).resolve()
        declared = "\n".join(cell for cell in cells(notebook) if cell.startswith("dbutils.widgets."))
        assert all(f'dbutils.widgets.text("{name}", ' in declared for name in called["base_parameters"])
    assert "--wheel-dir dist" in bundle["artifacts"]["wheel"]["build"]


def test_a_bundle_uses_the_variables_that_it_declares(bundle: dict[str, Any]) -> None:
    text = (ROOT / "resources" / "dedup.yml").read_text()
    used = {part.partition("}")[0] for part in text.split("${var.")[1:]}
    assert used == set(bundle["variables"])


def test_a_cluster_of_the_bundle_has_the_properties_of_a_cluster(bundle: dict[str, Any]) -> None:
    lines = (ROOT / "conf" / "standalone.conf").read_text().splitlines()
    properties = dict(line.split(None, 1) for line in lines if line and not line.startswith("#"))
    (cluster,) = bundle["resources"][0]["jobs"]["dedup"]["job_clusters"]
    assert cluster["new_cluster"]["spark_conf"] == properties
