"""Rounds of work: each bucket once, in order, neither too little work at a time nor too much."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dedup.rounds import BUCKET_FILES, LEAST_FILES, plan

COUNTS = st.dictionaries(st.integers(0, 500), st.integers(1, BUCKET_FILES + 90), min_size=1, max_size=200)


@given(COUNTS, st.integers(1, 64), st.sampled_from([128, 512]))
def test_rounds_have_each_bucket_once_and_are_neither_short_nor_long(
    counts: dict[int, int], slots: int, size: int
) -> None:
    ordered = sorted(counts.items())
    rounds = plan(ordered, slots, size)
    inside = [[bucket for bucket, _ in ordered if found.first <= bucket <= found.last] for found in rounds]
    assert [bucket for part in inside for bucket in part] == [bucket for bucket, _ in ordered]
    assert [sum(counts[bucket] for bucket in part) for part in inside] == [found.rows for found in rounds]
    most = size * slots
    assert all(found.rows <= most or found.first == found.last for found in rounds)
    least = LEAST_FILES * slots
    both = [(found.rows, found.rows + following.rows) for found, following in pairwise(rounds)]
    assert all(rows >= least or together > most for rows, together in both)
