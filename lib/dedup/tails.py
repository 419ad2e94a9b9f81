"""How distances to different images thin out towards 0: what is rarer than can be counted is computed from a fit.

docs/calibration.md has the formulas, their sources, and what they cannot know. Pure arrays, no Spark.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CENSORED = 5
"""So many of the nearest of each image may be its natural copies: of them is used only that they are near."""

LEAST_FREE = 10
"""An image with fewer distances that are used one by one says too little."""

_GRID = 2048
_TINY = 1e-300


@dataclass(frozen=True)
class Tails:
    """For each image the share of all different images within a distance of it; arrays of shape (images,).

    Near 0 the share grows like a power of the distance. The power, the local intrinsic dimension, is not kept: the
    shares are unbiased without it.
    """

    reach: Array  #: the distance of the farthest neighbour that was fitted
    share: Array  #: the share of images within `reach`
    total: Array  #: sum of log(reach / distance) over the neighbours, the censored ones at the nearest that is not
    free: Array  #: neighbours nearer than `reach` that are not censored

    def __len__(self) -> int:
        return len(self.reach)

    def within(self, distances: Array) -> Array:
        """Return the shares within distances, shape (images, distances)."""
        depth = np.log(self.reach[:, None] / np.maximum(distances, _TINY)[None, :]) / self.total[:, None]
        # Of all unbiased estimates of exp(-depth) from exponential times this one varies least.
        falling = np.clip(1 - depth, 0, None) ** (self.free[:, None] - 1)
        return np.clip(self.share[:, None] * falling, 0, 1)

    def dimension(self) -> Array:
        """Return the local intrinsic dimension, shape (images,)."""
        return self.free / self.total


def fit(near: Array, images: NDArray[np.int_]) -> Tails:
    """Return the tails of images from the distances of their nearest others.

    Images of which too few distances are known, or with equals that are not censored, are left out.

    Parameters
    ----------
    near
        Shape (images, ranks), each row ascending and complete up to its end; infinite after it.
    images
        Shape (images,): how many images there are in all, the image itself among them.
    """
    if near.shape[1] <= CENSORED:
        return Tails(*np.empty((4, 0)))
    ranks = np.isfinite(near).sum(axis=1)
    usable = (ranks > CENSORED + LEAST_FREE) & (near[:, CENSORED] > 0)
    near, ranks, images = near[usable], ranks[usable], images[usable]
    reach = np.take_along_axis(near, ranks[:, None] - 1, axis=1)[:, 0]
    # Distances below the first that is not censored count as if they were there: of those only the number is known.
    seen = np.maximum(near, near[:, CENSORED : CENSORED + 1])
    inside = np.arange(near.shape[1])[None, :] < ranks[:, None]
    total = np.log(reach[:, None] / np.where(inside, seen, reach[:, None])).sum(axis=1)
    return Tails(reach, (ranks - 1) / (images - 1), np.maximum(total, _TINY), (ranks - 1 - CENSORED).astype(np.float64))


def threshold(tails: Tails, rate: float) -> float:
    """Return the distance within which the mean share of different images is `rate`."""
    return float(thresholds(tails, rate, np.ones((1, len(tails))))[0])


def thresholds(tails: Tails, rate: float, weights: Array) -> Array:
    """Return the distance for each weighting of the images, shape (weightings,), from weights (weightings, images)."""
    low, high = _bracket(tails, rate)
    grid = np.geomspace(low, high, _GRID)
    shares = np.concatenate([tails.within(part) for part in np.array_split(grid, 16)], axis=1)
    means = np.log(np.maximum(weights @ shares / weights.sum(axis=1, keepdims=True), _TINY))
    return np.exp([np.interp(np.log(rate), mean, np.log(grid)) for mean in means])


def _bracket(tails: Tails, rate: float) -> tuple[float, float]:
    """Return distances between which every weighting's threshold lies, if it is not beyond all that was seen."""
    low = high = float(tails.reach.max())
    for _ in range(400):
        if tails.within(np.array([low])).max() < rate:
            break
        low /= 2
    return low, high * 2


def bootstrap(tails: Tails, rate: float, rounds: int, seed: int, level: float) -> tuple[float, float]:
    """Return the interval of the threshold when the images are drawn again, with replacement.

    Parameters
    ----------
    tails
        The images.
    rate
        What the threshold is made for.
    rounds
        How often they are drawn.
    seed
        What the draws are made from.
    level
        The probability of the interval, 0.95 for example.
    """
    return between(thresholds(tails, rate, drawn(len(tails), rounds, seed)), level)


def drawn(count: int, rounds: int, seed: int) -> Array:
    """Return how often each of so many is drawn when as many are drawn, with replacement, shape (rounds, count)."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=rounds).astype(float)


def between(values: Array, level: float) -> tuple[float, float]:
    """Return between what numbers the middle of values is: of a level of 0.95, all but the outermost 5 %."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def effective(tails: Tails, distance: float) -> float:
    """Return from how many images the mean share within a distance effectively comes: all alike would be all of them.

    >>> alike = Tails(np.ones(4), np.full(4, 0.1), np.full(4, 9.0), np.full(4, 90.0))
    >>> round(effective(alike, 0.5), 6)
    4.0
    """
    shares = tails.within(np.array([distance]))[:, 0]
    squares = float((shares**2).sum())
    return float(shares.sum()) ** 2 / squares if squares > 0 else 0.0


def target(images: int, precision: float, duplicates: float) -> float:
    """Return the share of pairs of different images that may be taken for near, for a precision in the whole lake.

    With D true pairs and F false ones the precision is D / (D + F).

    >>> f"{target(1001, 0.999, 0.01):.3g}"
    '2e-08'
    """
    true_pairs = duplicates * images
    return true_pairs * (1 - precision) / precision / (images * (images - 1) / 2)
