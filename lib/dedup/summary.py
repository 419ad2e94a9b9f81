"""What is asked of a deduplication, what came of it, and what is said of that: lines for a terminal, and a page."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.stats import binomtest

from dedup import keepers, report, search, views
from dedup.contents import Others
from dedup.errors import UsageError
from dedup.thresholds import Thresholds
from dedup.turned import Turned
from dedup.views import first_views


@dataclass(frozen=True)
class Request:
    """What is to be deduplicated, and how."""

    features: str  #: the location of the table of features
    output: str  #: where the pairs, the manifest and the page go
    thresholds: Thresholds
    against: str | None = None  #: the location of features that these are compared with
    views: int | None = None  #: in how many contents are compared: one of `views.COUNTS`; None: as the thresholds say
    table: str | None = None  #: the location of the table of images; None where `features` has paths that can be read
    weights: str | None = None  #: where the network's weights are now; None where the features' own words find them
    model: str | None = None  #: its id; None where the thresholds or the table say it
    way: str | None = None  #: one of search.WAYS; None to choose by size
    policy: keepers.Policy = field(default_factory=keepers.Policy)
    format: str | None = None  #: of the tables: a name of `formats.FORMATS`, None for what is there
    csv: bool = False  #: whether the manifest is written as CSV too
    title: str = "Duplicate images"

    @property
    def seen(self) -> int:
        """In how many views contents are compared."""
        return self.thresholds.views if self.views is None else self.views

    def check(self) -> None:
        """Make sure that it can be fulfilled, as far as it says so itself.

        Raises
        ------
        UsageError
            If a rule, a way of searching or a number of views is none, or the thresholds are not for so many views.
        """
        keepers.check(self.policy)
        if self.way not in {None, *search.WAYS}:
            raise UsageError(f"--search {self.way}: possible are {', '.join(search.WAYS)}")
        views.require(self.seen)
        if self.thresholds.calibrated and self.seen > self.thresholds.views:
            raise UsageError(
                f"--views {self.seen}: the thresholds were made for {self.thresholds.views}: run calibrate --views "
                f"{self.seen} first"
            )


@dataclass(frozen=True)
class Deduplicated:
    """What came of it; files = keep + drop + review + rejected + shared."""

    model: str  #: the model's id
    counts: dict[str, int]  #: of the manifest: see `manifest.check_counts`
    others: Others  #: files that are not in the manifest
    exact_sets: int  #: different images
    compared: int  #: those that this run compared with all others; the rest had been
    found: search.Found
    gallery: report.Gallery  #: what the page shows
    page: str  #: the location of the page
    turned: Turned | None = None  #: what became of views; None where contents were compared as they are

    @property
    def files(self) -> int:
        """All files of the features' location."""
        return self.counts["files"] + self.others.rejected + self.others.shared


def told(done: Deduplicated, thresholds: Thresholds) -> list[str]:
    """Return what a job says of a deduplication, beside its counts."""
    recall = done.found.recall
    way = f"search: {done.found.way}"
    if recall:
        way += (
            f"; of {recall.sample:,} images looked at again, {recall.near:,} have near ones, "
            f"and for {recall.found:,} of these it had found them all"
        )
    lines = [way, *_notes(done)]
    if not thresholds.calibrated:
        lines.append(
            f"thresholds: {thresholds.made}; they were not made with your images, so what is near is marked as review: "
            "./submit.sh calibrate makes yours"
        )
    return [*lines, f"report: {done.page}"]


def _notes(done: Deduplicated) -> list[str]:
    """Return what the reader must know of the views."""
    return [done.turned.note] if done.turned and done.turned.note else []


def page(request: Request, done: Deduplicated, near: int, hot: list[report.Hot]) -> str:
    """Return the page.

    Parameters
    ----------
    request
        What was asked.
    done
        What came of it.
    near
        How many near pairs there are in all.
    hot
        See `hot`.
    """
    facts = {
        "Features": request.features,
        "Model": done.model,
        "Different images": f"{done.exact_sets:,}, {done.compared:,} of them compared now",
        "Files stay by": ", ".join(request.policy.order),
    }
    if request.against:
        facts["Compared against"] = f"{request.against}, which has {done.others.shared:,} of these files too"
    if done.turned:
        facts["Views of each"] = ", ".join(first_views(done.turned.views))
    notes = _notes(done)
    if not request.thresholds.calibrated:
        notes.append(
            f"Thresholds are {request.thresholds.made}. They were not made with these images and their model: "
            "what is near but not exactly equal is for you to review. Calibrate first to have it decided."
        )
    made = report.Deduplication(
        title=request.title,
        facts=facts,
        notes=notes,
        rejects=done.others.rejected,
        shared=done.others.shared,
        thresholds=request.thresholds,
        search=_searched(done.found, near),
        hot=hot,
        gallery=done.gallery,
    )
    return report.render_deduplication(made)


def hot(files: DataFrame, found: search.Found) -> list[report.Hot]:
    """Name a file of each content that has very many others near to it."""
    if not found.hot:
        return []
    counts = dict(found.hot)
    chosen = files.where(F.col("sha256").isin(*counts)).groupBy("sha256").agg(F.min("path").alias("path"))
    done = "compared with those most alike"
    if found.way == search.WAYS[0]:
        done += ", then with all that were not in its group yet"
    rows = sorted(chosen.collect(), key=lambda row: (-counts[row["sha256"]], row["path"]))
    return [report.Hot(row["path"], counts[row["sha256"]], done) for row in rows]


def _searched(found: search.Found, near: int) -> report.Search:
    """Return how pairs were looked for, as the page shows it."""
    recall = found.recall
    exact = found.way == search.WAYS[0]
    if recall is None or not recall.near:
        return report.Search(exact, near, found.measured)
    interval = binomtest(recall.found, recall.near).proportion_ci(report.CONFIDENCE, method="wilson")
    share = recall.found / recall.near
    return report.Search(exact, near, found.measured, share, interval.low, interval.high, recall.near)
