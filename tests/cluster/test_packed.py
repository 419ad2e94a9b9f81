"""Executors whose own Python has none of the packages: an archive brings them, and without it one line says so."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cluster.conftest import Cluster, by_vgg16, on, vectors
from tests.executors import needed
from tests.samples import WEIGHTS

Submit = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment without any package."""
    folder = tmp_path_factory.mktemp("bare") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def archive(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what docs/running.md packs, but with the packages that are installed here: nothing is downloaded."""
    (inside,) = bare.glob("lib/python*/site-packages")
    path = tmp_path_factory.mktemp("packed") / "environment.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.add(bare, ".")
        for package in needed().values():
            for file in package.files or ():
                if not str(file).startswith("..") and file.suffix != ".pyc":
                    archive.add(file.locate(), str((inside / file).relative_to(bare)))
    return path


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_packages_travel_as_an_archive_and_without_it_one_line_says_what_is_missing(
    cluster: Cluster, submit: Submit, bare: Path, archive: Path, images: Path, tmp_path: Path
) -> None:
    features = tmp_path / "features"
    extract = ("extract", "--images", f"{images}/set 0/*.png", "--features", str(features), "--weights", WEIGHTS)
    job = submit(*on(cluster), *extract, PYSPARK_PYTHON=f"{bare}/bin/python")
    out, err = job.communicate(timeout=300)
    assert job.returncode == 2, out + err
    assert "error: the executors' Python lacks the package pyarrow: " in out + err
    assert "Traceback" not in out + err

    archives = ("--archives", f"{archive}#environment")
    job = submit(*on(cluster), *archives, *extract, PYSPARK_PYTHON="./environment/bin/python")
    out, err = job.communicate(timeout=300)
    assert job.returncode == 0, out + err
    assert "10 files = 10 with features + 0 rejected" in out
    made = vectors(features)
    assert len(made) == 10
    assert made == by_vgg16([*images.glob("set 0/*.png")]), "VGG16 makes the same on a cluster as here"
