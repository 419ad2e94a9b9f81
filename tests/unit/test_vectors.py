"""Vectors are read back as they were written, whichever rows of whichever files are asked for, and never by a JVM."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from dedup import vectors
from dedup.distances import distances
from dedup.errors import UsageError

WIDTH = 5
At = tuple[Path, int]
"""A file and a row of it."""


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


@pytest.mark.parametrize("lead", [0, 1, 5])
def test_features_are_the_floats_in_the_bytes_of_a_slice_too(lead: int) -> None:
    rows = np.random.default_rng(0).normal(size=(9, WIDTH)).astype("<f4")
    column = pa.array([vector.tobytes() for vector in rows], pa.binary()).slice(lead, 3)
    found = vectors.matrix(column, WIDTH)
    np.testing.assert_array_equal(found, rows[lead : lead + 3])
    assert found.dtype == np.float32


def test_features_are_not_copied() -> None:
    column = pa.array([bytes(4 * WIDTH)] * 3, pa.binary())
    assert np.shares_memory(vectors.matrix(column, WIDTH), np.frombuffer(column.buffers()[2], np.uint8))


def test_features_beside_rows_of_other_lengths_are_whole() -> None:
    vector = np.arange(WIDTH, dtype="<f4")
    column = pa.array([b"odd", vector.tobytes(), b""], pa.binary()).slice(1, 1)
    found = vectors.matrix(column, WIDTH)
    assert found.tolist() == [vector.tolist()]
    assert distances(found, vector[None])["euclidean"] == 0, "a kernel takes what is not aligned"


def test_no_features_are_a_matrix_without_rows() -> None:
    assert vectors.matrix(pa.array([], pa.binary()), WIDTH).shape == (0, WIDTH)
    assert vectors.matrix(pa.array([b"x"], pa.binary()).slice(1), WIDTH).shape == (0, WIDTH)


@pytest.mark.parametrize("bad", [b"", b"x", bytes(4 * WIDTH - 4), bytes(8 * WIDTH), None])
def test_features_of_another_width_are_an_error(bad: bytes | None) -> None:
    with pytest.raises(ValueError, match=f"not {WIDTH} float32 long"):
        vectors.matrix(pa.array([bytes(4 * WIDTH), bad], pa.binary()), WIDTH)


@pytest.mark.parametrize("bad", [b"", b"x", bytes(4 * WIDTH - 4), bytes(8 * WIDTH), bytes(8 * WIDTH + 1), None])
def test_collected_features_of_another_width_are_bad_use(bad: bytes | None) -> None:
    assert vectors.stacked([], "here").shape == (0, 0)
    assert vectors.stacked([np.arange(3, dtype="<f4").tobytes()] * 2, "here").tolist() == [[0, 1, 2], [0, 1, 2]]
    for found in ([bytes(4 * WIDTH), bad], [bad, bytes(4 * WIDTH)], [None], [b"", b""]):
        with pytest.raises(UsageError, match="here: a row of features is not"):
            vectors.stacked(found, "here")


def hashed(at: At) -> str:
    return f"{at[0].name.encode().hex()[:32]:>032}{at[1]:032x}"


def vector(at: At) -> np.typing.NDArray[np.float32]:
    return np.random.default_rng([*at[0].name.encode(), at[1]]).normal(size=WIDTH).astype("<f4")


def written(file: Path, rows: int, group: int = 7) -> list[At]:
    """Write a file of features in row groups of so many rows, and return where they are."""
    made = [(file, row) for row in range(rows)]
    columns = {"sha256": [hashed(at) for at in made], "features": [vector(at).tobytes() for at in made]}
    pyarrow.parquet.write_table(pa.table(columns), file, row_group_size=group)
    return made


def addresses(asked: Iterable[At], size: int = 9) -> Iterator[pa.RecordBatch]:
    asked = list(asked)
    for start in range(0, len(asked), size):
        some = asked[start : start + size]
        files = [f"file:{quote(str(file))}" for file, _ in some]
        yield pa.RecordBatch.from_pydict({"file": files, "row": [row for _, row in some]})


def scanned(asked: Iterable[At], width: int = WIDTH) -> list[tuple[str, list[float]]]:
    found = list(vectors.scan(addresses(asked), width))
    assert all(len(hashes) == len(rows) for hashes, rows in found)
    assert all(rows.dtype == np.float32 and rows.shape[1] == width for _, rows in found)
    hashes = [sha256 for some, _ in found for sha256 in some.to_pylist()]
    return sorted(zip(hashes, [row for _, rows in found for row in rows.tolist()], strict=True))


@pytest.mark.parametrize("name", ["part-0.parquet", "a b%20=ü.parquet", "100%+#?.parquet"])
def test_a_scan_reads_any_rows_of_any_files_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(vectors, "_ROWS", 3)
    monkeypatch.setattr(vectors, "_ADDRESSES", 20)
    random = np.random.default_rng(len(name))
    one, other = written(tmp_path / name, 40), written(tmp_path / "other.parquet", 5)
    mixed = [(one + other)[i] for i in random.permutation(45)]
    for asked in (
        one + other,
        one,
        one[::-1],
        [one[i] for i in random.permutation(40)],
        one[3:4],
        one[-1:],
        one[8:30:5] + other[1:] + one[30:],
        [one[5], one[5], one[6]],
        mixed,
        [],
    ):
        assert scanned(asked) == sorted((hashed(at), vector(at).tolist()) for at in asked)


def test_a_scan_judges_no_other_row(tmp_path: Path) -> None:
    made = written(tmp_path / "one.parquet", 3)
    hashes = [hashed(at) for at in made]
    table = pa.table({"sha256": hashes, "features": [b"odd", vector(made[1]).tobytes(), None]})
    pyarrow.parquet.write_table(table, tmp_path / "one.parquet")
    assert scanned(made[1:2]) == [(hashed(made[1]), vector(made[1]).tolist())]
    for bad in (0, 2):
        said = (
            rf"one\.parquet: a file of features cannot be read: .* not {WIDTH} float32 long: it was made with another"
        )
        with pytest.raises(UsageError, match=said):
            scanned([made[1], made[bad]])


def test_a_scan_of_another_width_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not 6 float32 long"):
        scanned(written(tmp_path / "one.parquet", 3), 6)


def test_a_file_that_is_gone_or_another_is_named(tmp_path: Path) -> None:
    made = written(tmp_path / "a b.parquet", 30)
    written(tmp_path / "a b.parquet", 29)
    with pytest.raises(UsageError, match=r"a b\.parquet: a file of features has other rows"):
        scanned(made)
    (tmp_path / "a b.parquet").unlink()
    with pytest.raises(UsageError, match=r"a b\.parquet: a file of features cannot be read: .*[Nn]o such file"):
        scanned(made)


NAMES = pa.array(["a", "b"])
VECTORS = pa.array([bytes(4 * WIDTH)] * 2, pa.binary())


@pytest.mark.parametrize(
    "columns",
    [
        {"sha256": NAMES},
        {"features": VECTORS},
        {"sha256": pa.array([1, 2]), "features": VECTORS},
        {"sha256": NAMES, "features": pa.array(["ab", "cd"])},
        {"sha256": NAMES, "features": pa.array([1.0, 2.0])},
        {"sha256": NAMES, "features": pa.array([[1.0], [2.0]], pa.list_(pa.float32()))},
        {"sha256": NAMES, "features": VECTORS.cast(pa.large_binary())},
        {"sha256": NAMES, "features": VECTORS.cast(pa.binary(4 * WIDTH))},
        {"sha256": NAMES, "features": VECTORS.dictionary_encode()},
    ],
)
def test_columns_of_other_kinds_are_named(tmp_path: Path, columns: dict[str, pa.Array]) -> None:
    file = tmp_path / "one.parquet"
    pyarrow.parquet.write_table(pa.table(columns), file)
    with pytest.raises(UsageError, match=r"one\.parquet: a file of features cannot be read: its columns are "):
        scanned([(file, 0)])


# In a process of its own: a library of another language could end it.
DAMAGE = """if True:
    import pathlib, random, sys
    import pyarrow as pa
    from dedup import vectors
    from dedup.errors import UsageError

    file = pathlib.Path(sys.argv[1])
    good = file.read_bytes()
    chance = random.Random(0)
    refused = 0
    for _ in range(400):
        bad = bytearray(good)
        for _ in range(chance.randint(1, 6)):
            bad[chance.randrange(len(bad))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        file.write_bytes(bad[: chance.choice([len(bad), chance.randrange(len(bad))])])
        asked = pa.RecordBatch.from_pydict({"file": [f"file:{file}"] * 30, "row": list(range(30))})
        try:
            for hashes, rows in vectors.scan(iter([asked]), 5):
                assert rows.shape == (len(hashes), 5)
        except UsageError:
            refused += 1
    print(refused)
"""


def test_a_damaged_file_is_bad_use_and_nothing_else(tmp_path: Path, root: Path) -> None:
    written(tmp_path / "one.parquet", 30)
    command = [sys.executable, "-c", DAMAGE, str(tmp_path / "one.parquet")]
    run = subprocess.run(command, capture_output=True, text=True, cwd=root / "lib", timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    assert int(run.stdout) > 200


def test_a_scan_holds_no_more_than_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "_ROWS", 4)
    read = 0
    rows_of = vectors._rows_of

    def counted(*given: Any) -> Iterator[Any]:
        nonlocal read
        for one in rows_of(*given):
            read += 1
            yield one

    monkeypatch.setattr(vectors, "_rows_of", counted)
    some = vectors.scan(addresses(written(tmp_path / "one.parquet", 100, 100)), WIDTH)
    for done in range(1, 10):
        next(some)
        assert read <= done + vectors._AHEAD
