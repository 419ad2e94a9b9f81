"""The page of a calibration: thresholds, what they find, and the distances that they were made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from dedup import limits, page
from dedup.choices import Choice
from dedup.distances import METRICS
from dedup.drawings import histogram
from dedup.limits import Calibration, Interval, Measured
from dedup.thresholds import Thresholds
from dedup.views import first_views

COPIES, NEAREST, CHANCE = "copies", "nearest", "chance"
"""The kinds of pairs: an image and its copy, an image and its nearest different ones, two images taken at random."""

_SAYS = "Histogram of {} for copies, for nearest different images and for images taken at random"


@dataclass(frozen=True)
class Verdict:
    """The poll against the best metric alone, in words."""

    sentence: str
    worse: list[str]  #: edits of which the metric alone finds more


def verdict(calibration: Calibration) -> Verdict:
    """Say whether the poll wins."""
    best, gain = calibration.best, calibration.gain
    by = f"{100 * gain.value:+.1f} points, 95 % interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f}"
    if gain.low > 0:
        sentence = f"The poll finds more copies than {best}, the best single metric ({by})."
    elif gain.high < 0:
        sentence = f"The poll finds fewer copies than {best}, the best single metric ({by})."
    else:
        sentence = f"Between the poll and {best}, the best single metric, this sample shows no clear difference ({by})."
    worse = [edit for edit, recall in calibration.recall.items() if recall.alone[best].value > recall.poll.value]
    return Verdict(sentence, worse)


def drawings(calibration: Calibration, measured: Measured, chance: NDArray[np.float64]) -> dict[str, Markup]:
    """Return the histograms of every metric, and of the score.

    Parameters
    ----------
    calibration
        What came of it.
    measured
        What it was made from.
    chance
        The distances of pairs of images taken at random, shape (pairs, metrics).
    """
    different = np.where(limits.natural(measured)[:, :, None], np.inf, measured.near)
    kinds = {CHANCE: chance, NEAREST: different, COPIES: measured.copies}
    found = {}
    for number, (name, alone) in enumerate(calibration.alone.items()):
        marks = {"poll": calibration.within[name], "alone": alone.within.value}
        found[name] = histogram(
            {kind: values[..., number] for kind, values in kinds.items()}, marks, _SAYS.format(name)
        )
    within = np.array(list(calibration.within.values()))
    scores = {kind: limits.score(values, within, calibration.votes) for kind, values in kinds.items()}
    return found | {"score": histogram(scores, {"poll": 1.0}, _SAYS.format("the score"))}


def render(
    thresholds: Thresholds,
    calibration: Calibration,
    notes: Sequence[str],
    measured: Measured,
    chance: NDArray[np.float64],
    others: Sequence[Choice],
) -> str:
    """Return the page. Whatever comes from a user is escaped."""
    return page.fill(
        "calibration.html",
        thresholds=thresholds,
        found=calibration,
        facts=_facts(thresholds, calibration),
        notes=notes,
        verdict=verdict(calibration),
        choices=others,
        drawings=drawings(calibration, measured, chance),
        between=_between,
    )


def _facts(thresholds: Thresholds, calibration: Calibration) -> dict[str, str]:
    pairs = calibration.images * (calibration.images - 1) // 2
    true_pairs = calibration.duplicates * calibration.images
    return {
        "Model": thresholds.model,
        "Images": f"{calibration.images:,} different ones, {pairs:,} pairs",
        "Sample": f"{calibration.sample:,} images, each altered in {len(calibration.recall)} ways",
        "Views of each": ", ".join(first_views(thresholds.views)),
        "Precision asked for": f"{calibration.precision:g}, if there are {calibration.duplicates:g} true pairs "
        f"an image, {true_pairs:,.3g} in all",
        "False pairs allowed": f"{calibration.rate * pairs:.3g} in the whole lake, {calibration.rate:.2g} of all pairs",
        "Near means": f"at least {calibration.votes} of {len(METRICS)} distances within their thresholds",
        "Left out": f"{calibration.natural:,} neighbours of {calibration.copied:,} images as natural copies; "
        f"{calibration.crowded:,} images",
    }


def _between(interval: Interval) -> str:
    return f"{page.short(interval.low)} to {page.short(interval.high)}"
