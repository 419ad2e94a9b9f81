"""Vectors are read back as they were written, whichever rows of whichever files are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dedup import vectors

WIDTH = 5


def batch(first: int, rows: np.typing.NDArray[np.float32]) -> pa.RecordBatch:
    names = [f"{first + number:064x}" for number in range(len(rows))]
    return pa.RecordBatch.from_pydict({"sha256": names, "features": [row.tobytes() for row in rows]})


@pytest.mark.parametrize("most", [1, 3 * 4 * WIDTH, 7 * 4 * WIDTH - 1, 1 << 20])
def test_what_is_stored_is_read_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(vectors, "_FILE_BYTES", most)
    random = np.random.default_rng(most)
    rows = random.normal(size=(100, WIDTH)).astype(np.float32)
    rows[3] = np.nan
    given = iter([batch(0, rows[:40]), batch(40, rows[40:40]), batch(40, rows[40:])])
    stored = pa.Table.from_batches(vectors._store(given, str(tmp_path / "files"))).to_pylist()
    assert [row["sha256"] for row in stored] == [f"{number:064x}" for number in range(100)]
    at = [(row["file"], row["row"]) for row in stored]
    assert len(set(at)) == 100
    files = len({file for file, _ in at})
    assert files == {1: 100, 3 * 4 * WIDTH: 34, 7 * 4 * WIDTH - 1: 15}.get(most, 1)
    assert sum(path.stat().st_size for path in (tmp_path / "files").iterdir()) == rows.nbytes
    for some in (
        np.arange(100),
        random.permutation(100),
        random.integers(0, 100, 300),
        np.array([99]),
        np.array([], int),
    ):
        found = vectors.read([at[number] for number in some], WIDTH)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, rows[some])


@pytest.mark.parametrize("gap", [1, vectors._GAP, vectors._GAP + 1, 40])
def test_rows_between_are_passed_over(tmp_path: Path, gap: int) -> None:
    rows = np.arange(200 * WIDTH, dtype=np.float32).reshape(200, WIDTH)
    file = tmp_path / "one.f32"
    file.write_bytes(rows.tobytes())
    some = list(range(0, 200, gap))
    np.testing.assert_array_equal(vectors.read([(str(file), row) for row in some], WIDTH), rows[some])


def test_nothing_to_store_leaves_no_file(tmp_path: Path) -> None:
    empty = np.empty((0, WIDTH), np.float32)
    assert list(vectors._store(iter([batch(0, empty)]), str(tmp_path / "files"))) == []
    assert list(tmp_path.iterdir()) == []


def test_ranges_of_buckets_hold_few_enough_contents_and_all_of_them() -> None:
    assert vectors._ranges([]) == []
    most = vectors._LOOKED_UP
    assert vectors._ranges([(3, 2 * most)]) == [(3, 3)]
    assert vectors._ranges([(0, most), (1, 1), (2, most - 1), (9, 1)]) == [(0, 0), (1, 2), (9, 9)]
