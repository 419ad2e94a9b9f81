"""What makes features: a network and all that is known of it, under one id."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from dedup.arithmetic import Arithmetic
from dedup.onnx_model import Recipe


class Model(Protocol):
    """What two feature vectors must share to be comparable: `Vgg16Model` or `OnnxModel`."""

    @property
    def id(self) -> str:
        """The text that stands beside every vector: network, layer, weights, precision, preprocessing."""

    @property
    def source(self) -> str:
        """What a person asked for."""

    @property
    def precision(self) -> str:
        """One of `arithmetic.PRECISIONS`."""

    @property
    def side(self) -> int:
        """Width and height, in pixels, of the pictures that the network looks at."""

    @property
    def width(self) -> int:
        """The length of a feature vector."""

    @property
    def neutral(self) -> tuple[int, int, int]:
        """The colour, in RGB, in which the network sees nothing: what it takes from all pixels."""

    @property
    def blob(self) -> NDArray[Any]:
        """What is sent to the executors, once: the network's weights."""

    @property
    def blob_name(self) -> str:
        """The name of a file that stands for its content."""

    @property
    def arithmetic(self) -> Arithmetic | Recipe:
        """What else a task must know to compute."""
