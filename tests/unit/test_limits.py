"""Thresholds of lakes whose images, copies and false pairs are made here."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import beta

from dedup import choices, limits, neighbours, tails
from dedup.distances import METRICS, distances
from dedup.edits import EDITS
from dedup.errors import UsageError
from dedup.limits import Measured

Array = NDArray[np.float64]
Vectors = NDArray[np.float32]

IMAGES, SAMPLE = 3000, 100
HIDDEN, WIDTH = 5, 16


def draw(seed: int, count: int) -> Vectors:
    """Return vectors that look like features: half of them zeros, of a lower dimension than their width."""
    mix = np.random.default_rng(1).normal(size=(HIDDEN, WIDTH))
    hidden = np.random.default_rng(seed).normal(size=(count, HIDDEN))
    return np.maximum(hidden @ mix, 0).astype(np.float32)


def apart(rows: Vectors, queries: Vectors) -> Array:
    """Return all distances, shape (queries, rows, metrics)."""
    return np.stack(list(distances(rows, queries).values()), axis=-1).swapaxes(0, 1)


def altered(seed: int, images: Vectors, strength: Array) -> Vectors:
    """Return images a little changed, each by its own strength, shape (images,)."""
    noise = np.random.default_rng(seed).normal(size=images.shape) * strength[:, None]
    return (images * (1 + noise)).astype(np.float32)


def measure(lake: Vectors, sample: Vectors, ranks: int) -> Measured:
    """Return what a job measures: the sample's neighbours in the lake, which holds it first, and its copies."""
    found = apart(lake, sample)
    found[np.arange(len(sample)), np.arange(len(sample))] = np.inf
    named = np.zeros(found.shape, bool)
    for metric in range(len(METRICS)):
        np.put_along_axis(named[:, :, metric], np.argsort(found[:, :, metric], axis=1)[:, :ranks], True, axis=1)
        listed = np.asarray(named.any(axis=2))
    order = np.argsort(~listed, axis=1, kind="stable")[:, : int(listed.sum(axis=1).max())]
    near = np.where(listed[:, :, None], found, np.inf)
    copies = np.empty((len(sample), len(EDITS), len(METRICS)))
    for number in range(len(EDITS)):
        copy = altered(100 + number, sample, np.full(len(sample), 0.004 * (1 + number)))
        copies[:, number] = np.stack([apart(a[None], b[None])[0, 0] for a, b in zip(copy, sample, strict=True)])
    picked = order[:, :, None]
    return Measured(
        len(lake), np.take_along_axis(near, picked, axis=1), np.take_along_axis(named, picked, axis=1), copies
    )


@pytest.fixture(scope="module")
def lake() -> Vectors:
    return draw(2, IMAGES)


@pytest.fixture(scope="module")
def measured(lake: Vectors) -> Measured:
    return measure(lake, lake[:SAMPLE], neighbours.LISTED)


@pytest.mark.parametrize("votes", [1, 3, 5])
def test_of_pairs_never_seen_as_many_are_false_as_was_asked_for(measured: Measured, votes: int) -> None:
    # 300,000 pairs were looked at; 3e-6 of 9,000,000 others are 27. Where images thin out faster than a power of the
    # distance, as these do a little, fewer are false.
    precision, rate = 0.9, 3e-6
    duplicates = rate * (IMAGES - 1) / 2 * precision / (1 - precision)
    found = limits.calibrate(measured, precision, votes, duplicates)
    assert found.rate == pytest.approx(rate)
    within = np.array(list(found.within.values()))
    own = np.array([alone.within.value for alone in found.alone.values()])
    rows, poll, alone = draw(3, 3000), 0, np.zeros(len(METRICS))
    for queries in np.array_split(draw(4, 3000), 15):
        pairs = apart(rows, queries)
        poll += int((limits.score(pairs, within, votes) <= 1).sum())
        alone += (pairs <= own).sum(axis=(0, 1))
    expected = rate * 3000 * 3000
    assert expected / 6 < poll < expected * 3
    assert (alone > expected / 6).all()
    assert (alone < expected * 3).all()


