"""The answer as a page: the query and, under it, the voted images in order. One file that needs nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
import pyarrow as pa
from pyspark.sql import DataFrame

from dedup import rounds, storage
from dedup.batches import ddl, each_row, record_batch
from dedup.distances import METRICS
from dedup.errors import Reject
from dedup.pixels import thumbnail
from dedup.queries import THUMBNAIL

_SIDE_OF_MANY = 96
_MADE = {"sha256": pa.string(), "thumbnail": pa.string()}
_MANY = 2000  # results from which a page would grow beyond tens of megabytes


@dataclass(frozen=True)
class Answer:
    """A query with its results."""

    query: str
    thumbnail: str | None  #: a data: URI
    results: list[dict[str, Any]]  #: rows of the table of results, by rank


@dataclass(frozen=True)
class Report:
    """All that the page says."""

    title: str
    facts: dict[str, str]  #: what was asked of what, in words: shown as a list
    notes: list[str]  #: what the reader must know before trusting the answer
    metrics: Sequence[str]  #: the metrics that voted
    answers: list[Answer]
    thumbnails: dict[str, str]  #: data: URIs by sha256


def _make_thumbnails(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for row in each_row(batches):
        yield record_batch([{"sha256": row["sha256"], "thumbnail": _first(row)}], _MADE)


def _first(row: dict[str, Any]) -> str | None:
    """Return the thumbnail of the first path that still has the content."""
    for path in row["paths"][:3]:
        try:
            content = storage.read(path)
            if hashlib.sha256(content).hexdigest() == row["sha256"]:
                return thumbnail(content, row["side"])
        except Reject:
            continue
    return None


def thumbnails(results: DataFrame) -> dict[str, str]:
    """Return thumbnails of the voted images by sha256, made on executors from the first path that can be read."""
    many = results.count() > _MANY
    distinct = results.groupBy("sha256").agg({"paths": "max"}).toDF("sha256", "paths")
    side = distinct.selectExpr("*", f"{_SIDE_OF_MANY if many else THUMBNAIL} as side")
    made = side.repartition(rounds.slots(side.sparkSession)).mapInArrow(_make_thumbnails, ddl(_MADE))
    return {row["sha256"]: row["thumbnail"] for row in made.collect() if row["thumbnail"]}


def render(report: Report) -> str:
    """Return the page. Whatever comes from names of files is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["short"] = _short
    template = resources.files("dedup").joinpath("report.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(report=report, all_metrics=list(METRICS))


def _short(distance: float) -> str:
    """Return a distance as people read it: `0`, `0.00412`, `1830`."""
    return f"{distance:.3g}" if abs(distance) < 1000 else f"{distance:.0f}"
