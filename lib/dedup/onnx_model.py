"""A network of the user's own: an ONNX file, one of its layers, and how it wants its pictures.

The driver reads the file and cuts off what the layer does not need; executors compute what is left in ONNX Runtime,
picture by picture, so that what is said of one depends on nothing beside it.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Iterator
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

_PRECISION = "float32"
_SIDES = range(8, 1025)
_SMALLEST, _LARGEST = 1e-9, 1e9  # of standard deviations
_MEANS = 10.0  # the largest mean: pixels are from 0 to 1, not to 255
_MOST_BYTES = 2 << 30  # a message of protobuf is smaller
_NAMED = 8  # layers that a message names
_SHOWN = 60  # letters of each


@dataclass(frozen=True)
class Recipe:
    """What goes with a network's file. Its text is part of a model's id."""

    side: int  #: width and height, in pixels, of the pictures that it looks at
    mean: Channels  #: what is taken from pixels from 0 to 1
    std: Channels  #: what they are then divided by
    layer: str  #: the tensor that becomes features
    width: int = 0  #: of the features; 0 until the network was given a picture

    def check(self) -> None:
        """Make sure that all is of its kind: a table's note may say anything.

        Raises
        ------
        ValueError
            If something is not.
        """
        if type(self.side) is not int or self.side not in _SIDES:
            raise ValueError(f"--size {self.side}: possible are {_SIDES.start} to {_SIDES.stop - 1} pixels")
        limits = (("--mean", self.mean, -_MEANS, _MEANS), ("--std", self.std, _SMALLEST, _LARGEST))
        for name, numbers, least, most in limits:
            if len(numbers) != 3 or not all(type(one) in {int, float} and least <= one <= most for one in numbers):
                said = ",".join(str(one)[:_SHOWN] for one in numbers)
                raise ValueError(
                    f"{name} {said}: three numbers from {least:g} to {most:g} are possible, for pixels from 0 to 1"
                )
        if not isinstance(self.layer, str) or not self.layer.isprintable():
            raise ValueError(f"--layer {self.layer!r}: no name of a tensor")
        if type(self.width) is not int or not 0 <= self.width <= MOST_WIDTH:
            raise ValueError(f"{self.width} features: at most {MOST_WIDTH} are possible")

    @property
    def neutral(self) -> tuple[int, int, int]:
        """The colour, in RGB, in which the network sees nothing: what is taken from all pixels."""
        red, green, blue = (round(255 * min(1, max(0, one))) for one in self.mean)
        return red, green, blue

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
    graph: bytes = field(repr=False)  #: what the layer needs of the network, as ONNX Runtime takes it
    fingerprint: str  #: of the file and the layer

    precision = _PRECISION

    @property
    def side(self) -> int:
        """Width and height of the pictures that it looks at."""
        return self.recipe.side

    @property
    def width(self) -> int:
        """The length of a vector."""
        return self.recipe.width

    @property
    def neutral(self) -> tuple[int, int, int]:
        """The colour in which it sees nothing."""
        return self.recipe.neutral

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
        return _id(self.fingerprint, self.recipe)


def _id(fingerprint: str, recipe: Recipe) -> str:
    return f"onnx-{fingerprint}-{_PRECISION}-{recipe}"


def _fingerprint(content: bytes, layer: str) -> str:
    digest = hashlib.sha256(content)
    digest.update(b"\0" + layer.encode())
    return digest.hexdigest()[:12]


def id_of(source: str, recipe: Recipe) -> str:
    """Return the id of the model that a file is with a recipe; it need not hold such a network.

    Parameters
    ----------
    source
        "onnx:" and the location of a file.
    recipe
        As a table's note has it.

    Raises
    ------
    UsageError
        If the file cannot be read.
    """
    return _id(_fingerprint(_content(_path(source)), recipe.layer), recipe)


def load(
    source: str, size: int | None = None, mean: Channels = MEAN, std: Channels = STD, layer: str | None = None
) -> OnnxModel:
    """Return the network in a file, after it was given a picture.

    Parameters
    ----------
    source
        "onnx:" and the location of a file.
    size
        The side of the pictures; None for what the file says.
    mean, std
        As of `Recipe`.
    layer
        The name of a tensor; None for the only output.

    Raises
    ------
    UsageError
        If it cannot be read, or is no network that makes features of pictures of this size.
    """
    path = _path(source)
    said = _said(path)
    content = _content(path)
    network = _parsed(content, said)
    layer = layer or _only_output(network, said)
    _cut(network, layer, said)
    side = _side(network, said)
    if side is None and size is None:
        raise UsageError(f"{said}: it takes pictures of any size: say which with --size")
    if None not in {side, size} and side != size:
        raise UsageError(f"{said}: it takes pictures of {side} x {side} pixels, not of --size {size}")
    recipe = Recipe(side or size or 0, tuple(mean), tuple(std), layer)  # type: ignore[arg-type]  # lengths are checked
    try:
        recipe.check()
    except ValueError as error:
        raise UsageError(str(error)) from error
    graph = network.SerializeToString()
    del network  # three copies of the weights at a time are enough
    recipe = replace(recipe, width=_width(graph, recipe, said))
    return OnnxModel(f"{PREFIX}{path}", recipe, graph, _fingerprint(content, layer))


def _path(source: str) -> str:
    if source == PREFIX:
        raise UsageError(f"--model {source}: the place of a file is missing")
    return stores.absolute(source.removeprefix(PREFIX))


def _said(path: str) -> str:
    return f"--model {PREFIX}{path}"


def _content(path: str) -> bytes:
    try:
        return storage.read(path, limit=_MOST_BYTES)
    except Reject as reject:
        raise UsageError(f"{_said(path)}: {reject}") from reject


def _parsed(content: bytes, said: str) -> Any:
    """Return the network in a file's bytes."""
    try:
        import onnx
        import onnxruntime  # noqa: F401 -- what is missing is said before anything is done
    except ImportError as error:
        raise UsageError(f"{said}: the packages onnx and onnxruntime are needed, on executors the latter") from error
    try:
        network = onnx.load_model_from_string(content)
    except Exception as error:  # of protobuf's own kinds
        raise UsageError(f"{said}: not an ONNX file: {_first(error)}") from error
    if not network.graph.node:
        raise UsageError(f"{said}: not an ONNX file, or one without a network")
    # Where such data lies is a path in the file: it could name any file of an executor.
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _messages(network, "TensorProto")):
        raise UsageError(f"{said}: its weights lie in other files: save it as one file")
    return network


