"""Vectors where they are: all of a table, which no JVM sees, and chosen ones in plain files, without a shuffle.

For a scan, Spark says which rows count, by their addresses, and the tasks fetch vectors from the table's own files.

Vectors that are looked up stand in files of rows of float32, little-endian, and of nothing else: row i begins at byte
4 width i.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, groupby, repeat
from operator import itemgetter
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup import rounds, storage, stores
from dedup.batches import ahead, ddl
from dedup.errors import UsageError
from dedup.parts import ADDRESS

_AT = {"sha256": pa.string(), "file": pa.string(), "row": pa.int32()}

_FILE_BYTES = 64 << 20
_LOOKED_UP = 2_000_000  # contents whose hashes are broadcast at a time: about 0.3 GB on the driver
_GAP = 8  # rows that are read along rather than asking the storage once more

_COLUMNS = ["sha256", "features"]
_ROWS = 512  # vectors that are read at a time: 8 MiB
_AHEAD = 2  # so many are under way while another is worked on
_OTHER = "a row of features is not {} float32 long: it was made with another model"
_ADDRESSES = 1 << 16  # the most of one file that are gathered: a row group that they end in is read twice


def matrix(column: pa.BinaryArray, width: int) -> NDArray[np.float32]:
    """Return binary features as an array of shape (rows, width), without a copy.

    Raises
    ------
    ValueError
        If a row is not `width` float32 long.
    """
    if len(column) == 0:
        return np.empty((0, width), np.float32)
    _, offsets, values = column.buffers()
    ends = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    if column.null_count or (np.diff(ends) != 4 * width).any():
        raise ValueError(_OTHER.format(width))
    return np.frombuffer(values, "<f4", len(column) * width, offset=int(ends[0])).reshape(len(column), width)


def stacked(found: Sequence[bytes | None], location: str) -> NDArray[np.float32]:
    """Return binary features that were collected from a table as an array of shape (rows, width).

    Raises
    ------
    UsageError
        If they are not all equally long: anybody may have written the table.
    """
    if not found:
        return np.empty((0, 0), np.float32)
    width = max(1, max(len(one or b"") for one in found) // 4)
    if any(one is None or len(one) != 4 * width for one in found):
        raise UsageError(f"{location}: {_OTHER.format(width)}")
    return np.stack([np.frombuffer(one or b"", "<f4") for one in found])


def scan(batches: Iterator[pa.RecordBatch], width: int) -> Iterator[tuple[pa.StringArray, NDArray[np.float32]]]:
    """Return the vectors of a table of features, on a worker, which reads them itself; a thread reads ahead.

    Parameters
    ----------
    batches
        The columns that `given` chooses: file (the URI of a Parquet file of a table of features) and row (the place in
        the file), of any rows in any order, those of a file together; or sha256 and features themselves.
    width
        The length of the vectors.

    Yields
    ------
    tuple
        Some hashes and their vectors, shape (rows, width), in the order of a file; about 8 MiB.

    Raises
    ------
    UsageError
        If a file is gone, cannot be read, has other columns or fewer rows, or a row is not `width` float32 long.
    """
    found = _scan(batches, width)
    for some in ahead(lambda _: next(found, None), repeat(None), 1, _AHEAD):
        if some is None:
            return
        yield some


def given(rows: DataFrame) -> DataFrame:
    """Return the columns of a table of features that `scan` needs: addresses, or else what would stand there."""
    return rows.select(*(ADDRESS if set(ADDRESS) <= set(rows.columns) else _COLUMNS))


def _scan(batches: Iterator[pa.RecordBatch], width: int) -> Iterator[tuple[pa.StringArray, NDArray[np.float32]]]:
    first = next(batches, None)
    if first is None:
        return
    batches = chain([first], batches)
    if "features" in first.schema.names:
        for batch in batches:
            try:
                found = matrix(batch.column("features"), width)
            except ValueError as error:
                raise UsageError(f"the table of features: {error}") from error
            yield batch.column("sha256"), found
        return
    for uri, addresses in _by_file(batches):
        rows = np.sort(addresses.to_numpy())
        file = unquote(uri)
        done = 0
        try:
            where, name = stores.locate(file)
            with where.open_input_file(name) as opened:
                parquet = pyarrow.parquet.ParquetFile(opened)
                _require_columns(parquet.schema_arrow)
                for some in _rows_of(parquet, rows):
                    yield some.column("sha256"), matrix(some.column("features"), width)
                    done += some.num_rows
        except (OSError, ValueError, OverflowError, MemoryError, pa.ArrowException) as error:
            raise stores.refused(file, error, "a file of features cannot be read") from error
        if done < len(rows):
            raise UsageError(f"{file}: a file of features has other rows than when it was listed")


def _require_columns(schema: pa.Schema) -> None:
    """Make sure that a file of features has columns of the kinds that are read: anybody may have written it."""
    kinds = {field.name: field.type for field in schema if field.name in _COLUMNS}
    if len(schema.names) != len(set(schema.names)) or kinds != {"sha256": pa.string(), "features": pa.binary()}:
        raise ValueError(f"its columns are {', '.join(f'{field.name} {field.type}' for field in schema)}"[:300])


def _by_file(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """Gather the rows that stand together and are of one file."""
    waiting: list[pa.Int64Array] = []
    at = ""
    for batch in batches:
        runs = pyarrow.compute.run_end_encode(batch.column("file"))
        start = 0
        for file, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
            if waiting and (file != at or sum(map(len, waiting)) >= _ADDRESSES):
                yield at, pa.chunked_array(waiting)
                waiting = []
            at = file
            waiting.append(batch.column("row").slice(start, end - start))
            start = end
    if waiting:
        yield at, pa.chunked_array(waiting)


def _rows_of(file: pyarrow.parquet.ParquetFile, rows: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    """Return hashes and features in sorted rows of a file, a few at a time; row groups without any are passed over."""
    first, done = 0, 0
    for group in range(file.num_row_groups):
        end = first + file.metadata.row_group(group).num_rows
        last = int(np.searchsorted(rows, end))
        if done < last:
            for batch in file.iter_batches(_ROWS, row_groups=[group], columns=_COLUMNS, use_threads=False):
                upto = int(np.searchsorted(rows, first + batch.num_rows))
                places = rows[done:upto] - first
                if np.array_equal(places, np.arange(batch.num_rows)):
                    yield batch
                elif len(places):
                    yield batch.take(pa.array(places))
                first, done = first + batch.num_rows, upto
                if done == last:
                    break
        first = end


def _store(batches: Iterator[pa.RecordBatch], folder: str) -> Iterator[pa.RecordBatch]:
    waiting: list[tuple[str, bytes]] = []
    size = 0
    for batch in batches:
        for sha256, vector in zip(
            batch.column("sha256").to_pylist(), batch.column("features").to_pylist(), strict=True
        ):
            waiting.append((sha256, vector))
            size += len(vector)
            if size >= _FILE_BYTES:
                yield _written(waiting, folder)
                waiting, size = [], 0
    if waiting:
        yield _written(waiting, folder)


def _written(rows: list[tuple[str, bytes]], folder: str) -> pa.RecordBatch:
    # A task that runs twice writes two files; only what it says in the end names one of them.
    file = f"{folder}/{uuid.uuid4().hex}.f32"
    storage.write(file, b"".join(vector for _, vector in rows))
    hashes = pa.array([sha256 for sha256, _ in rows], pa.string())
    numbers = pa.array(np.arange(len(rows), dtype=np.int32))
    return pa.RecordBatch.from_arrays([hashes, pa.array([file] * len(rows)), numbers], names=list(_AT))


def chosen(features: DataFrame, wanted: DataFrame) -> Iterator[DataFrame]:
    """Return the rows of chosen contents, some millions at a time: hashes go to the features, never features to hashes.

    Parameters
    ----------
    features
        Columns sha256 and bucket, and any others.
    wanted
        A column sha256, each content once; read several times, so keep it.
    """
    buckets = features.select("sha256", "bucket").join(wanted, "sha256", how="left_semi")
    with rounds.held(buckets) as kept:
        for first, last in _ranges(rounds.counted(kept)):
            some = F.col("bucket").between(first, last)
            hashes = F.broadcast(kept.where(some).select("sha256"))
            yield features.where(some).join(hashes, "sha256", how="left_semi")


def store(features: DataFrame, wanted: DataFrame, folder: str) -> DataFrame:
    """Write the vectors of wanted contents to files, and return their addresses: sha256, file, row.

    Parameters
    ----------
    features
        Columns sha256, features and bucket.
    wanted
        A column sha256, each content once; read several times, so keep it.
    folder
        Where the files go.
    """
    place = f"{stores.spark_path(folder)}/addresses"
    for rows in chosen(features, wanted):
        stored = rows.select("sha256", "features").mapInArrow(partial(_store, folder=f"{folder}/files"), ddl(_AT))
        stored.write.mode("append").parquet(place)
    if not storage.exists(f"{folder}/addresses"):
        return features.sparkSession.createDataFrame([], ddl(_AT))
    addresses = features.sparkSession.read.schema(ddl(_AT)).parquet(place)
    # A content that two tables have is stored twice; either row will do.
    return addresses.groupBy("sha256").agg(F.min(F.struct("file", "row")).alias("at")).select("sha256", "at.*")


def _ranges(counts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Group consecutive buckets so that each group has few enough contents; return the first and last of each.

    >>> _ranges([(0, 1_500_000), (1, 400_000), (5, 300_000)])
    [(0, 1), (5, 5)]
    """
    found: list[tuple[int, int]] = []
    total = 0
    for bucket, count in counts:
        if found and total + count <= _LOOKED_UP:
            found[-1] = (found[-1][0], bucket)
            total += count
        else:
            found.append((bucket, bucket))
            total = count
    return found


