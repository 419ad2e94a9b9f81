"""What was measured of copies and of different images becomes thresholds, and how well they work.

docs/calibration.md has the formulas. Pure arrays, no Spark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from dedup import tails
from dedup.distances import METRICS
from dedup.edits import EDITS
from dedup.errors import UsageError
from dedup.tails import Tails

Array = NDArray[np.float64]

MILD = ("re-encoded", "small and re-encoded", "resized")
"""Edits that change nothing to see: what is as near to an image as they are is its natural copy."""

RANKS = 40
"""So many of the nearest different images of each image are fitted: few, as what happens near 0 counts."""

LEVEL = 0.95
"""The probability of every interval."""

DUPLICATES = 0.01
"""How many true pairs are expected for each image, where nobody says."""

_ROUNDS = 1000
_SEED = 0
_FEW = 10
_MOST = len(METRICS) // 2 + 1


@dataclass(frozen=True)
class Measured:
    """Distances of a sample of images. The last axis of every array are the metrics."""

    images: int  #: different images in the lake
    near: Array  #: shape (images of the sample, neighbours, metrics), filled up by inf
    named: NDArray[np.bool_]  #: whether a neighbour is in the list of the metric's nearest
    copies: Array  #: shape (images of the sample, edits, metrics); NaN where an image could not be read


@dataclass(frozen=True)
class Interval:
    """A number with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Alone:
    """A metric that decides alone, for as many false pairs as the poll."""

    within: Interval  #: its threshold
    dimension: float  #: the median local intrinsic dimension
    effective: float  #: from how many images of the sample the rate at the threshold effectively comes


@dataclass(frozen=True)
class Recall:
    """The share of copies that are found, of one kind of edit or of all."""

    copies: int
    poll: Interval
    alone: dict[str, Interval]  #: by metric


@dataclass(frozen=True)
class Calibration:
    """Thresholds, and all that is known of them."""

    images: int  #: different images in the lake
    sample: int
    unread: int  #: images of the sample that could not be read any more
    natural: int  #: neighbours that were taken for natural copies of their image
    copied: int  #: images of the sample that have natural copies
    crowded: int  #: images left out because too few of their neighbours are no copies
    precision: float
    duplicates: float
    votes: int
    rate: float  #: the share of pairs of different images that may be taken for near
    alone: dict[str, Alone]  #: by metric
    factor: Interval  #: of the poll: its thresholds are so many times those of the metrics alone
    effective: float  #: from how many images the rate of the poll effectively comes
    recall: dict[str, Recall]  #: by edit
    overall: Recall  #: every edit counts alike; intervals from drawing the images again
    best: str  #: the metric that finds most copies alone
    gain: Interval  #: recall of the poll less that of the best metric

    @property
    def within(self) -> dict[str, float]:
        """Return the thresholds of the poll."""
        return {name: self.factor.value * alone.within.value for name, alone in self.alone.items()}


def natural(measured: Measured) -> NDArray[np.bool_]:
    """Return which neighbours are natural copies, shape (images of the sample, neighbours).

    By most metrics they are as near to their image as the farthest of its own mild copies; where those could not be
    made, as the median of the others' farthest.
    """
    farthest = measured.copies[:, [list(EDITS).index(edit) for edit in MILD]].max(axis=1)
    known = ~np.isnan(farthest).any(axis=1)
    farthest = np.where(known[:, None], farthest, np.median(farthest[known], axis=0))
    near = np.isfinite(measured.near) & (measured.near <= farthest[:, None, :])
    return np.asarray(near.sum(axis=2) >= _MOST)


def score(distances: Array, within: Array, votes: int) -> Array:
    """Return by how much thresholds (metrics,) must be widened for a pair to be near, from (..., metrics) to (...).

    >>> float(score(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.full(5, 2.0), 3))
    1.5
    """
    ranked: Array = np.partition(distances / within, votes - 1, axis=-1)[..., votes - 1]
    return ranked


def metric_tails(measured: Measured, different: NDArray[np.bool_]) -> list[Tails]:
    """Return for each metric the tails of the distances to different images."""
    counts = (~different & np.isfinite(measured.near).any(axis=2)).sum(axis=1)
    lists = np.where(measured.named & different[:, :, None], measured.near, np.inf)
    return [tails.fit(_trimmed(lists[:, :, i]), measured.images - counts) for i in range(len(METRICS))]


def score_tails(measured: Measured, different: NDArray[np.bool_], within: Array, votes: int) -> Tails:
    """Return the tails of the score of pairs of different images, as far as their lists are complete.

    A pair in no metric's list is farther than the last of each list, so its score is at least the score of these.
    """
    counts = (~different & np.isfinite(measured.near).any(axis=2)).sum(axis=1)
    last = np.where(measured.named, measured.near, -np.inf).max(axis=1, initial=-np.inf)
    complete = score(last, within, votes)
    scores = score(measured.near, within, votes)
    scores = np.where(different & (scores <= complete[:, None]), scores, np.inf)
    return tails.fit(_trimmed(scores), measured.images - counts)


def _trimmed(lists: Array) -> Array:
    """Return lists in ascending order, as far as they are fitted."""
    return np.sort(lists, axis=1)[:, :RANKS]


