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
Indices = NDArray[np.intp]
Metrics = dict[str, Array]

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
    rows: Array  #: |x|^2, shape (rows, 1)
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
_compiled = numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})


@_compiled
def _pair(row: NDArray[np.float32], query: NDArray[np.float32], p: float, out: Array) -> None:
    """Fill out, of shape (5,), with sums of |d|, d^2, |d|^p, d (x + q), x q."""
    absolute, squared, power, skew, product = 0.0, 0.0, 0.0, 0.0, 0.0
    if p == 3.0:
        for k in range(row.shape[0]):
            x, q = np.float64(row[k]), np.float64(query[k])
            d = x - q
            absolute += abs(d)
            squared += d * d
            power += d * d * abs(d)
            skew += d * (x + q)
            product += x * q
    else:
        for k in range(row.shape[0]):
            x, q = np.float64(row[k]), np.float64(query[k])
            d = x - q
            absolute += abs(d)
            squared += d * d
            power += abs(d) ** p
            skew += d * (x + q)
            product += x * q
    out[0] = absolute
    out[1] = squared
    out[2] = power
    out[3] = skew
    out[4] = product


@_compiled
def _square(vectors: Vectors, out: Array) -> None:
    """Fill out, of shape (vectors,), with the sums of x^2: the same bits for a row and for a query."""
    for i in range(vectors.shape[0]):
        total = 0.0
        for k in range(vectors.shape[1]):
            x = np.float64(vectors[i, k])
            total += x * x
        out[i] = total


@_compiled
def _collect(rows: Vectors, queries: Vectors, p: float, out: Array) -> None:
    """Fill out, of shape (rows, queries, 5), with the sums of every row and every query."""
    for i in range(rows.shape[0]):
        for j in range(queries.shape[0]):
            _pair(rows[i], queries[j], p, out[i, j])


@_compiled
def _collect_listed(rows: Vectors, left: Indices, right: Indices, p: float, out: Array) -> None:
    """Fill out, of shape (pairs, 1, 5), with the sums of the rows that left and right name."""
    for i in range(left.shape[0]):
        _pair(rows[left[i]], rows[right[i]], p, out[i, 0])


_LOST = 1e-280
"""A sum of powers below this may have lost terms that are too small for a double."""


def _minkowski(x: Vectors, q: Vectors, p: float) -> float:
    """Return the Minkowski distance of one pair whose powers leave the range of a double: scaled by the largest."""
    d = np.abs(x.astype(np.float64) - q)
    largest = d.max()
    return float(largest * ((d / largest) ** p).sum() ** (1 / p))


def _finish(
    collected: Array, norms: tuple[Array, Array], p: float, two: Callable[[int, int], tuple[Vectors, Vectors]]
) -> Metrics:
    """Return every metric of collected sums, of shape (rows, queries, 5); `two` gives the vectors of a place in it."""
    absolute, squared, power, skew, product = np.moveaxis(collected, 2, 0)
    with np.errstate(all="ignore"):
        root = power ** (1 / p)
        beyond = (squared > 0) & ((power < _LOST) | (np.isinf(power) & np.isfinite(squared)))
        for i, j in np.argwhere(beyond):
            root[i, j] = _minkowski(*two(i, j), p)
        sums = Sums(absolute, squared, root, skew, product, *norms)
        finite = np.isfinite(sums.rows) & np.isfinite(sums.queries)
        return {name: np.where(finite, metric(sums), np.inf) for name, metric in METRICS.items()}


def _norms(vectors: Vectors) -> Array:
    out = np.empty(len(vectors))
    _square(vectors, out)
    return out


def distances(rows: Vectors, queries: Vectors, p: float = DEFAULT_P) -> Metrics:
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
    out = np.empty((len(rows), len(queries), 5))
    _collect(rows, queries, p, out)
    return _finish(out, (_norms(rows)[:, None], _norms(queries)[None, :]), p, lambda i, j: (rows[i], queries[j]))


def listed(rows: Vectors, left: Indices, right: Indices, p: float = DEFAULT_P) -> Metrics:
    """Return every metric's distances of listed pairs of rows: the same bits as `distances(rows[l], rows[r])` has.

    Parameters
    ----------
    rows
        Shape (rows, width), float32, C order.
    left, right
        Shape (pairs,): the indices of the two rows of each pair.
    p
        The order of the Minkowski distance, at least 1.

    Returns
    -------
    dict
        For each name in `METRICS` an array of shape (pairs,).

    Examples
    --------
    >>> rows = np.array([[0, 3], [4, 0]], np.float32)
    >>> listed(rows, np.array([0, 1]), np.array([1, 1]))["euclidean"]
    array([5., 0.])
    """
    out = np.empty((len(left), 1, 5))
    _collect_listed(rows, left, right, p, out)
    norms = _norms(rows)[:, None]
    found = _finish(out, (norms[left], norms[right]), p, lambda i, _: (rows[left[i]], rows[right[i]]))
    return {name: values[:, 0] for name, values in found.items()}
