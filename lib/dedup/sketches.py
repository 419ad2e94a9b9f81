"""Short stand-ins for vectors, from which it follows which pairs cannot be near. Pure arrays, no Spark.

A sketch of a vector x of length |x| is a unit vector of few numbers: its coordinates along some orthonormal axes, and
the length of the rest that they leave, all divided by |x|. By the inequality of Cauchy and Schwarz for the rests,

    sketch(x) . sketch(q)  >=  x.q / (|x| |q|),

so sketches are never less alike than the vectors, and what is too unlike in sketches is too unlike in truth. From that
bound on the cosine, and from the lengths, follow lower bounds of all five distances: docs/deduplication.md has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from dedup.thresholds import Thresholds
from dedup.views import LONGEST

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

NUMBERS = 128
"""The length of a sketch: 127 coordinates and a rest, 512 bytes for a vector of 16,384."""

_SLACK = 1e-5
"""More than what rounding to float32 can take off a product of two sketches: 129 terms of 2^-24 each are 7.7e-6."""

_ROWS, _COLUMNS = 512, 2048  # a tile of products, 4 MiB, stays in the processor's cache
_STEP = 64  # products that are looked at together, by their largest
_FIXED = 64  # rows that are multiplied at a time


def fit(sample: Floats) -> Doubles:
    """Return orthonormal axes that hold as much as they can of a sample's directions, shape (axes, width).

    Any axes give right answers; good ones, the principal axes of vectors like those to come, leave small rests.
    """
    lengths = np.linalg.norm(sample.astype(np.float64), axis=1)
    directions = sample[lengths > 0] / lengths[lengths > 0, None]
    if not len(directions):
        return np.eye(1, sample.shape[1])
    # The leading eigenvectors of the small matrix of products stand for the principal axes, in a tenth of the time of a
    # singular value decomposition; where they lose precision, QR makes them orthonormal again, and that is what counts.
    _, vectors = np.linalg.eigh(directions @ directions.T)
    leading = vectors[:, ::-1][:, : min(NUMBERS - 1, *directions.shape)]
    return np.linalg.qr(directions.T @ leading)[0].T


@dataclass(frozen=True)
class Sketches:
    """Contents in short; arrays of n rows."""

    sha256: NDArray[np.bytes_]  #: shape (n,), of contents and of views of them
    code: Floats  #: the sketches, shape (n, axes + 1); zeros for a vector of zeros
    length: Doubles  #: |x|, shape (n,)
    total: Doubles  #: the sum of |x_i|, shape (n,)
    label: NDArray[np.int64]  #: contents with the same label need not be compared; -1 is no label


def encode(vectors: Floats, axes: Doubles) -> tuple[Floats, Doubles, Doubles]:
    """Return the sketches of finite vectors, their lengths and their sums of absolute values."""
    parts = [_encode(vectors[start : start + _FIXED], axes) for start in range(0, len(vectors), _FIXED)]
    code = np.concatenate([np.empty((0, len(axes) + 1)), *(part[0] for part in parts)]).astype(np.float32)
    length, total = (np.concatenate([np.empty(0), *(part[number] for part in parts)]) for number in (1, 2))
    return code, length, total


def padded(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return up to `_FIXED` rows, filled up with zeros: a product of matrices has other last bits at other sizes."""
    filled = np.zeros((_FIXED, rows.shape[1]), rows.dtype)
    filled[: len(rows)] = rows
    return filled


def products(codes: Floats, others: Floats) -> Floats:
    """Return the products of sketches with others, (rows, others): the same bits whatever rows stand beside them."""
    found = [padded(codes[start : start + _FIXED]) @ others.T for start in range(0, len(codes), _FIXED)]
    return np.concatenate([np.empty((0, len(others)), np.float32), *found])[: len(codes)]


