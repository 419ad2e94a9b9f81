"""VGG16 as a model: its weights, a precision and a way to make pixels, under one id."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dedup import convolutions, photographs, pixels, vgg16
from dedup.arithmetic import Arithmetic
from dedup.weights import Weights


@dataclass(frozen=True)
class Vgg16Model:
    """VGG16 up to fc2."""

    weights: Weights
    precision: str  #: one of PRECISIONS
    ranges: tuple[float, ...] = ()  #: of int8, if they are known already

    side = pixels.SIDE
    width = vgg16.WIDTH
    neutral = vgg16.NEUTRAL

    @cached_property
    def arithmetic(self) -> Arithmetic:
        """The precision, with what must be known for it: for int8, ranges take some seconds to be found.

        Raises
        ------
        UsageError
            If the photographs that they are found with are not installed, or the weights give no numbers.
        """
        if self.precision != "int8" or self.ranges:
            return Arithmetic(self.precision, self.ranges)
        known = (pixels.decode(file.read_bytes()).pixels for file in photographs.named())
        return Arithmetic(self.precision, convolutions.ranges(self.weights.flat, known))

    @property
    def source(self) -> str:
        """What a person asked for."""
        return self.weights.source

    @property
    def blob(self) -> NDArray[np.float32]:
        """The weights, shape (vgg16.SIZE,)."""
        return self.weights.flat

    @property
    def blob_name(self) -> str:
        """The name that stands for their content."""
        return f"{self.weights.fingerprint}.f32"

    @cached_property
    def id(self) -> str:
        """The text that stands beside every vector: network, layer, weights, precision, preprocessing."""
        return f"vgg16-fc2-{self.weights.fingerprint}-{self.arithmetic}-{pixels.PREPROCESSING}"
