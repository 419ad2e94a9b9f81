"""The poll's array part: top lists against a sort of everything."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dedup.distances import METRICS, distances
from dedup.errors import UsageError
from dedup.results import Nominees, check

WIDTH = 6
Hashes = NDArray[np.bytes_]
Vectors = NDArray[np.float32]
Placed = dict[tuple[int, str], list[tuple[float, bytes]]]
"""The top list of each query and metric: distance and hash, nearest first."""

SEEDS = st.integers(0, 2**32 - 1)


def table(rows: int, seed: int) -> tuple[Hashes, Vectors]:
    """Small whole numbers, so that many vectors are equal and many distances tie; some are not finite, some zero."""
    random = np.random.default_rng(seed)
    vectors = random.integers(0, 3, (rows, WIDTH)).astype(np.float32)
    vectors[random.random(rows) < 0.1] = 0
    vectors[random.random(rows) < 0.05, 2] = np.nan
    hashes = [hashlib.sha256(f"{seed}/{row}".encode()).hexdigest() for row in range(rows)]
    return np.array(hashes, "S64"), vectors


def asked(queries: int, seed: int) -> Vectors:
    return table(queries, seed + 1)[1].clip(0, 2)


def oracle(hashes: Hashes, rows: Vectors, queries: Vectors, top: int, metrics: Sequence[str]) -> Placed:
    """Sort all rows by (distance, sha256), for every query and metric."""
    found = distances(rows, queries)
    lists = {}
    for query in range(len(queries)):
        for metric in metrics:
            ranked = sorted(zip(found[metric][:, query].tolist(), hashes.tolist(), strict=True))
            lists[query, metric] = [(distance, sha256) for distance, sha256 in ranked if np.isfinite(distance)][:top]
    return lists


def nominate(
    hashes: Hashes, rows: Vectors, queries: Vectors, top: int, metrics: Sequence[str], cuts: Sequence[int] = ()
) -> Nominees:
    nominees = Nominees(queries, top, 3.0, metrics)
    for some, vectors in zip(np.split(hashes, cuts), np.split(rows, cuts), strict=True):
        nominees.add(some, vectors)
    return nominees


def top_lists(parts: Sequence[Nominees], queries: int, top: int, metrics: Sequence[str]) -> Placed:
    """Take the exact top of what all parts nominate, as the poll's window does."""
    lists: Placed = {}
    for query in range(queries):
        for metric in metrics:
            column = list(METRICS).index(metric)
            ranked = sorted(
                (float(part.distance[i, column]), bytes(part.sha256[i]))
                for part in parts
                for i in np.flatnonzero(part.query == query)
            )
            lists[query, metric] = ranked[:top]
    return lists


@st.composite
def polls(draw: st.DrawFn) -> tuple[Hashes, Vectors, Vectors, int, list[str]]:
    hashes, rows = table(draw(st.integers(1, 60)), draw(SEEDS))
    order = np.random.default_rng(draw(SEEDS)).permutation(len(rows))
    metrics = draw(st.lists(st.sampled_from(list(METRICS)), min_size=1, unique=True))
    return hashes[order], rows[order], asked(draw(st.integers(1, 4)), draw(SEEDS)), draw(st.integers(1, 70)), metrics


def cuts(draw: st.DataObject, rows: int) -> list[int]:
    return sorted(draw.draw(st.lists(st.integers(0, rows), max_size=6)))


@given(polls(), st.data())
def test_the_top_lists_are_those_of_a_full_sort_in_any_order_and_batches(
    poll: tuple[Hashes, Vectors, Vectors, int, list[str]], data: st.DataObject
) -> None:
    hashes, rows, queries, top, metrics = poll
    nominees = nominate(hashes, rows, queries, top, metrics, cuts(data, len(rows)))
    assert top_lists([nominees], len(queries), top, metrics) == oracle(hashes, rows, queries, top, metrics)


@given(polls(), st.data())
def test_partitions_together_nominate_the_top_of_the_whole(
    poll: tuple[Hashes, Vectors, Vectors, int, list[str]], data: st.DataObject
) -> None:
    hashes, rows, queries, top, metrics = poll
    where = cuts(data, len(rows))
    parts = [
        nominate(some, vectors, queries, top, metrics)
        for some, vectors in zip(np.split(hashes, where), np.split(rows, where), strict=True)
    ]
    assert top_lists(parts, len(queries), top, metrics) == oracle(hashes, rows, queries, top, metrics)


