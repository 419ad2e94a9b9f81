"""Rounds of work: each bucket once, in order, neither too little work at a time nor too much."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dedup.rounds import BUCKET_FILES, LEAST_FILES, plan

COUNTS = st.dictionaries(st.integers(0, 500), st.integers(1, BUCKET_FILES + 90), min_size=1, max_size=200)


@given(COUNTS, st.integers(1, 64))
def test_rounds_have_each_bucket_once_and_are_neither_short_nor_long(counts: dict[int, int], slots: int) -> None:
    ordered = sorted(counts.items())
    rounds = plan(ordered, slots)
    inside = [[bucket for bucket, _ in ordered if first <= bucket <= last] for first, last, _ in rounds]
    assert [bucket for part in inside for bucket in part] == [bucket for bucket, _ in ordered]
    assert [sum(counts[bucket] for bucket in part) for part in inside] == [rows for _, _, rows in rounds]
    assert all(rows <= BUCKET_FILES * slots or first == last for first, last, rows in rounds)
    assert all(rows + following > LEAST_FILES * slots for (_, _, rows), (_, _, following) in pairwise(rounds))
