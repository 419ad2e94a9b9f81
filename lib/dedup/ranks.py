"""How well copies are found among all images: their places, precision and recall, and how far the metrics agree.

docs/evaluation.md says what each figure means. Pure arrays, no Spark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dedup import limits, tails
from dedup.distances import METRICS
from dedup.limits import Interval
from dedup.thresholds import DEFAULT_VOTES

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

PLACES = (1, 5, 10)
"""A copy is found at k if it is among the first k images of an answer."""

POLL = "poll"
METHODS = (*METRICS, POLL)
"""What answers: each metric alone, and the poll of all."""

Rule = Callable[[Array, int], Array]
"""From places by metric, shape (images, metrics), infinite where a metric does not list it, and how many images each
metric names, to scores (images,): the smallest is the first. Of equal ones, the nearest by the first metric is."""


def _votes(place: Array, first: int) -> Array:
    votes: Array = -(place <= first).sum(axis=1).astype(float)
    return votes


RULES: dict[str, Rule] = {
    POLL: _votes,
    "votes, then mean place": lambda place, first: (
        _votes(place, first) + np.minimum(place, first + 1).mean(axis=1) / (first + 2)
    ),
    "Borda": lambda place, first: -np.clip(first + 1 - place, 0, None).sum(axis=1),
    "reciprocal ranks": lambda place, first: -np.where(place <= first, 1 / (60 + place), 0).sum(axis=1).round(12),
}
"""Ways to count what the metrics name. `query` has the first one. Sources: Aslam and Montague, Models for metasearch
(SIGIR 2001), for Borda; Cormack, Clarke and Buettcher, Reciprocal rank fusion (SIGIR 2009), with their 60."""

ALL = "all"
"""Copies of every kind."""

_ROUNDS = 500
_SEED = 0
_POINTS = 100  # of a curve that is shown
_FEW = 5  # groups say too little for an interval


@dataclass(frozen=True)
class Others:
    """The nearest different images of each image of a sample: what its copies are hidden among."""

    distance: Array  #: shape (images, neighbours, metrics), filled up by inf
    named: NDArray[np.bool_]  #: whether a neighbour is among the nearest of its image by a metric; no others matter
    end: Array  #: shape (images, metrics): how far all neighbours by a metric are known; inf where there are no more
    group: Indices  #: shape (images,): images in one group, as copies of each other, say the same

    @classmethod
    def around(
        cls, distance: Array, named: NDArray[np.bool_], copied: NDArray[np.bool_], whole: bool, group: Indices
    ) -> Others:
        """Return what is left of the nearest neighbours of images when copies are left out.

        Parameters
        ----------
        distance, named, group
            As above, with copies.
        copied
            Shape (images, neighbours): the copies.
        whole
            Whether each metric names all images that there are.
        """
        end = np.where(named & np.isfinite(distance), distance, -np.inf).max(axis=1, initial=-np.inf)
        return cls(distance, named & ~copied[:, :, None], np.where(whole, np.inf, end), group)

    def lists(self) -> Array:
        """Return each metric's own list, shape (images, neighbours, metrics), ascending, filled up by inf."""
        return np.sort(np.where(self.named, self.distance, np.inf), axis=1)


@dataclass(frozen=True)
class Copies:
    """Copies, each of an image of the sample."""

    image: Indices  #: shape (copies,): which image of the sample it is a copy of
    kind: NDArray[np.str_]  #: shape (copies,)
    distance: Array  #: shape (copies, metrics): to that image

    def are(self, kind: str) -> NDArray[np.bool_]:
        """Return which are of one kind, or of all, shape (copies,)."""
        return np.asarray((self.kind == kind) | (kind == ALL))

    def of(self, kind: str) -> Copies:
        """Return those of one kind, or of all."""
        some = self.are(kind)
        return Copies(self.image[some], self.kind[some], self.distance[some])

    @property
    def kinds(self) -> list[str]:
        """The kinds that there are, in the order of their first copies, and all of them."""
        return [*dict.fromkeys(self.kind.tolist()), ALL]


def places(others: Others, copies: Copies) -> Array:
    """Return the place of each copy when its image is asked for, by each metric alone, from 1, shape (copies, metrics).

    Each copy is hidden alone; of equally near images it is the last. It has no place (inf) where it is farther than all
    neighbours are known.
    """
    lists = others.lists()
    found = [
        [np.searchsorted(lists[image, :, metric], at, side="right") for metric, at in enumerate(distance)]
        for image, distance in zip(copies.image.tolist(), copies.distance, strict=True)
    ]
    place = np.array(found, float).reshape(len(copies.image), len(METRICS)) + 1
    return np.where(copies.distance <= others.end[copies.image], place, np.inf)


