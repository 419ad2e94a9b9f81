"""VGG16's convolutions in ncnn, with as few multiplications as Winograd found, in float32 or bfloat16.

Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (arXiv 1509.09308).
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dedup import vgg16
from dedup.arithmetic import Arithmetic
from dedup.errors import UsageError

Convolve = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From a picture, uint8 (224, 224, 3) in RGB, to the last block's output, float32 (7 * 7 * 512,), channels last."""


def network(flat: NDArray[np.float32], arithmetic: Arithmetic, threads: int) -> Convolve:
    """Return what computes all layers before the dense ones.

    Parameters
    ----------
    flat
        The weights, shape (vgg16.SIZE,). They are copied.
    arithmetic
        What is computed in: not int8.
    threads
        How many to compute with. The result is the same on one as on two.

    Raises
    ------
    ValueError
        If it is int8.
    """
    if arithmetic.ranges:
        raise ValueError("ncnn computes no int8 here")
    net = _net(flat, arithmetic, threads)

    def convolve(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        (found,) = _outputs(net, picture, ["block5_pool"])
        # ncnn has channels first, the weights have them last.
        flattened: NDArray[np.float32] = found.transpose(1, 2, 0).reshape(-1)
        return flattened

    return convolve


def _net(flat: NDArray[np.float32], arithmetic: Arithmetic, threads: int) -> Any:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.lightmode = True  # frees each activation when it has been used
    net.opt.use_bf16_storage = arithmetic.precision == "bfloat16"
    net.opt.use_fp16_storage = net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = False
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "convolutions")
        with open(path, "wb") as file:
            _write(flat, file)
        if net.load_param_mem(_graph()) or net.load_model(path):
            raise RuntimeError("ncnn does not take the network")
    return net


def _outputs(net: Any, pixels: NDArray[np.uint8], names: list[str]) -> Iterator[NDArray[np.float32]]:
    """Compute what layers, named in their order, give for a picture in C order: float32 (channels, height, width)."""
    import ncnn

    given = ncnn.Mat.from_pixels(pixels, ncnn.Mat.PixelType.PIXEL_RGB2BGR, *pixels.shape[1::-1])
    given.substract_mean_normalize(list(vgg16.MEANS), [])
    extractor = net.create_extractor()
    extractor.set_light_mode(len(names) == 1)
    extractor.input("pixels", given)
    for name in names:
        failed, found = extractor.extract(name)
        if failed:
            raise RuntimeError(f"ncnn failed ({failed}): out of memory?")
        yield np.array(found)


def _inputs() -> dict[str, str]:
    """Return the layer that each convolution takes its input from, by name, in order."""
    found, before = {}, "pixels"
    for block in vgg16.BLOCKS:
        for name in block:
            found[name], before = before, name
        before = _pool(before)
    return found


def _pool(convolution: str) -> str:
    return convolution.partition("_")[0] + "_pool"


def _graph() -> str:
    """Return the convolutions and poolings in ncnn's language: kind, name, one input and one output of each layer.

    Of a convolution, 0 is the number of outputs, 1 and 11 are the kernel's sides, 4 is the padding, 5 says that it has
    a bias, 6 counts the kernel's numbers, 9 asks for a rectifier; of a pooling, 0 asks for the largest, 1 is the side,
    2 the stride.
    """
    lines = ["Input pixels 0 1 pixels"]
    inputs = _inputs()
    for block in vgg16.BLOCKS:
        for name, (inside, outside) in block.items():
            size = 3 * 3 * inside * outside
            options = f"0={outside} 1=3 11=3 4=1 5=1 6={size} 9=1"
            lines.append(f"Convolution {name} 1 1 {inputs[name]} {name} {options}")
        lines.append(f"Pooling {_pool(name)} 1 1 {name} {_pool(name)} 0=0 1=2 2=2")
    return "\n".join(["7767517", f"{len(lines)} {len(lines)}", *lines, ""])


_FLOAT32 = bytes(4)  # what stands before numbers of this kind


def _write(flat: NDArray[np.float32], file: BinaryIO) -> None:
    """Write convolutions as ncnn reads them: what kind of numbers, the kernel with its outputs first, the bias."""
    tensors = vgg16.tensors(flat)
    for name in _inputs():
        kernel, bias = tensors[name, "kernel"].transpose(3, 2, 0, 1), tensors[name, "bias"]
        file.write(_FLOAT32 + np.ascontiguousarray(kernel).tobytes() + bias.tobytes())


def ranges(flat: NDArray[np.float32], pictures: Iterable[NDArray[np.uint8]]) -> tuple[float, ...]:
    """Return how large what goes into each convolution may be, for int8: larger numbers are cut off.

    Parameters
    ----------
    flat
        The weights, shape (vgg16.SIZE,).
    pictures
        What it is found out with, uint8 (224, 224, 3) in RGB, at least one.

    Returns
    -------
    tuple
        For each convolution the largest number that goes into it, of all pictures, to two digits, rounded up, so that
        processors which differ in last bits seldom differ in it. For the first one, what a pixel can be at most.

    Raises
    ------
    UsageError
        If activations are not finite.
    """
    net = _net(flat, Arithmetic("float32"), len(os.sched_getaffinity(0)))
    _, *names = _inputs().values()
    most = np.max([[found.max() for found in _outputs(net, picture, names)] for picture in pictures], axis=0)
    if not np.isfinite(most).all():
        raise UsageError("these weights give activations that are not finite: int8 cannot stand for them")
    return (255 - min(vgg16.MEANS), *(_rounded_up(float(number)) for number in most))


def _rounded_up(number: float) -> float:
    """Return the next number of two digits; what is never positive has a range all the same.

    >>> _rounded_up(443.79), _rounded_up(0.0321), _rounded_up(0)
    (450.0, 0.033, 1.0)
    """
    if number <= 0:
        return 1.0
    unit = 10.0 ** (math.floor(math.log10(number)) - 1)
    return float(f"{math.ceil(number / unit) * unit:.3g}")
