"""Places, recall, precision and agreement, against answers that are put in order one by one."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from dedup import limits, ranks
from dedup.distances import METRICS
from dedup.ranks import ALL, PLACES, POLL, Copies, Others

IMAGES, NEIGHBOURS, LISTED = 12, 40, 15
KINDS = ("blurred", "text")


def others(seed: int, whole: bool = False) -> Others:
    """Invent neighbours of which each metric names its nearest LISTED; distances of whole numbers tie often."""
    random = np.random.default_rng(seed)
    shape = (IMAGES, NEIGHBOURS, len(METRICS))
    distance = random.random(shape) + random.random(shape[:2])[..., None]
    if whole:
        distance = np.ceil(3 * distance)
    distance[0, NEIGHBOURS // 2 :] = np.inf
    named = distance.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable") < LISTED
    named &= np.isfinite(distance)
    distance[~named.any(axis=2)] = np.inf
    return all_of(distance, named, whole=True)


def all_of(distance: NDArray[np.float64], named: NDArray[np.bool_], whole: bool = False) -> Others:
    return Others.around(distance, named, np.zeros(named.shape[:2], bool), whole, np.arange(len(named)))


def copies(seed: int, whole: bool = False) -> Copies:
    random = np.random.default_rng(seed + 1)
    image = np.repeat(np.arange(IMAGES), len(KINDS))
    shape = (len(image), len(METRICS))
    distance = random.integers(0, 6, shape).astype(float) if whole else random.random(shape) * 1.2
    return Copies(image, np.tile(np.array(KINDS), IMAGES), distance)


COPY = -1


def listed(of: Others, image: int, copy: list[float]) -> list[list[tuple[int, float]]]:
    """Return each metric's list with the copy in it, as pairs of a name and a distance: everything is put in order."""
    lists = []
    for metric in range(len(METRICS)):
        there = [(i, of.distance[image, i, metric]) for i in range(NEIGHBOURS) if of.named[image, i, metric]]
        lists.append(sorted([*there, (COPY, copy[metric])], key=lambda one: (one[1], one[0] == COPY)))
    return lists


def answer(of: Others, image: int, copy: list[float], first: int) -> tuple[list[int], int | None]:
    """Return the place of a copy by each metric, and in the poll of the first by each."""
    lists = listed(of, image, copy)
    places = [[name for name, _ in order].index(COPY) + 1 for order in lists]
    votes = Counter(name for order in lists for name, _ in order[:first])
    nearest = dict([*enumerate(of.distance[image, :, 0].tolist()), (COPY, copy[0])])
    polled = sorted(votes, key=lambda name: (-votes[name], nearest[name], name == COPY))
    return places, polled.index(COPY) + 1 if COPY in votes else None


@given(st.integers(0, 10**6), st.sampled_from(PLACES), st.booleans())
def test_places_and_polls_are_those_of_ordered_answers(seed: int, first: int, whole: bool) -> None:
    among, hidden = others(seed, whole), copies(seed, whole)
    place, hit = ranks.places(among, hidden), ranks.found(among, hidden, first)
    for i, (image, distance) in enumerate(zip(hidden.image.tolist(), hidden.distance.tolist(), strict=True)):
        places, polled = answer(among, image, distance, first)
        assert place[i].tolist() == places
        assert [hit[metric][i] for metric in METRICS] == [at <= first for at in places]
        assert hit[POLL][i] == (polled is not None and polled <= first)


@given(st.integers(0, 10**6), st.sampled_from(PLACES), st.booleans())
def test_other_rules_put_the_named_in_the_order_of_their_sums(seed: int, first: int, whole: bool) -> None:
    among, hidden = others(seed, whole), copies(seed, whole)
    hit = ranks.found(among, hidden, first)
    for i, (image, distance) in enumerate(zip(hidden.image.tolist(), hidden.distance.tolist(), strict=True)):
        lists = listed(among, image, distance)
        named = {name for order in lists for name, _ in order[:first]}
        nearest = {name: (at, False) for name, at in enumerate(among.distance[image, :, 0].tolist())}
        nearest[COPY] = (distance[0], True)
        tops = [[one for one, _ in order[:first]] for order in lists]
        places = {name: [top.index(name) if name in top else None for top in tops] for name in named}
        sums: dict[str, dict[int, Any]] = {
            "votes, then mean place": {
                name: (-sum(at is not None for at in each), sum(first if at is None else at for at in each))
                for name, each in places.items()
            },
            "Borda": {name: -sum(first - at for at in each if at is not None) for name, each in places.items()},
            "reciprocal ranks": {
                name: -sum(Fraction(1, 61 + at) for at in each if at is not None) for name, each in places.items()
            },
        }
        for rule, scores in sums.items():
            order = sorted(named, key=lambda name: (scores[name], nearest[name]))
            assert hit[rule][i] == (COPY in order[:first]), rule


