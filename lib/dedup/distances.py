"""Five distances between feature vectors, from sums that one pass over the vectors collects.

`METRICS` is the list: a name and what it makes of the sums. docs/distances.md has the formulas and conventions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Vectors = NDArray[np.float32]

DEFAULT_P = 3.0
"""The order of the Minkowski distance: 1 and 2 have metrics of their own."""


@dataclass(frozen=True)
class Sums:
    """What one pass collects for each pair of a row x and a query q; arrays of shape (rows, queries).

    Differences are summed, not products, wherever a distance between near vectors depends on it.
    """

    absolute: Array  #: sum of |x - q|
    squared: Array  #: sum of (x - q)^2
    power: Array  #: (sum of |x - q|^p)^(1/p)
    skew: Array  #: sum of (x - q)(x + q), which is |x|^2 - |q|^2 without cancellation
    product: Array  #: sum of x q
    rows: Array  #: |x|^2
    queries: Array  #: |q|^2, shape (1, queries)


def _cosine(sums: Sums) -> Array:
    # 1 - cos = (|x-q|^2 - (|x|-|q|)^2) / (2 |x| |q|), where |x|-|q| = (|x|^2-|q|^2) / (|x|+|q|): exact where x is near
    # q. Where their lengths differ, it is the squares that cancel, and 1 - x.q / (|x| |q|) does not.
    x, q = np.sqrt(sums.rows), np.sqrt(sums.queries)
    gap = sums.skew / np.where(x + q > 0, x + q, 1)
    lengths = np.where(x * q > 0, x * q, 1)
    alike = (x < 2 * q) & (q < 2 * x)
    distance = np.where(alike, (sums.squared - gap * gap) / (2 * lengths), 1 - sums.product / lengths)
    both_are_zero = x + q == 0
    return np.where(both_are_zero, 0.0, np.clip(distance, 0, 2))


def _dice(sums: Sums) -> Array:
    # 1 - 2 x.q / (|x|^2 + |q|^2) = |x-q|^2 / (|x|^2 + |q|^2)
    both = sums.rows + sums.queries
    return sums.squared / np.where(both > 0, both, 1)


METRICS: dict[str, Callable[[Sums], Array]] = {
    "euclidean": lambda sums: np.sqrt(sums.squared),
    "manhattan": lambda sums: sums.absolute,
    "cosine": _cosine,
    "minkowski": lambda sums: sums.power,
    "dice": _dice,
}
"""Every metric, in the order in which tables and reports show them."""


# Sums may be taken in any order (`reassoc`): else nothing is vectorised. The order is the same for every pair, so a
# distance does not depend on which vectors stand beside it. Infinities and NaN keep their meaning: `ninf` and `nnan`
# are not set.
@numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _collect(rows: Vectors, queries: Vectors, p: float, out: Array) -> None:
    """Fill out, of shape (6, rows, queries), with sums of |d|, d^2, |d|^p, d (x + q), x^2, x q."""
    for i in range(rows.shape[0]):
        for j in range(queries.shape[0]):
            absolute, squared, power, skew, norm, product = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            if p == 3.0:
                for k in range(rows.shape[1]):
                    x, q = np.float64(rows[i, k]), np.float64(queries[j, k])
                    d = x - q
                    absolute += abs(d)
                    squared += d * d
                    power += d * d * abs(d)
                    skew += d * (x + q)
                    norm += x * x
                    product += x * q
            else:
                for k in range(rows.shape[1]):
                    x, q = np.float64(rows[i, k]), np.float64(queries[j, k])
                    d = x - q
                    absolute += abs(d)
                    squared += d * d
                    power += abs(d) ** p
                    skew += d * (x + q)
                    norm += x * x
                    product += x * q
            out[0, i, j] = absolute
            out[1, i, j] = squared
            out[2, i, j] = power
            out[3, i, j] = skew
            out[4, i, j] = norm
            out[5, i, j] = product


_LOST = 1e-280
"""A sum of powers below this may have lost terms that are too small for a double."""


def _minkowski(x: Vectors, q: Vectors, p: float) -> float:
    """Return the Minkowski distance of one pair whose powers leave the range of a double: scaled by the largest."""
    d = np.abs(x.astype(np.float64) - q)
    largest = d.max()
    return float(largest * ((d / largest) ** p).sum() ** (1 / p))


def _sums(rows: Vectors, queries: Vectors, p: float) -> Sums:
    out = np.empty((6, len(rows), len(queries)))
    _collect(rows, queries, p, out)
    absolute, squared, power, skew, norm, product = out
    root = power ** (1 / p)
    beyond = (squared > 0) & ((power < _LOST) | (np.isinf(power) & np.isfinite(squared)))
    for i, j in np.argwhere(beyond):
        root[i, j] = _minkowski(rows[i], queries[j], p)
    return Sums(absolute, squared, root, skew, product, norm, (queries.astype(np.float64) ** 2).sum(axis=1)[None, :])


def distances(rows: Vectors, queries: Vectors, p: float = DEFAULT_P) -> dict[str, Array]:
    """Return every metric's distances between rows and queries.

    Parameters
    ----------
    rows
        Shape (rows, width), float32, C order.
    queries
        Shape (queries, width), float32, C order.
    p
        The order of the Minkowski distance, at least 1.

    Returns
    -------
    dict
        For each name in `METRICS` an array of shape (rows, queries). A vector and itself are at
        exactly 0. Where a vector has a component that is not finite, every distance is infinite: it is near to
        nothing, itself included.

    Examples
    --------
    >>> x = np.array([[0, 3]], np.float32), np.array([[4, 0]], np.float32)
    >>> {name: float(d[0, 0].round(4)) for name, d in distances(*x).items()}
    {'euclidean': 5.0, 'manhattan': 7.0, 'cosine': 1.0, 'minkowski': 4.4979, 'dice': 1.0}
    """
    with np.errstate(all="ignore"):
        sums = _sums(rows, queries, p)
        finite = np.isfinite(sums.rows) & np.isfinite(sums.queries)
        return {name: np.where(finite, metric(sums), np.inf) for name, metric in METRICS.items()}
