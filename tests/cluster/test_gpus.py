"""Tasks with a GPU of which their TensorFlow knows nothing: by the recipe of docs/running.md, and without any GPU."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from textwrap import dedent

import pytest
from tests.cluster.conftest import Cluster, by_vgg16, on, vectors
from tests.cluster.test_jobs import Submit
from tests.samples import ROOT, WEIGHTS, make_images

from dedup import job, reduced_precision


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def properties(tmp_path: Path) -> Path:
    """Return the properties of a worker that finds one GPU: nvidia-smi, which the script asks, makes it up."""
    documented = re.search(r"\n( +#!/bin/sh\n.*?)\n\n", (ROOT / "docs" / "running.md").read_text(), re.DOTALL)
    assert documented
    smi = executable(tmp_path / "bin" / "nvidia-smi", "#!/bin/sh\necho 3\n")
    script = dedent(documented[1]).replace("nvidia-smi", str(smi))
    found = executable(tmp_path / "bin" / "gpus.sh", script)
    said = subprocess.run([found], capture_output=True, text=True, check=True).stdout
    assert said == '{"name": "gpu", "addresses": ["3"]}\n'
    path = tmp_path / "worker.conf"
    path.write_text(f"spark.worker.resource.gpu.amount 1\nspark.worker.resource.gpu.discoveryScript {found}\n")
    return path


@pytest.mark.slow
def test_what_spark_calls_a_gpu_and_tensorflow_does_not_see_is_left_alone(
    clusters: Callable[..., AbstractContextManager[Cluster]], submit: Submit, properties: Path, tmp_path: Path
) -> None:
    paths = make_images(tmp_path / "images", 3)
    made = ("--images", f"{tmp_path}/images", "--features", f"{tmp_path}/features", "--weights", WEIGHTS)
    gpus = ("--conf", "spark.executor.resource.gpu.amount=1", "--conf", "spark.task.resource.gpu.amount=0.0625")
    with clusters("--properties-file", str(properties)) as cluster:
        extract = submit(*on(cluster), *gpus, "extract", *made)
        out, err = extract.communicate(timeout=300)
    assert extract.returncode == 0, out + err
    assert "3 files = 3 with features + 0 rejected" in out
    assert (job.FASTER in out) == reduced_precision.multiplies_bfloat16()
    logs = "".join(log.read_text() for log in tmp_path.rglob("stderr"))
    assert "a GPU that Spark gave is not used, the CPU computes: TensorFlow sees none" in logs
    assert vectors(tmp_path / "features") == by_vgg16(paths)
