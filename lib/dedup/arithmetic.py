"""What the network is computed in: part of what makes two feature vectors comparable."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

PRECISIONS = ("float32", "bfloat16", "int8")
"""The names of all precisions, the default first."""

_DIVIDED = "in 255 steps from 0"  # how int8 divides ranges: other ways are other models


@dataclass(frozen=True)
class Arithmetic:
    """A precision, and what must be known to compute in it. Its text is part of a model's id."""

    precision: str  #: one of PRECISIONS
    ranges: tuple[float, ...] = ()  #: for int8: how large what goes into each convolution may be

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS or (self.precision == "int8") != bool(self.ranges):
            raise ValueError(f"{self.precision} with {len(self.ranges)} ranges")

    def __str__(self) -> str:
        if not self.ranges:
            return self.precision
        return f"{self.precision}.{hashlib.sha256(f'{_DIVIDED} {self.ranges}'.encode()).hexdigest()[:6]}"
