"""Thresholds from a user's own images, from end to end: a sample, its copies and neighbours, thresholds, a page."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
from pyspark.sql import SparkSession

from dedup import (
    calibration_page,
    choices,
    copies,
    formats,
    images,
    limits,
    neighbours,
    results,
    storage,
    views,
)
from dedup.distances import DEFAULT_P, METRICS
from dedup.edits import EDITS
from dedup.errors import UsageError
from dedup.limits import Calibration, Measured
from dedup.model import Model
from dedup.models import Made
from dedup.thresholds import DEFAULT_VOTES, Thresholds


@dataclass(frozen=True)
class Wish:
    """What is asked for."""

    features: str  #: the location of the table of features
    output: str  #: the folder for thresholds.json, calibration.json and calibration.html
    table: str | None = None  #: the location of the table of images; None where `features` has paths that can be read
    sample: int = 500  #: how many images are altered, and have their neighbours looked at
    precision: float = 0.999  #: of the pairs that are called near in the whole lake, the share that shall be right
    votes: int = DEFAULT_VOTES
    duplicates: float = limits.DUPLICATES  #: true pairs for each image of the lake
    p: float = DEFAULT_P
    views: int = 1  #: in how many views images are compared: one of `views.COUNTS`

    def check(self) -> None:
        """Make sure that it can be fulfilled.

        Raises
        ------
        UsageError
            If a number is out of range.
        """
        results.check(1, self.p, list(METRICS))
        if self.sample < 1:
            raise UsageError(f"--sample {self.sample}: at least 1 image must be looked at")
        if not 0 < self.precision < 1:
            raise UsageError(f"--precision {self.precision:g}: it must be more than 0 and less than 1")
        if not 1 <= self.votes <= len(METRICS):
            raise UsageError(f"--votes {self.votes}: possible are 1 to {len(METRICS)}")
        views.require(self.views)
        if not 0 < self.duplicates < np.inf:
            raise UsageError(f"--duplicates {self.duplicates:g}: it must be more than 0, and finite")


@dataclass(frozen=True)
class Calibrated:
    """What came of it."""

    thresholds: Thresholds
    calibration: Calibration
    notes: list[str]
    page: str  #: the location of calibration.html


def calibrate(spark: SparkSession, wish: Wish, made: Made, network: Model) -> Calibrated:
    """Measure, and leave thresholds.json, calibration.json and calibration.html.

    Raises
    ------
    UsageError
        If the lake has too few different images, none of them can be read, or what is asked for cannot be.
    """
    wish.check()
    storage.require_writable(formats.folder(wish.output))
    location, output = formats.located(wish.features), wish.output.rstrip("/")
    table = formats.located(wish.table) if wish.table else location
    images.require_finished(table)
    sample, altered = copies.sampled(
        spark, location, table, made, network, wish.sample, wish.p, "calibrate", wish.views
    )
    measured = Measured(sample.images, sample.distance, sample.named, altered)
    found = limits.calibrate(measured, wish.precision, wish.votes, wish.duplicates)
    thresholds = Thresholds(made.model, wish.votes, found.within, _made(found, made), wish.p, wish.views)
    notes = [*limits.notes(found), *filter(None, [made.note])]
    others = choices.choices(measured, wish.precision, wish.votes, wish.duplicates)
    page = calibration_page.render(thresholds, found, notes, measured, neighbours.pairs(sample, wish.p), others)
    storage.write(f"{output}/calibration.html", page.encode())
    figures = {
        "model": made.model,
        "weights": made.weights,
        "p": wish.p,
        "views": wish.views,
        "notes": notes,
        **asdict(found),
    }
    figures["choices"] = [asdict(choice) for choice in others]
    storage.write(f"{output}/calibration.json", (json.dumps(figures, indent=2) + "\n").encode())
    thresholds.save(f"{output}/thresholds.json")  # the last: where it is, the others are
    return Calibrated(thresholds, found, notes, f"{output}/calibration.html")


def told(done: Calibrated) -> list[str]:
    """Return what a job says of a calibration."""
    return [
        f"thresholds from {done.thresholds.made}",
        *[f"  {metric:10} {within:.5g}" for metric, within in done.thresholds.within.items()],
        f"copies found by {done.thresholds.votes} votes:",
        *[f"  {edit:22} {done.calibration.recall[edit].poll.value:.2f}" for edit in EDITS],
        f"report: {done.page}",
    ]


def _made(found: Calibration, made: Made) -> str:
    network = made.weights if made.recipe else f"{made.weights} weights"
    return (
        f"{found.sample:,} of {found.images:,} different images under {network}, altered in {len(EDITS)} ways, for a "
        f"precision of {found.precision:g} at {found.duplicates:g} true pairs an image"
    )