def test_of_equally_near_images_the_copy_is_the_last() -> None:
    among = all_of(np.ones((1, 3, len(METRICS))), np.ones((1, 3, len(METRICS)), bool))
    hidden = Copies(np.array([0]), np.array(["text"]), np.ones((1, len(METRICS))))
    assert (ranks.places(among, hidden) == 4).all()
    assert not ranks.found(among, hidden, 1)[POLL][0]


def test_recall_is_counted_by_kind_and_over_all() -> None:
    among, hidden = others(1), copies(1)
    recall = ranks.recall(among, hidden)
    assert list(recall) == [*KINDS, ALL]
    for first in PLACES:
        hit = ranks.found(among, hidden, first)
        for kind in KINDS:
            for method, share in recall[kind].items():
                assert share[first] == limits.share(hit[method][hidden.kind == kind])
        for method, share in recall[ALL].items():
            assert share[first].value == hit[method].mean()
            assert share[first].low <= share[first].value <= share[first].high


@pytest.mark.parametrize("seed", range(5))
def test_the_average_precision_is_that_of_scikit_learn(seed: int) -> None:
    among, hidden = others(seed), copies(seed)
    among = all_of(among.distance, among.named)
    found = ranks.curves(among, hidden)
    lists, own = among.lists(), np.median(among.lists()[:, 0], axis=0)
    for kind in (*KINDS, ALL):
        mine = hidden.of(kind)
        ordered = {metric: (lists[:, :, i], mine.distance[:, i], among.end[:, i]) for i, metric in enumerate(METRICS)}
        third = [np.sort(one / own, axis=-1)[..., 2] for one in (among.distance, mine.distance, among.end)]
        third[0] = np.where((third[0] <= third[2][:, None]) & among.named.any(axis=2), third[0], np.inf)
        for method, (near, score, end) in (ordered | {POLL: third}).items():
            handed = score <= end[mine.image]
            near = near[np.isfinite(near)]
            right = np.concatenate([np.zeros(len(near)), np.ones(handed.sum())])
            expected = average_precision_score(right, -np.concatenate([near, score[handed]])) * handed.mean()
            curve = found[kind][method]
            assert curve.average.value == pytest.approx(expected)
            assert curve.average.low <= curve.average.value <= curve.average.high
            assert len(curve.recall) == len(curve.precision) == handed.sum()


def test_a_copy_beyond_the_known_neighbours_is_not_found_however_many_of_these_are_copies() -> None:
    near = np.arange(1.0, 21.0)[None, :, None] * np.ones(len(METRICS))
    copied = np.arange(20)[None, :] < 15
    hidden = Copies(np.array([0, 0]), np.array(["text"] * 2), np.array([[18.5], [20.5]]) * np.ones(len(METRICS)))
    for whole, last in ((False, np.inf), (True, 6)):
        among = Others.around(near, np.ones(near.shape, bool), copied, whole, np.array([0]))
        place = ranks.places(among, hidden)
        assert place[0].tolist() == [4] * len(METRICS)
        assert place[1].tolist() == [last] * len(METRICS)
        for hit in ranks.found(among, hidden, 10).values():
            assert hit.tolist() == [True, whole]


