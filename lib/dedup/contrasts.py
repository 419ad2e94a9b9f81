"""Weights that are made, not trained: with them, VGG16 compares the brightness of each place with that around it.

Random kernels (He-normal) see how bright a picture is before they see anything else, and every change of brightness or
contrast moves all activations along. These see which of two places is the brighter one, at two scales:

- Blocks 1 to 3 pass on brightness, blurred in every layer, less the mean of all pixels: what is above it in one
  channel, and what is below in another, as a rectifier lets no other sign pass.
- Blocks 4 and 5, at 28 x 28 and 14 x 14 places, have random kernels of zero sum. What each gives, a contrast c, becomes
  a soft sign: c times a gain, plus 1/2, cut off at 0 and 1. Two rectifiers make it, of which the next layer takes the
  difference; beside it stands its complement, so that poolings, which keep the largest, keep both. Signs are blurred
  once, and passed on.
- fc1 is a random projection of all soft signs less their usual value, of which the rectifier leaves the half above 0:
  what is near stays near, as in random projections without it. fc2 passes it on.

Brightness and contrast change a soft sign little, blur and compression hardly any at such scales, and text and lines
only those of some places. Local signs of brightness are an old friend: Zabih and Woodfill, Non-parametric local
transforms for computing visual correspondence (ECCV 1994). docs/quality.md has what they find.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dedup import vgg16

KERNELS = 100
"""How many contrasts there are at each scale."""

GAIN = 1 / 16
"""Of a contrast in levels of brightness: beyond 8 it is a sign."""

_USUAL = 0.6  # of soft signs, after poolings
_SIZE = 10.0  # what activations are about as large as

_BLUR = np.outer([1, 2, 1], [1, 2, 1]) / 16
_PASS = np.zeros((3, 3))
_PASS[1, 1] = 1

_BRIGHTNESS = (0.114, 0.587, 0.299)
"""Of blue, green and red, as ITU-R BT.601 has it: what copies in greyscale are made by."""

_PLUS, _MINUS = 0, 1  # the channels of brightness above and below the mean
_FIRST = 2  # the first channel of soft signs

_PLAIN = 3  # blocks without contrasts

Tensor = NDArray[np.float32]
Tensors = dict[tuple[str, str], Tensor]


def weights(seed: int, gain: float = GAIN) -> NDArray[np.float32]:
    """Return flat weights, shape (vgg16.SIZE,), made from a seed."""
    random = np.random.Generator(np.random.PCG64(seed))
    flat = np.zeros(vgg16.SIZE, np.float32)
    tensors = vgg16.tensors(flat)
    first = tensors["block1_conv1", "kernel"]
    for channel, share in enumerate(_BRIGHTNESS):
        first[:, :, channel, _PLUS], first[:, :, channel, _MINUS] = share * _BLUR, -share * _BLUR
    signs = range(_FIRST, _FIRST)
    for number, block in enumerate(vgg16.BLOCKS):
        layers = list(block)
        for layer in layers:
            if layer != "block1_conv1":
                _pass_brightness(tensors[layer, "kernel"])
                _pass(tensors[layer, "kernel"], signs, _PASS)
        if number >= _PLAIN:
            more = range(signs.stop, signs.stop + 2 * KERNELS)
            _compare(tensors, layers[0], layers[1], more, gain, random)
            _pass(tensors[layers[2], "kernel"], more, _BLUR)
            signs = range(_FIRST, more.stop)
    _project(tensors, signs, random)
    return flat


def _pass_brightness(kernel: Tensor) -> None:
    for channel, other in ((_PLUS, _MINUS), (_MINUS, _PLUS)):
        kernel[:, :, channel, channel], kernel[:, :, other, channel] = _BLUR, -_BLUR


def _pass(kernel: Tensor, channels: range, what: NDArray[np.float64]) -> None:
    for channel in channels:
        kernel[:, :, channel, channel] = what


def _compare(tensors: Tensors, layer: str, after: str, signs: range, gain: float, random: np.random.Generator) -> None:
    """Let a layer take contrasts of brightness, and the one after it make soft signs and their complements of them."""
    kernels = random.standard_normal((KERNELS, 3, 3))
    kernels -= kernels.mean(axis=(1, 2), keepdims=True)
    kernels *= gain / np.sqrt((kernels**2).sum(axis=(1, 2), keepdims=True))
    kernels = kernels.round(6)  # last bits may differ between processors, and a model's id tells every bit
    contrast, sign = tensors[layer, "kernel"], tensors[after, "kernel"]
    for kernel, low in zip(kernels, signs[::2], strict=True):
        for channel, bias in ((low, 0.5), (low + 1, -0.5)):
            contrast[:, :, _PLUS, channel], contrast[:, :, _MINUS, channel] = kernel, -kernel
            tensors[layer, "bias"][channel] = bias
        sign[1, 1, low : low + 2, low], sign[1, 1, low : low + 2, low + 1] = (1, -1), (-1, 1)
        tensors[after, "bias"][low + 1] = 1


def _project(tensors: Tensors, signs: range, random: np.random.Generator) -> None:
    places = tensors["fc1", "kernel"].reshape(-1, tensors["block5_conv3", "kernel"].shape[-1], vgg16.WIDTH)
    for place in places:
        used = place[signs.start : signs.stop]
        random.standard_normal(out=used.reshape(-1), dtype=np.float32)
        used *= _SIZE / math.sqrt(len(places) * len(signs))  # no scalar of NumPy: older ones round it first
        tensors["fc1", "bias"][:] -= _USUAL * used.sum(axis=0)
    np.fill_diagonal(tensors["fc2", "kernel"], 1)
