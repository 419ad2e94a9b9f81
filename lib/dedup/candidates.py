"""The pairs that may be near, found among sketches: no vector is moved for it.

Sketches are laid out in blocks, files of up to `BLOCK` rows, and each task reads the blocks that it compares. Where all
blocks are compared with all, no near pair is missed. Where that is too dear, contents are put into cells around
pivots, each into its own and, where it is near to the border, into some others, and only cells are compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup import delivery, listing, rounds, stores, vectors
from dedup.batches import batched, ddl
from dedup.rounds import Round
from dedup.sketches import Candidates, Doubles, Floats, Sketches, encode, products
from dedup.views import LONGEST

BLOCK = 8192
"""The most rows of a block."""

CELL = 2048
"""About how many contents have their home in a cell."""

MOST = 32
"""How many candidates a content keeps. One that has more is cut, and named."""

_VISITS = 3  # other cells that a content is put into at the most
_COLUMNS = 16  # blocks that a task compares its rows with
_READ = 24  # blocks that a worker remembers: 5 MB each

SIDES = ("fresh", "known", "fresh_against", "known_against")
"""What is compared: fresh contents with all; those that were compared before not with each other, `against` neither."""

_SKETCHED = {
    "sha256": pa.string(),
    "vector": pa.string(),
    "code": pa.binary(),
    "length": pa.float64(),
    "total": pa.float64(),
}
_FOUND = {"sha256": pa.string(), "other": pa.string(), "count": pa.int64()}
_BLOCK_COLUMNS = ["sha256", "code", "length", "total", "label"]


def _batch(columns: list[Any], types: dict[str, pa.DataType]) -> pa.RecordBatch:
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types.values(), strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=list(types))


def _sketch(batches: Iterator[pa.RecordBatch], axes: Doubles) -> Iterator[pa.RecordBatch]:
    for sha256, rows in vectors.scan(batches, axes.shape[1]):
        finite = np.logical_and.reduce(np.isfinite(rows), axis=1)
        code, length, total = encode(np.where(finite[:, None], rows, 0), axes)
        codes = [row.tobytes() if fine else None for row, fine in zip(code, finite, strict=True)]
        hashes = [hashlib.sha256(row).hexdigest() for row in rows]
        yield _batch([sha256, hashes, codes, length, total], _SKETCHED)


def sketch(features: DataFrame, axes: Doubles) -> DataFrame:
    """Return the sketches of features, and a hash of each vector; the sketch of a vector that is not finite is null.

    Parameters
    ----------
    features
        Columns file and row.
    axes
        What sketches are made with.
    """
    return vectors.given(features).mapInArrow(partial(_sketch, axes=axes), ddl(_SKETCHED))


def _codes(column: pa.BinaryArray) -> Floats:
    return vectors.matrix(column, len(column[0].as_buffer()) // 4) if len(column) else np.empty((0, 1), np.float32)


def _assign(batches: Iterator[pa.RecordBatch], pivots: NDArray[np.float32], radius: float) -> Iterator[pa.RecordBatch]:
    """Add to sketches the cells that they are put into, their home first.

    If x and q are at most `radius` apart, as unit vectors, then x is at most 2 `radius` farther from q's pivot than
    from its own: other cells need not be visited.
    """
    for batch in batches:
        if not batch.num_rows:
            continue
        alike = products(_codes(batch.column("code")), pivots)
        near = min(1 + _VISITS, len(pivots))
        nearest = np.argpartition(-alike, near - 1, axis=1)[:, :near]
        order = np.lexsort((nearest, -np.take_along_axis(alike, nearest, axis=1)))
        nearest = np.take_along_axis(nearest, order, axis=1)
        apart = np.sqrt(np.maximum(2 - 2 * np.take_along_axis(alike, nearest, axis=1), 0))
        visits = apart <= apart[:, :1] + 2 * radius
        cells = pa.array(
            [cells[visit].tolist() for cells, visit in zip(nearest, visits, strict=True)], pa.list_(pa.int32())
        )
        yield batch.append_column("cells", cells)


@dataclass(frozen=True)
class Layout:
    """Blocks of sketches on a storage: the files of each cell, by side, and by whether they are at home there."""

    files: dict[tuple[str, int, bool], list[str]] = field(default_factory=dict)

    def of(self, sides: Iterable[str], cell: int, *home: bool) -> list[str]:
        """Return the files of a cell."""
        return [file for side in sides for at_home in home for file in self.files.get((side, cell, at_home), [])]

    @property
    def cells(self) -> list[int]:
        """All cells that there are."""
        return sorted({cell for _, cell, _ in self.files})


def lay(
    sketches: DataFrame,
    folder: str,
    pivots: NDArray[np.float32] | None = None,
    radius: float = 0,
    most: int = 0,
) -> Layout:
    """Write sketches in blocks, in the order of their hashes: the same blocks in every run.

    Parameters
    ----------
    sketches
        Columns sha256, code, length, total, label and side.
    folder
        Where the blocks go.
    pivots
        The sketches around which cells are made; None for one cell that holds all.
    radius
        How far apart the directions of near contents can be.
    most
        How many candidates these are to keep, where that is more than MOST: their blocks are smaller, or a task would
        need gigabytes for what it may find.
    """
    block = max(1, BLOCK * MOST // max(most, MOST))
    ordered = sketches.withColumn("order", F.xxhash64("sha256"))
    if pivots is None:
        sizes = {row["side"]: _slices(row["count"], block) for row in sketches.groupBy("side").count().collect()}
        folders = ["side", "slice"]
        spread = ordered.withColumn("slice", _slice(sizes)).repartitionByRange(max(1, sum(sizes.values())), *folders)
    else:
        columns = ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in ordered.schema.fields)
        assign = partial(_assign, pivots=pivots, radius=radius)
        visits = ordered.mapInArrow(assign, f"{columns}, cells array<int>")
        folders = ["side", "cell", "home"]
        placed = visits.select("*", F.posexplode("cells").alias("visit", "cell")).withColumn(
            "home", F.col("visit") == 0
        )
        spread = placed.repartition(max(1, len(pivots) // 4), "cell")
    # Folders are by no column that is the same for all: Spark would sort by it once more, and the order were lost.
    sorted_rows = spread.sortWithinPartitions(*folders, "order", "sha256")
    kept = sorted_rows.select(*_BLOCK_COLUMNS, *folders)
    writer = kept.write.options(maxRecordsPerFile=block, compression="none")
    writer.partitionBy(*folders).parquet(stores.spark_path(folder))
    return _laid(folder, folders)


def _slices(count: int, block: int) -> int:
    """Return into how many slices of the range of hashes so many contents are cut: none should outgrow a block."""
    return max(1, -(-10 * count // (9 * block)))


def _slice(sizes: dict[str, int]) -> Column:
    """Return the number of a content's slice. Spark's own ranges would do, but they are other ones in every run."""
    slices = F.lit(1)
    for side, size in sizes.items():
        slices = F.when(F.col("side") == side, size).otherwise(slices)
    share = F.col("order") / F.lit(2.0**64) + 0.5
    return F.least(F.floor(share * slices), slices - 1).cast("int")


def _laid(folder: str, folders: list[str]) -> Layout:
    layout = Layout()
    for path in sorted(entry.path for entry in listing.entries(folder)):
        names = path.split("/")
        if names[-1].startswith("part-"):
            values = [name.partition("=")[2] for name in names[-1 - len(folders) : -1]]
            at = dict(zip(folders, values, strict=True))
            place = (at["side"], int(at.get("cell", 0)), at.get("home", "true") == "true")
            layout.files.setdefault(place, []).append(path)
    return layout


@dataclass(frozen=True)
class Task:
    """A block of rows and the blocks that it is compared with; with itself, if it is the first of them."""

    rows: str
    columns: tuple[str, ...]


def tasks(layout: Layout) -> list[Task]:
    """Return what has to be compared so that every pair is, that is not of two known contents or two `against`."""
    against = SIDES[2:]
    found: list[Task] = []
    for cell in layout.cells:
        fresh = layout.of(["fresh"], cell, True)
        others = layout.of(["fresh"], cell, False) + layout.of(["known", *against], cell, True, False)
        for i, rows in enumerate(fresh):
            found += _cut(rows, fresh[i:] + others)
        for rows in layout.of(["fresh"], cell, False):
            found += _cut(rows, layout.of(["known", *against], cell, True))
        for rows in layout.of(["fresh_against"], cell, True):
            found += _cut(rows, layout.of(["known"], cell, True, False))
        for rows in layout.of(["fresh_against"], cell, False):
            found += _cut(rows, layout.of(["known"], cell, True))
    return found


def _cut(rows: str, columns: list[str]) -> list[Task]:
    return [Task(rows, tuple(some)) for some in batched(columns, _COLUMNS)]


def beyond(rows: Layout, layout: Layout) -> list[Task]:
    """Return what has to be compared so that fresh contents are compared with all that they can be, in every cell."""
    compared = {"fresh": SIDES, "fresh_against": SIDES[:2]}
    return [
        task
        for side, sides in compared.items()
        for file in rows.of([side], 0, True)
        for task in _cut(file, [column for cell in layout.cells for column in layout.of(sides, cell, True)])
    ]


@lru_cache(_READ)
def _read(path: str) -> Sketches:
    where, name = stores.locate(path)
    with stores.asking(path, "cannot be read"):
        table = pyarrow.parquet.read_table(name, filesystem=where, columns=_BLOCK_COLUMNS, partitioning=None)
    block = table.combine_chunks()
    codes = block.column("code").combine_chunks() if block.num_rows else pa.array([], pa.binary())
    hashes = np.array(block.column("sha256").to_pylist(), f"S{LONGEST}")
    numbers = [block.column(name).to_numpy() for name in ("length", "total", "label")]
    return Sketches(hashes, _codes(codes), *numbers)


def _search(batches: Iterator[pa.RecordBatch], todo: Any, limit: Doubles, most: int) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for number in batch.column("id").to_pylist():
            task: Task = todo.value[number]
            rows = _read(task.rows)
            candidates = Candidates(rows, limit, most)
            for file in task.columns:
                candidates.add(_read(file), same=file == task.rows)
            row, other = candidates.pairs()
            names = [found.astype(f"U{LONGEST}") for found in (rows.sha256[row], other)]
            yield _batch([*names, candidates.count[row]], _FOUND)


def search(spark: SparkSession, todo: list[Task], limit: Doubles, folder: str, most: int = MOST) -> DataFrame:
    """Return the candidates that tasks find: sha256, other, and how many the task found for the first, kept or not.

    They are written to a folder, round by round, with progress shown.
    """
    given = delivery.shared(spark, todo)
    numbered = spark.range(len(todo)).select(F.col("id").cast("int").alias("bucket"))

    def work(_: DataFrame, chosen: Round) -> None:
        numbers = spark.range(chosen.first, chosen.last + 1, 1, chosen.rows)
        found = numbers.mapInArrow(partial(_search, todo=given, limit=limit, most=most), ddl(_FOUND))
        found.write.parquet(f"{stores.spark_path(folder)}/round={chosen.first}")

    if todo:
        counts = [(number, 1) for number in range(len(todo))]
        rounds.run(numbered, counts, work, "deduplicate: compare", "blocks", at_once=2, most=2 * rounds.BUCKET_FILES)
        return spark.read.parquet(stores.spark_path(folder)).select(*_FOUND)
    return spark.createDataFrame([], ddl(_FOUND))
