"""How what the driver holds reaches the Python workers, in sessions with a SparkContext and in those without.

Weights arrive as a file that all workers of an executor map into memory: half a gigabyte for the executor, not for each
worker.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark import Broadcast


_DESCRIPTION = "spark.job.description"


class Parcel(Protocol):
    """What a task is given in the place of weights."""

    @property
    def name(self) -> str:
        """A name that stands for the weights' content."""

    def open(self) -> NDArray[Any]:
        """Return the weights, on a worker."""


class _Blob:
    """An array that can be moved out of a broadcast: the worker that wrote it to a file does not keep it."""

    def __init__(self, flat: NDArray[Any]) -> None:
        self._flat: NDArray[Any] | None = flat

    def move(self, path: str) -> None:
        """Leave the array in a file, and nothing of it here."""
        assert self._flat is not None, "once in the life of a worker: the file is there afterwards"
        self._flat.tofile(path)
        self._flat = None


@dataclass(frozen=True)
class _Broadcast:
    """A Spark broadcast. The first worker of an executor that needs it unpickles it, and leaves it as a file."""

    name: str
    kind: str
    blob: Broadcast[_Blob]

    def open(self) -> NDArray[Any]:
        path = os.path.join(_folder(), self.name)
        with open(path + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.exists(path):
                self.blob.value.move(path + ".part")
                os.replace(path + ".part", path)
        return _mapped(path, self.kind)


@dataclass(frozen=True)
class _Artifact:
    """A file that Spark Connect puts beside every worker."""

    name: str
    kind: str

    def open(self) -> NDArray[Any]:
        from pyspark import SparkFiles  # not in the thin client of Spark Connect, but on every worker

        return _mapped(SparkFiles.get(self.name), self.kind)


def _folder() -> str:
    """Return a folder on the executor's disk that Spark clears when the application ends."""
    # A standalone worker names the application's own folders; its working folder stays behind.
    own = os.environ.get("SPARK_EXECUTOR_DIRS", "").split(os.pathsep)[0]
    if own:
        return own
    from pyspark import SparkFiles

    return SparkFiles.getRootDirectory()


def _mapped(path: str, kind: str) -> NDArray[Any]:
    # Copy on write, and nothing is written: DLPack does not hand over what is read-only.
    return np.memmap(path, dtype=kind, mode="c")


_SHARED = {
    "spark.sql.optimizer.canChangeCachedPlanOutputPartitioning": "true",
    "spark.sql.sources.bucketing.autoBucketedScan.enabled": "false",
}
"""What lets Spark compute rows that are persisted in the session itself: else it makes another one each time, for which
executors keep the session's artifacts once more, half a gigabyte."""


@dataclass
class _Shipped:
    """A broadcast that is kept, and how many need it now."""

    parcel: _Broadcast
    users: int = 0


_kept: dict[tuple[str, str], _Shipped] = {}
"""The broadcasts of an application, by its id and their names: the last one, and those that are in use."""

_lock = threading.Lock()

_sent: WeakKeyDictionary[SparkSession, set[str]] = WeakKeyDictionary()
"""The artifacts that a session has: it keeps them to its end, and half a gigabyte need not travel again."""


def context(spark: SparkSession) -> Any | None:
    """Return the session's SparkContext, or None where there is none (Spark Connect, Databricks serverless)."""
    return getattr(spark, "sparkContext", None)


@contextmanager
def described(spark: SparkSession, text: str) -> Iterator[None]:
    """Say in Spark's UI what this thread's jobs are for, for the time of a `with`; without a SparkContext, as a tag."""
    spark_context = context(spark)
    if spark_context is None:
        tag = text.replace(",", ";")  # a tag holds no comma
        spark.addTag(tag)
        try:
            yield
        finally:
            spark.removeTag(tag)
        return
    before = spark_context.getLocalProperty(_DESCRIPTION)
    spark_context.setJobDescription(text)
    try:
        yield
    finally:
        spark_context.setLocalProperty(_DESCRIPTION, before)


@contextmanager
def shipped(spark: SparkSession, flat: NDArray[Any], name: str) -> Iterator[Parcel]:
    """Send an array of weights to the executors under a name that stands for its content, for the time of a `with`.

    What was sent last stays there: the next batch of a stream, or the next cell of a notebook, has it at once.
    """
    spark_context = context(spark)
    flat = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    kind = flat.dtype.str
    if spark_context is not None:
        with _lock:
            key = (spark_context.applicationId, name)
            for other in [other for other, one in _kept.items() if other != key and not one.users]:
                with suppress(Exception):  # its application may have ended
                    _kept.pop(other).parcel.blob.destroy()
            if key not in _kept:
                _kept[key] = _Shipped(_Broadcast(name, kind, spark_context.broadcast(_Blob(flat))))
            shipped = _kept[key]
            shipped.users += 1
        try:
            yield shipped.parcel
        finally:
            with _lock:
                shipped.users -= 1
        return
    if name not in _sent.setdefault(spark, set()):
        for setting, value in _SHARED.items():
            with suppress(PySparkException):  # a session may refuse: then it has the copies
                spark.conf.set(setting, value)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, name)
            flat.tofile(path)
            spark.addArtifacts(path, file=True)
        _sent[spark].add(name)
    yield _Artifact(name, kind)


def column(spark: SparkSession, name: str, values: Iterable[str]) -> DataFrame:
    """Return some texts, each once, as a column that whatever is joined with it has on every executor."""
    return F.broadcast(spark.createDataFrame([(value,) for value in sorted(values)], f"{name} string"))


class Value:
    """A small value that is sent inside the task, where there is no broadcast."""

    def __init__(self, value: Any) -> None:
        self.value = value


def shared(spark: SparkSession, value: Any) -> Any:
    """Return something picklable whose `.value` is the value on every worker: a broadcast, where there are such."""
    spark_context = context(spark)
    return Value(value) if spark_context is None else spark_context.broadcast(value)
