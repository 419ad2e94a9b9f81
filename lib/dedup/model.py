"""What makes features: a network with its weights, a precision and a way to make pixels, under one id."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from dedup import pixels
from dedup.weights import Weights

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Model:
    """What two feature vectors must share to be comparable."""

    weights: Weights
    precision: str  #: one of PRECISIONS

    @cached_property
    def id(self) -> str:
        """The text that stands beside every vector: network, layer, weights, precision, preprocessing."""
        return f"vgg16-fc2-{self.weights.fingerprint}-{self.precision}-{pixels.PREPROCESSING}"
