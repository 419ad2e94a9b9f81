"""Images that the tests make, no photograph of anybody, and what comes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dedup.features import Extracted
from dedup.images import Ingested

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = "seeded:7"


def picture(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Return a picture of soft coloured clouds, different for each seed."""
    clouds = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(clouds, "RGB").resize(size, Image.Resampling.BICUBIC)


def make_images(folder: Path, count: int) -> list[Path]:
    """Fill a folder with so many different images, in several formats and folders."""
    made = []
    for seed in range(count):
        ending = ("png", "jpg", "webp")[seed % 3]
        path = folder / f"set {seed % 4}" / f"cloud {seed:03d}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(seed, (120 + seed % 50, 100 + seed % 70)).save(path)
        made.append(path)
    return made


@dataclass(frozen=True)
class Lake:
    """Images with everything that lakes have, their table and their features."""

    images: Path
    table: str
    features: str
    ingested: Ingested
    extracted: Extracted


def make_lake(folder: Path) -> None:
    """Fill a folder with 20 images, 2 copies of one, and 4 files that give no features."""
    paths = make_images(folder, 20)
    for number in range(2):
        (folder / f"copy {number} of 0%20 #1.png").write_bytes(paths[0].read_bytes())
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes").write_text("no image, and no ending")
    (folder / "short.png").write_bytes(paths[0].read_bytes()[:900])
    (folder / "gone.png").symlink_to(folder.parent / "nowhere.png")
