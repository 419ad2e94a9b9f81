"""TensorFlow in processes of its own: what it is told cannot be changed in one that has used it."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.gpus import GIVEN
from tests.samples import ROOT


def python(code: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    env = kept | {"PYTHONPATH": str(ROOT / "lib")}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout


def test_the_driver_does_not_import_it() -> None:
    code = "import sys, dedup.answers, dedup.demo, dedup.features, dedup.job, dedup.weights as w; w.load('seeded')"
    assert python(code + "; print('tensorflow' in sys.modules, 'keras' in sys.modules)") == "False False\n"


ON_A_GPU = """
import os
import numpy as np
import tensorflow as tf
from dedup import features, vgg16
from dedup.arithmetic import Arithmetic

gpus = ["the first", "the second"]
calls = []

def recorded(where, name, does=lambda *given: None):
    def call(*given):
        calls.append((name, *given))
        return does(*given)
    setattr(where, name, call)

device = tf.device
tf.config.list_physical_devices = tf.config.list_logical_devices = lambda kind: gpus if kind == "GPU" else []
recorded(tf.config.experimental, "set_memory_growth")
recorded(tf.config.experimental, "enable_op_determinism")
recorded(tf.config.experimental, "enable_tensor_float_32_execution")
recorded(tf, "device", lambda name: device("CPU:0"))

def computed(forward):  # a batch takes minutes and gigabytes of a CPU
    def compute(pixels, weights):
        calls.append(("batch", tuple(pixels.shape), {tensor.dtype.name for tensor in weights.values()}))
        return tf.zeros((len(pixels), vgg16.WIDTH))
    return compute

tf.function = computed
chosen = features.engine(Arithmetic("bfloat16"))
print(os.environ["CUDA_VISIBLE_DEVICES"])
predict = chosen.load(np.zeros(vgg16.SIZE, np.float32), Arithmetic("bfloat16"), chosen.batch_size, 1)
print(predict(np.zeros((130, 224, 224, 3), np.uint8)).shape)
print(*calls, sep="\\n")
"""


def test_on_a_gpu_it_leaves_memory_to_others_and_computes_128_pictures_at_a_time_in_the_numbers_asked_for() -> None:
    assert python(GIVEN + ON_A_GPU).splitlines() == [
        "2,5",
        "(130, 4096)",
        "('set_memory_growth', 'the first', True)",
        "('enable_op_determinism',)",
        "('set_memory_growth', 'the second', True)",
        "('enable_op_determinism',)",
        "('enable_tensor_float_32_execution', False)",
        "('device', 'GPU:0')",
        "('batch', (128, 224, 224, 3), {'bfloat16'})",
        "('batch', (128, 224, 224, 3), {'bfloat16'})",
    ]


def test_in_int8_a_task_with_a_gpu_does_without_it() -> None:
    code = """
import os
import sys
import numpy as np
from dedup import features, vgg16
from dedup.arithmetic import Arithmetic
int8 = Arithmetic("int8", (1.0,) * 13)
chosen = features.engine(int8)
chosen.load(np.zeros(vgg16.SIZE, np.float32), int8, 1, 1)
print("openvino" in sys.modules, "tensorflow" in sys.modules, "CUDA_VISIBLE_DEVICES" in os.environ)
"""
    assert python(GIVEN + code) == "True False False\n"


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
