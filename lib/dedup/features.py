"""The table of features: one vector for each content under one model, and the UDF that makes it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup import (
    archives,
    delivery,
    engines,
    files,
    images,
    models,
    onnx_model,
    pixels,
    progress,
    rounds,
    tables,
    views,
)
from dedup.arithmetic import Arithmetic
from dedup.batches import ahead, ddl, each_row, record_batch
from dedup.errors import Reason, Reject, UsageError
from dedup.model import Model
from dedup.models import Made
from dedup.onnx_model import Recipe
from dedup.quiet import quiet
from dedup.rounds import Round
from dedup.views import VIEWS

STAGES = ("fetch", "decode")
"""Where a content can fail after it has a hash: its bytes are read again, if no table holds them, and decoded."""

_DESCRIBED = {
    "sha256": pa.string(),
    "path": pa.string(),
    "bucket": pa.int32(),
    "features": pa.binary(),
    "width": pa.int32(),
    "height": pa.int32(),
    "format": pa.string(),
    "pixels": pa.string(),
    "stage": pa.string(),
    "reason": pa.string(),
    "detail": pa.string(),
}

_ROWS = 256
"""The most rows of a batch that is handed on, when many contents in a row are bad."""


@dataclass(frozen=True)
class Task:
    """What a task must know to make features."""

    parcel: delivery.Parcel
    arithmetic: Arithmetic | Recipe
    side: int  #: of the pictures that the network looks at


@contextmanager
def task(spark: SparkSession, model: Model) -> Iterator[Task]:
    """Send a model to the executors, for the time of a `with`, which is given what tasks must know."""
    with delivery.shipped(spark, model.blob, model.blob_name) as parcel:
        yield Task(parcel, model.arithmetic, model.side)


_networks: dict[tuple[str, Arithmetic | Recipe], engines.Predict] = {}
"""The network that a worker has loaded, for as long as the worker lives: one, or its memory would double."""


def network(task: Task) -> engines.Predict:
    """Return the network, on a worker, which keeps the last one."""
    key = (task.parcel.name, task.arithmetic)
    if key not in _networks:
        _networks.clear()
        weights, chosen = task.parcel.open(), engine(task.arithmetic)
        with quiet():
            _networks[key] = chosen.load(weights, task.arithmetic, chosen.batch_size, cores())
    return _networks[key]


def engine(arithmetic: Arithmetic | Recipe) -> engines.Engine:
    """Return what this task computes the network with: TensorFlow on GPUs that Spark gave to it, or what suits its CPU.

    Some clusters give a GPU to every task, whether or not they have a TensorFlow that can use it. int8 is OpenVINO's
    alone. What is not VGG16 is ONNX Runtime's.
    """
    if isinstance(arithmetic, Recipe):
        return onnx_model.ENGINE
    context = TaskContext.get()
    gpus = context.resources().get("gpu") if context else None
    if gpus is not None and arithmetic.precision != "int8":
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus.addresses)  # before TensorFlow looks for them
        if engines.sees_gpus():
            return engines.ENGINES["tensorflow"]
    return engines.on_cpu(arithmetic)


def cores() -> int:
    """Return the cores that Spark gave to this task, `spark.task.cpus`."""
    context = TaskContext.get()
    return 1 if context is None else max(1, int(context.cpus()))


def fetch(sha256: str, path: str, other: str) -> bytes:
    """Return the bytes of a content from a path, or from another one where that has lost it."""
    try:
        content = archives.read(path)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise Reject(Reason.CHANGED, "other bytes than when it was listed")
        return content
    except Reject:
        if other == path:
            raise
        return fetch(sha256, other, other)


def _look(row: dict[str, Any], side: int) -> list[tuple[dict[str, Any], NDArray[np.uint8] | None]]:
    """Return what is known of each wanted view of a content, and the pixels of it; of a reject one row without any."""
    known = {name: row[name] for name in ("sha256", "path", "bucket")}
    stage = "fetch"
    try:
        content = row["content"]
        if content is None:
            content = fetch(row["sha256"], row["path"], row["other"])
        stage = "decode"
        picture = pixels.decode(content, side)
    except Reject as reject:
        return [(known | files.rejected("fetch" if reject.passing else stage, reject), None)]
    known |= {"width": picture.width, "height": picture.height, "format": picture.format}
    known |= files.rejected(stage, None)
    if row.get("views") is None:
        return [(known | {"pixels": picture.digest}, picture.pixels)]
    names = [row["sha256"] + end for end in row["views"]]
    return [(known | {"sha256": name}, VIEWS[views.parsed(name)[1]](picture.pixels)) for name in names]


def _bytes(row: dict[str, Any]) -> int:
    return len(row["content"] or b"")


def _extract(batches: Iterator[pa.RecordBatch], task: Task) -> Iterator[pa.RecordBatch]:
    """Bytes in, features or a reason out, in order. Decoding goes ahead in threads while the network computes."""
    known: list[dict[str, Any]] = []
    pictures: list[NDArray[np.uint8]] = []
    batch_size = engine(task.arithmetic).batch_size
    looked = ahead(partial(_look, side=task.side), each_row(batches), cores(), 2 * batch_size, _bytes)
    for row, picture in chain.from_iterable(looked):
        known.append(row)
        if picture is not None:
            pictures.append(picture)
        if len(pictures) == batch_size or len(known) >= _ROWS:
            yield _described(known, pictures, task)
            known, pictures = [], []
    if known:
        yield _described(known, pictures, task)


def _described(known: list[dict[str, Any]], pictures: list[NDArray[np.uint8]], task: Task) -> pa.RecordBatch:
    """Return rows with the features of their pictures; those that have none, as they are."""
    vectors: Iterator[bytes] = iter(())
    if pictures:
        found = network(task)(np.stack(pictures))
        vectors = (vector.astype("<f4", copy=False).tobytes() for vector in found)
    rows = [row if row["reason"] else row | {"features": next(vectors)} for row in known]
    return record_batch(rows, _DESCRIBED)


def describe(rows: DataFrame, task: Task) -> DataFrame:
    """Return the features of contents, or the reason why they have none: the one UDF that the network runs in.

    Parameters
    ----------
    rows
        Columns sha256, path, other, bucket and content; where content is null, the bytes are read from the path, or
        from the other one. With a column `views`, what is described instead of each content are these views of it, by
        what their names end in: its image is decoded once.
    task
        What makes the features.
    """
    wanted = [name for name in rows.columns if name == "views"]
    given = rows.select("sha256", "path", "other", "bucket", "content", *wanted)
    return given.mapInArrow(partial(_extract, task=task), ddl(_DESCRIBED))


def under(spark: SparkSession, location: str, model: str) -> DataFrame:
    """Return the rows of a table of features that one model made, with their addresses: `vectors.scan` reads those."""
    return tables.addressed(spark, location, "features").where(F.col("model") == model)


def complete(spark: SparkSession, location: str, made: Made) -> DataFrame:
    """Return the rows of `under` that the last extract that came to its end has counted, one for each content.

    What a run has added since then, which is at work, or was replaced and does not know it, counts for nobody.
    """
    rows = under(spark, location, made.model)
    if len(made.parts) > models.MOST_PARTS // 2 and not tables.holds(spark, location, "features", made.parts):
        raise UsageError(f"{location}: an extract has just put small parts of its features together: ask again")
    return rows.where(F.col("part").isin(*made.parts)) if made.parts else rows


def live(spark: SparkSession, location: str, made: Made) -> DataFrame:
    """Return the rows of a table of features that one model made, of contents that some file has now."""
    rows = complete(spark, location, made)
    if made.stale or made.listed != tables.version(location, *images.LISTED):  # files may have gone since
        gone = rows.select("sha256").join(images.inventory(spark, location), "sha256", how="left_anti")
        rows = rows.join(F.broadcast(gone), "sha256", how="left_anti")
    return rows


class Source:
    """A table of images as the place where the bytes of contents are: in the table, or at its paths."""

    def __init__(self, spark: SparkSession, table: str) -> None:
        self._images = tables.read(spark, table, "images")

    @cached_property
    def _has_bytes(self) -> bool:
        return has_bytes(self._images)

    def contents(self, rows: DataFrame, chosen: Round) -> DataFrame:
        """Return the rows of a round with `content`, null where a path has it.

        Parameters
        ----------
        rows
            Columns sha256, path, part, other and bucket, as `files_of` gives them, and any others.
        chosen
            The round.
        """
        if self._has_bytes:
            # The few paths of a round go to the bytes, never the bytes to the paths.
            wanted = F.broadcast(rows.drop("sha256", "bucket"))
            return self._images.where(chosen.within).join(wanted, ["path", "part"])
        return rounds.spread(rows).withColumn("content", F.lit(None).cast("binary"))


def each_round(
    spark: SparkSession,
    table: str,
    wanted: DataFrame,
    model: Callable[[], Model],
    work: Callable[[DataFrame, Task], None],
    label: str,
    finding: str,
) -> None:
    """Do work on contents, round by round, with the bytes that a table of images has of them, or the paths to them.

    Parameters
    ----------
    table
        The location of the table of images.
    wanted
        A column sha256, each content once, and any others; read twice.
    model
        Called for what makes features if the table has any of these contents.
    work
        Called with what `describe` takes, and the other columns, of some contents; and with what it has to know.
    label, finding
        What is done, and how the contents are found, in lines of progress.
    """
    files = images.inventory(spark, table).join(wanted, "sha256", how="left_semi")
    with rounds.held(files_of(files).join(wanted, "sha256")) as todo:
        with progress.step(spark, finding):
            counts = rounds.counted(todo)
        if not counts:
            return
        source = Source(spark, table)
        with task(spark, model()) as sent:
            rounds.run(todo, counts, lambda rows, chosen: work(source.contents(rows, chosen), sent), label)


def files_of(files: DataFrame) -> DataFrame:
    """Return the contents of files, each with the file that stands for it: sha256, path, bucket, part, other."""
    first = F.min(F.struct("path", "bucket", "part")).alias("first")
    return files.groupBy("sha256").agg(first, F.max("path").alias("other")).select("sha256", "first.*", "other")


def has_bytes(table: DataFrame) -> bool:
    """Tell whether a table of images holds the bytes of any file."""
    return not table.where("content is not null").isEmpty()
