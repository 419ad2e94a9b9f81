"""VGG16 up to fc2: its layers, Keras' preprocessing, and the forward pass in TensorFlow's own operations.

Source: Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition (arXiv 1409.1556),
configuration D, with the layer names of `keras.applications.vgg16`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH = 4096
"""The width of a feature vector: the activations of fc2, the penultimate layer."""

_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def _convolutions() -> dict[str, tuple[int, int]]:
    """Return the channels in and out of each convolution, by name."""
    found, channels = {}, 3
    for block, widths in enumerate(_BLOCKS, 1):
        for number, width in enumerate(widths, 1):
            found[f"block{block}_conv{number}"] = (channels, width)
            channels = width
    return found


def _shapes() -> dict[tuple[str, str], tuple[int, ...]]:
    shapes: dict[tuple[str, str], tuple[int, ...]] = {}
    for name, (inside, outside) in _convolutions().items():
        shapes[name, "kernel"], shapes[name, "bias"] = (3, 3, inside, outside), (outside,)
    for name, inside in {"fc1": 7 * 7 * 512, "fc2": WIDTH}.items():
        shapes[name, "kernel"], shapes[name, "bias"] = (inside, WIDTH), (WIDTH,)
    return shapes


SHAPES = _shapes()
"""The shape of every tensor by (layer, "kernel" or "bias"), in the order in which they lie in flat weights."""

_ALIGNMENT = 64  # bytes: of a file mapped into memory every tensor has it, for all their sizes are multiples

LAYERS = tuple(dict.fromkeys(layer for layer, _ in SHAPES))

SIZE = sum(math.prod(shape) for shape in SHAPES.values())
"""The number of weights: 134,260,544."""


def tensors(flat: NDArray[np.float32]) -> dict[tuple[str, str], NDArray[np.float32]]:
    """Return views of flat weights, shape (SIZE,), by (layer, role). No copy is made."""
    ends = np.cumsum([math.prod(shape) for shape in SHAPES.values()])
    pieces = np.split(flat, ends[:-1])
    return {key: piece.reshape(shape) for (key, shape), piece in zip(SHAPES.items(), pieces, strict=True)}


def predictor(
    flat: NDArray[np.float32], precision: str, batch_size: int, threads: int
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return the function from pixels, uint8 (n, 224, 224, 3) in RGB, n <= batch_size, to features, float32 (n, 4096).

    TensorFlow is imported here. It computes on `threads` cores, in `precision` ("float32" or "bfloat16"), and reads
    float32 weights where they lie: when `flat` is mapped from a file, the processes of a machine share it. In float32
    the features of a picture are the same bits at any batch size, beside any others, on any number of threads of one
    kind of processor.
    """
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    kind = tf.as_dtype(precision)
    # One shape for all, filled up with black: one graph, and the same bits. Products with one row are summed in another
    # order than those with several, so there are always several.
    shape = (max(2, batch_size), 224, 224, 3)

    def tensor(array: NDArray[np.float32]) -> Any:
        # DLPack hands the array over without a copy, 537 MB for each worker; but TensorFlow trusts its alignment.
        if array.ctypes.data % _ALIGNMENT:
            return tf.convert_to_tensor(array)
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())

    weights = {f"{layer}/{role}": tf.cast(tensor(array), kind) for (layer, role), array in tensors(flat).items()}
    means = tf.constant([103.939, 116.779, 123.68])  # of ImageNet, in BGR: `keras.applications`, mode "caffe"

    @tf.function  # type: ignore[untyped-decorator]
    def forward(pixels: Any, weights: Any) -> Any:
        x = tf.cast(tf.cast(pixels, tf.float32)[..., ::-1] - means, kind)
        for block, widths in enumerate(_BLOCKS, 1):
            for number in range(1, len(widths) + 1):
                name = f"block{block}_conv{number}"
                x = tf.nn.conv2d(x, weights[f"{name}/kernel"], strides=1, padding="SAME")
                x = tf.nn.relu(tf.nn.bias_add(x, weights[f"{name}/bias"]))
            x = tf.nn.max_pool2d(x, ksize=2, strides=2, padding="VALID")
        x = tf.reshape(x, (shape[0], -1))
        for name in ("fc1", "fc2"):
            x = tf.nn.relu(tf.matmul(x, weights[f"{name}/kernel"]) + weights[f"{name}/bias"])
        return tf.cast(x, tf.float32)

    def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        batch = np.zeros(shape, np.uint8)
        batch[: len(pixels)] = pixels
        features: NDArray[np.float32] = forward(tf.constant(batch), weights).numpy()
        return features[: len(pixels)]

    return predict
