"""A network of the user's own: an ONNX file, one of its layers, and how it wants its pictures.

The driver reads the file and cuts the network off behind the layer; executors compute what is left in ONNX Runtime,
picture by picture, so that what is said of one depends on nothing beside it.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dedup import storage, stores
from dedup.engines import Engine, Predict
from dedup.errors import Reject, UsageError

PREFIX = "onnx:"

Channels = tuple[float, float, float]
"""A number for each of red, green and blue."""

MEAN: Channels = (0.485, 0.456, 0.406)
STD: Channels = (0.229, 0.224, 0.225)
"""Those of ImageNet, which torchvision, SSCD and DINO take."""

MOST_WIDTH = 16_384
"""The most features of a picture: a task of a query holds some thousands of vectors."""

_SIDES = range(8, 2049)
_MOST_BYTES = 2 << 30  # a message of protobuf is smaller
_NAMED = 8  # layers that a message names


@dataclass(frozen=True)
class Recipe:
    """What is said of a network beside its file. Its text is part of a model's id."""

    side: int  #: width and height, in pixels, of the pictures that it looks at
    mean: Channels = MEAN  #: what is taken from pixels from 0 to 1
    std: Channels = STD  #: what they are then divided by
    layer: str = ""  #: the tensor that becomes features; empty for the network's output

    def check(self) -> None:
        """Make sure that all is of its kind: a table's note may say anything.

        Raises
        ------
        ValueError
            If something is not.
        """
        if type(self.side) is not int or self.side not in _SIDES:
            raise ValueError(f"--size {self.side}: possible are {_SIDES.start} to {_SIDES.stop - 1} pixels")
        for name, numbers in (("--mean", self.mean), ("--std", self.std)):
            if len(numbers) != 3 or not all(type(one) in {int, float} and math.isfinite(one) for one in numbers):
                raise ValueError(f"{name} {numbers}: three numbers are needed, for red, green and blue")
        if not all(one > 0 for one in self.std):
            raise ValueError(f"--std {','.join(f'{one:g}' for one in self.std)}: each must be more than 0")
        if not isinstance(self.layer, str):
            raise ValueError(f"--layer {self.layer}: a name is needed")

    def __str__(self) -> str:
        numbers = repr([float(one) for one in (*self.mean, *self.std)])
        return f"bilinear{self.side}.{hashlib.sha256(numbers.encode()).hexdigest()[:6]}"


def channels(text: str) -> Channels:
    """Return three numbers that a user wrote.

    Raises
    ------
    UsageError
        If there are others.

    Examples
    --------
    >>> channels("0.5,0.5,.5")
    (0.5, 0.5, 0.5)
    """
    try:
        red, green, blue = map(float, text.split(","))
    except ValueError as error:
        raise UsageError(f"{text!r}: three numbers with commas are needed, for red, green and blue") from error
    return red, green, blue


@dataclass(frozen=True)
class OnnxModel:
    """A network from an ONNX file. It computes in the numbers that the file holds."""

    source: str  #: "onnx:" and where the file is
    recipe: Recipe
    graph: bytes = field(repr=False)  #: the network up to the layer, as ONNX Runtime takes it
    fingerprint: str  #: of the file and the layer
    width: int  #: of the features

    precision = "float32"

    @property
    def side(self) -> int:
        """Width and height of the pictures that it looks at."""
        return self.recipe.side

    @property
    def arithmetic(self) -> Recipe:
        """What executors must know beside the network itself."""
        return self.recipe

    @cached_property
    def blob(self) -> NDArray[np.uint8]:
        """What executors are sent."""
        return np.frombuffer(self.graph, np.uint8)

    @property
    def blob_name(self) -> str:
        """The name that stands for its content."""
        return f"{self.fingerprint}.onnx"

    @property
    def id(self) -> str:
        """The text that stands beside every vector: network and layer, precision, preprocessing."""
        return f"onnx-{self.fingerprint}-{self.precision}-{self.recipe}"


