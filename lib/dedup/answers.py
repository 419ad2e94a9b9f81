"""A question from end to end: words to queries, queries to results, results to a table and a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pyspark.sql import SparkSession

from dedup import features, images, queries, report, results, rounds, storage, tables
from dedup.distances import DEFAULT_P, METRICS
from dedup.errors import Reject, UsageError
from dedup.model import Model
from dedup.report import Gallery


@dataclass(frozen=True)
class Question:
    """What is asked, and how."""

    features: str  #: the location of the table of features
    asked: list[str]  #: files, folders, patterns, hashes or paths
    report: str  #: the folder for the table `results` and report.html
    top: int = results.DEFAULT_TOP
    p: float = DEFAULT_P
    metrics: Sequence[str] = tuple(METRICS)
    title: str = "Which images are like this one?"
    notes: list[str] = field(default_factory=list)
    gallery: Gallery | None = None  #: groups of the same images, to be shown under the answers


@dataclass(frozen=True)
class Answered:
    """What came of a question."""

    queries: list[str]
    rejects: list[tuple[str, Reject]]  #: files that were asked about and are no images
    rows: dict[str, list[dict[str, Any]]]  #: results by query, by rank
    page: str  #: the location of report.html


def ask(spark: SparkSession, question: Question, load: Callable[[], Model], explicit: bool) -> Answered:
    """Answer a question, and leave the table of results and the page.

    Parameters
    ----------
    question
        What is asked.
    load
        Loads the model; called only when a query must go through the network, when it was asked for, or when
        the table has several.
    explicit
        Whether the user named the model: then it must be the table's even if no network is needed.

    Raises
    ------
    UsageError
        If there are no such features, they were made with another model or are incomplete, or a query is no image.
    """
    results.check(question.top, question.p, question.metrics)
    location = storage.absolute(question.features)
    tables.require(location, "features")
    storage.require_writable(question.report)
    made = {entry.model: entry for entry in features.models(location)}
    if not made:
        raise UsageError(f"{location}: no word of the model that made the features: run extract again")
    loaded: list[Model] = []

    def model() -> Model:
        if not loaded:
            loaded.append(_checked(load(), made, location))
        return loaded[0]

    only = next(iter(made)) if len(made) == 1 and not explicit else model().id
    images.require_finished(location)
    made[only].require_complete(location)
    found, rejects = queries.collect(spark, location, question.asked)
    asked = queries.vectors(spark, location, found, only, model)
    voted = results.results(spark, location, made[only], asked, question.top, question.p, question.metrics)
    with rounds.held(voted):
        tables.replace(results.with_paths(voted, images.inventory(spark, location)), question.report, "results")
    tables.tidy(question.report, "results")
    rows = _rows(spark, question.report, asked.names)
    page = f"{question.report.rstrip('/')}/report.html"
    storage.write(page, _page(spark, question, only, found, rows).encode())
    return Answered(list(asked.names), rejects, rows, page)


def _checked(model: Model, made: dict[str, features.Made], location: str) -> Model:
    if model.id not in made:
        there = ", ".join(f"{entry.model} (--weights {entry.weights})" for entry in made.values())
        raise UsageError(f"{location} was made with {there}, not with {model.id} (--weights {model.weights.source})")
    return model


def _rows(spark: SparkSession, folder: str, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of the table of results by query, queries without results too."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for row in tables.read(spark, folder, "results").orderBy("query", "rank").collect():
        rows[row["query"]].append(row.asDict())
    return rows


def _page(
    spark: SparkSession,
    question: Question,
    model: str,
    found: list[queries.Query],
    rows: dict[str, list[dict[str, Any]]],
) -> str:
    small = report.thumbnails(tables.read(spark, question.report, "results"))
    facts = {
        "Features": question.features,
        "Model": model,
        "Queries": f"{len(rows):,}",
        "Results": f"{sum(map(len, rows.values())):,}",
        "Each metric names": f"its nearest {question.top}",
        "Metrics": ", ".join(
            f"{name} (p = {question.p:g})" if name == "minkowski" else name for name in question.metrics
        ),
    }
    answers = [report.Answer(one.name, one.thumbnail or small.get(one.sha256), rows[one.name]) for one in found]
    made = report.Report(question.title, facts, question.notes, question.metrics, answers, small)
    if question.gallery:
        small |= question.gallery.thumbnails
        made = replace(made, groups=question.gallery.largest)
    return report.render(made)
