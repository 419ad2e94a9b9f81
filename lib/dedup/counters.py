"""What a job counted: sums that add up, as one table for people and as JSON for machines. docs/observability.md."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dedup import storage
from dedup.errors import Outage, UsageError
from dedup.lines import masked

if TYPE_CHECKING:  # no job waits for what others need
    from dedup.answers import Answered
    from dedup.calibration import Calibrated
    from dedup.evaluation import Evaluated
    from dedup.extraction import Extracted
    from dedup.images import Ingested
    from dedup.summary import Deduplicated

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sum:
    """A count, and the counts that it is made of, if there are such.

    Raises
    ------
    RuntimeError
        If they do not add up.
    """

    name: str
    total: int
    parts: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.parts and sum(self.parts.values()) != self.total:
            raise RuntimeError(f"the counts do not add up: {self.total} {self.name}, but {dict(self.parts)}")

    def __str__(self) -> str:
        made_of = " + ".join(f"{count:,} {name}" for name, count in self.parts.items())
        return self.name + (f" = {made_of}".replace("+ -", "- ") if made_of else "")


@dataclass(frozen=True)
class Counts:
    """What a step counted."""

    sums: list[Sum]
    rejects: Mapping[str, int]  #: by reason, those that the sums call rejected
    worked: int  #: what the time went into
    unit: str = "images"


def ingested(done: Ingested) -> Counts:
    """Return the counts of an ingest."""
    read = done.read - done.failed
    sums = [
        Sum("files", done.files, {"in the table": done.kept, "rejected": done.rejected}),
        Sum("in the table", done.kept, {"read": read, "known": done.known} | _outdated(done.outdated)),
        Sum("to read", done.read, {"new": done.new, "changed": done.changed, "tried again": done.again}),
        Sum("gone", done.gone),
    ]
    return Counts(sums, done.reasons, read)


def extracted(done: Extracted, rejects: Mapping[str, int]) -> Counts:
    """Return the counts of an extract; its rejects by reason are read from their table."""
    sums = [
        Sum("files", done.files, {"with features": done.described, "rejected": done.rejected}),
        Sum("contents", done.contents, {"computed": done.computed, "known": done.known} | _outdated(done.outdated)),
    ]
    if done.gone is not None:
        sums.append(Sum("gone", done.gone))
    return Counts(sums, rejects, done.computed)


def _outdated(count: int) -> dict[str, int]:
    """Return the part of a sum that says what a stream counted, and is no more."""
    return {"outdated": -count} if count else {}


def answered(done: Answered) -> Counts:
    """Return the counts of a query."""
    asked, rejected = len(done.queries), len(done.rejects)
    sums = [
        Sum("asked", asked + rejected, {"queries": asked, "rejected": rejected}),
        Sum("queries", asked, {"computed": done.computed, "known": asked - done.computed}),
        Sum("results", sum(map(len, done.rows.values()))),
    ]
    reasons = [str(reject.reason) for _, reject in done.rejects]
    return Counts(sums, {reason: reasons.count(reason) for reason in sorted(set(reasons))}, asked, "queries")


def calibrated(done: Calibrated) -> Counts:
    """Return the counts of a calibration."""
    found = done.calibration
    altered = found.sample - found.unread
    sums = [
        Sum("different images", found.images),
        Sum("in the sample", found.sample, {"altered": altered, "not readable": found.unread}),
    ]
    return Counts(sums, {}, altered)


def evaluated(done: Evaluated) -> Counts:
    """Return the counts of an evaluation."""
    altered = done.originals - done.unread
    sums = [
        Sum("different images", done.images),
        Sum("asked for", done.originals, {"with copies": altered, "not readable": done.unread}),
    ]
    return Counts(sums, {}, altered)


def deduplicated(done: Deduplicated) -> Counts:
    """Return the counts of a deduplication."""
    counts, others = done.counts, done.others
    files = {name: counts[name] for name in ("keep", "drop", "review")} | {"rejected": others.rejected}
    if others.shared:
        files["shared"] = others.shared
    by_method = {"of equal bytes": "bytes", "of equal pixels": "pixels", "near": "near"}
    sums = [
        Sum("files", done.files, files),
        Sum("drop", counts["drop"], {name: counts[method] for name, method in by_method.items()}),
        Sum("different images", done.exact_sets, {"compared": done.compared, "known": done.exact_sets - done.compared}),
        Sum("groups", counts["groups"]),
        Sum("pairs measured", done.found.measured),
        Sum("bytes saved", counts["saved"]),
    ]
    if done.turned:
        made = {"made": done.turned.made, "made before": done.turned.known, "not readable": done.turned.lacking}
        sums.insert(3, Sum("seen in views", done.turned.contents, made))
    return Counts(sums, others.reasons, done.compared)


@dataclass
class Step:
    """One of the things that a job does; where it follows a stream, batch by batch."""

    name: str
    write: Callable[[], None]  #: leaves the file anew
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    counts: Counts | None = None
    batches: int = 0  #: of a stream, those that did something
    worked: float = 0.0  #: how many seconds they took
    last: datetime | None = None  #: when the last of them ended

    def batch(self, counts: Counts, seconds: float) -> None:
        """Take in what a stream has counted so far, and how long its last batch took: the file says it at once."""
        self.counts, self.last = counts, datetime.now(UTC)
        self.batches += 1
        self.worked += seconds
        self.seconds = time.monotonic() - self.began
        self.write()

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield the rows of the table: a number, and what it is."""
        assert self.counts is not None, "a step that ends has counted"
        for one in self.counts.sums:
            yield f"{one.total:,}", str(one)
        if self.counts.rejects:
            rejected = Sum("rejected", sum(self.counts.rejects.values()), self.counts.rejects)
            yield f"{rejected.total:,}", str(rejected)
        yield f"{self.seconds:,.1f}", "seconds"
        yield f"{self._rate():,.1f}", f"{self.counts.unit}/s"

    def figures(self) -> dict[str, Any]:
        """Return what JSON says of it."""
        if self.counts is None:
            return {"seconds": round(self.seconds, 3)}
        counters: dict[str, int] = {}
        for one in self.counts.sums:
            counters |= {one.name: one.total, **one.parts}
        told = {
            "seconds": round(self.seconds, 3),
            "counters": {name.replace(" ", "_"): count for name, count in counters.items()},
            "rejects": dict(self.counts.rejects),
            "rates": {f"{self.counts.unit}_per_second": round(self._rate(), 3)},
        }
        if self.last:
            last = self.last.isoformat(timespec="seconds")
            told["batches"] = {"count": self.batches, "seconds": round(self.worked, 3), "last": last}
        return told

    def _rate(self) -> float:
        assert self.counts is not None
        return self.counts.worked / max(self.worked if self.last else self.seconds, 0.001)