def load(
    source: str, size: int | None = None, mean: Channels = MEAN, std: Channels = STD, layer: str = ""
) -> OnnxModel:
    """Return the network in a file, after it was given a picture.

    Parameters
    ----------
    source
        "onnx:" and the location of a file.
    size
        The side of the pictures; None for what the file says.
    mean, std, layer
        As of `Recipe`.

    Raises
    ------
    UsageError
        If it cannot be read, or is no network that makes features of pictures of this size.
    """
    path = stores.absolute(source.removeprefix(PREFIX))
    said = f"--model {PREFIX}{path}"
    graph, fingerprint, side = _read(path, layer, said)
    if side is None and size is None:
        raise UsageError(f"{said}: it takes pictures of any size: say which with --size")
    if None not in {side, size} and side != size:
        raise UsageError(f"{said}: it takes pictures of {side} x {side} pixels, not of --size {size}")
    recipe = Recipe(side or size or 0, mean, std, layer)
    try:
        recipe.check()
    except ValueError as error:
        raise UsageError(str(error)) from error
    model = OnnxModel(f"{PREFIX}{path}", recipe, graph, fingerprint, width=0)
    return replace(model, width=_width(model, said))


def _read(path: str, layer: str, said: str) -> tuple[bytes, str, int | None]:
    """Return the network up to a layer, the fingerprint of both, and the size of its pictures if it is told."""
    try:
        content = storage.read(path, limit=_MOST_BYTES)
    except Reject as reject:
        raise UsageError(f"{said}: {reject}") from reject
    digest = hashlib.sha256(content)
    digest.update(b"\0" + layer.encode())
    network = _parsed(content, said)
    side = _side(network, said)
    _cut(network, layer, said)
    return network.SerializeToString(), digest.hexdigest()[:12], side


def _parsed(content: bytes, said: str) -> Any:
    """Return the network in a file's bytes."""
    try:
        import onnx
    except ImportError as error:
        raise UsageError(f"{said}: the packages onnx and onnxruntime are needed, on executors the latter") from error
    try:
        network = onnx.load_model_from_string(content)
    except Exception as error:  # of protobuf's own kinds
        raise UsageError(f"{said}: not an ONNX file: {_first(error)}") from error
    if not network.graph.node:
        raise UsageError(f"{said}: not an ONNX file, or one without a network")
    # Where such data lies is a path in the file: it could name any file of an executor.
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(network)):
        raise UsageError(f"{said}: its weights lie in other files: save it as one file")
    return network


def _tensors(message: Any) -> Iterator[Any]:
    """Return all tensors inside a network, also those in subgraphs, functions and attributes."""
    from google.protobuf.message import Message

    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for _, value in message.ListFields():
        for one in value if isinstance(value, Iterable) and not isinstance(value, str | bytes) else [value]:
            if isinstance(one, Message):
                yield from _tensors(one)


def _side(network: Any, said: str) -> int | None:
    """Return the size of the pictures that a network takes, None where it takes any."""
    import onnx

    weights = {tensor.name for tensor in network.graph.initializer}
    inputs = [one for one in network.graph.input if one.name not in weights]
    if len(inputs) != 1:
        raise UsageError(f"{said}: it has {len(inputs)} inputs, and one is needed, for pictures")
    taken = inputs[0].type.tensor_type
    dims = [one.dim_value if one.HasField("dim_value") else None for one in taken.shape.dim]
    shown = f"{_kind(taken)} ({', '.join(str(one or '?') for one in dims)})"
    if taken.elem_type != onnx.TensorProto.FLOAT or len(dims) != 4 or 3 not in (dims[1], dims[3]):
        raise UsageError(f"{said}: its input is {shown}; it must be float32 (?, 3, side, side) or (?, side, side, 3)")
    if dims[0] not in {None, 1}:
        raise UsageError(f"{said}: it takes {dims[0]} pictures at a time: export it for one, or for any number")
    sides = set(dims[2:] if dims[1] == 3 else dims[1:3])
    if len(sides) > 1:
        raise UsageError(f"{said}: its input is {shown}: only square pictures are made")
    return sides.pop()


