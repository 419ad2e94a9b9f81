"""The false pairs that thresholds let through, where their rate is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dedup import tails

Array = NDArray[np.float64]


def power_law(seed: int, sample: int, images: int, ranks: int) -> tuple[Array, Array, Array]:
    """Return the nearest distances of images whose shares are (d / scale)^dimension, and scales and dimensions."""
    random = np.random.default_rng(seed)
    scale, dimension = random.lognormal(0, 0.2, sample), random.uniform(8, 25, sample)
    shares = np.sort(random.random((sample, images - 1)), axis=1)[:, :ranks]
    return scale[:, None] * shares ** (1 / dimension[:, None]), scale, dimension


@pytest.mark.parametrize("seed", range(5))
def test_what_is_rarer_than_can_be_counted_is_met_within_a_factor_of_four(seed: int) -> None:
    images, sample = 2000, 300
    near, scale, dimension = power_law(seed, sample, images, 100)
    rate = 1e-8  # of 600,000 pairs that are looked at
    found = tails.threshold(tails.fit(near, np.full(sample, images)), rate)
    achieved = ((found / scale) ** dimension).mean()
    assert rate / 4 < achieved < rate * 4


def test_the_shares_are_right_on_average() -> None:
    images, sample = 300, 20_000
    random = np.random.default_rng(1)
    near = np.sort(random.random((sample, images - 1)), axis=1)[:, :40] ** (1 / 12)
    fitted = tails.fit(near, np.full(sample, images))
    shares = fitted.within(np.array([0.3, 0.4, 0.5]))
    error = shares.std(axis=0) / np.sqrt(sample)
    assert (abs(shares.mean(axis=0) - np.array([0.3, 0.4, 0.5]) ** 12) < 4 * error).all()


def test_a_fit_is_that_of_a_plain_loop() -> None:
    row = [1.0, 2.0, 3.0, 4.0, 5.0] + [6.0 + i for i in range(12)]
    fitted = tails.fit(np.array([[*row, np.inf, np.inf]]), np.array([101]))
    total = sum(np.log(17.0 / distance) for distance in row[5:]) + 5 * np.log(17.0 / 6.0)
    assert fitted.total == pytest.approx([total])
    assert (fitted.reach.tolist(), fitted.free.tolist(), fitted.share.tolist()) == ([17.0], [11.0], [0.16])
    depth = np.log(17 / 2.0)
    assert fitted.within(np.array([2.0]))[0, 0] == pytest.approx(0.16 * (1 - depth / total) ** 10)
    assert fitted.dimension() == pytest.approx([11 / total])


def test_how_near_the_five_nearest_are_does_not_matter() -> None:
    near, _, _ = power_law(3, 50, 500, 40)
    nearer = near.copy()
    nearer[:, :5] *= 1e-3
    images = np.full(50, 500)
    assert tails.threshold(tails.fit(near, images), 1e-7) == tails.threshold(tails.fit(nearer, images), 1e-7)
    nearer[:, :6] *= 1e-3
    assert tails.threshold(tails.fit(near, images), 1e-7) > 2 * tails.threshold(tails.fit(nearer, images), 1e-7)


def test_images_that_say_too_little_are_left_out() -> None:
    good = np.linspace(1, 2, 30)
    zeros = np.concatenate([np.zeros(6), good[6:]])
    short = np.where(np.arange(30) < 15, good, np.inf)
    nothing = np.full(30, np.inf)
    alike = np.full(30, 7.0)
    with np.errstate(all="raise"):
        fitted = tails.fit(np.stack([good, zeros, short, nothing, alike]), np.full(5, 100))
        assert fitted.reach.tolist() == [2.0, 7.0]
        shares = fitted.within(np.array([0.0, 6.9, 7.0]))
    assert shares[1].tolist() == [0, 0, pytest.approx(29 / 99)]
    assert len(tails.fit(np.empty((3, 0)), np.full(3, 100))) == 0


def test_shares_grow_with_the_distance_and_are_never_more_than_all() -> None:
    near, _, _ = power_law(4, 40, 200, 40)
    shares = tails.fit(near, np.full(40, 200)).within(np.geomspace(1e-9, 1e9, 200))
    assert (np.diff(shares, axis=1) >= 0).all()
    assert (shares >= 0).all()
    assert (shares <= 1).all()
    assert shares[:, 0].max() < 1e-20


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rate, held = 1e-6, 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        near = np.sort(random.random((80, 999)), axis=1)[:, :60] ** (1 / 12)
        low, high = tails.bootstrap(tails.fit(near, np.full(80, 1000)), rate, 200, 0, 0.95)
        held += low <= rate ** (1 / 12) <= high
    assert held >= 48  # of 57 expected: few images make a bootstrap too short


def test_the_same_draws_give_the_same_interval() -> None:
    near, _, _ = power_law(5, 60, 500, 40)
    fitted = tails.fit(near, np.full(60, 500))
    low, high = tails.bootstrap(fitted, 1e-7, 200, 1, 0.95)
    assert (low, high) == tails.bootstrap(fitted, 1e-7, 200, 1, 0.95)
    assert low < tails.threshold(fitted, 1e-7) < high


def test_the_target_is_what_makes_the_precision() -> None:
    images, precision, duplicates = 10_000, 0.99, 0.02
    false = tails.target(images, precision, duplicates) * images * (images - 1) / 2
    assert duplicates * images / (duplicates * images + false) == pytest.approx(precision)