def _messages(message: Any, kind: str) -> Iterator[Any]:
    """Return all messages of a kind inside another one: in subgraphs, functions and attributes too."""
    from google.protobuf.message import Message

    if message.DESCRIPTOR.name == kind:
        yield message
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:  # weights may be listed number by number
            for one in [value] if isinstance(value, Message) else value:
                yield from _messages(one, kind)


def _only_output(network: Any, said: str) -> str:
    outputs = [one.name for one in network.graph.output]
    if len(outputs) != 1:
        raise UsageError(f"{said}: it has {len(outputs)} outputs: choose one with --layer: {_some(outputs)}")
    return str(outputs[0])


def _cut(network: Any, layer: str, said: str) -> None:
    """Leave of a network what a layer needs, and the layer as its only output."""
    import onnx

    graph = network.graph
    makers = {name: node for node in graph.node for name in node.output if name}
    if layer not in makers:
        close = difflib.get_close_matches(layer, list(makers), _NAMED, cutoff=0.4) or list(makers)[::-1]
        there = _some([*(one.name for one in graph.output), *close])
        raise UsageError(f"{said}: no tensor is named --layer {layer[:_SHOWN]}; there are {there}")
    needed, waiting = set(), [layer]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            # Subgraphs name tensors outside of them: what only they have is not found, and does no harm.
            nodes = _messages(makers[name], "NodeProto") if name in makers else []
            waiting += [one for node in nodes for one in node.input if one]
    output = onnx.ValueInfoProto(name=layer)
    for one in graph.output:
        if one.name == layer:
            output.CopyFrom(one)
    del graph.output[:]
    graph.output.append(output)
    _keep(graph.node, lambda node: not needed.isdisjoint(node.output))
    _keep(graph.initializer, lambda tensor: tensor.name in needed)
    _keep(graph.sparse_initializer, lambda tensor: tensor.values.name in needed)
    _keep(graph.input, lambda one: one.name in needed)


def _keep(messages: Any, wanted: Callable[[Any], bool]) -> None:
    for place in reversed(range(len(messages))):
        if not wanted(messages[place]):
            del messages[place]