def _kind(tensor: Any) -> str:
    import onnx

    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except (KeyError, ValueError, TypeError):
        return "no tensor"


def _cut(network: Any, layer: str, said: str) -> None:
    """Leave of a network's outputs the layer alone: ONNX Runtime drops what it does not need for it."""
    import onnx

    outputs = [one.name for one in network.graph.output]
    inside = [name for node in network.graph.node for name in node.output if name]
    if not layer and len(outputs) != 1:
        raise UsageError(f"{said}: it has {len(outputs)} outputs: choose one with --layer: {_some(outputs)}")
    if layer and layer not in {*outputs, *inside}:
        close = difflib.get_close_matches(layer, inside, _NAMED, cutoff=0.4) or inside[::-1]
        raise UsageError(f"{said}: no tensor is named --layer {layer}; there are {_some([*outputs, *close])}")
    if layer and layer not in outputs:
        del network.graph.output[:]
        network.graph.output.append(onnx.ValueInfoProto(name=layer))
    elif layer:
        kept = next(one for one in network.graph.output if one.name == layer)
        others = [one for one in network.graph.output if one is not kept]
        for one in others:
            network.graph.output.remove(one)


def _some(names: list[str]) -> str:
    different = list(dict.fromkeys(names))
    return ", ".join(different[:_NAMED]) + (", ..." if len(different) > _NAMED else "")


def _width(model: OnnxModel, said: str) -> int:
    """Return how many features the network makes of a picture; it is given one of noise."""
    picture = np.random.default_rng(0).integers(0, 256, (1, model.side, model.side, 3), np.uint8)
    try:
        found = ENGINE.load(model.blob, model.recipe, 1, 1)(picture)
    except Exception as error:  # of ONNX Runtime's own kinds
        raise UsageError(f"{said}: it does not compute: {_first(error)}") from error
    if found.dtype != np.float32 or len(found) != 1:
        raise UsageError(f"{said}: it makes {found.dtype} {found.shape} of a picture, and not a vector of float32")
    width: int = found.shape[1]
    if not 1 < width <= MOST_WIDTH:
        raise UsageError(f"{said}: it makes {width:,} features of a picture; 2 to {MOST_WIDTH:,} are possible")
    if not np.isfinite(found).all():
        raise UsageError(f"{said}: it makes numbers of a picture that are not finite")
    return width


def _first(error: Exception) -> str:
    """Return what an error says, on one line and not too much of it."""
    return re.sub(r"\s+", " ", str(error)).removeprefix("[ONNXRuntimeError] : ")[:200]


def _onnxruntime(blob: NDArray[np.uint8], recipe: Recipe, batch_size: int, threads: int) -> Predict:
    """Return what computes a network in ONNX Runtime, one picture at a time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors, which are raised
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other tasks want the cores
    # From a file it takes half of the memory: nothing is held beside what it makes of it.
    where = str(blob.filename) if isinstance(blob, np.memmap) else blob.tobytes()
    session = onnxruntime.InferenceSession(where, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    first = given.shape[1] == 3
    mean, std = (np.array(numbers, np.float32) for numbers in (recipe.mean, recipe.std))

    def one(picture: NDArray[np.uint8]) -> NDArray[Any]:
        scaled = (picture.astype(np.float32) / 255 - mean) / std
        shaped = np.ascontiguousarray(scaled.transpose(2, 0, 1) if first else scaled)
        (found,) = session.run(None, {given.name: shaped[None]})
        vector: NDArray[Any] = np.asarray(found).reshape(len(found), -1)
        return vector

    def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = np.concatenate([one(picture) for picture in pixels])
        return found

    return predict


ENGINE = Engine(_onnxruntime, 32)
"""ONNX Runtime on the cores of a CPU."""
