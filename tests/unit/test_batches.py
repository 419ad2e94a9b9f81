"""Work that is done ahead: all by events, none by times."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator

import pytest

from dedup.batches import AHEAD_BYTES, ahead

PATIENCE = 60
"""Seconds after which an event has not come: only where a test fails."""


def drawn(count: int, taken: list[int]) -> Iterator[int]:
    """Return numbers, and note those that somebody has taken."""
    for number in range(count):
        taken.append(number)
        yield number


def test_rows_are_worked_on_before_they_are_asked_for() -> None:
    begun = [threading.Event() for _ in range(4)]
    outcomes = ahead(lambda row: begun[row].set(), range(4), 1, 3)
    next(outcomes)
    assert all(event.wait(PATIENCE) for event in begun[:3]), "though only the first was asked for"
    assert not begun[3].is_set(), "three wait at the most"


def test_as_many_rows_are_worked_on_at_a_time_as_there_are_threads() -> None:
    together = threading.Barrier(3)
    assert sorted(ahead(lambda _: together.wait(PATIENCE), range(6), 3, 6)) == [0, 0, 1, 1, 2, 2]


def test_outcomes_are_in_order_whichever_is_first() -> None:
    done = [threading.Event() for _ in range(5)]

    def work(row: int) -> int:
        assert row == 4 or done[row + 1].wait(PATIENCE)  # the last one first
        done[row].set()
        return row

    assert list(ahead(work, range(5), 5, 5)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_no_more_outcomes_wait_than_may(depth: int) -> None:
    taken: list[int] = []
    begun: list[int] = []

    def work(row: int) -> int:
        begun.append(row)
        return row

    for number, row in enumerate(ahead(work, drawn(20, taken), 2, depth)):
        assert row == number
        assert len(begun) <= number + depth
        assert len(taken) == min(20, number + depth + 1), "one more row is at hand, and not begun"


def test_no_more_bytes_wait_than_may() -> None:
    taken: list[int] = []
    waits = [AHEAD_BYTES // 2, AHEAD_BYTES // 2, 1, 2 * AHEAD_BYTES, 0]
    outcomes = ahead(lambda row: row, drawn(5, taken), 2, 5, waits.__getitem__)
    expected = [2, 3, 3, 4, 4]  # the last row that is taken has to wait for one before it
    for number, last in enumerate(expected):
        assert next(outcomes) == number
        assert taken[-1] == last


@pytest.fixture
def seen() -> set[threading.Thread]:
    return set()


@pytest.fixture
def work(seen: set[threading.Thread]) -> Callable[[int], int]:
    """What is done with a row, by threads that are seen; it fails of the third one."""

    def done(row: int) -> int:
        seen.add(threading.current_thread())
        if row == 2:
            raise ZeroDivisionError("of the third row")
        return row

    return done


def test_what_fails_is_told_at_its_row_and_the_threads_end(
    work: Callable[[int], int], seen: set[threading.Thread]
) -> None:
    outcomes = ahead(work, range(100), 2, 8)
    assert [next(outcomes), next(outcomes)] == [0, 1]
    with pytest.raises(ZeroDivisionError, match="of the third row"):
        next(outcomes)
    assert next(outcomes, None) is None
    assert seen
    assert not any(thread.is_alive() for thread in seen)


def test_threads_end_where_nobody_asks_any_more(work: Callable[[int], int], seen: set[threading.Thread]) -> None:
    outcomes = ahead(work, range(100), 2, 8)
    assert next(outcomes) == 0
    assert isinstance(outcomes, Generator)
    outcomes.close()
    assert seen
    assert not any(thread.is_alive() for thread in seen)


def test_threads_end_where_there_are_no_rows_left(seen: set[threading.Thread]) -> None:
    assert list(ahead(lambda _: seen.add(threading.current_thread()), range(9), 2, 4)) == [None] * 9
    assert not any(thread.is_alive() for thread in seen)
