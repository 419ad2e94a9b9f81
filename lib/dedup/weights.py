"""Where a network's weights come from: Keras' ImageNet file, a file of one's own, or a seed.

Whatever the source, weights become one flat array of float32 in the order of `vgg16.SHAPES`, and are known by
the SHA-256 of its bytes: the same weights have the same fingerprint from any file format.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dedup import contrasts, storage, stores, vgg16
from dedup.errors import Reject, UsageError
from dedup.quiet import quiet

DEFAULT = "imagenet"

_WAYS_OUT = "use --weights FILE (.h5, .keras, .safetensors, .npz) or --weights seeded"

_KERAS_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
_KERAS_MD5 = "64373286793e3c8b2b4e3219cbf3544b"

_MOST_BYTES = 4 << 30  # of a file, and of what it unfolds to

Named = tuple[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Weights:
    """The weights of VGG16 up to fc2."""

    flat: NDArray[np.float32]  #: shape (vgg16.SIZE,)
    source: str  #: what a person asked for: "imagenet", "seeded:0", a file

    @cached_property
    def fingerprint(self) -> str:
        """The first 12 hex digits of the SHA-256 of the weights' bytes."""
        return hashlib.sha256(self.flat.astype("<f4", copy=False).data).hexdigest()[:12]


def load(source: str) -> Weights:
    """Return the weights that a source names.

    Parameters
    ----------
    source
        "imagenet", "seeded", "seeded:N" with a seed N, or the location of a file.

    Raises
    ------
    UsageError
        If they cannot be had, or the file does not hold VGG16's layers; the message names the ways out.
    """
    if source == "imagenet":
        return Weights(_from_file(_imagenet(), source), source)
    if match := re.fullmatch(r"seeded(?::(\d+))?", source):
        seed = int(match[1] or 0)
        return Weights(contrasts.weights(seed), f"seeded:{seed}")
    return Weights(_from_file(stores.absolute(source), source), source)


def _imagenet() -> str:
    """Return the path of Keras' ImageNet weights, from its cache or downloaded into it, its hash checked."""
    home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    cached = os.path.join(home, "models", _KERAS_FILE)
    if os.path.exists(cached):
        with open(cached, "rb") as file:
            if hashlib.file_digest(file, "md5").hexdigest() == _KERAS_MD5:
                return cached
    # Keras knows where its file is, and brings TensorFlow along: the driver has them only for a download.
    with quiet():
        import keras
        from keras.src.applications.vgg16 import WEIGHTS_PATH

    try:
        return str(keras.utils.get_file(_KERAS_FILE, WEIGHTS_PATH, cache_subdir="models", file_hash=_KERAS_MD5))
    except Exception as error:  # whatever the network's many layers raise
        cause = str(error).splitlines()[0]
        raise UsageError(f"the ImageNet weights cannot be had ({cause}); {_WAYS_OUT}") from error


def _require_small(name: str, length: int) -> None:
    """Make sure that what a file unfolds to is no larger than a file may be: a few bytes can claim any number."""
    if length > _MOST_BYTES:
        raise ValueError(f"{name} claims {length} bytes, more than {_MOST_BYTES}")


def _h5(content: bytes) -> Iterator[Named]:
    import h5py

    with h5py.File(io.BytesIO(content)) as file:
        found: list[Named] = []

        def visit(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise ValueError(f"{name} lies in another file")
                _require_small(name, sum(array.nbytes for _, array in found) + item.nbytes)
                # Keras 3 numbers its groups, `conv2d_1/vars/0`, and keeps the layer's own name as an attribute.
                layer = item.parent.attrs.get("name", "")
                found.append((f"{layer}/{name}", item[()]))

        file.visititems(visit)
    yield from found


def _keras(content: bytes) -> Iterator[Named]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:  # only the arrays: a model's config can hold code
        _require_small("model.weights.h5", archive.getinfo("model.weights.h5").file_size)
        yield from _h5(archive.read("model.weights.h5"))


def _safetensors(content: bytes) -> Iterator[Named]:
    import safetensors.numpy

    yield from safetensors.numpy.load(content).items()


def _npz(content: bytes) -> Iterator[Named]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        _require_small("it", sum(member.file_size for member in archive.infolist()))
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        yield from arrays.items()


FORMATS: dict[str, Callable[[bytes], Iterator[Named]]] = {
    ".h5": _h5,
    ".keras": _keras,
    ".safetensors": _safetensors,
    ".npz": _npz,
}
"""The file formats by the end of their name (`.weights.h5` is an .h5 too): bytes to named arrays. Never a pickle."""


def _from_file(path: str, source: str) -> NDArray[np.float32]:
    reader = next((reader for end, reader in FORMATS.items() if path.lower().endswith(end)), None)
    if reader is None:
        raise UsageError(f"--weights {source}: not 'imagenet', 'seeded', nor a file that ends in {', '.join(FORMATS)}")
    try:
        content = storage.read(path, limit=_MOST_BYTES)
    except Reject as reject:
        raise UsageError(f"--weights {source}: {reject}") from reject
    try:
        named = list(reader(content))
    except Exception as error:  # four libraries, each with errors of its own
        raise UsageError(f"--weights {source}: cannot be read: {error}") from error
    return _flatten(named, source)


def _flatten(named: list[Named], source: str) -> NDArray[np.float32]:
    """Put named arrays in the order of vgg16.SHAPES. A name counts if one of its words is a layer's name."""
    flat = np.empty(vgg16.SIZE, np.float32)
    missing = dict.fromkeys(vgg16.SHAPES)
    seen = set()
    wrong = []
    places = vgg16.tensors(flat)
    for name, array in named:
        layer = next((layer for layer in vgg16.LAYERS if re.search(rf"(^|[/.]){layer}([/._:]|$)", name)), None)
        if layer is None or array.ndim not in (1, 2, 4) or name.startswith("/optimizer"):
            continue
        key = (layer, "bias" if array.ndim == 1 else "kernel")
        missing.pop(key, None)
        if key in seen:
            wrong.append(f"two arrays for {layer} {key[1]}")
        elif array.dtype.kind not in "fiu":
            wrong.append(f"{layer} {key[1]} holds {array.dtype}, not numbers")
        elif array.shape != vgg16.SHAPES[key]:
            wrong.append(f"{layer} {key[1]} has shape {array.shape}, not {vgg16.SHAPES[key]}")
        else:
            with np.errstate(over="ignore"):
                places[key][...] = array
            if not np.isfinite(places[key]).all():
                wrong.append(f"{layer} {key[1]} holds numbers that are not finite")
        seen.add(key)
    if missing:
        wrong.append(f"missing: {', '.join(f'{layer} {role}' for layer, role in missing)}")
    if wrong:
        raise UsageError(f"--weights {source}: not the weights of VGG16: {'; '.join(wrong)}")
    return flat
