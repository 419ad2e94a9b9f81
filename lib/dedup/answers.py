"""A question from end to end: words to queries, queries to results, results to a table and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pyspark.sql import SparkSession

from dedup import delivery, formats, images, progress, queries, report, results, rounds, storage, tables, views
from dedup.distances import DEFAULT_P, METRICS
from dedup.errors import Reject, UsageError
from dedup.focus import Focus
from dedup.models import Chosen
from dedup.queries import Queries, Query
from dedup.report import Gallery
from dedup.views import first_views


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
    views: int = 1  #: how many views of each query are asked for: one of `views.COUNTS`
    focus: Focus = queries.ALL  #: what counts of each query
    format: str | None = None  #: of the table of results: a name of `formats.FORMATS`, None for what is there
    gallery: Gallery | None = None  #: groups of the same images, to be shown under the answers


@dataclass(frozen=True)
class Answered:
    """What came of a question."""

    queries: list[str]
    rejects: list[tuple[str, Reject]]  #: files that were asked about and are no images
    rows: dict[str, list[dict[str, Any]]]  #: results by query, by rank
    page: str  #: the location of report.html
    computed: int  #: queries that went through the network; the table knew the others
    notes: list[str]  #: what the reader must know before trusting the answer
    views: int = 1  #: how many views of each query were asked for


def ask(spark: SparkSession, question: Question, chosen: Chosen) -> Answered:
    """Answer a question, and leave the table of results and the page.

    Parameters
    ----------
    question
        What is asked.
    chosen
        The model of the table of features; the network is loaded only when a query must go through it.

    Raises
    ------
    UsageError
        If a query is no image, a box is not on it, the report cannot be written, or another query writes there.
    """
    results.check(question.top, question.p, question.metrics)
    views.require(question.views)
    location = formats.located(question.features)
    folder = formats.folder(question.report)
    storage.require_writable(folder)
    formats.begin(folder, question.format)
    found, rejects, asked, part = tables.steadily(partial(_poll, spark, location, question, chosen))
    tables.tidy(question.report, "results")
    page = f"{question.report.rstrip('/')}/report.html"
    question = replace(question, notes=[*question.notes, *filter(None, [chosen.made.note])])
    with progress.step(spark, "query: page"):
        small = report.thumbnails(tables.read(spark, question.report, "results"))
        rows = _rows(spark, question.report, asked.names, part)
        storage.write(page, _page(question, chosen.made.model, found, rows, small).encode())
    return Answered(list(asked.names), rejects, rows, page, asked.computed, question.notes, question.views)


def _poll(
    spark: SparkSession, location: str, question: Question, chosen: Chosen
) -> tuple[list[Query], list[tuple[str, Reject]], Queries, str]:
    """Leave the table of results; return the queries, the files that are none, their vectors, and the table's part."""
    with delivery.described(spark, "query: look up"):  # files are many, or few: what is read of them is shown there
        again = question.views > 1 or bool(question.focus)
        found, rejects = queries.collect(spark, location, question.asked, question.focus, again)
    with progress.step(spark, "query: vectors"):
        asked = queries.vectors(spark, location, found, chosen.made, chosen.network, question.views, question.focus)
    voted = results.results(spark, location, chosen.made, asked, question.top, question.p, question.metrics)
    with rounds.held(voted), progress.step(spark, "query: poll"):
        named = results.with_paths(voted, images.inventory(spark, location))
        return found, rejects, asked, tables.replace(named, question.report, "results")


def _rows(spark: SparkSession, folder: str, names: Sequence[str], part: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of the table of results, which are of one part, by query; queries without results too.

    Raises
    ------
    UsageError
        If another query has left its own there meanwhile.
    """
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for row in tables.read(spark, folder, "results").orderBy("query", "rank").collect():
        if row["part"] != part:
            raise UsageError(f"{folder}: another query has put its answer there: let each have a --report of its own")
        rows[row["query"]].append(row.asDict())
    return rows


def _page(
    question: Question,
    model: str,
    found: list[Query],
    rows: dict[str, list[dict[str, Any]]],
    small: dict[str, str],
) -> str:
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
    if question.views > 1:
        facts["Views of each query"] = ", ".join(first_views(question.views))
    for name, boxes in (("Only this counts", question.focus.on), ("This does not count", question.focus.off)):
        if boxes:
            facts[name] = "; ".join(box.text for box in boxes)
    answers = [report.Answer(one.name, one.thumbnail or small.get(one.sha256), rows[one.name]) for one in found]
    focused = bool(question.focus)
    made = report.Report(question.title, facts, question.notes, question.metrics, answers, small, focused=focused)
    if question.gallery:
        small |= question.gallery.thumbnails
        made = replace(made, groups=question.gallery.largest)
    return report.render(made)
