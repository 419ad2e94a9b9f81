"""Sketches: no pair that is near is ever left out, whatever the vectors, the axes and the thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dedup.distances import METRICS, distances
from dedup.sketches import NUMBERS, Candidates, Sketches, encode, fit, limits
from dedup.thresholds import Thresholds

Vectors = NDArray[np.float32]


def vectors(seed: int, rows: int, width: int, spread: float = 1.0) -> Vectors:
    """Return vectors like features: from 0 up, half of them zeros, in clumps, some equal, some all zeros."""
    random = np.random.default_rng(seed)
    centres = random.gamma(1, 100, (max(1, rows // 5), width))
    made = centres[random.integers(0, len(centres), rows)] + spread * random.normal(0, 30, (rows, width))
    made[random.random((rows, width)) < 0.4] = 0
    made[random.integers(0, rows)] = 0
    made[-1] = made[0]
    return np.maximum(made, 0).astype(np.float32)


def sketched(rows: Vectors, axes: NDArray[np.float64], first: int = 0, label: int = -1) -> Sketches:
    names = np.array([f"{first + i:064x}" for i in range(len(rows))], "S64")
    return Sketches(names, *encode(rows, axes), np.full(len(rows), label, np.int64))


def thresholds(rows: Vectors, votes: int, share: float, p: float = 3) -> Thresholds:
    """Return thresholds that a share of all distances is within."""
    found = distances(rows, rows, p)
    within = {name: float(np.quantile(found[name], share)) for name in METRICS}
    return Thresholds("", votes, within, "", p)


def found_pairs(candidates: Candidates) -> set[tuple[int, int]]:
    row, other = candidates.pairs()
    return {(int(i), int(name, 16)) for i, name in zip(row, other, strict=True)}


def near_pairs(rows: Vectors, within: Thresholds) -> set[tuple[int, int]]:
    near = within.agreeing(distances(rows, rows, within.p)) >= within.votes
    return {(int(i), int(j)) for i, j in np.argwhere(np.triu(near, 1))}


@given(
    seed=st.integers(0, 10_000),
    votes=st.integers(1, len(METRICS)),
    share=st.sampled_from([0.0, 0.01, 0.1, 0.5]),
    p=st.sampled_from([1.0, 1.5, 2.0, 3.0, 7.0]),
    width=st.sampled_from([1, 3, 40, 300]),
    spread=st.sampled_from([0.0, 0.01, 1.0]),
)
def test_no_near_pair_is_missed(seed: int, votes: int, share: float, p: float, width: int, spread: float) -> None:
    rows = vectors(seed, 60, width, spread)
    within = thresholds(rows, votes, share, p)
    candidates = Candidates(sketched(rows, fit(rows[:20])), limits(within, width), len(rows))
    candidates.add(sketched(rows, fit(rows[:20])), same=True)
    assert near_pairs(rows, within) <= found_pairs(candidates)


def test_few_others_are_candidates() -> None:
    rows = vectors(1, 400, 600, spread=0.3)
    within = thresholds(rows, 3, 0.001)
    sketches = sketched(rows, fit(rows[::2]))
    candidates = Candidates(sketches, limits(within, 600), len(rows))
    candidates.add(sketches, same=True)
    near = near_pairs(rows, within)
    assert 0 < len(near) <= len(found_pairs(candidates)) < 400 * 399 / 2 / 20


def test_any_axes_do() -> None:
    rows = vectors(2, 50, 80)
    within = thresholds(rows, 3, 0.05)
    for axes in (np.eye(1, 80), np.eye(5, 80), np.linalg.qr(np.random.default_rng(0).normal(size=(80, 30)))[0].T):
        sketches = sketched(rows, axes)
        candidates = Candidates(sketches, limits(within, 80), len(rows))
        candidates.add(sketches, same=True)
        assert near_pairs(rows, within) <= found_pairs(candidates)


def test_axes_are_orthonormal_and_few() -> None:
    axes = fit(vectors(3, 500, 700))
    assert axes.shape == (NUMBERS - 1, 700)
    np.testing.assert_allclose(axes @ axes.T, np.eye(len(axes)), atol=1e-12)
    assert fit(np.zeros((4, 7), np.float32)).shape == (1, 7)


def test_a_sketch_is_a_unit_vector_that_is_never_less_alike_than_the_vectors() -> None:
    rows = vectors(4, 100, 300)
    code, length, total = encode(rows, fit(rows[:10]))
    exact = rows.astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(code, axis=1), (length > 0).astype(float), atol=1e-6)
    np.testing.assert_allclose(length, np.linalg.norm(exact, axis=1))
    np.testing.assert_allclose(total, np.abs(exact).sum(axis=1))
    lengths = np.where(length > 0, length, 1)
    cosine = exact @ exact.T / np.outer(lengths, lengths)
    assert (code @ code.T >= cosine - 1e-5).all()


@pytest.mark.parametrize("rows", [1, 511, 1025])
@pytest.mark.parametrize("columns", [1, 65, 2049])
def test_tiles_of_any_size_are_looked_at_whole(rows: int, columns: int) -> None:
    axes = np.eye(1, 4)
    left, right = (np.ones((count, 4), np.float32) for count in (rows, columns))
    candidates = Candidates(
        sketched(left, axes), limits(Thresholds("", 5, dict.fromkeys(METRICS, 0.1), ""), 4), columns
    )
    candidates.add(sketched(right, axes), same=False)
    assert (candidates.count == columns).all()
    assert len(candidates.pairs()[0]) == rows * columns


def test_each_pair_of_a_block_with_itself_is_found_once() -> None:
    same = np.ones((700, 4), np.float32)
    sketches = sketched(same, np.eye(1, 4))
    candidates = Candidates(sketches, limits(Thresholds("", 5, dict.fromkeys(METRICS, 0.1), ""), 4), 700)
    candidates.add(sketches, same=True)
    assert found_pairs(candidates) == {(i, j) for i in range(700) for j in range(i + 1, 700)}


def test_a_row_keeps_the_most_alike_and_counts_all() -> None:
    turned = np.array([[np.cos(angle), np.sin(angle)] for angle in np.linspace(0, 0.01, 100)], np.float32)
    order = np.random.default_rng(0).permutation(100)
    names = np.array([f"{i:064x}" for i in order], "S64")
    axes = np.eye(2)
    columns = Sketches(names, *encode(turned[order], axes), np.full(100, -1, np.int64))
    candidates = Candidates(
        sketched(turned[:1], axes), limits(Thresholds("", 3, dict.fromkeys(METRICS, 0.1), ""), 2), most=5
    )
    candidates.add(columns, same=False)
    assert candidates.count.tolist() == [100]
    products = turned @ turned[0]
    kept = [products[j] for _, j in found_pairs(candidates)]
    assert min(kept) >= np.sort(products)[-5] - 1e-7


def test_contents_with_the_same_label_are_passed_over() -> None:
    same, axes = np.ones((3, 4), np.float32), np.eye(1, 4)
    within = limits(Thresholds("", 5, dict.fromkeys(METRICS, 0.1), ""), 4)
    for one, other, pairs in ((-1, -1, 9), (1, 2, 9), (1, -1, 9), (1, 1, 0)):
        candidates = Candidates(sketched(same, axes, label=one), within, 10)
        candidates.add(sketched(same, axes, label=other), same=False)
        assert len(candidates.pairs()[0]) == pairs
