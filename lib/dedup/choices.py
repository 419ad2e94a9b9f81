"""What other votes and other precisions would find: so that they can be chosen knowing what they cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dedup import limits, tails
from dedup.distances import METRICS
from dedup.limits import Measured

PRECISIONS = (0.9, 0.99, 0.999, 0.9999)


@dataclass(frozen=True)
class Choice:
    """One way to choose, and what it finds."""

    votes: int
    precision: float
    asked: bool  #: whether it is the one that was asked for
    poll: float  #: the share of all copies that the poll finds, every edit counting alike
    best: str  #: the metric that finds most alone, for as many false pairs
    alone: float  #: what it finds


def choices(measured: Measured, precision: float, votes: int, duplicates: float) -> list[Choice]:
    """Return every number of votes at the asked precision, and several precisions with the asked votes."""
    different = ~limits.natural(measured)
    fitted = limits.metric_tails(measured, different)
    copies = measured.copies[~np.isnan(measured.copies).any(axis=(1, 2))]
    wanted = {(number, precision) for number in range(1, len(METRICS) + 1)}
    wanted |= {(votes, one) for one in PRECISIONS}
    found = []
    for number, one in sorted(wanted):
        rate = tails.target(measured.images, one, duplicates)
        own = np.array([tails.threshold(fit, rate) for fit in fitted])
        polled = limits.score_tails(measured, different, own, number)
        if len(polled) == 0:
            continue
        poll = limits.score(copies, own, number) <= tails.threshold(polled, rate)
        alone = dict(zip(METRICS, (copies <= own).mean(axis=(0, 1)).tolist(), strict=True))
        best = max(METRICS, key=lambda name: alone[name])
        found.append(Choice(number, one, (number, one) == (votes, precision), float(poll.mean()), best, alone[best]))
    return found
