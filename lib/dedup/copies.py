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

from dedup import delivery, features, neighbours, pixels
from dedup.batches import ahead, ddl, each_row, record_batch
from dedup.distances import METRICS, distances
from dedup.edits import EDITS
from dedup.errors import Reject
from dedup.features import Task
from dedup.model import Model
from dedup.models import Made
from dedup.neighbours import Sample
from dedup.queries import Queries
from dedup.views import VIEWS, first_views

SIDE = 1024
"""The longer side that images are made smaller to before they are altered: an edit takes time with every pixel."""

_MEASURED = {
    "sha256": pa.string(),
    "name": pa.string(),
    "features": pa.binary(),
    **{metric: pa.float64() for metric in METRICS},
}
"""A row is a copy, named by its edit, with its distances; or a view of the image, with its features."""


def _altered(row: dict[str, Any], views: tuple[str, ...], side: int) -> tuple[str, NDArray[np.uint8] | None]:
    """Return pictures of an image's views and of its copies, shape (views + edits, side, side, 3); None without one."""
    try:
        content = row["content"] or features.fetch(row["sha256"], row["path"], row["other"])
        image = pixels.open_upright(content)
    except Reject:
        return row["sha256"], None
    plain = pixels.shrunk(image, side)  # as in the table; copies are of what an edit can take
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    seen = [VIEWS[view](plain) for view in views]
    return row["sha256"], np.stack([*seen, *(pixels.shrunk(edit(image), side) for edit in EDITS.values())])


def _measure(
    batches: Iterator[pa.RecordBatch], task: Task, p: float, views: tuple[str, ...]
) -> Iterator[pa.RecordBatch]:
    altered = partial(_altered, views=views, side=task.side)
    for sha256, pictures in ahead(altered, each_row(batches), features.cores(), 2):
        if pictures is None:
            continue
        vectors = features.network(task)(pictures)
        found = distances(vectors[len(views) :], vectors[: len(views)], p)
        rows: list[dict[str, Any]] = [
            {"sha256": sha256, "name": edit} | {metric: found[metric][i].min() for metric in METRICS}
            for i, edit in enumerate(EDITS)
        ]
        if len(views) > 1:
            seen = zip(views, vectors, strict=False)
            rows += [{"sha256": sha256, "name": view, "features": vector.tobytes()} for view, vector in seen]
        yield record_batch(rows, _MEASURED)


def measure(
    spark: SparkSession, table: str, sample: Sequence[str], model: Model, p: float, job: str, views: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return the distances between images and their copies, and the views of the images.

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
    job
        What it is done for, in lines of progress.
    views
        How many views there are of each image: a distance is the smallest over them.

    Returns
    -------
    tuple
        Distances under every metric, shape (images, edits, metrics), and vectors, shape (images, views, width), of no
        views where there is but one. Of an image that cannot be read any more they are NaN.
    """
    index = {sha256: i for i, sha256 in enumerate(sample)}
    edits = {edit: i for i, edit in enumerate(EDITS)}
    names = {view: i for i, view in enumerate(first_views(views))}
    measured = np.full((len(index), len(edits), len(METRICS)), np.nan)
    seen = np.full((len(index), len(names) if views > 1 else 0, model.width), np.nan, np.float32)

    def work(rows: DataFrame, task: Task) -> None:
        given = rows.select("sha256", "path", "other", "content")
        measuring = partial(_measure, task=task, p=p, views=tuple(names))
        for row in given.mapInArrow(measuring, ddl(_MEASURED)).collect():
            if row["features"] is None:
                measured[index[row["sha256"]], edits[row["name"]]] = [row[metric] for metric in METRICS]
            else:
                seen[index[row["sha256"]], names[row["name"]]] = np.frombuffer(row["features"], "<f4")

    wanted = delivery.column(spark, "sha256", sample)
    features.each_round(spark, table, wanted, lambda: model, work, job, f"{job}: files of the sample")
    return measured, seen


def sampled(
    spark: SparkSession,
    location: str,
    table: str,
    made: Made,
    model: Model,
    size: int,
    p: float,
    job: str,
    views: int,
) -> tuple[Sample, NDArray[np.float64]]:
    """Draw images of a lake, and return them with their neighbours, and the distances of their copies.

    Parameters
    ----------
    location, made, size
        As of `neighbours.draw`.
    table, model, p, job
        As of `measure`.
    views
        How many views there are of each image: all distances are the smallest over them.
    """
    if views == 1:
        sample = neighbours.draw(spark, location, made, size, p, job)
        return sample, measure(spark, table, sample.sha256, model, p, job)[0]
    altered = np.empty(0)

    def alter(drawn: Sequence[str]) -> Queries:
        nonlocal altered
        altered, seen = measure(spark, table, drawn, model, p, job, views)
        return Queries(tuple(drawn), seen.reshape(-1, seen.shape[-1]), first_views(views))

    return neighbours.draw(spark, location, made, size, p, job, alter), altered