def read(addresses: list[tuple[str, int]], width: int) -> NDArray[np.float32]:
    """Return the vectors at addresses, a file and a row each, shape (addresses, width)."""
    out = np.empty((len(addresses), width), np.float32)
    sought = sorted((file, row, place) for place, (file, row) in enumerate(addresses))
    for file, rows in groupby(sought, key=itemgetter(0)):
        where, name = stores.locate(file)
        with stores.asking(file, "cannot be read"), where.open_input_file(name) as opened:
            for stretch in _stretches([(row, place) for _, row, place in rows]):
                first, last = stretch[0][0], stretch[-1][0]
                read = opened.read_at((last + 1 - first) * 4 * width, first * 4 * width)
                found = np.frombuffer(read, "<f4").reshape(-1, width)
                for row, place in stretch:
                    out[place] = found[row - first]
    return out


def _stretches(rows: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Cut sorted rows where so many lie between two that they are not worth being read along.

    >>> [[row for row, _ in stretch] for stretch in _stretches([(0, 0), (3, 1), (4, 2), (50, 3)])]
    [[0, 3, 4], [50]]
    """
    start = 0
    for i in range(1, len(rows) + 1):
        if i == len(rows) or rows[i][0] - rows[i - 1][0] > _GAP:
            yield rows[start:i]
            start = i