def _encode(vectors: Floats, axes: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    exact = vectors.astype(np.float64)
    squares = (exact**2).sum(axis=1)
    along = (padded(exact) @ axes.T)[: len(exact)]
    rest = np.sqrt(np.maximum(squares - (along**2).sum(axis=1), 0))
    length = np.sqrt(squares)
    code = np.column_stack([along, rest]) / np.where(length > 0, length, 1)[:, None]
    return code, length, np.abs(exact).sum(axis=1)


def limits(thresholds: Thresholds, width: int) -> Doubles:
    """Return what the bounds are held against, for vectors of a width: see `_possible` for the order."""
    within, p = thresholds.within, thresholds.p
    # |d|_p is at least |d|_2 times this; and |d|_2 <= |d|_1^share |d|_p^(1 - share) (log-convexity of the norms).
    shrink = width ** min(0.0, 1 / p - 0.5)
    share = (p - 2) / (2 * (p - 1)) if p > 2 else 0.0
    both = within["manhattan"] ** share * within["minkowski"] ** (1 - share)
    euclidean, manhattan, minkowski = within["euclidean"], within["manhattan"], within["minkowski"] / shrink
    # Without a vote of Euclid's, cosine or Dice there are at most those of Manhattan and Minkowski, and if these two
    # vote then |d|_2 <= both: the largest |d|_2 that any near pair can have, where only lengths of differences count.
    farthest = max(euclidean, both) if thresholds.votes > 1 else max(euclidean, manhattan, minkowski)
    return np.array(
        [
            *(thresholds.votes, euclidean**2, within["cosine"], within["dice"]),
            *(manhattan, minkowski**2, both**2, farthest),
        ]
    )


@numba.njit(nogil=True, error_model="numpy")
def _possible(product: float, x: float, q: float, gap: float, tiny: float, limit: Doubles) -> bool:
    """Tell whether as many distances as are needed can be within their thresholds.

    Parameters
    ----------
    product
        A bound of the cosine from above.
    x, q
        The lengths of the two vectors.
    gap
        How much the sums of their absolute values differ.
    tiny
        What rounding can have put into the gap.
    limit
        What `limits` returns.
    """
    if x * q == 0:
        product = 1.0 if x == q else 0.0
    lengths = x * x + q * q
    squared = max(lengths - 2 * min(product, 1.0) * x * q, (x - q) * (x - q))
    votes = 0
    if squared <= limit[1]:
        votes += 1
    if 1 - product <= limit[2]:
        votes += 1
    if squared <= limit[3] * lengths:
        votes += 1
    manhattan = squared <= limit[4] * limit[4] and gap <= limit[4] + tiny
    minkowski = squared <= limit[5]
    if manhattan and minkowski:
        votes += 2 if squared <= limit[6] else 1
    elif manhattan or minkowski:
        votes += 1
    enough: bool = votes >= limit[0]
    return enough


@numba.njit(nogil=True, error_model="numpy")
def _scan(
    products: Floats,
    below: int,
    quick: Doubles,
    lengths: tuple[Doubles, Doubles],
    totals: tuple[Doubles, Doubles],
    labels: tuple[NDArray[np.int64], NDArray[np.int64]],
    limit: Doubles,
    first: int,
    best: Floats,
    place: NDArray[np.int64],
    count: NDArray[np.int64],
) -> None:
    """Take in a tile of products of rows and columns: each row keeps its most alike columns that can be near.

    Columns up to `below` + the row's number are passed over: the row was compared with them as a column. `best` and
    `place`, of shape (rows, most), hold the products and the columns' numbers from `first` on; `count` all that can
    be near, kept or not.
    """
    most = best.shape[1]
    for i in range(products.shape[0]):
        start = max(0, below + i + 1)
        for chunk in range(start - start % _STEP, products.shape[1], _STEP):
            end = min(chunk + _STEP, products.shape[1])
            largest = np.float32(-2)
            for j in range(chunk, end):
                largest = max(largest, products[i, j])
            if largest < quick[i]:
                continue
            for j in range(max(chunk, start), end):
                product = products[i, j]
                if product < quick[i] or (labels[0][i] >= 0 and labels[0][i] == labels[1][j]):
                    continue
                gap = abs(totals[0][i] - totals[1][j])
                tiny = 1e-9 * (totals[0][i] + totals[1][j])
                if not _possible(product + _SLACK, lengths[0][i], lengths[1][j], gap, tiny, limit):
                    continue
                slot = count[i]
                count[i] += 1
                if slot >= most:
                    slot = np.argmin(best[i])
                    if best[i, slot] >= product:
                        continue
                best[i, slot] = product
                place[i, slot] = first + j


class Candidates:
    """The pairs of some rows with others that may be near: for each row the `most` that are most alike in sketches.

    Parameters
    ----------
    rows
        The contents that others are compared with.
    limit
        What `limits` returns.
    most
        How many candidates a row keeps.
    """

    def __init__(self, rows: Sketches, limit: Doubles, most: int) -> None:
        self._rows, self._limit = rows, limit
        n = len(rows.sha256)
        self._best = np.full((n, most), -2, np.float32)
        self._place = np.zeros((n, most), np.int64)
        self._names: list[NDArray[np.bytes_]] = []
        self._columns = 0
        self.count = np.zeros(n, np.int64)  #: for each row how many can be near, kept or not
        # A near pair has a cosine of at least 1 - the threshold of cosine or of Dice (whose distance is never the
        # smaller one), or a |d|_2 of at most `farthest`, and then a cosine of at least sqrt(1 - (farthest / |x|)^2).
        by_length = 1 - (limit[7] / np.where(rows.length > 0, rows.length, 1)) ** 2
        directed = np.where(by_length > 0, np.sqrt(np.maximum(by_length, 0)), -1)  # short ones: in any direction
        quick = np.minimum(directed, 1 - max(limit[2], limit[3]))
        # That Dice is the larger one holds for products from 0 up: a threshold of 1 or more says nothing.
        self._quick = np.where((rows.length > 0) & (limit[3] < 1), quick - _SLACK, -2)

    def add(self, columns: Sketches, same: bool) -> None:
        """Compare the rows with contents; where these are the rows themselves, each pair once and none with itself."""
        tile = np.empty((_ROWS, _COLUMNS), np.float32)
        for c in range(0, len(columns.sha256), _COLUMNS):
            right = slice(c, min(c + _COLUMNS, len(columns.sha256)))
            for r in range(0, len(self._rows.sha256), _ROWS):
                left = slice(r, min(r + _ROWS, len(self._rows.sha256)))
                if same and right.stop <= left.start:
                    continue
                products = tile[: left.stop - left.start, : right.stop - right.start]
                np.matmul(self._rows.code[left], columns.code[right].T, out=products)
                _scan(
                    products,
                    r - c if same else -len(self._rows.sha256) - 1,
                    self._quick[left],
                    (self._rows.length[left], columns.length[right]),
                    (self._rows.total[left], columns.total[right]),
                    (self._rows.label[left], columns.label[right]),
                    self._limit,
                    self._columns + c,
                    self._best[left],
                    self._place[left],
                    self.count[left],
                )
        self._names.append(columns.sha256)
        self._columns += len(columns.sha256)

    def pairs(self) -> tuple[NDArray[np.intp], NDArray[np.bytes_]]:
        """Return the kept candidates: the row's number and the other's sha256."""
        row, slot = np.nonzero(self._best >= -1.5)
        names = np.concatenate([*self._names, np.empty(0, f"S{LONGEST}")])
        return row, names[self._place[row, slot]]
