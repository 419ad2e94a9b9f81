"""TensorFlow in processes of its own: what it is told cannot be changed in one that has used it."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.samples import ROOT


def python(code: str) -> str:
    env = os.environ | {"PYTHONPATH": str(ROOT / "lib")}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout


def test_the_driver_does_not_import_it() -> None:
    code = "import sys, dedup.answers, dedup.demo, dedup.features, dedup.job, dedup.weights as w; w.load('seeded')"
    assert python(code + "; print('tensorflow' in sys.modules, 'keras' in sys.modules)") == "False False\n"


def test_it_computes_on_the_cores_that_it_is_given() -> None:
    code = """
import numpy as np
from dedup import engines, vgg16
from dedup.arithmetic import Arithmetic
engines.ENGINES["tensorflow"].load(np.zeros(vgg16.SIZE, np.float32), Arithmetic("float32"), 2, 3)
import tensorflow as tf
print(tf.config.threading.get_intra_op_parallelism_threads(), tf.config.threading.get_inter_op_parallelism_threads())
"""
    assert python(code) == "3 1\n"
