"""Thresholds: what votes, and files that are not what calibrate made."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dedup.distances import METRICS, distances
from dedup.errors import UsageError
from dedup.thresholds import DEFAULT_VOTES, Thresholds, defaults, load

GOOD = Thresholds("vgg16", 3, {metric: 0.1 * (place + 1) for place, metric in enumerate(METRICS)}, "a test", 2.5)


def test_a_file_holds_what_was_saved(tmp_path: Path) -> None:
    location = str(tmp_path / "a folder" / "thresholds.json")
    GOOD.save(location)
    assert load(location) == GOOD
    assert load(location).calibrated
    assert Path(location).read_bytes().endswith(b"}\n")
    in_views = replace(GOOD, views=8)
    in_views.save(location)
    assert load(location) == in_views
    older = {name: value for name, value in asdict(in_views).items() if name != "views"}
    Path(location).write_text(json.dumps(older))
    assert load(location) == GOOD, "one from before there were views"


def test_votes_are_counted_with_the_threshold_itself_as_near() -> None:
    near = {metric: np.array([GOOD.within[metric], np.nextafter(GOOD.within[metric], 1)]) for metric in METRICS}
    assert GOOD.agreeing(near).tolist() == [5, 0]
    for place, metric in enumerate(METRICS):
        one = {name: np.array([0.0 if name == metric else np.inf]) for name in METRICS}
        assert GOOD.agreeing(one).tolist() == [1], place
    rows = np.array([[0, 0], [np.nan, 1], [np.inf, 1]], np.float32)
    nothing = replace(GOOD, within=dict.fromkeys(METRICS, 1e300))
    assert nothing.agreeing(distances(rows, rows)).tolist() == [[5, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_the_defaults_are_nobodys_calibration() -> None:
    assert not defaults().calibrated
    assert defaults().votes == defaults(None).votes == DEFAULT_VOTES
    assert [defaults(votes).votes for votes in range(1, 6)] == [1, 2, 3, 4, 5]
    assert set(defaults().within) == set(METRICS)
    for votes in (6, 0, -1):
        with pytest.raises(UsageError, match=f"--votes {votes}: there are 5 distances"):
            defaults(votes)


def changed(**values: Any) -> str:
    return json.dumps(asdict(GOOD) | values)


BROKEN = {
    "nothing": "",
    "no JSON": "votes: 3",
    "half of it": changed()[:40],
    "a list": "[1, 2]",
    "a number": "7",
    "nothing in it": "{}",
    "another file of calibrate": json.dumps({"recall": 1}),
    "one more field": changed(colour="red"),
    "no model": json.dumps({name: value for name, value in asdict(GOOD).items() if name != "model"}),
    "a model that is none": changed(model=None),
    "a model that is a number": changed(model=3),
    "how it was made, as a list": changed(made=["a test"]),
    "no votes": changed(votes=0),
    "too many votes": changed(votes=6),
    "half a vote": changed(votes=2.5),
    "votes in words": changed(votes="3"),
    "votes that are true": changed(votes=True),
    "votes that are null": changed(votes=None),
    "a metric less": changed(within={"euclidean": 1}),
    "no metrics": changed(within=[1, 2, 3, 4, 5]),
    "a number for all": changed(within=1),
    "a distance below 0": changed(within=dict(GOOD.within) | {"dice": -0.1}),
    "a distance that is no number": changed(within=dict(GOOD.within) | {"dice": "0.1"}),
    "a distance that is null": changed(within=dict(GOOD.within) | {"dice": None}),
    "NaN": changed(within=dict(GOOD.within) | {"dice": float("nan")}),
    "infinity": changed(within=dict(GOOD.within) | {"dice": float("inf")}),
    "a number beyond all floats": changed(p=10**400),
    "views of no group": changed(views=3),
    "views that are true": changed(views=True),
    "views in words": changed(views="8"),
    "an order that is no norm": changed(p=0.5),
    "an order of 0": changed(p=0),
    "an order in words": changed(p="3"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_bad_use_and_says_which_one(tmp_path: Path, what: str) -> None:
    location = tmp_path / "thresholds.json"
    location.write_text(BROKEN[what])
    with pytest.raises(UsageError, match=f"--thresholds {location}: ") as caught:
        load(str(location))
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_and_no_file_at_all(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00{")
    for name in ("bytes", "missing", "."):
        with pytest.raises(UsageError, match="--thresholds "):
            load(str(tmp_path / name))


def test_whole_numbers_will_do(tmp_path: Path) -> None:
    location = tmp_path / "thresholds.json"
    location.write_text(changed(p=3, within=dict.fromkeys(METRICS, 0)))
    assert load(str(location)) == replace(GOOD, p=3.0, within=dict.fromkeys(METRICS, 0.0))
