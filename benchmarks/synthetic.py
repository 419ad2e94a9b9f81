"""A lake of invented features whose near pairs are known: any row can be made alone, from its number. No Spark.

Vectors are made to look like those of a network behind a rectifier: some kinds of images, few directions in which they
differ much and many in which they differ a little, a quarter of the numbers above zero, lengths spread by a factor 3.
Some rows are planted: groups near to a centre that no row has, decoys that are a little too far from one, and equals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

MODEL = "synthetic-4096"
WIDTH = 4096
BLOCK = 256
"""Rows that are made together, whoever asks for one of them: so their bytes depend on nothing else."""

STRETCH = 200
"""Places that are planted alike: 20 in groups, 2 decoys, and in one stretch of ten a pair of equals."""

_GROUPED, _DECOYS = 20, 2
_EQUAL = _GROUPED + _DECOYS  # this place has the vector of the next one
_PATTERNS = 64
_DEPARTURE = (0.02, 0.08)  # of a member from the centre, as a part of its length
_DECOY = 0.2

_KINDS, _RANK = 64, 192
_DECAY = 0.8  # the k-th direction is k^-0.8 as wide as the first
_NOISE = 0.1  # along every axis
_SHIFT = 0.7  # what a number has to exceed to be above zero
_ALIKE = 0.7  # how much of a row its kind decides
_LENGTH, _SPREAD = 100.0, 3.0

_BASE, _DEPART, _WORLD = range(3)  # what random numbers are for


@dataclass(frozen=True)
class Family:
    """Rows that were planted together."""

    members: tuple[int, ...]  #: rows near to one centre
    decoys: tuple[int, ...]  #: rows a little too far from it

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """All pairs of its rows, the smaller number first."""
        return list(combinations(sorted(self.members + self.decoys), 2))


@dataclass(frozen=True)
class Lake:
    """A lake of some rows, made from a seed.

    Rows are planted by their *places*: those of a group are consecutive, and rows that follow each other are far
    apart in places, so that a group is spread over the whole table.
    """

    rows: int
    seed: int = 0

    @property
    def blocks(self) -> int:
        """How many blocks of rows there are."""
        return -(-self.rows // BLOCK)

    def sha256(self, row: int) -> str:
        """Return the name of a row's content."""
        return hashlib.sha256(f"{self.seed}/{self.rows}/{row}".encode()).hexdigest()

    def block(self, number: int) -> tuple[Integers, Floats]:
        """Return the numbers of the rows of a block and their vectors, shape (rows, WIDTH)."""
        rows = np.arange(number * BLOCK, min((number + 1) * BLOCK, self.rows))
        return rows, self.vectors(rows)

    def vectors(self, rows: Integers) -> Floats:
        """Return the vectors of at most BLOCK rows."""
        places = rows * self._step % self.rows
        within = places % STRETCH
        pattern = places // STRETCH % _PATTERNS
        first, low, high = (table[pattern, within] for table in self._patterns)
        equal = (within == _EQUAL) & (places // STRETCH % 10 == 0) & (places + 1 < self.rows)
        sources = np.where(equal, places + 1, places - within + first)
        wanted, at = np.unique(sources, return_inverse=True)
        vectors = self._bases(wanted)[at]
        for i in np.flatnonzero(high > 0):
            vectors[i] = self._departed(vectors[i], int(places[i]), low[i], high[i])
        return vectors

    def drawn(self, count: int, departure: float) -> tuple[Floats, Floats]:
        """Return vectors that the lake could have, at most BLOCK, and others at a departure from them."""
        places = np.arange(self.rows, self.rows + count)
        vectors = self._bases(places)
        pairs = zip(vectors, places, strict=True)
        return vectors, np.stack([self._departed(vector, int(place), departure, departure) for vector, place in pairs])

    def families(self) -> Iterator[Family]:
        """Return what was planted."""
        for stretch in range(-(-self.rows // STRETCH)):
            first, _, high = (table[stretch % _PATTERNS] for table in self._patterns)
            for centre in np.unique(first[: _GROUPED + _DECOYS]):
                places = np.flatnonzero(first == centre)
                decoy = high[places] == _DECOY
                yield Family(self._at(stretch, places[~decoy]), self._at(stretch, places[decoy]))
            if stretch % 10 == 0:
                yield Family(self._at(stretch, np.array([_EQUAL, _EQUAL + 1])), ())

    def _at(self, stretch: int, within: Integers) -> tuple[int, ...]:
        back = pow(self._step, -1, self.rows)
        places = (stretch * STRETCH + int(place) for place in within)
        return tuple(sorted(place * back % self.rows for place in places if place < self.rows))

    @cached_property
    def _step(self) -> int:
        step = int(self.rows * 0.618) | 1
        while np.gcd(step, self.rows) > 1:
            step += 1
        return step

    def _random(self, number: int, purpose: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=np.array([self.seed, 4 * number + purpose], np.uint64)))

    @cached_property
    def _patterns(self) -> tuple[Integers, NDArray[np.float64], NDArray[np.float64]]:
        """For each pattern and place in it: the place whose vector is the centre, and the range of the departure."""
        random = self._random(0, _WORLD)
        first = np.tile(np.arange(STRETCH), (_PATTERNS, 1))
        low, high = np.zeros(first.shape), np.zeros(first.shape)
        low[:, :_GROUPED], high[:, :_GROUPED] = _DEPARTURE
        low[:, _GROUPED:_EQUAL] = high[:, _GROUPED:_EQUAL] = _DECOY
        for pattern in range(_PATTERNS):
            start = 0
            while start < _GROUPED:
                size = min(2 + int(18 * random.random() ** 3), _GROUPED - start)
                size += _GROUPED - start - size == 1
                first[pattern, start : start + size] = start
                start += size
            first[pattern, _GROUPED:_EQUAL] = first[pattern, [0, _GROUPED - 1]]
        return first, low, high

    @cached_property
    def _world(self) -> tuple[Floats, Floats]:
        """The directions in which vectors differ, shape (_RANK, WIDTH), and the kinds of images, (_KINDS, _RANK)."""
        random = self._random(1, _WORLD)
        widths = np.arange(1, _RANK + 1, dtype=np.float32) ** -_DECAY
        widths /= np.linalg.norm(widths)
        directions = random.standard_normal((_RANK, WIDTH), np.float32) * widths[:, None]
        return directions, np.float32(_ALIKE) * random.standard_normal((_KINDS, _RANK), np.float32)

    def _bases(self, sources: Integers) -> Floats:
        directions, kinds = self._world
        vectors = np.empty((len(sources), WIDTH), np.float32)
        lengths = np.empty((len(sources), 1), np.float32)
        own = np.float32(np.sqrt(1 - _ALIKE**2))
        for i, source in enumerate(sources):
            random = self._random(int(source), _BASE)
            kind, spread = random.random(2)
            inner = kinds[int(_KINDS * kind**2)] + own * random.standard_normal(_RANK, np.float32)
            lengths[i] = _LENGTH * _SPREAD ** (spread - 0.5)
            random.standard_normal(out=vectors[i], dtype=np.float32)
            vectors[i] *= np.float32(_NOISE)
            vectors[i] += inner @ directions  # row by row: among others, BLAS may sum it in another order
        vectors -= np.float32(_SHIFT)
        np.maximum(vectors, 0, out=vectors)
        vectors *= lengths / np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
        return vectors

    def _departed(self, centre: Floats, place: int, low: float, high: float) -> Floats:
        random = self._random(place, _DEPART)
        departure = random.uniform(low, high)
        way = random.standard_normal(WIDTH, np.float32) * (centre > 0)
        way *= np.float32(departure * np.linalg.norm(centre) / np.linalg.norm(way))
        moved: Floats = np.maximum(centre + way, 0)
        return moved
