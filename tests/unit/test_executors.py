"""Executors need no more than conf/executors.txt says: what runs on them is imported with nothing else to be had."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.utils import canonicalize_name
from tests.executors import needed
from tests.gpus import GIVEN
from tests.samples import ROOT

ABSENT = """
import importlib, importlib.abc, json, sys

modules, others = json.loads(sys.argv[1])

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in others:
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Absent())
"""

IMPORTS = """
for name in modules:
    importlib.import_module(name)
import numpy as np
from dedup import engines, vgg16
from dedup.arithmetic import Arithmetic
flat = np.zeros(vgg16.SIZE, np.float32)
for arithmetic in (Arithmetic("float32"), Arithmetic("int8", (1.0,) * 13)):
    engines.on_cpu(arithmetic).load(flat, arithmetic, 1, 1)
"""

GPUS = """
from dedup import engines, features
from dedup.arithmetic import Arithmetic
for precision in ("float32", "bfloat16"):
    arithmetic = Arithmetic(precision)
    assert features.engine(arithmetic) is engines.on_cpu(arithmetic)
"""


def had_alone(script: str, modules: Sequence[str], others: Sequence[str]) -> str:
    """Run a script where some modules are not to be had, and return what it writes to stderr."""
    words = [sys.executable, "-c", ABSENT + script, json.dumps([modules, others])]
    done = subprocess.run(words, cwd=ROOT / "lib", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_what_runs_on_executors_needs_no_other_packages(root: Path) -> None:
    library = root / "lib" / "dedup"
    modules = sorted(f"dedup.{file.stem}" for file in library.glob("*.py") if "mapInArrow" in file.read_text())
    assert {"dedup.features", "dedup.images", "dedup.results"} <= set(modules)
    had = {*needed(), "pyspark", "py4j"}
    others = [name for name, by in packages_distributions().items() if not had & set(map(canonicalize_name, by))]
    assert {"tensorflow", "pandas", "scipy"} <= set(others)
    had_alone(IMPORTS, modules, others)


def test_a_task_with_a_gpu_and_without_tensorflow_computes_on_its_cpu_and_says_so_once() -> None:
    said = had_alone(GIVEN + GPUS, [], ["tensorflow"])
    (line,) = [line for line in said.splitlines() if "GPU" in line]
    assert line == "a GPU that Spark gave is not used, the CPU computes: No module named 'tensorflow'"
