"""What computes VGG16 on a worker: ncnn or OpenVINO, and BLAS, on the cores of a CPU, TensorFlow on a GPU.

All are given the same flat weights, and in float32 agree to some millionths of the largest activation. Which one
computed is not told by a model's id, no more than which kind of processor did: docs/tuning.md has the differences.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dedup import convolutions, reduced_precision, vgg16
from dedup.arithmetic import Arithmetic
from dedup.convolutions import Convolve

_log = logging.getLogger(__name__)

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From pixels, uint8 (n, side, side, 3) in RGB, n at least 1, to features, float32 (n, width)."""

Load = Callable[[NDArray[Any], Any, int, int], Predict]
"""From weights, an arithmetic, a batch size and a number of threads to what uses them.

Under one batch size the features of a picture are the same bits beside any others, in any number, on one thread as on
two of one kind of processor; of TensorFlow's this holds on GPUs, where it is used, and on CPUs with AVX-512. Weights
that are mapped from a file are read where they lie as far as possible: workers share them.
"""


def _ncnn(flat: NDArray[np.float32], arithmetic: Arithmetic, batch_size: int, threads: int) -> Predict:
    """Return what convolves in ncnn, with few multiplications: the fastest in float32."""
    return _on_cpu(convolutions.network(flat, arithmetic, threads), flat, batch_size)


def _openvino(flat: NDArray[np.float32], arithmetic: Arithmetic, batch_size: int, threads: int) -> Predict:
    """Return what convolves in OpenVINO, in short numbers: the fastest where a processor has instructions for them."""
    return _on_cpu(reduced_precision.network(flat, arithmetic, threads), flat, batch_size)


def _on_cpu(convolve: Convolve, flat: NDArray[np.float32], batch_size: int) -> Predict:
    """Return what convolves picture by picture, and multiplies by the dense layers in BLAS, batch by batch, in float32.

    The dense layers hold nine tenths of the weights and do a hundredth of the work: if they were read for each picture,
    that would take as long as several convolutions.
    """
    from threadpoolctl import threadpool_limits

    tensors = vgg16.tensors(flat)
    dense = [(tensors[layer, "kernel"], tensors[layer, "bias"]) for layer in vgg16.DENSE]
    with threadpool_limits(1, "blas"):
        rows = _alike(batch_size)

    def batch(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        x = np.zeros((batch_size, len(dense[0][0])), np.float32)
        for i, picture in enumerate(pixels):
            x[i] = convolve(np.ascontiguousarray(picture))
        # On one thread: how many there are is another thing that the order of a sum can depend on.
        with threadpool_limits(1, "blas"):
            for kernel, bias in dense:
                parts = [x[start : start + rows] @ kernel for start in range(0, batch_size, rows)]
                x = np.maximum(np.concatenate(parts) + bias, 0)
        return x[: len(pixels)]

    return _in_batches(batch, batch_size)


def _alike(most: int) -> int:
    """Return how many rows BLAS multiplies at a time so that each gives the same bits wherever it stands among them.

    That depends on the processor: on some, the rows at the end of a batch are summed in another order. It is found out
    with random numbers: with weights that are mostly 0, sums are the same in any order.
    """
    random = np.random.default_rng(0)
    x, kernel = (random.standard_normal((rows, vgg16.WIDTH), np.float32) for rows in (most, vgg16.WIDTH))
    for rows in (most, 8, 4):
        given = x[:rows]
        found = given @ kernel
        turned = (np.roll(given, 1, axis=0) @ kernel == np.roll(found, 1, axis=0)).all()
        if turned and (given[::-1] @ kernel == found[::-1]).all():
            return rows
    return 1


_ALIGNMENT = 64  # bytes: of a file mapped into memory every tensor has it, for all their sizes are multiples


@cache  # once in the life of a worker: TensorFlow keeps the GPUs that it began with
def sees_gpus() -> bool:
    """Tell whether TensorFlow finds a GPU, of those in the variable CUDA_VISIBLE_DEVICES; if not, the log says why."""
    why = "TensorFlow sees none"
    try:
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            return True
    except ImportError as error:  # executors for CPUs have none
        why = str(error)
    _log.warning("a GPU that Spark gave is not used, the CPU computes: %s", why)
    return False


def _tensorflow(flat: NDArray[np.float32], arithmetic: Arithmetic, batch_size: int, threads: int) -> Predict:
    """Return what computes in TensorFlow's own operations: on the GPUs that it sees, or else on a CPU."""
    import tensorflow as tf

    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)  # else it takes all that there is, from other tasks too
        tf.config.experimental.enable_op_determinism()  # else it may take sums in any order
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_tensor_float_32_execution(False)  # it has ten bits of a float32's 23
    kind = tf.as_dtype(arithmetic.precision)
    # One shape for all, filled up with black: one graph, and the same bits. Products with one row are summed in another
    # order than those with several, so there are always several.
    shape = (max(2, batch_size), 224, 224, 3)

    def tensor(array: NDArray[np.float32]) -> Any:
        # DLPack hands the array over without a copy; but TensorFlow trusts its alignment.
        if array.ctypes.data % _ALIGNMENT:
            return tf.convert_to_tensor(array)
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())

    where = "GPU:0" if tf.config.list_logical_devices("GPU") else "CPU:0"
    with tf.device(where):
        weights = {key: tf.identity(tf.cast(tensor(array), kind)) for key, array in vgg16.tensors(flat).items()}

    @tf.function  # type: ignore[untyped-decorator]
    def forward(pixels: Any, weights: Any) -> Any:
        x = tf.cast(tf.cast(pixels, tf.float32)[..., ::-1] - tf.constant(vgg16.MEANS), kind)
        for block in vgg16.BLOCKS:
            for name in block:
                x = tf.nn.conv2d(x, weights[name, "kernel"], strides=1, padding="SAME")
                x = tf.nn.relu(tf.nn.bias_add(x, weights[name, "bias"]))
            x = tf.nn.max_pool2d(x, ksize=2, strides=2, padding="VALID")
        x = tf.reshape(x, (shape[0], -1))
        for name in vgg16.DENSE:
            x = tf.nn.relu(tf.matmul(x, weights[name, "kernel"]) + weights[name, "bias"])
        return tf.cast(x, tf.float32)

    def batch(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        filled = np.zeros(shape, np.uint8)
        filled[: len(pixels)] = pixels
        features: NDArray[np.float32] = forward(tf.constant(filled), weights).numpy()
        return features[: len(pixels)]

    return _in_batches(batch, shape[0])


def _in_batches(batch: Predict, size: int) -> Predict:
    def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.concatenate([batch(pixels[start : start + size]) for start in range(0, len(pixels), size)])

    return predict


@dataclass(frozen=True)
class Engine:
    """A way to compute the network."""

    load: Load
    batch_size: int  #: how many pictures it is given at a time, where there are so many


# Of 32 or 64 pictures in bfloat16, cuDNN takes kernels under which some layers' bits depend on the place in the batch.
ENGINES = {"ncnn": Engine(_ncnn, 32), "openvino": Engine(_openvino, 32), "tensorflow": Engine(_tensorflow, 128)}
"""Every engine of VGG16, by name."""


def on_cpu(arithmetic: Arithmetic) -> Engine:
    """Return what suits this CPU: OpenVINO in int8, and in bfloat16 where it is faster; else ncnn."""
    short = arithmetic.precision == "int8" or (
        arithmetic.precision == "bfloat16" and reduced_precision.multiplies_bfloat16()
    )
    return ENGINES["openvino" if short else "ncnn"]