class Record:
    """What there is to tell of one run of a job.

    Parameters
    ----------
    job
        What it is called.
    file
        Where it is told as JSON, if anywhere.

    Raises
    ------
    UsageError, Outage
        If the file cannot be written: that is said before any work.
    """

    def __init__(self, job: str, file: str | None = None) -> None:
        self._job, self._file = job, file
        self._began, self._started = time.monotonic(), datetime.now(UTC)
        self._steps: list[Step] = []
        self._lock = threading.Lock()  # a stream's batches are worked off in another thread
        self._write("running")  # as it stays where the job is killed

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Take the time of a `with`, which leaves what it counted; what is done again is numbered."""
        again = sum(step.name.partition(" ")[0] == name for step in self._steps)
        made = Step(f"{name} {again + 1}" if again else name, self._update)
        self._steps.append(made)
        try:
            yield made
        finally:
            made.seconds = time.monotonic() - made.began

    def table(self) -> list[str]:
        """Return the lines of the table of all steps, numbers below each other."""
        rows = [(step.name, list(step.rows())) for step in self._steps]
        width = max((len(number) for _, lines in rows for number, _ in lines), default=0)
        return [
            line for name, lines in rows for line in (name, *(f"  {number:>{width}} {what}" for number, what in lines))
        ]

    def done(self) -> None:
        """Leave the file of a job that did all it had to.

        Raises
        ------
        UsageError, Outage
            If it cannot be written.
        """
        self._end("done")

    def failed(self, outcome: str, error: str) -> None:
        """Leave the file of a job that did not; what is wrong with the file hides nothing of what was wrong before."""
        try:
            self._end(outcome, masked(" ".join(error.split()))[:500])
        except Exception as another:
            _log.warning("%s", another)

    def _update(self) -> None:
        """Say what was done so far; a stream goes on where that cannot be written, and its next batch tries again."""
        try:
            with self._lock:
                self._write("running")
        except (UsageError, Outage) as error:
            _log.warning("%s", error)

    def _end(self, outcome: str, error: str | None = None) -> None:
        """Say how it ended, once: no batch that is still at work says anything after that."""
        with self._lock:
            try:
                self._write(outcome, error)
            finally:
                self._file = None

    def _write(self, outcome: str, error: str | None = None) -> None:
        if self._file is None:
            return
        told = {
            "job": self._job,
            "outcome": outcome,
            "error": error,
            "started": self._started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._began, 3),
            "steps": {step.name: step.figures() for step in self._steps},
        }
        storage.write(self._file, (json.dumps(told, indent=2) + "\n").encode())
