"""The small files beside tables, which anybody may have written: any bytes are what a job left, or bad use."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dedup import claims, formats, models, parts, state, storage, thresholds
from dedup.errors import UsageError
from dedup.lines import printable
from dedup.models import Made
from dedup.onnx_model import Recipe
from dedup.state import State

MODEL = "vgg16-fc2-000000000000-float32-bilinear224"
MADE = asdict(Made(MODEL, "seeded:0", "float32", (), complete=True, parts=("000001-0123abcd",)))
RECIPE = asdict(Recipe(224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "features", 512))
AXES = "_axes-0123456789abcdef.npy"
STATE = {
    "run": 3,
    "settings": {"model": MODEL},
    "parts": ["000001-0123abcd", "000002-0123abcd-all"],
    "pairs": "000001-0123abcd",
    "cut": False,
    "axes": AXES,
}
THRESHOLDS = asdict(thresholds.defaults())

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=9,
)


def put(folder: Path, content: bytes) -> None:
    """Put bytes in the place of each of the files."""
    (folder / "_models").mkdir(exist_ok=True)
    for name in (f"_models/{MODEL}", "_state.json", "thresholds.json", "_format", "_running"):
        (folder / name).write_bytes(content)


READERS: dict[str, Callable[[str], object]] = {
    "models": models.of,
    "state": state.load,
    "thresholds": lambda folder: thresholds.load(f"{folder}/thresholds.json"),
    "format": formats.of,
    "claim": lambda folder: claims.Claim(folder, "a test").require(),
}


def read(folder: Path) -> None:
    """Read all of the files: bad use is allowed, and nothing else."""
    for reader in READERS.values():
        try:
            reader(str(folder))
        except UsageError as error:
            said = str(error)
        else:
            continue
        assert len(printable(said).splitlines()) == 1


def good(folder: Path) -> None:
    np.save(folder / AXES, np.eye(3))
    put(folder, b"")
    for name, content in {f"_models/{MODEL}": MADE, "_state.json": STATE, "thresholds.json": THRESHOLDS}.items():
        (folder / name).write_text(json.dumps(content))


def test_a_recipe_is_read(tmp_path: Path) -> None:
    good(tmp_path)
    (tmp_path / "_models" / MODEL).write_text(json.dumps(MADE | {"recipe": RECIPE}))
    assert models.of(str(tmp_path))[0].recipe == Recipe(224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "features", 512)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_value_in_a_recipe_is_bad_use_at_the_most(tmp_path: Path, data: st.DataObject) -> None:
    good(tmp_path)
    key = data.draw(st.sampled_from(sorted(RECIPE)))
    (tmp_path / "_models" / MODEL).write_text(json.dumps(MADE | {"recipe": RECIPE | {key: data.draw(JSON)}}))
    read(tmp_path)


def test_what_jobs_leave_is_read(tmp_path: Path) -> None:
    good(tmp_path)
    assert models.of(str(tmp_path)) == [Made(**MADE | {"ranges": ()})]
    found = state.load(str(tmp_path))
    assert isinstance(found, State)
    assert (found.run, found.parts, found.axes.shape) == (3, tuple(STATE["parts"]), (3, 3))  # type: ignore[arg-type]


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_bad_use_at_the_most(tmp_path: Path, content: bytes) -> None:
    put(tmp_path, content)
    read(tmp_path)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_value_in_the_place_of_another_is_bad_use_at_the_most(tmp_path: Path, data: st.DataObject) -> None:
    good(tmp_path)
    for name, content in {f"_models/{MODEL}": MADE, "_state.json": STATE, "thresholds.json": THRESHOLDS}.items():
        key = data.draw(st.sampled_from(sorted(content)))
        (tmp_path / name).write_text(json.dumps(content | {key: data.draw(JSON)}))
    read(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 5000,
        b'{"run": "x", "process": 1' + b"0" * 30 + b"}",
        b"\xff\xfe[\0",
    ],
    ids=["deep lists", "deep objects", "a long number", "a process that cannot be", "half a letter"],
)
def test_hostile_json_is_bad_use(tmp_path: Path, content: bytes) -> None:
    put(tmp_path, content)
    read(tmp_path)
    for name in ("models", "state", "thresholds", "format"):
        with pytest.raises(UsageError):
            READERS[name](str(tmp_path))
    assert not claims._runs(10**30)


def test_a_note_of_a_gigabyte_takes_no_memory(tmp_path: Path) -> None:
    put(tmp_path, b"[")
    for name in (f"_models/{MODEL}", "_state.json", "thresholds.json", "_format", "_running"):
        os.truncate(tmp_path / name, 200 << 20)  # less than an image may have
    tracemalloc.start()
    read(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()


def test_a_note_of_many_small_things_takes_little(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("[" + "[]," * 100_000 + "[]]")
    tracemalloc.start()
    assert len(storage.read_note(str(tmp_path / "note"))) == 100_001
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("_state.json", STATE | {"axes": "../axes.npy"}),
        ("_state.json", STATE | {"axes": "/etc/passwd"}),
        ("_state.json", STATE | {"parts": ["x') OR ('' = '"]}),
        ("_state.json", STATE | {"pairs": "x') OR ('' = '"}),
        ("_state.json", STATE | {"run": 1 << 40}),
        ("_state.json", STATE | {"run": True}),
        ("_state.json", STATE | {"settings": []}),
        (f"_models/{MODEL}", MADE | {"model": "../../elsewhere"}),
        (f"_models/{MODEL}", MADE | {"complete": "yes"}),
        (f"_models/{MODEL}", MADE | {"precision": "float8"}),
        (f"_models/{MODEL}", MADE | {"precision": "int8", "ranges": [float("nan")]}),
        (f"_models/{MODEL}", MADE | {"precision": "int8", "ranges": [10**400]}),
        (f"_models/{MODEL}", MADE | {"weights": ["a"]}),
        (f"_models/{MODEL}", MADE | {"recipe": []}),
        (f"_models/{MODEL}", MADE | {"recipe": RECIPE | {"mean": [10**400, 0, 0]}}),
        (f"_models/{MODEL}", MADE | {"recipe": RECIPE | {"std": [1e-300, 1, 1]}}),
        (f"_models/{MODEL}", MADE | {"recipe": RECIPE | {"layer": "\ud800"}}),
        (f"_models/{MODEL}", MADE | {"recipe": RECIPE | {"width": -1}}),
        (f"_models/{MODEL}", MADE | {"recipe": RECIPE | {"side": 1 << 30}}),
    ],
)
def test_values_that_would_do_harm_are_bad_use(tmp_path: Path, name: str, wrong: dict[str, Any]) -> None:
    good(tmp_path)
    np.save(tmp_path.parent / "axes.npy", np.eye(3))
    (tmp_path / name).write_text(json.dumps(wrong))
    with pytest.raises(UsageError, match="not what"):
        (state.load if name == "_state.json" else models.of)(str(tmp_path))


def npy(header: str) -> bytes:
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 8), }"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }") + b"cos\nsystem\n(S'true'\ntR.",
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 3), }"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1), }") + bytes(4),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }") + bytes(8),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1), }") + np.float64("nan").tobytes(),
        npy("(" * 5000),
        npy("{'descr': "),
        b"PK\3\4" + bytes(30),
    ],
)
def test_axes_that_are_none_are_bad_use(tmp_path: Path, content: bytes) -> None:
    good(tmp_path)
    (tmp_path / AXES).write_bytes(content)
    with pytest.raises(UsageError, match="not what a deduplication leaves"):
        state.load(str(tmp_path))


def test_a_folder_that_looks_like_a_part_is_none(tmp_path: Path) -> None:
    for name in ("part=x", "part=", "part=000009", "part=000002-0123abcd", "part=000003-a' OR 'a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "_SUCCESS").touch()
    assert parts.Parquet()._parts(str(tmp_path)) == ["part=000002-0123abcd"]
    assert parts.Parquet().versions(str(tmp_path)) == 2


@given(st.integers(0, 10**12), st.integers(0, 10**12))
@example(999_999, 1_000_000)
@example(9_999_999, 10_000_000)
def test_parts_sort_by_their_numbers(one: int, other: int) -> None:
    names = [f"{parts.numbered(number)}-0123abcd" for number in (one, other)]
    assert (names[0] < names[1], names[0] == names[1]) == (one < other, one == other)
    assert [parts.number_of(name) for name in names] == [one, other]
    assert all(parts.PART.fullmatch(name) for name in names)


def test_a_folder_with_other_things_in_it_can_have_tables_of_any_format(tmp_path: Path) -> None:
    (tmp_path / "holiday pictures").mkdir()
    (tmp_path / "_running").write_bytes(b"{}")
    formats.begin(str(tmp_path), "delta")
    assert formats.of(str(tmp_path)) is formats.FORMATS["delta"]


def test_a_folder_with_tables_of_before_there_was_a_choice_keeps_their_format(tmp_path: Path) -> None:
    (tmp_path / "images" / "part=000001-1f0c9a3e").mkdir(parents=True)
    (tmp_path / "images" / "part=000001-1f0c9a3e" / "_SUCCESS").touch()
    with pytest.raises(UsageError, match="its tables are in parquet"):
        formats.begin(str(tmp_path), "delta")
