"""Executors need no more than conf/executors.txt says: what runs on them is imported with nothing else to be had."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.utils import canonicalize_name
from tests.executors import needed

IMPORTS = """
import importlib, importlib.abc, json, sys

modules, others = json.loads(sys.argv[1])

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in others:
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Absent())
for name in modules:
    importlib.import_module(name)
import numpy as np
from dedup import engines, vgg16
from dedup.arithmetic import Arithmetic
flat = np.zeros(vgg16.SIZE, np.float32)
for arithmetic in (Arithmetic("float32"), Arithmetic("int8", (1.0,) * 13)):
    engines.on_cpu(arithmetic).load(flat, arithmetic, 1, 1)
"""


def test_what_runs_on_executors_needs_no_other_packages(root: Path) -> None:
    library = root / "lib" / "dedup"
    modules = sorted(f"dedup.{file.stem}" for file in library.glob("*.py") if "mapInArrow" in file.read_text())
    assert {"dedup.features", "dedup.images", "dedup.results"} <= set(modules)
    had = {*needed(), "pyspark", "py4j"}
    others = [name for name, by in packages_distributions().items() if not had & set(map(canonicalize_name, by))]
    assert {"tensorflow", "pandas", "scipy"} <= set(others)
    words = [sys.executable, "-c", IMPORTS, json.dumps([modules, others])]
    done = subprocess.run(words, cwd=root / "lib", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
