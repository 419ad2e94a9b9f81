"""What a first extract says of another precision."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedup import job, reduced_precision
from dedup.models import Made


@pytest.fixture(params=[True, False])
def amx(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(reduced_precision, "multiplies_bfloat16", lambda: request.param)
    return bool(request.param)


def said(location: Path, *words: str) -> str | None:
    parser = job.Parser("extract", "")
    parser.add_argument("--features")
    parser.add_network()
    return job.hint(parser.parse_args(["--features", str(location), *words]))


def test_one_line_names_the_fast_precision_where_the_driver_has_amx(amx: bool, tmp_path: Path) -> None:
    assert said(tmp_path, "--weights", "seeded") == (job.FASTER if amx else None)
    assert "--precision bfloat16" in job.FASTER
    assert "where those of the executors have it too" in job.FASTER


@pytest.mark.usefixtures("amx")
@pytest.mark.parametrize("words", ["--precision float32", "--precision int8", "--model onnx:network.onnx"])
def test_nothing_is_said_where_somebody_has_chosen(tmp_path: Path, words: str) -> None:
    assert said(tmp_path, *words.split()) is None


@pytest.mark.usefixtures("amx")
def test_nothing_is_said_where_there_are_features_to_be_compared_with(tmp_path: Path) -> None:
    Made("m", "seeded", "float32", (), complete=True, listed=0).save(str(tmp_path))
    assert said(tmp_path) is None
