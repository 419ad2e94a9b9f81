"""The network of the contestants that use Keras: its own VGG16 up to fc2, with the weights that DeDup has."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dedup import vgg16, weights


def seeded() -> list[NDArray[np.float32]]:
    """Return the weights in Keras' order: kernel and bias of each layer."""
    return list(vgg16.tensors(weights.load("seeded").flat).values())


def build(values: list[NDArray[np.float32]]) -> Any:
    """Return the network with these weights."""
    import keras

    whole = keras.applications.VGG16(weights=None)
    network = keras.Model(whole.inputs, whole.get_layer("fc2").output)
    network.set_weights(values)
    return network
