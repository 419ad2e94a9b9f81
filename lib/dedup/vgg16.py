"""VGG16 up to fc2: its layers, the shapes of its weights, and what Keras takes from pixels before the first of them.

Source: Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition (arXiv 1409.1556),
configuration D, with the layer names of `keras.applications.vgg16`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

WIDTH = 4096
"""The width of a feature vector: the activations of fc2, the penultimate layer."""

MEANS = (103.939, 116.779, 123.68)
"""What is taken from the pixels, in BGR: the means of ImageNet. `keras.applications`, mode "caffe"."""


NEUTRAL = (round(MEANS[2]), round(MEANS[1]), round(MEANS[0]))
"""The means, rounded, in RGB: a colour in which the network sees nothing."""


def _blocks() -> tuple[dict[str, tuple[int, int]], ...]:
    widths = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
    found, channels = [], 3
    for block, outputs in enumerate(widths, 1):
        convolutions = {}
        for number, width in enumerate(outputs, 1):
            convolutions[f"block{block}_conv{number}"] = (channels, width)
            channels = width
        found.append(convolutions)
    return tuple(found)


BLOCKS = _blocks()
"""The channels in and out of the convolutions of each block, by name. A block ends in a pooling of 2 x 2."""

DENSE = {"fc1": 7 * 7 * 512, "fc2": WIDTH}
"""The inputs of the dense layers, by name; each has WIDTH outputs. What they take in is flat, channels last."""


def _shapes() -> dict[tuple[str, str], tuple[int, ...]]:
    shapes: dict[tuple[str, str], tuple[int, ...]] = {}
    for block in BLOCKS:
        for name, (inside, outside) in block.items():
            shapes[name, "kernel"], shapes[name, "bias"] = (3, 3, inside, outside), (outside,)
    for name, inside in DENSE.items():
        shapes[name, "kernel"], shapes[name, "bias"] = (inside, WIDTH), (WIDTH,)
    return shapes


SHAPES = _shapes()
"""The shape of every tensor by (layer, "kernel" or "bias"), in the order in which they lie in flat weights."""

LAYERS = tuple(dict.fromkeys(layer for layer, _ in SHAPES))

SIZE = sum(math.prod(shape) for shape in SHAPES.values())
"""The number of weights: 134,260,544."""


def tensors(flat: NDArray[np.float32]) -> dict[tuple[str, str], NDArray[np.float32]]:
    """Return views of flat weights, shape (SIZE,), by (layer, role). No copy is made."""
    ends = np.cumsum([math.prod(shape) for shape in SHAPES.values()])
    pieces = np.split(flat, ends[:-1])
    return {key: piece.reshape(shape) for (key, shape), piece in zip(SHAPES.items(), pieces, strict=True)}