def test_images_of_one_group_are_one_witness() -> None:
    random = np.random.default_rng(0)
    near = 1 + random.random((40, 20, len(METRICS)))
    distance = np.repeat(np.array([[0.5]] * 20 + [[9.0]] * 20), len(METRICS), axis=1)
    hidden = Copies(np.arange(40), np.array(["text"] * 40), distance)

    def interval(group: NDArray[np.intp]) -> float:
        among = Others.around(near, np.ones(near.shape, bool), np.zeros((40, 20), bool), False, group)
        share = ranks.recall(among, hidden)["text"][POLL][10]
        assert share.value == 0.5
        return share.high - share.low

    alone, pairs = interval(np.arange(40)), interval(np.arange(40) // 2)
    assert 0.2 < alone < pairs
    assert interval(np.zeros(40, int)) == 1, "of one group, nothing is known"


def test_of_few_groups_little_is_certain_also_where_all_is_found() -> None:
    near = 1 + np.random.default_rng(0).random((51, 20, len(METRICS)))
    among = Others.around(near, np.ones(near.shape, bool), np.zeros((51, 20), bool), False, np.arange(51) // 3)
    hidden = Copies(np.arange(51), np.array(["text"] * 51), np.full((51, len(METRICS)), 0.5))
    share = ranks.recall(among, hidden)["text"][POLL][1]
    assert (share.value, share.high) == (1, 1)
    assert share.low == pytest.approx(0.025 ** (1 / 17)), "the probability of all of 17 is a fortieth there"


def test_a_rare_kind_of_copies_is_drawn_where_there_are_copies() -> None:
    among, hidden = others(1), copies(1)
    among = all_of(among.distance, among.named)
    few = np.flatnonzero(hidden.kind == "text")[:6]
    rare = Copies(hidden.image[few], np.array(["rare"] * 6), np.full((6, len(METRICS)), 1e-9))
    average = ranks.curves(among, rare)["rare"]["dice"].average
    assert average.value == average.low == average.high == 1


def test_kinds_of_copies_are_hidden_among_what_is_near_to_their_own_images() -> None:
    near = np.full((2, 3, len(METRICS)), 2.0)
    near[1] = 0.5
    distance = np.array([[1.0], [0.25]]) * np.ones(len(METRICS))
    hidden = Copies(np.array([0, 1]), np.array(["blurred", "text"]), distance)
    found = ranks.curves(all_of(near, np.ones(near.shape, bool)), hidden)
    assert [found[kind]["euclidean"].average.value for kind in ("blurred", "text")] == [1, 1]
    assert found[ALL]["euclidean"].average.value == pytest.approx((1 + 2 / 5) / 2)


def test_a_gain_is_what_is_found_more_than_by_the_poll() -> None:
    among, hidden = others(2), copies(2)
    recall = ranks.recall(among, hidden)
    gains = ranks.gains(among, hidden)
    assert list(gains) == [*METRICS, *list(ranks.RULES)[1:]]
    for method, gain in gains.items():
        assert gain.value == pytest.approx(recall[ALL][method][10].value - recall[ALL][POLL][10].value)
        assert gain.low <= gain.value <= gain.high
    best = ranks.best(recall)
    assert recall[ALL][best][10].value == max(recall[ALL][metric][10].value for metric in METRICS)


def test_of_few_groups_no_gain_is_clear() -> None:
    better, worse = np.ones(12, bool), np.zeros(12, bool)
    assert ranks.more(better, worse, np.arange(12) // 3) == limits.Interval(1, -1, 1)
    assert ranks.more(better, worse, np.arange(12) // 2) == limits.Interval(1, 1, 1)


def test_precision_falls_with_what_comes_before() -> None:
    near = np.full((2, 2, len(METRICS)), 2.0)
    among = all_of(near, np.ones(near.shape, bool))
    distance = np.array([[1.0], [2.0]]) * np.ones(len(METRICS))
    curve = ranks.curves(among, Copies(np.array([0, 1]), np.array(["text"] * 2), distance))[ALL]["euclidean"]
    assert curve.recall.tolist() == [0.5, 1]
    assert curve.precision.tolist() == [1, 2 / 6], "one of one, then two of six"


def test_five_metrics_that_name_the_same_are_one_opinion_and_others_five() -> None:
    alike = np.random.default_rng(0).random((4, 60, 1)) * np.ones(len(METRICS))
    named = alike.argsort(axis=1).argsort(axis=1) < 20
    assert ranks.agreement(all_of(alike, named)).opinions == pytest.approx(1)
    apart = np.full((4, 60, len(METRICS)), 9.0)
    for metric in range(len(METRICS)):
        apart[:, 12 * metric : 12 * metric + 10, metric] = np.arange(1, 11) / 10
    found = ranks.agreement(all_of(apart, apart < 9))
    assert found.opinions == pytest.approx(len(METRICS))
    assert np.array_equal(found.shared, np.eye(len(METRICS)))


def test_an_image_without_neighbours_says_nothing() -> None:
    among = others(3)
    among.distance[4], among.named[4] = np.inf, False
    assert np.isfinite(ranks.agreement(among).shared).all()
    assert np.isfinite(ranks.curves(among, copies(3))[ALL][POLL].average.value)
