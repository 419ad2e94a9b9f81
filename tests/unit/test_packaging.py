"""What is shipped: all of the library in the wheel, nothing ignored by git, no name that shadows another."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path


def library(root: Path) -> list[str]:
    """Return the library's files, as paths below lib/."""
    files = (file for file in (root / "lib").rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return sorted(file.relative_to(root / "lib").as_posix() for file in files)


def jobs(root: Path) -> list[Path]:
    found = sorted((root / "jobs").glob("*.py"))
    assert found
    return found


def test_the_wheel_holds_the_whole_library(root: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    run = subprocess.run(build, cwd=root, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = sorted(name for name in archive.namelist() if ".dist-info/" not in name)
    assert shipped == library(root)
    assert {"dedup/__init__.py", "dedup/report.html"} <= set(shipped)


def test_git_ignores_no_file_of_the_library(root: Path) -> None:
    paths = [f"lib/{name}" for name in library(root)] + ["lib/dedup/any_new_file.py"]
    run = subprocess.run(["git", "check-ignore", "--no-index", *paths], cwd=root, capture_output=True, text=True)
    assert run.stdout == ""
    assert run.returncode == 1, run.stderr  # none is ignored; 128 would mean that git cannot tell


def test_what_is_made_is_ignored(root: Path) -> None:
    made = [".venv/x", ".venv-bench/x", "bench/speed.json", "dist/dedup.zip", "lib/dedup/__pycache__/x.pyc"]
    run = subprocess.run(["git", "check-ignore", "--no-index", *made], cwd=root, capture_output=True, text=True)
    assert run.stdout.splitlines() == made


def test_no_job_is_called_like_a_package(root: Path) -> None:
    # A script's own folder comes first on sys.path: a job `query.py` would hide a package `query` from all libraries.
    script = "import importlib.util, sys; print([name for name in sys.argv[1:] if importlib.util.find_spec(name)])"
    names = ["json", *(job.stem for job in jobs(root))]
    run = subprocess.run([sys.executable, "-I", "-c", script, *names], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['json']"


def test_requirements_are_pinned_and_come_from_an_index(root: Path) -> None:
    lines = (root / "requirements.txt").read_text().splitlines()
    named = [line for line in lines if line.strip() and not line.startswith("#")]
    assert [line for line in named if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!]*", line)] == []
    names = [re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in named]
    assert len(set(names)) == len(names)
    assert {"pyspark", "tensorflow", "numba", "pytest"} <= set(names)
    assert not any("://" in line for line in lines)


def test_jobs_are_thin(root: Path) -> None:
    lines = {job.name: len(job.read_text().splitlines()) for job in jobs(root)}
    assert {name: count for name, count in lines.items() if count >= 80} == {}
