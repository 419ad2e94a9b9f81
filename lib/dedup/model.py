"""What makes features: a network with its weights, a precision and a way to make pixels, under one id."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from dedup import convolutions, photographs, pixels, vgg16
from dedup.arithmetic import Arithmetic
from dedup.weights import Weights


@dataclass(frozen=True)
class Model:
    """What two feature vectors must share to be comparable."""

    weights: Weights
    precision: str  #: one of PRECISIONS
    ranges: tuple[float, ...] = ()  #: of int8, if they are known already

    side = pixels.SIDE
    width = vgg16.WIDTH

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

    @cached_property
    def id(self) -> str:
        """The text that stands beside every vector: network, layer, weights, precision, preprocessing."""
        return f"vgg16-fc2-{self.weights.fingerprint}-{self.arithmetic}-{pixels.PREPROCESSING}"
