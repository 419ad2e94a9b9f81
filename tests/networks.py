"""Small networks as ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 48


def network(
    shape: tuple[int | str, ...] = ("n", 3, "h", "w"),
    kind: int = TensorProto.FLOAT,
    width: int = WIDTH,
    seed: int = 0,
    gain: float = 1.0,
    kernel: int = 5,
) -> Any:
    """A convolution, a rectifier, means of a grid of four by four, and a product: features of either sign.

    Pictures have their channels first, or, where the last of the four sides of the input is 3, last. A large kernel
    takes its time.
    """
    random = np.random.default_rng(seed)
    last = shape[-1] == 3
    weights = {
        "kernel": random.standard_normal((8, 3, kernel, kernel), np.float32) * np.float32(5 / 9 / kernel),
        "dense": random.standard_normal((8 * 16, width), np.float32) * np.float32(gain),
    }
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first" if last else "pixels", "kernel"], ["convolved"], strides=[2, 2]),
        helper.make_node("Relu", ["convolved"], ["rectified"]),
        helper.make_node("Resize", ["rectified", "", "", "sizes"], ["grid"], mode="linear", antialias=1),
        helper.make_node("Flatten", ["grid"], ["flat"]),
        helper.make_node("MatMul", ["flat", "dense"], ["features"]),
    ][not last :]
    # One picture at a time: the sizes of a grid say how many.
    sizes = numpy_helper.from_array(np.array([1, 8, 4, 4]), "sizes")
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("pixels", kind, shape)],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [shape[0], width])],
        [*(numpy_helper.from_array(array, name) for name, array in weights.items()), sizes],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def save(made: Any, path: Path) -> str:
    """Leave a network in a file; return what `--model` is told of it."""
    onnx.save_model(made, str(path))
    return f"onnx:{path}"
