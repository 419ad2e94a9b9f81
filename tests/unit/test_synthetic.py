"""The lake of benchmarks/scale.py: rows do not depend on who makes them, and what is planted is there."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.synthetic import BLOCK, WIDTH, Family, Lake

ROWS = 1000


@pytest.fixture(scope="module")
def lake() -> Lake:
    return Lake(ROWS, seed=3)


@pytest.fixture(scope="module")
def vectors(lake: Lake) -> np.ndarray:
    return np.concatenate([lake.block(number)[1] for number in range(lake.blocks)])


@pytest.fixture(scope="module")
def families(lake: Lake) -> list[Family]:
    return list(lake.families())


def test_a_row_is_the_same_whoever_makes_it(lake: Lake, vectors: np.ndarray) -> None:
    assert vectors.shape == (ROWS, WIDTH)
    np.testing.assert_array_equal(Lake(ROWS, seed=3).vectors(np.array([700, 3])), vectors[[700, 3]])
    assert (Lake(ROWS, seed=4).vectors(np.array([3])) != vectors[3]).any()
    numbers, last = lake.block(lake.blocks - 1)
    assert len(numbers) == len(last) == ROWS % BLOCK


def test_vectors_look_like_features(vectors: np.ndarray) -> None:
    lengths = np.linalg.norm(vectors, axis=1)
    assert vectors.dtype == np.float32
    assert vectors.min() == 0
    assert 0.15 < (vectors > 0).mean() < 0.3
    assert 2.8 < lengths.max() / lengths.min() < 3.3


def test_a_tenth_of_the_rows_is_in_groups(families: list[Family]) -> None:
    groups = [family.members for family in families]
    rows = [row for family in families for row in family.members + family.decoys]
    assert len(set(rows)) == len(rows)
    assert set(rows) <= set(range(ROWS))
    assert all(2 <= len(members) <= 20 for members in groups)
    assert 0.1 * ROWS <= sum(map(len, groups)) <= 0.1 * ROWS + 2
    assert any(family.decoys for family in families)


def test_members_are_near_and_decoys_are_not(vectors: np.ndarray, families: list[Family]) -> None:
    lengths = np.linalg.norm(vectors, axis=1)
    for family in families:
        for left, right in family.pairs:
            apart = np.linalg.norm(vectors[left] - vectors[right]) / lengths[left]
            if left in family.decoys or right in family.decoys:
                assert 0.15 < apart < 0.35
            else:
                assert apart < 0.12


def test_equals_are_equal_and_rows_of_no_family_are_far_from_all(vectors: np.ndarray, families: list[Family]) -> None:
    lengths = np.linalg.norm(vectors, axis=1)
    alike = (vectors @ vectors.T) / np.outer(lengths, lengths)
    planted = np.zeros_like(alike, bool)
    for family in families:
        for pair in family.pairs:
            planted[pair] = True
    left, right = np.nonzero(np.triu(~planted, 1))
    assert alike[left, right].max() < 0.99
    assert sum(np.array_equal(vectors[i], vectors[j]) for family in families for i, j in family.pairs) == 1


def test_drawn_pairs_are_at_the_distance_asked_for(lake: Lake) -> None:
    left, right = lake.drawn(20, 0.12)
    apart = np.linalg.norm(left - right, axis=1) / np.linalg.norm(left, axis=1)
    np.testing.assert_allclose(apart, 0.12, rtol=0.08)
