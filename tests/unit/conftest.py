"""What several files of the unit level share: the repository, one photograph, Keras."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from PIL import Image

# Compiling a kernel or importing a decoder takes longer than a deadline; the same commit gives the same outcome.
hypothesis.settings.register_profile("unit", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("unit")


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def photograph() -> Image.Image:
    """A smooth picture without any symmetry, 96 x 64: each flip and each turn of it is another picture."""
    y, x = np.mgrid[0:64, 0:96]
    channels = [x * 2.5, y * 3.5, 128 + 100 * np.sin(x / 15) * np.cos(y / 22 + 1)]
    pixels = np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8)
    pixels[4:20, 6:30] = (250, 40, 30)
    return Image.fromarray(pixels, "RGB")


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """From an image, a format and options of Pillow to the bytes of a file."""

    def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
        file = io.BytesIO()
        image.save(file, format, **options)
        return file.getvalue()

    return encoded


@pytest.fixture
def put(tmp_path: Path) -> Callable[[Iterable[str]], list[str]]:
    """Make small files below `tmp_path`, each with its name as its content, and return their paths, sorted."""

    def made(names: Iterable[str]) -> list[str]:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(name.encode())
        return sorted(os.fspath(tmp_path / name) for name in names)

    return made


@pytest.fixture(scope="session")
def keras() -> Any:
    """Keras on a TensorFlow whose threads are set as `engines` sets them: once, before it computes anything."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import keras

    return keras
