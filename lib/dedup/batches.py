"""Rows on their way through a Python worker: one by one, in batches, and worked on ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import pyarrow as pa

In = TypeVar("In")
Out = TypeVar("Out")

AHEAD_BYTES = 64 << 20
"""The most bytes that wait in a worker for what comes after them."""


_DDL = {
    pa.string(): "string",
    pa.binary(): "binary",
    pa.bool_(): "boolean",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.float64(): "double",
    pa.timestamp("us", "UTC"): "timestamp",
}


def ddl(types: dict[str, pa.DataType]) -> str:
    """Return the schema of Arrow columns as Spark is told it.

    >>> ddl({"path": pa.string(), "width": pa.int32()})
    'path string, width int'
    """
    return ", ".join(f"{name} {_DDL[kind]}" for name, kind in types.items())


def batched(rows: Iterable[In], size: int) -> Iterator[list[In]]:
    """Cut rows into lists of a size, the last one shorter."""
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch


def ahead(
    work: Callable[[In], Out], rows: Iterable[In], threads: int, depth: int, size: Callable[[In], int] = lambda _: 0
) -> Iterator[Out]:
    """Do work on rows in threads before they are asked for, and yield its outcomes in order.

    Parameters
    ----------
    work
        What is done with a row, in a thread.
    rows
        The rows.
    threads
        How many work at a time.
    depth
        How many outcomes may wait at the most.
    size
        The bytes that the outcome of a row takes; those that wait take AHEAD_BYTES at the most, or are one.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[Future[Out], int]] = deque()
        held = 0
        for row in rows:
            while waiting and (len(waiting) >= depth or held + size(row) > AHEAD_BYTES):
                outcome, freed = waiting.popleft()
                held -= freed
                yield outcome.result()
            waiting.append((pool.submit(work, row), size(row)))
            held += size(row)
        while waiting:
            yield waiting.popleft()[0].result()


def each_row(batches: Iterable[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    """Return the rows of Arrow batches one by one: a batch of image bytes is never copied as a whole."""
    for batch in batches:
        for i in range(batch.num_rows):
            yield batch.slice(i, 1).to_pylist()[0]


def record_batch(rows: list[dict[str, Any]], types: dict[str, pa.DataType]) -> pa.RecordBatch:
    """Return rows as an Arrow batch of the given columns."""
    return pa.RecordBatch.from_pylist(rows, pa.schema(list(types.items())))


def gathered(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Return batches of about so many small rows: Spark's own are cut for rows that hold whole images."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= rows:
            yield from pa.Table.from_batches(waiting).combine_chunks().to_batches(max_chunksize=rows)
            waiting = []
    if waiting:
        yield from pa.Table.from_batches(waiting).combine_chunks().to_batches(max_chunksize=rows)
