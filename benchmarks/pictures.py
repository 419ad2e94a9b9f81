"""Photographs for the benchmark: seeded pieces of those inside well-known packages, as JPEG files of COCO's size."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dedup import photographs, pixels

SIZE = (640, 480)
_QUALITY = 90
_PART = (0.5, 1.0)  # of the photograph, along its tighter side


def make(count: int, folder: Path, seed: int = 0) -> None:
    """Write the files, unless they are there."""
    if folder.exists() and len(list(folder.iterdir())) == count:
        return
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [pixels.open_upright(file.read_bytes()) for file in photographs.named()]
    random = np.random.default_rng(seed)
    for number in range(count):
        whole = chosen[number % len(chosen)]
        unit = min(whole.width / SIZE[0], whole.height / SIZE[1]) * random.uniform(*_PART)
        width, height = SIZE[0] * unit, SIZE[1] * unit
        left, top = random.uniform(0, whole.width - width), random.uniform(0, whole.height - height)
        piece = whole.resize(SIZE, box=(left, top, left + width, top + height))
        piece.save(folder / f"{number:06d}.jpg", quality=_QUALITY)
