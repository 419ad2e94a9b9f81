"""The five distances: SciPy is the oracle where it has one, and what a distance must be holds for all floats."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy.spatial import distance as scipy

from dedup.distances import METRICS, distances

Vector = NDArray[np.float32]

WIDTHS = [*range(1, 71), 4096]
ORACLES = {"euclidean": scipy.euclidean, "manhattan": scipy.cityblock, "cosine": scipy.cosine}
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
LARGEST = float(np.finfo(np.float32).max)


def one(x: Vector, q: Vector, p: float = 3.0) -> dict[str, float]:
    return {name: float(found[0, 0]) for name, found in distances(x[None, :], q[None, :], p).items()}


def random(rows: int, width: int, seed: int = 0) -> Vector:
    """Vectors like those of the network: not negative, a third of the components 0."""
    drawn = np.random.default_rng((seed, width)).normal(1, 2, (rows, width)).clip(0).astype(np.float32)
    drawn[:, 0] += 1  # none is zero altogether: SciPy's cosine of it is undefined
    return drawn


def exact_minkowski(x: Vector, q: Vector, p: float) -> float:
    """By logarithms, which have no range to leave."""
    d = np.abs(x.astype(np.float64) - q)
    logs = p * np.log(d[d > 0])
    return float(np.exp((logs.max() + np.log(np.exp(logs - logs.max()).sum())) / p)) if len(logs) else 0.0


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, width=32, allow_nan=False)


def vectors(width: int, values: st.SearchStrategy[float]) -> st.SearchStrategy[Vector]:
    return arrays.arrays(np.float32, width, elements=values)


ANY = floats(-LARGEST, LARGEST)


@st.composite
def pairs(draw: st.DrawFn, values: st.SearchStrategy[float] = ANY) -> tuple[Vector, Vector]:
    width = draw(st.integers(1, 70))
    return draw(vectors(width, values)), draw(vectors(width, values))


POWERS = st.sampled_from([1.0, 1.5, 2.0, 3.0, 4.0, 20.0, 300.0])


@pytest.mark.parametrize("metric", ORACLES)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_distance_is_what_scipy_says(metric: str, width: int) -> None:
    rows, queries = random(3, width), random(2, width, seed=1)
    found = distances(rows, queries)[metric]
    expected = [[ORACLES[metric](x.astype(np.float64), q.astype(np.float64)) for q in queries] for x in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 4, 7.5])
@pytest.mark.parametrize("width", [1, 2, 3, 8, 33, 70, 4096])
def test_minkowski_of_any_order_is_what_scipy_says(width: int, p: float) -> None:
    rows, queries = random(3, width), random(2, width, seed=1)
    expected = [[scipy.minkowski(x.astype(np.float64), q.astype(np.float64), p) for q in queries] for x in rows]
    np.testing.assert_allclose(distances(rows, queries, p)["minkowski"], expected, rtol=1e-12)


@pytest.mark.parametrize("width", WIDTHS)
def test_dice_of_zeros_and_ones_is_what_scipy_says(width: int) -> None:
    x, q = np.random.default_rng(width).integers(0, 2, (2, width)).astype(np.float32)
    x[0] = 1
    assert one(x, q)["dice"] == pytest.approx(scipy.dice(x.astype(bool), q.astype(bool)), abs=1e-15)


@pytest.mark.parametrize("width", WIDTHS)
def test_dice_of_other_vectors_is_its_formula(width: int) -> None:
    x, q = random(2, width)
    a, b = x.astype(np.float64), q.astype(np.float64)
    assert one(x, q)["dice"] == pytest.approx(1 - 2 * (a @ b) / (a @ a + b @ b), rel=1e-10, abs=1e-14)


def test_minkowski_means_p_3_if_nothing_else_is_said() -> None:
    rows, queries = random(3, 10), random(2, 10, seed=1)
    np.testing.assert_array_equal(distances(rows, queries)["minkowski"], distances(rows, queries, 3.0)["minkowski"])


@given(pairs(), POWERS)
def test_a_vector_and_itself_are_at_exactly_0(pair: tuple[Vector, Vector], p: float) -> None:
    assert one(pair[0], pair[0].copy(), p) == dict.fromkeys(METRICS, 0.0)


@given(pairs(), POWERS)
def test_distances_are_symmetric(pair: tuple[Vector, Vector], p: float) -> None:
    there, back = one(*pair, p), one(pair[1], pair[0], p)
    for name in METRICS.keys() - {"cosine"}:
        assert there[name] == pytest.approx(back[name], rel=1e-12, abs=0), name


@given(pairs(floats(-8, -0.125) | floats(0.125, 8)))
def test_cosine_is_symmetric(pair: tuple[Vector, Vector]) -> None:
    assert one(*pair)["cosine"] == pytest.approx(one(pair[1], pair[0])["cosine"], abs=1e-12)


@given(pairs(), POWERS)
def test_distances_of_finite_vectors_are_finite_and_not_negative(pair: tuple[Vector, Vector], p: float) -> None:
    for name, found in one(*pair, p).items():
        assert 0 <= found < math.inf, name


@given(pairs())
def test_cosine_and_dice_end_at_2(pair: tuple[Vector, Vector]) -> None:
    found = one(*pair)
    assert found["cosine"] <= 2
    assert found["dice"] <= 2 * (1 + 1e-12)


@given(pairs(st.just(0.0) | floats(2**-10, 2**10)))
def test_cosine_and_dice_of_activations_end_at_1(pair: tuple[Vector, Vector]) -> None:
    found = one(*pair)
    assert found["cosine"] <= 1 + 1e-9
    assert found["dice"] <= 1 + 1e-12


@settings(max_examples=50)
@given(st.integers(1, 70), st.integers(1, 6), st.integers(1, 4), st.data())
def test_a_distance_does_not_depend_on_its_neighbours(width: int, rows: int, queries: int, data: st.DataObject) -> None:
    x = np.stack([data.draw(vectors(width, ANY)) for _ in range(rows)])
    q = np.stack([data.draw(vectors(width, ANY)) for _ in range(queries)])
    together = distances(x, q)
    for name in METRICS:
        alone = [[one(row, query)[name] for query in q] for row in x]
        np.testing.assert_array_equal(together[name], alone)


@pytest.mark.parametrize("p", [3.0, 2.5])
@pytest.mark.parametrize("width", [1, 7, 70, 4096])
def test_a_table_gives_the_same_bits_at_any_batch_size(width: int, p: float) -> None:
    rows, queries = random(23, width), random(3, width, seed=1)
    whole = distances(rows, queries, p)
    for size in (1, 2, 5, 16):
        parts = [distances(rows[i : i + size], queries, p) for i in range(0, len(rows), size)]
        for name in METRICS:
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), whole[name])


@pytest.mark.parametrize("width", [1, 70, 4096])
def test_zero_vectors_have_defined_distances(width: int) -> None:
    zero, other = np.zeros(width, np.float32), random(1, width)[0]
    assert one(zero, zero) == dict.fromkeys(METRICS, 0.0)
    for found in (one(zero, other), one(other, zero)):
        assert found["cosine"] == 1
        assert found["dice"] == pytest.approx(1, abs=1e-15)
        assert min(found.values()) > 0


@pytest.mark.parametrize("p", [3.0, 20.0, 1000.0])
@pytest.mark.parametrize("scale", [SMALLEST, 1e-38, 1e-20, 1e20, 1e38])
def test_huge_and_tiny_values_differ_by_finite_distances(scale: float, p: float) -> None:
    x, q = np.array([[0, scale, scale], [scale, 0, scale]], np.float32)
    for name, found in one(x, q, p).items():
        assert 0 < found < math.inf, name
    assert one(x, q, p)["minkowski"] == pytest.approx(exact_minkowski(x, q, p), rel=1e-12, abs=0)


@given(pairs(), st.sampled_from([3.0, 8.0, 20.0]))
def test_minkowski_is_right_over_the_whole_range(pair: tuple[Vector, Vector], p: float) -> None:
    assert one(*pair, p)["minkowski"] == pytest.approx(exact_minkowski(*pair, p), rel=1e-9, abs=0)


def test_minkowski_is_right_where_powers_are_hardly_above_zero() -> None:
    x, q = np.array([7e-17], np.float32), np.zeros(1, np.float32)  # to the 20th: 8e-324, which no double is near
    assert one(x, q, 20.0)["minkowski"] == pytest.approx(7e-17, rel=1e-6, abs=0)


@pytest.mark.parametrize("length", [1.0, 1e5, 1e10, 1e17, 1e20, 1e38])
def test_a_right_angle_has_cosine_1_at_any_length(length: float) -> None:
    x, q = np.array([[length, 0], [0, 1]], np.float32)
    assert one(x, q)["cosine"] == pytest.approx(1, abs=1e-5)
    assert one(q, x)["cosine"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("length", [0.001, 0.5, 1000.0, 1e30])
def test_cosine_does_not_depend_on_length(length: float) -> None:
    x, q = random(2, 50)
    longer = (x.astype(np.float64) * length).astype(np.float32)
    assert one(longer, q)["cosine"] == pytest.approx(one(x, q)["cosine"], abs=1e-6)


@pytest.mark.parametrize("p", [3.0, 20.0])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_near_to_nothing(bad: float, p: float) -> None:
    good = random(3, 9)
    rows = good.copy()
    rows[1, 4] = bad
    for found in distances(rows, good, p).values():
        assert np.isinf(found[1]).all()
        assert np.isfinite(found[[0, 2]]).all()
    for found in distances(rows, rows, p).values():
        assert np.isposinf(found[1, 1])
        assert np.isposinf(found[:, 1]).all()
