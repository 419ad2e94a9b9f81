"""VGG16's convolutions in OpenVINO, in bfloat16 or int8: by what processors have to multiply such numbers (AMX, VNNI).

Source for int8, with a scale for each output of a kernel: Krishnamoorthi, Quantizing deep convolutional networks (arXiv
1806.08342).
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dedup import vgg16
from dedup.arithmetic import Arithmetic
from dedup.convolutions import Convolve

_MOST = 127  # of a kernel in int8, and of the pixels less their means, which can be negative
_STEPS = 255  # of what has passed a rectifier and is never negative


@cache
def multiplies_bfloat16() -> bool:
    """Tell whether this processor has matrix units for bfloat16 (Intel's AMX).

    Without them OpenVINO gains little in bfloat16, or loses: on processors that have no bfloat16, it computes as if.
    """
    flags = Path("/proc/cpuinfo")
    return flags.exists() and "amx_bf16" in flags.read_text().split()


def network(flat: NDArray[np.float32], arithmetic: Arithmetic, threads: int) -> Convolve:
    """Return what computes all layers before the dense ones, in any arithmetic: else as `convolutions.network`."""
    ov = _openvino().opset13
    pixels = ov.parameter([1, 224, 224, 3], np.uint8)
    x = ov.gather(ov.convert(pixels, np.float32), np.array([2, 1, 0]), np.array(3))
    x = ov.transpose(ov.subtract(x, ov.constant(np.array(vgg16.MEANS, np.float32))), np.array([0, 3, 1, 2]))
    tensors, ranges = vgg16.tensors(flat), iter(arithmetic.ranges)
    for block in vgg16.BLOCKS:
        for name in block:
            kernel = np.ascontiguousarray(tensors[name, "kernel"].transpose(3, 2, 0, 1))
            bias = tensors[name, "bias"].reshape(1, -1, 1, 1)
            if arithmetic.ranges:
                most = np.float32(next(ranges))
                signed = name == "block1_conv1"
                least, steps = (-most, 2 * _MOST) if signed else (np.float32(0), _STEPS)
                x = ov.fake_quantize(x, least, most, least, most, steps + 1)
                x = _convolution(x, _whole(kernel, signed))
            else:
                x = _convolution(x, ov.constant(kernel))
            x = ov.relu(ov.add(x, ov.constant(np.ascontiguousarray(bias))))
        x = ov.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)
    channels_last = ov.transpose(x, np.array([0, 2, 3, 1]))
    request = _compiled(channels_last, pixels, threads, "bf16" if arithmetic.precision == "bfloat16" else "f32")

    def convolve(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = request.infer([picture[None]])[0].reshape(-1)
        return found

    return convolve


def _openvino() -> Any:
    """Return OpenVINO, without the package by which it tells its makers of each import, from every worker."""
    # None stands for a module that cannot be imported, which typeshed does not know; OpenVINO goes on without it.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino
    import openvino.opset13

    return openvino


def _convolution(x: Any, kernel: Any) -> Any:
    return _openvino().opset13.convolution(x, kernel, [1, 1], [1, 1], [1, 1], [1, 1])


def _whole(kernel: NDArray[np.float32], signed: bool) -> Any:
    """Return a kernel, outputs first, rounded to whole numbers, each output multiplied by as much as it can bear.

    They are int8 where the processor adds their products without loss; elsewhere the same numbers are given as float32,
    which is slower, and right. So they are everywhere if what they multiply can be negative, a 170th of all work: of
    such, OpenVINO 2026.4.1 makes sums on a Zen 5 that are off where a kernel does not add up to nothing.
    """
    most = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True)
    scale = np.where(most > 0, most, 1).astype(np.float32) / np.float32(_MOST)
    whole = np.rint(kernel / scale)
    if signed or _overflows():
        return _openvino().opset13.constant(whole * scale)
    return _multiplied(whole.astype(np.int8), scale)


def _multiplied(whole: NDArray[np.int8], scale: NDArray[np.float32]) -> Any:
    """Return a kernel in the form in which OpenVINO knows that it may multiply in int8."""
    ov = _openvino().opset13
    return ov.multiply(ov.convert(ov.constant(whole), np.float32), ov.constant(scale))


@cache
def _overflows() -> bool:
    """Tell whether two products of 8 bits overflow where this processor adds them: without VNNI, in 16 bits."""
    ov = _openvino().opset13
    shape = (16, 16, 3, 3)
    given = ov.parameter([1, 16, 8, 8], np.float32)
    most = np.float32(_STEPS)
    x = ov.fake_quantize(given, np.float32(0), most, np.float32(0), most, _STEPS + 1)
    x = _convolution(x, _multiplied(np.full(shape, _MOST, np.int8), np.ones((16, 1, 1, 1), np.float32)))
    found = _compiled(x, given, 1, "f32").infer([np.full((1, 16, 8, 8), most)])[0]
    return not np.isclose(found[0, 0, 4, 4], _STEPS * _MOST * np.prod(shape[1:]))


def _compiled(found: Any, given: Any, threads: int, precision: str) -> Any:
    """Return what infers one thing from another."""
    openvino = _openvino()
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "NUM_STREAMS": 1,
        "ENABLE_HYPER_THREADING": True,  # else threads are fewer than asked for, where cores have two
        "ENABLE_CPU_PINNING": False,  # else the workers of a machine would all sit on the same cores
    }
    compiled = openvino.Core().compile_model(openvino.Model([found], [given]), "CPU", options)
    return compiled.create_infer_request()