def _side(network: Any, said: str) -> int | None:
    """Return the size of the pictures that a network takes, None where it takes any."""
    import onnx

    weights = {tensor.name for tensor in network.graph.initializer}
    inputs = [one for one in network.graph.input if one.name not in weights]
    if len(inputs) != 1:
        raise UsageError(f"{said}: it has {len(inputs)} inputs, and one is needed, for pictures")
    taken = inputs[0].type.tensor_type
    dims = [one.dim_value if one.dim_value > 0 else None for one in taken.shape.dim]
    shown = f"{_kind(taken)} ({', '.join(str(one or '?') for one in dims)})"
    channels = None if len(dims) != 4 else dims[3] if _channels_last(dims) else dims[1]
    if taken.elem_type != onnx.TensorProto.FLOAT or len(dims) != 4 or channels not in {None, 3}:
        raise UsageError(f"{said}: its input is {shown}; it must be float32 (?, 3, side, side) or (?, side, side, 3)")
    if dims[0] not in {None, 1}:
        raise UsageError(f"{said}: it takes {dims[0]} pictures at a time: export it for one, or for any number")
    sides = {one for one in (dims[1:3] if _channels_last(dims) else dims[2:]) if one}
    if len(sides) > 1:
        raise UsageError(f"{said}: its input is {shown}: only square pictures are made")
    return sides.pop() if sides else None


def _channels_last(shape: list[Any]) -> bool:
    """Tell how a network takes its pictures: with three channels last, where it does not say that they are first."""
    return bool(shape[3] == 3 and shape[1] != 3)


def _kind(tensor: Any) -> str:
    import onnx

    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except (KeyError, ValueError, TypeError):
        return "no tensor"


def _some(names: list[str]) -> str:
    different = [name[:_SHOWN] for name in dict.fromkeys(names)]
    return ", ".join(different[:_NAMED]) + (", ..." if len(different) > _NAMED else "")


def _width(graph: bytes, recipe: Recipe, said: str) -> int:
    """Return how many features the network makes of a picture; it is given one of noise, twice."""
    picture = np.random.default_rng(0).integers(0, 256, (1, recipe.side, recipe.side, 3), np.uint8)
    try:
        predict = ENGINE.load(np.frombuffer(graph, np.uint8), recipe, 1, 1)
        found, again = predict(picture), predict(picture)
    except Exception as error:  # of ONNX Runtime's own kinds
        raise UsageError(f"{said}: it does not compute: {_first(error)}") from error
    if found.dtype != np.float32:
        raise UsageError(f"{said}: it makes {found.dtype} of a picture, and not float32")
    width: int = found.shape[1]
    if not 1 < width <= MOST_WIDTH:
        raise UsageError(f"{said}: it makes {width:,} features of a picture; 2 to {MOST_WIDTH:,} are possible")
    if not np.isfinite(found).all():
        raise UsageError(f"{said}: it makes numbers of a picture that are not finite")
    if found.tobytes() != again.tobytes():
        raise UsageError(f"{said}: it makes other features of the same picture each time: it draws at random")
    return width


def _first(error: Exception) -> str:
    """Return what an error says, on one line and not too much of it: without ONNX Runtime's places in its code.

    >>> _first(ValueError("[ONNXRuntimeError] : 1 : FAIL : /a/model.cc:25 onnx::Model::Model(Proto&&, int) Too new"))
    '1 : FAIL : Too new'
    """
    line = re.sub(r"\s+", " ", str(error)).removeprefix("[ONNXRuntimeError] : ")
    return re.sub(r"\S+\.(cc|h|cpp):\d+ .*?\) (?=[A-Z\[(])", "", line)[:200]


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
    last = _channels_last(given.shape)
    mean, std = (np.array(numbers, np.float32) for numbers in (recipe.mean, recipe.std))

    def one(picture: NDArray[np.uint8]) -> NDArray[Any]:
        scaled = (picture.astype(np.float32) / 255 - mean) / std
        shaped = np.ascontiguousarray(scaled if last else scaled.transpose(2, 0, 1))
        (found,) = session.run(None, {given.name: shaped[None]})
        vector: NDArray[Any] = np.asarray(found).reshape(-1)
        if recipe.width not in {0, len(vector)}:
            raise UsageError(f"the network made {len(vector)} features of a picture, and {recipe.width} of others")
        return vector

    def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = np.stack([one(picture) for picture in pixels])
        return found

    return predict


ENGINE = Engine(_onnxruntime, 8)
"""ONNX Runtime on the cores of a CPU. It takes one picture at a time: more of them wait in memory for nothing."""