def test_natural_copies_in_the_lake_change_next_to_nothing() -> None:
    sample, random = 60, np.random.default_rng(5)
    lake = draw(11, 6000)
    clean = limits.calibrate(measure(lake, lake[:sample], neighbours.LISTED), 0.999, 3, 0.01)
    counts = random.integers(1, 21, sample)
    owners = np.repeat(lake[:sample], counts, axis=0)
    copies = altered(6, owners, random.uniform(0.0005, 0.003, len(owners)))
    planted = measure(np.concatenate([lake, copies]), lake[:sample], neighbours.LISTED)
    spoiled = limits.calibrate(planted, 0.999, 3, 0.01)
    assert spoiled.natural == counts.sum()
    assert (spoiled.copied, clean.natural) == (sample, 0)
    assert spoiled.crowded == (counts > neighbours.LISTED).sum()
    for metric, within in clean.within.items():
        assert spoiled.within[metric] == pytest.approx(within, rel=0.25)


def test_a_few_copies_that_are_less_near_change_little(lake: Vectors, measured: Measured) -> None:
    clean = limits.calibrate(measured, 0.999, 3, 0.01)
    copies = altered(7, lake[:SAMPLE:5], np.full(SAMPLE // 5, 0.03))
    planted = measure(np.concatenate([lake, copies]), lake[:SAMPLE], neighbours.LISTED)
    spoiled = limits.calibrate(planted, 0.999, 3, 0.01)
    assert spoiled.natural < len(copies) / 2, "they are not told from different images"
    for metric, within in clean.within.items():
        assert 0.75 * within < spoiled.within[metric] < 1.25 * within


def test_images_in_a_crowd_of_copies_are_left_out_and_counted(lake: Vectors, measured: Measured) -> None:
    crowd = altered(8, np.repeat(lake[:1], 300, axis=0), np.full(300, 0.002))
    found = limits.calibrate(measure(np.concatenate([lake, crowd]), lake[:SAMPLE], neighbours.LISTED), 0.999, 3, 0.01)
    assert found.crowded == 1
    assert found.copied == 1
    assert found.natural >= neighbours.LISTED
    assert any("taken for natural copies" in note for note in limits.notes(found))
    clean = limits.calibrate(measured, 0.999, 3, 0.01)
    assert found.within["cosine"] == pytest.approx(clean.within["cosine"], rel=0.3)


def test_scores_are_complete_as_far_as_they_are_used(lake: Vectors) -> None:
    measured = measure(lake, lake[:SAMPLE], 36)  # shorter than what is fitted: the lists' ends are reached
    within = np.array([1.0, 4.0, 0.1, 0.8, 0.1])
    everything = apart(lake, lake[:SAMPLE])
    everything[np.arange(SAMPLE), np.arange(SAMPLE)] = np.inf
    different = np.ones(measured.near.shape[:2], bool)
    for votes in (1, 3, 5):
        fitted = limits.score_tails(measured, different, within, votes)
        assert len(fitted) == SAMPLE
        scores = np.sort(limits.score(everything, within, votes), axis=1)
        ranks = (fitted.free + tails.CENSORED).astype(int)  # neighbours nearer than the last that is used
        assert fitted.reach == pytest.approx(scores[np.arange(SAMPLE), ranks], rel=0)


def test_a_score_is_what_makes_enough_votes() -> None:
    pair, within = np.array([3.0, 1.0, 8.0, 4.0, 2.0]), np.array([1.0, 2.0, 2.0, 2.0, 2.0])
    assert [float(limits.score(pair, within, votes)) for votes in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 4.0]


def test_natural_copies_are_as_near_as_mild_ones_by_most_metrics() -> None:
    copies = np.full((2, len(EDITS), 5), 9.0)
    copies[0, [list(EDITS).index(edit) for edit in limits.MILD]] = [[1.0] * 5, [3.0] * 5, [2.0] * 5]
    copies[1] = np.nan
    near = np.array([[[3.0, 3.0, 3.0, 9.0, 9.0], [3.0, 3.0, 3.1, 9.0, 9.0], [np.inf] * 5]] * 2)
    measured = Measured(100, near, np.isfinite(near), copies)
    assert limits.natural(measured).tolist() == [[True, False, False]] * 2


def test_recall_is_a_share_with_the_interval_of_clopper_and_pearson(measured: Measured) -> None:
    found = limits.calibrate(measured, 0.999, 3, 0.01)
    within = np.array(list(found.within.values()))
    for number, edit in enumerate(EDITS):
        votes = (measured.copies[:, number] <= within).sum(axis=1)
        hits, recall = int((votes >= 3).sum()), found.recall[edit]
        assert (recall.copies, recall.poll.value) == (SAMPLE, hits / SAMPLE)
        low = beta.ppf(0.025, hits, SAMPLE - hits + 1) if hits else 0.0
        high = beta.ppf(0.975, hits + 1, SAMPLE - hits) if hits < SAMPLE else 1.0
        assert [recall.poll.low, recall.poll.high] == pytest.approx([low, high])
    assert found.overall.poll.value == pytest.approx(np.mean([one.poll.value for one in found.recall.values()]))
    best = max(value.value for value in found.overall.alone.values())
    assert found.overall.alone[found.best].value == best
    assert found.gain.value == pytest.approx(found.overall.poll.value - best)
    assert found.recall["re-encoded"].poll.value == 1


def test_more_precision_means_narrower_thresholds(measured: Measured) -> None:
    wide, narrow = (limits.calibrate(measured, precision, 3, 0.01) for precision in (0.9, 0.9999))
    assert all(narrow.within[metric] < 0.9 * wide.within[metric] for metric in METRICS)
    for one in (wide, narrow):
        for alone in one.alone.values():
            assert alone.within.low < alone.within.value < alone.within.high


def test_choices_hold_what_was_asked_for_and_what_else_could_be(measured: Measured) -> None:
    found = limits.calibrate(measured, 0.999, 3, 0.01)
    others = choices.choices(measured, 0.999, 3, 0.01)
    (asked,) = [choice for choice in others if choice.asked]
    assert (asked.votes, asked.precision, asked.best) == (3, 0.999, found.best)
    assert asked.poll == pytest.approx(found.overall.poll.value)
    assert asked.alone == pytest.approx(found.overall.alone[found.best].value)
    assert {choice.votes for choice in others if choice.precision == 0.999} == {1, 2, 3, 4, 5}
    recalls = [choice.poll for choice in others if choice.votes == 3]
    assert recalls == sorted(recalls, reverse=True), "less is found the more precise it has to be"
    assert len(set(recalls)) > 1


def test_the_same_measurements_give_the_same_calibration(measured: Measured) -> None:
    random = np.random.default_rng(9)
    order = random.permutation(measured.near.shape[1])
    shuffled = replace(measured, near=measured.near[:, order], named=measured.named[:, order])
    assert asdict(limits.calibrate(measured, 0.99, 2, 0.1)) == asdict(limits.calibrate(shuffled, 0.99, 2, 0.1))


def test_images_that_cannot_be_read_have_neighbours_and_no_copies(measured: Measured) -> None:
    copies = measured.copies.copy()
    copies[:10] = np.nan
    found = limits.calibrate(replace(measured, copies=copies), 0.999, 3, 0.01)
    assert (found.unread, found.recall["resized"].copies) == (10, SAMPLE - 10)
    assert found.within == limits.calibrate(measured, 0.999, 3, 0.01).within
    assert any("could not be read" in note for note in limits.notes(found))


def test_equal_and_infinite_distances_do_no_harm(measured: Measured) -> None:
    near, copies = measured.near.copy(), measured.copies.copy()
    near[0, :, 2] = 0  # vectors of one direction
    near[1] = np.inf  # an image whose vector is not finite
    copies[1] = np.inf
    found = limits.calibrate(replace(measured, near=near, named=np.isfinite(near), copies=copies), 0.999, 3, 0.01)
    numbers = [number for alone in found.alone.values() for number in asdict(alone.within).values()]
    assert np.isfinite(numbers).all()
    assert min(numbers) > 0


def test_a_lake_that_says_nothing_is_refused(measured: Measured) -> None:
    with pytest.raises(UsageError, match="--table"):
        limits.calibrate(replace(measured, copies=np.full_like(measured.copies, np.nan)), 0.999, 3, 0.01)
    with pytest.raises(UsageError, match="no different images"):
        limits.calibrate(replace(measured, near=np.full_like(measured.near, 1e-9)), 0.999, 3, 0.01)
