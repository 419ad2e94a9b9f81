"""Altered copies of a sample of images, and how far each is from its image: made, looked at and forgotten in a task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup import delivery, features, images, pixels, progress, rounds
from dedup.batches import ahead, ddl, each_row, record_batch
from dedup.distances import METRICS, distances
from dedup.edits import EDITS
from dedup.errors import Reject
from dedup.features import Task
from dedup.model import Model

SIDE = 1024
"""The longer side that images are made smaller to before they are altered: an edit takes time with every pixel."""

_MEASURED = {"sha256": pa.string(), "edit": pa.string(), **{metric: pa.float64() for metric in METRICS}}


def _altered(row: dict[str, Any]) -> tuple[str, NDArray[np.uint8] | None]:
    """Return the pictures of an image and its copies, shape (1 + edits, 224, 224, 3); None if there is no image."""
    try:
        content = row["content"] or features.fetch(row["sha256"], row["path"], row["other"])
        image = pixels.open_upright(content)
    except Reject:
        return row["sha256"], None
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    altered = (image, *(edit(image) for edit in EDITS.values()))
    return row["sha256"], np.stack([pixels.shrunk(picture) for picture in altered])


def _measure(batches: Iterator[pa.RecordBatch], task: Task, p: float) -> Iterator[pa.RecordBatch]:
    for sha256, pictures in ahead(_altered, each_row(batches), features.cores(), 2):
        if pictures is None:
            continue
        vectors = features.network(task)(pictures)
        found = distances(vectors[1:], vectors[:1], p)
        rows = [
            {"sha256": sha256, "edit": edit} | {metric: found[metric][i, 0] for metric in METRICS}
            for i, edit in enumerate(EDITS)
        ]
        yield record_batch(rows, _MEASURED)


def measure(spark: SparkSession, table: str, sample: Sequence[str], model: Model, p: float) -> NDArray[np.float64]:
    """Return the distances between images and their copies, shape (images, edits, metrics), under every metric.

    Of an image that cannot be read any more they are NaN.

    Parameters
    ----------
    table
        The location of a table of images, with bytes or with paths that have them.
    sample
        The images, by sha256.
    model
        What makes features.
    p
        The order of the Minkowski distance.
    """
    wanted = F.broadcast(spark.createDataFrame([(sha256,) for sha256 in sample], "sha256 string"))
    files = images.inventory(spark, table).join(wanted, "sha256", how="left_semi")
    index = {sha256: i for i, sha256 in enumerate(sample)}
    edits = {edit: i for i, edit in enumerate(EDITS)}
    measured = np.full((len(index), len(edits), len(METRICS)), np.nan)
    source = features.Source(spark, table)
    with (
        rounds.held(features.files_of(files)) as todo,
        delivery.shipped(spark, model.weights.flat, f"{model.weights.fingerprint}.f32") as parcel,
    ):
        task = Task(parcel, model.arithmetic)

        def work(rows: DataFrame, first: int, last: int) -> None:
            given = source.contents(rows, first, last).select("sha256", "path", "other", "content")
            for row in given.mapInArrow(partial(_measure, task=task, p=p), ddl(_MEASURED)).collect():
                measured[index[row["sha256"]], edits[row["edit"]]] = [row[metric] for metric in METRICS]

        with progress.step(spark, "calibrate: files of the sample"):
            counts = rounds.counted(todo)
        rounds.run(todo, counts, work, "calibrate")
    return measured
