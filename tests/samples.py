"""Images that the tests make, no photograph of anybody, and what comes of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup import delivery, extraction, images, tables
from dedup.distances import METRICS, distances
from dedup.extraction import Extracted
from dedup.images import LISTED, Ingested
from dedup.model import Model
from dedup.models import Made
from dedup.thresholds import Thresholds

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


def arrive(path: Path, folder: Path) -> None:
    """Put a copy of a file into a folder that somebody looks at, all of it at once."""
    shutil.copy(path, folder.parent / path.name)
    os.replace(folder.parent / path.name, folder / path.name)


def stored(rows: DataFrame, folder: Path) -> DataFrame:
    """Return rows as they are in Parquet files, in as many as the rows have partitions, with their addresses."""
    rows.write.parquet(str(folder))
    read = rows.sparkSession.read.parquet(str(folder))
    return read.select("*", F.col("_metadata.file_path").alias("file"), F.col("_metadata.row_index").alias("row"))


def descriptions(spark: SparkSession) -> dict[int, str | None]:
    """Return what Spark's UI says of the jobs that it remembers, by their numbers; Spark Connect tells of none."""
    if delivery.context(spark) is None:
        return {}
    jobs = spark.sparkContext._jsc.sc().statusStore().jobsList(None)
    listed = [jobs.apply(i) for i in range(jobs.size())]
    return {job.jobId(): job.description().get() if job.description().isDefined() else None for job in listed}


def make_features(spark: SparkSession, folder: Path, count: int, model: Model) -> str:
    """Fill a folder with so many images and the features of them, and return the location of these."""
    make_images(folder / "images", count)
    location = str(folder / "features")
    images.ingest(spark, str(folder / "images"), location, keep_bytes=False)
    extraction.extract(spark, location, location, model)
    return location


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


Vectors = NDArray[np.float32]
Near = dict[tuple[str, str], tuple[float, ...]]
"""Votes and distances of near pairs."""


def clumps(seed: int, count: int, width: int = 24, noise: float = 4.0) -> Vectors:
    """Return vectors like features, from 0 up and many of them 0, in clumps of one to a dozen that lie close."""
    random = np.random.default_rng(seed)
    sizes = random.choice([1, 1, 2, 3, 5, 12], count)
    clump = np.repeat(np.arange(count), sizes)[:count]
    centres = random.gamma(1, 100, (count, width)) * (random.random((count, width)) < 0.6)
    spread = random.choice([0.1, 1.0, 3.0], (count, 1)) * noise
    made = centres[clump] + spread * random.normal(0, 1, (count, width)) * (centres[clump] > 0)
    return np.asarray(random.permutation(np.maximum(made, 0)), np.float32)


def near_by(vectors: Vectors, votes: int, share: float, model: str = "", p: float = 3.0) -> Thresholds:
    """Return thresholds, each of which a share of the distances is within: not quite the same for every metric."""
    found = distances(vectors, vectors, p)
    above = np.triu_indices(len(vectors), 1)
    shares = [share * factor for factor in (1, 0.8, 1.3, 0.6, 1.1)]
    within = {
        name: float(np.quantile(found[name][above], min(part, 1))) for name, part in zip(METRICS, shares, strict=True)
    }
    return Thresholds(model, votes, within, "a test", p)


def near_pairs(vectors: dict[str, Vectors], thresholds: Thresholds) -> Near:
    """Return the votes and distances of all near pairs, by comparing all with all."""
    names = sorted(vectors)
    if not names:
        return {}
    rows = np.stack([vectors[name] for name in names])
    found = distances(rows, rows, thresholds.p)
    votes = thresholds.agreeing(found)
    return {
        (names[i], names[j]): (int(votes[i, j]), *[float(found[metric][i, j]) for metric in METRICS])
        for i, j in np.argwhere(np.triu(votes >= thresholds.votes, 1))
    }


@dataclass(frozen=True)
class Contents:
    """Vectors by name; which are fresh, to be compared with those that are known too; which are own, not `against`."""

    rows: dict[str, Vectors]
    fresh: frozenset[str]
    own: frozenset[str]

    def first(self) -> dict[str, str]:
        """Return for each content the one that stands for it: the first of those with the same vector."""
        by_vector: dict[bytes, list[str]] = {}
        for name in sorted(self.rows):
            by_vector.setdefault(self.rows[name].tobytes(), []).append(name)
        return {name: names[0] for names in by_vector.values() for name in names}

    def expected(self, thresholds: Thresholds) -> Near:
        """Return all near pairs of those that stand for others, and of these with the others."""
        first = self.first()
        fresh, own = ({first[name] for name in names} for names in (self.fresh, self.own))
        finite = {name: row for name, row in self.rows.items() if np.isfinite(row).all()}
        return {
            (left, right): measured
            for (left, right), measured in near_pairs(finite, thresholds).items()
            if (first[right] == left and {left, right} & self.own)
            or (left == first[left] and right == first[right] and {left, right} & fresh and {left, right} & own)
        }


@dataclass(frozen=True)
class Stored:
    """A file as the tables know it."""

    path: str
    sha256: str
    vector: Vectors
    pixels: str | None = None
    length: int = 1000
    day: int = 1  #: of the month in which it was changed last
    width: int = 100
    format: str = "JPEG"


def store(
    spark: SparkSession,
    location: str,
    files: Iterable[Stored],
    models: tuple[str, ...] = ("synthetic",),
    rejects: int = 0,
    buckets: int = 4,
) -> None:
    """Leave the tables that ingest and extract would, with these files and no others."""
    files = list(files)
    contents = {file.sha256: file for file in files}
    place = {sha256: number % buckets for number, sha256 in enumerate(sorted(contents))}
    images = [
        (file.path, file.sha256, file.length, datetime(2024, 1, file.day, tzinfo=UTC), None, place[file.sha256])
        for file in files
    ]
    described = [
        (sha256, file.vector.tobytes(), file.width, 100, file.format, file.pixels, model, place[sha256])
        for sha256, file in contents.items()
        for model in models
    ]
    bad = [(f"/bad/{number}", None, "read", "empty", "no bytes") for number in range(rejects)]
    for name, rows in (("images", images), ("features", described), ("rejects", bad)):
        tables.replace(spark.createDataFrame(rows, tables.SCHEMAS[name]).coalesce(1), location, name)
        tables.tidy(location, name)
    listed = tables.version(location, *LISTED)
    for model in models:
        Made(model, f"weights of {model}", "float32", (), complete=True, listed=listed).save(location)