def calibrate(measured: Measured, precision: float, votes: int, duplicates: float) -> Calibration:
    """Return thresholds for the asked precision, and how many copies they find.

    Raises
    ------
    UsageError
        If no image could be read, or none has enough neighbours that are no copies of it.
    """
    read = ~np.isnan(measured.copies).any(axis=(1, 2))
    if not read.any():
        raise UsageError("none of the images of the sample can be read: give the table that has them by --table")
    found = natural(measured)
    fitted = metric_tails(measured, ~found)
    sample = len(measured.near)
    if min(map(len, fitted)) == 0:
        raise UsageError(
            f"all {sample} images of the sample have only copies around them: no different images to measure"
        )
    rate = tails.target(measured.images, precision, duplicates)
    alone = {name: _alone(fit, rate) for name, fit in zip(METRICS, fitted, strict=True)}
    own = np.array([one.within.value for one in alone.values()])
    polled = score_tails(measured, ~found, own, votes)
    if len(polled) == 0:
        raise UsageError(
            f"--votes {votes}: too few neighbours are complete under so many metrics; ask for another number"
        )
    factor = _threshold(polled, rate)
    by_edit, overall, gain = _recalls(measured.copies[read], own, factor.value, votes)
    best = max(METRICS, key=lambda name: overall.alone[name].value)
    return Calibration(
        images=measured.images,
        sample=sample,
        unread=int((~read).sum()),
        natural=int(found.sum()),
        copied=int(found.any(axis=1).sum()),
        crowded=sample - len(polled) - int((~read & ~np.isfinite(measured.near).any(axis=(1, 2))).sum()),
        precision=precision,
        duplicates=duplicates,
        votes=votes,
        rate=rate,
        alone=alone,
        factor=factor,
        effective=tails.effective(polled, factor.value),
        recall=by_edit,
        overall=overall,
        best=best,
        gain=gain[best],
    )


def _threshold(fit: Tails, rate: float) -> Interval:
    return Interval(tails.threshold(fit, rate), *tails.bootstrap(fit, rate, _ROUNDS, _SEED, LEVEL))


def _alone(fit: Tails, rate: float) -> Alone:
    within = _threshold(fit, rate)
    return Alone(within, float(np.median(fit.dimension())), tails.effective(fit, within.value))


def _recalls(
    copies: Array, own: Array, factor: float, votes: int
) -> tuple[dict[str, Recall], Recall, dict[str, Interval]]:
    """Return recall by edit and over all, and by metric how much more the poll finds."""
    poll = score(copies, own, votes) <= factor  # (images, edits)
    alone = copies <= own  # (images, edits, metrics)
    by_edit = {
        edit: Recall(
            len(poll),
            share(poll[:, i]),
            {name: share(alone[:, i, number]) for number, name in enumerate(METRICS)},
        )
        for i, edit in enumerate(EDITS)
    }
    mine, others = poll.mean(axis=1), alone.mean(axis=1)  # (images,), (images, metrics)
    overall = Recall(poll.size, _mean(mine), {name: _mean(others[:, number]) for number, name in enumerate(METRICS)})
    return by_edit, overall, {name: _mean(mine - others[:, number]) for number, name in enumerate(METRICS)}


def share(found: NDArray[np.bool_]) -> Interval:
    """Return the share of copies found, with the interval of Clopper and Pearson."""
    interval = binomtest(int(found.sum()), len(found)).proportion_ci(LEVEL, method="exact")
    return Interval(float(found.mean()), float(interval.low), float(interval.high))


def _mean(values: Array) -> Interval:
    """Return the mean of a number for each image, with the interval of drawing the images again."""
    count = len(values)
    again = tails.drawn(count, _ROUNDS, _SEED) @ values / count
    return Interval(float(values.mean()), *tails.between(again, LEVEL))


def many_natural(natural: int, copied: int, sample: int, duplicates: float, so: str) -> list[str]:
    """Return a note on natural copies, if more were found than are likely.

    Parameters
    ----------
    natural
        The neighbours that were taken for natural copies.
    copied
        The images that have such neighbours.
    sample
        All images that were looked at.
    duplicates
        How many true pairs are expected for each image.
    so
        What it means if these are different images.
    """
    expected = 2 * duplicates * sample
    if natural <= max(3, 3 * expected):
        return []
    return [
        f"{copied:,} of {sample:,} images have {natural:,} neighbours as near as their own mild copies; at "
        f"{duplicates:g} true pairs an image about {expected:.0f} were expected. They were taken for natural copies. "
        f"If they are different images, {so}."
    ]


def notes(calibration: Calibration) -> Sequence[str]:
    """Return what a reader must know before trusting the thresholds."""
    sample = f"{calibration.sample:,}"
    natural, copied, so = calibration.natural, calibration.copied, "the thresholds are too wide"
    found = many_natural(natural, copied, calibration.sample, calibration.duplicates, so)
    if calibration.crowded > calibration.sample / 10:
        found.append(
            f"{calibration.crowded:,} of {sample} images were left out: too few of their neighbours are farther than "
            "their own mild copies. The thresholds say nothing about such images."
        )
    if calibration.effective < _FEW:
        found.append(
            f"The rate of false pairs comes effectively from {calibration.effective:.1f} images: take a larger sample."
        )
    if calibration.unread:
        found.append(f"{calibration.unread:,} of {sample} images could not be read, so there are no copies of them.")
    return found