def found(others: Others, copies: Copies, first: int) -> dict[str, NDArray[np.bool_]]:
    """Return by method which copies are among the first images of an answer.

    Parameters
    ----------
    others, copies
        What is asked for, among what.
    first
        How many images an answer has, and each metric names.
    """
    place = places(others, copies)
    hit = {metric: place[:, i] <= first for i, metric in enumerate(METRICS)}
    own = np.where(others.named, others.distance, np.inf).argsort(axis=1, kind="stable").argsort(axis=1) + 1.0
    own[~others.named] = np.inf
    for rule in RULES:
        hit[rule] = np.zeros(len(place), bool)
    for i, (image, distance) in enumerate(zip(copies.image.tolist(), copies.distance, strict=True)):
        if place[i].min() > first:
            continue  # no metric names it
        near = others.distance[image]
        theirs = own[image] + (distance < near)  # now that the copy takes a place
        for rule, score in RULES.items():
            mine, others_score = score(place[i : i + 1], first)[0], score(theirs, first)
            before = (others_score < mine) | ((others_score == mine) & (near[:, 0] <= distance[0]))
            hit[rule][i] = (before & (theirs <= first).any(axis=1)).sum() < first
    return hit


def recall(others: Others, copies: Copies) -> dict[str, dict[str, dict[int, Interval]]]:
    """Return by kind, method and PLACES the share of copies that are found, with its interval."""
    by_place, group = {first: found(others, copies, first) for first in PLACES}, others.group[copies.image]
    kinds: dict[str, dict[str, dict[int, Interval]]] = {}
    for kind in copies.kinds:
        some = copies.are(kind)
        kinds[kind] = {
            method: {first: _share(by_place[first][method][some], group[some]) for first in PLACES}
            for method in (*METRICS, *RULES)
        }
    return kinds


def best(recall: dict[str, dict[str, dict[int, Interval]]]) -> str:
    """Return the metric that finds most copies alone, at the last of PLACES."""
    return max(METRICS, key=lambda metric: recall[ALL][metric][PLACES[-1]].value)


def gains(others: Others, copies: Copies) -> dict[str, Interval]:
    """Return by method how much more of all copies it finds than the poll does, at the last of PLACES."""
    hit = found(others, copies, PLACES[-1])
    group = others.group[copies.image]
    return {method: more(some, hit[POLL], group) for method, some in hit.items() if method != POLL}


def more(hit: NDArray[np.bool_], than: NDArray[np.bool_], group: Indices) -> Interval:
    """Return how much more of the same copies is found in one way than in another.

    Parameters
    ----------
    hit, than
        Which copies each of them finds, shape (copies,).
    group
        Which copies say the same, shape (copies,): the interval is that of drawing the groups again.
    """
    difference = _mean(hit.astype(float) - than, group)
    return difference if len(np.unique(group)) >= _FEW else Interval(difference.value, -1.0, 1.0)


def _share(hit: NDArray[np.bool_], group: Indices) -> Interval:
    """Return the share of hits; by Clopper and Pearson, where each group has one copy, or all are found, or none."""
    groups, first = np.unique(group, return_index=True)
    if len(groups) == len(hit):
        return limits.share(hit)
    if hit.all() or not hit.any():  # drawn again, it would be all or none each time, however few groups there are
        return limits.share(hit[first])
    found = _mean(hit.astype(float), group)
    return found if len(groups) >= _FEW else Interval(found.value, 0.0, 1.0)


def _mean(values: Array, group: Indices) -> Interval:
    """Return the mean, with the interval of drawing the groups again."""
    groups, index = np.unique(group, return_inverse=True)
    sums, counts = np.bincount(index, values), np.bincount(index)
    drawn = tails.drawn(len(groups), _ROUNDS, _SEED)
    return Interval(float(values.mean()), *tails.between((drawn @ sums) / (drawn @ counts), limits.LEVEL))


@dataclass(frozen=True)
class Curve:
    """Precision over recall, as a distance up to which images are called copies grows."""

    recall: Array  #: shape (copies that are handed in,)
    precision: Array
    average: Interval  #: the mean precision at each copy, 0 for those that are not handed in

    def thinned(self) -> tuple[Array, Array]:
        """Return recall and precision at so many points that the rest would not be seen."""
        count = len(self.recall)
        some = np.unique(np.linspace(0, count - 1, min(count, _POINTS)).round().astype(int))
        return self.recall[some], self.precision[some]


