"""What makes features: a network with its weights, a precision and a way to make pixels, under one id."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from dedup import convolutions, photographs, pixels
from dedup.arithmetic import Arithmetic
from dedup.weights import Weights


@dataclass(frozen=True)
class Model:
    """What two feature vectors must share to be comparable."""

    weights: Weights
    precision: str  #: one of PRECISIONS

    @cached_property
    def arithmetic(self) -> Arithmetic:
        """The precision, with what must be known for it. For int8 that takes some seconds to find out."""
        if self.precision != "int8":
            return Arithmetic(self.precision)
        known = (pixels.decode(file.read_bytes()).pixels for file, photograph in photographs.files() if photograph)
        return Arithmetic(self.precision, convolutions.ranges(self.weights.flat, known))

    @cached_property
    def id(self) -> str:
        """The text that stands beside every vector: network, layer, weights, precision, preprocessing."""
        return f"vgg16-fc2-{self.weights.fingerprint}-{self.arithmetic}-{pixels.PREPROCESSING}"