@given(polls(), st.data())
def test_nothing_is_kept_that_no_voting_metric_names(
    poll: tuple[Hashes, Vectors, Vectors, int, list[str]], data: st.DataObject
) -> None:
    hashes, rows, queries, top, metrics = poll
    nominees = nominate(hashes, rows, queries, top, metrics, cuts(data, len(rows)))
    kept = sorted(zip(nominees.query.tolist(), nominees.sha256.tolist(), strict=True))
    lists = oracle(hashes, rows, queries, top, metrics)
    assert kept == sorted({(query, sha256) for (query, _), ranked in lists.items() for _, sha256 in ranked})


def test_a_nominee_brings_the_distances_of_all_metrics() -> None:
    hashes, rows = table(40, 1)
    queries = asked(3, 2)
    nominees = nominate(hashes, rows, queries, 5, ["cosine"], [7, 9])
    found = distances(rows, queries)
    for i, query in enumerate(nominees.query):
        row = int(np.flatnonzero(hashes == nominees.sha256[i])[0])
        assert nominees.distance[i].tolist() == [found[metric][row, query] for metric in METRICS]


def test_equal_vectors_are_named_by_the_smallest_hashes() -> None:
    hashes, _ = table(100, 3)
    rows = np.ones((100, WIDTH), np.float32)
    nominees = nominate(hashes, rows, rows[:1], 4, list(METRICS), [50])
    assert sorted(nominees.sha256.tolist()) == sorted(hashes.tolist())[:4]


@given(polls(), st.data(), st.sampled_from([1, 2, 4, 8]))
def test_of_several_views_the_nearest_counts(
    poll: tuple[Hashes, Vectors, Vectors, int, list[str]], data: st.DataObject, views: int
) -> None:
    hashes, rows, queries, top, metrics = poll
    seen = np.concatenate([asked(views, data.draw(SEEDS)) for _ in queries])
    nominees = Nominees(seen, top, 3.0, metrics, views)
    where = cuts(data, len(rows))
    for some, vectors in zip(np.split(hashes, where), np.split(rows, where), strict=True):
        nominees.add(some, vectors)
    found = {name: each.reshape(len(rows), -1, views) for name, each in distances(rows, seen).items()}
    for query in range(len(queries)):
        alone = [nominate(hashes, rows, view[None], top, metrics) for view in seen[query * views :][:views]]
        for metric in metrics:
            column = list(METRICS).index(metric)
            best: dict[bytes, float] = {}
            for part in alone:
                for sha256, distance in zip(part.sha256.tolist(), part.distance[:, column].tolist(), strict=True):
                    best[sha256] = min(distance, best.get(sha256, np.inf))
            ranked = sorted((distance, sha256) for sha256, distance in best.items() if np.isfinite(distance))[:top]
            mine = np.flatnonzero(nominees.query == query)
            assert sorted((nominees.distance[i, column], nominees.sha256[i]) for i in mine)[:top] == ranked
    for i, query in enumerate(nominees.query.tolist()):
        row = int(np.flatnonzero(hashes == nominees.sha256[i])[0])
        by_view = [found[name][row, query] for name in metrics]
        nearest = [np.flatnonzero(each == each.min()).tolist() for each in by_view]
        agreeing = [sum(view in some for some in nearest) for view in range(views)]
        assert nominees.view[i] == agreeing.index(max(agreeing)), "the view in which most metrics see it nearest"


def test_a_long_table_keeps_few_nominees() -> None:
    hashes, rows = table(2000, 4)
    nominees = Nominees(asked(2, 5), 3, 3.0, list(METRICS))
    most = 0
    for start in range(0, 2000, 50):
        nominees.add(hashes[start : start + 50], rows[start : start + 50])
        most = max(most, len(nominees.query))
    assert most <= 2 * 3 * len(METRICS)


def test_an_unknown_metric_is_answered_with_all_that_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        check(5, 3.0, ["euclidean", "hamming"])
    assert "'hamming'" in str(caught.value)
    assert all(metric in str(caught.value) for metric in METRICS)


@pytest.mark.parametrize(
    ("top", "p", "metrics", "said"),
    [
        (0, 3.0, ["cosine"], "--top 0"),
        (-1, 3.0, ["cosine"], "--top -1"),
        (5, 0.5, ["cosine"], "--minkowski-p 0.5"),
        (5, float("nan"), ["cosine"], "--minkowski-p nan"),
        (5, float("inf"), ["cosine"], "--minkowski-p inf"),
        (5, 3.0, [], "at least one"),
        (5, 3.0, ["dice", "cosine", "dice"], "none twice"),
    ],
)
def test_a_poll_that_cannot_be_held_is_refused(top: int, p: float, metrics: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check(top, p, metrics)


@pytest.mark.parametrize("metrics", [list(METRICS), ["dice"]])
def test_a_poll_of_any_metrics_can_be_held(metrics: list[str]) -> None:
    check(1, 1.0, metrics)