def curves(others: Others, copies: Copies) -> dict[str, dict[str, Curve]]:
    """Return by kind and method the precision over recall of all pairs of an image and a near one, in one order.

    As in the Image Similarity Challenge 2021 (Douze et al., arXiv 2106.09672), where the mean is called micro average
    precision: each image hands in its nearest others and its copy, if it is as near as these, and all are put in order
    by how near they are; of one kind of copies, those images do that have some. The poll's order is that of
    `limits.score`: the 3rd smallest of five distances, each divided by the median distance to a nearest different
    image.
    """
    lists = others.lists()
    own = np.median(lists[np.isfinite(lists[:, 0]).all(axis=1), 0], axis=0)
    pairs = {metric: (lists[:, :, i], copies.distance[:, i], others.end[:, i]) for i, metric in enumerate(METRICS)}
    known, all_images = others.named.any(axis=2), np.arange(len(others.end))
    scores = np.where(known, limits.score(others.distance, own, DEFAULT_VOTES), np.inf)
    polled = limits.score(copies.distance, own, DEFAULT_VOTES)
    pairs[POLL] = (scores, polled, limits.score(others.end, own, DEFAULT_VOTES))
    found: dict[str, dict[str, Curve]] = {}
    for kind in copies.kinds:
        some = copies.are(kind)
        asked = np.isin(all_images, copies.image[some])[:, None]
        found[kind] = {
            method: _curve(np.where(asked, near, np.inf), mine[some], copies.image[some], end, others.group)
            for method, (near, mine, end) in pairs.items()
        }
    return found


def _curve(near: Array, mine: Array, image: Indices, end: Array, group: Indices) -> Curve:
    """Return the curve.

    Parameters
    ----------
    near
        How near different images are, shape (images, neighbours), filled up by inf.
    mine
        How near copies are, shape (copies,).
    image
        Of which images they are copies.
    end
        How far the neighbours of each image are known, shape (images,).
    group
        Which images say the same, shape (images,).
    """
    near = np.where(near <= end[:, None], near, np.inf)
    rows, _ = np.nonzero(np.isfinite(near))
    handed = mine <= end[image]
    value = np.concatenate([near[np.isfinite(near)], mine[handed]])
    who = np.concatenate([rows, image[handed]])
    right = np.concatenate([np.zeros(len(rows), bool), np.ones(int(handed.sum()), bool)])
    order = np.lexsort((right, value))  # of equally near pairs, copies are the last
    who, right = who[order], right[order]
    hits = np.cumsum(right)
    precision = hits[right] / (np.flatnonzero(right) + 1)
    average = float(precision.sum() / len(mine))
    groups, index = np.unique(group, return_inverse=True)
    count = np.bincount(index[image], minlength=len(groups)).astype(float)
    low, high = 0.0, 1.0
    if np.count_nonzero(count) >= _FEW:
        drawn = [weights for weights in tails.drawn(len(groups), _ROUNDS, _SEED) if weights @ count]  # else no copies
        averages = [_average(weights, index[who], right, weights @ count) for weights in drawn]
        low, high = tails.between(np.array(averages), limits.LEVEL)
    return Curve(hits[right] / len(mine), precision, Interval(average, low, high))


def _average(weights: Array, who: Indices, right: NDArray[np.bool_], copies: float) -> float:
    """Return the average precision where groups count by weights, and `who` is the group of each pair."""
    each = weights[who]
    hits, all_pairs = np.cumsum(each * right)[right], np.cumsum(each)[right]
    precision = np.divide(hits, all_pairs, out=np.zeros_like(hits), where=all_pairs > 0)
    return float((each[right] * precision).sum() / copies)


@dataclass(frozen=True)
class Agreement:
    """How far the metrics name the same images."""

    shared: Array  #: shape (metrics, metrics): of the images that two metrics name, the share that both do
    opinions: float  #: how many metrics there effectively are: 1 if all name the same, 5 if no two name one


def agreement(others: Others, first: int = PLACES[-1]) -> Agreement:
    """Return how far the metrics agree on the nearest different images.

    The effective number is the diversity of order 2 of Leinster and Cobbold, Measuring diversity: the importance of
    species similarity (Ecology 93, 2012), where metrics are alike by the share of images that they both name.

    Parameters
    ----------
    others
        The nearest different images.
    first
        How many of them each metric names.
    """
    last = others.lists()[:, min(first, others.distance.shape[1]) - 1]
    named = (others.named & (others.distance <= last[:, None, :])).astype(float)
    both = np.einsum("inj,ink->ijk", named, named)
    counts = np.einsum("ijj->ij", both)
    both, counts = both[counts.all(axis=1)], counts[counts.all(axis=1)]  # an image may have copies only around it
    share = both / np.minimum(counts[:, :, None], counts[:, None, :])
    shared: Array = share.mean(axis=0)
    return Agreement(shared, float(len(METRICS) ** 2 / shared.sum()))


def rows(kinds: dict[str, dict[str, dict[int, Interval]]]) -> Iterator[tuple[str, str, int, Interval]]:
    """Return recall as rows: kind, method, place, share."""
    for kind, methods in kinds.items():
        for method, by_place in methods.items():
            for first, share in by_place.items():
                yield kind, method, first, share
