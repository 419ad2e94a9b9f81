"""Views: what Pillow makes of the same words, and groups."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dedup.edits import EDITS
from dedup.views import COUNTS, LONGEST, PLAIN, VIEWS, first_views, named, parsed

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)

TURN = Image.Transpose
PILLOW: dict[str, Callable[[Image.Image], Image.Image]] = {
    PLAIN: lambda image: image,
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "turned over": lambda image: image.transpose(TURN.ROTATE_180),
    "turned left": lambda image: image.transpose(TURN.ROTATE_90),
    "turned right": lambda image: image.transpose(TURN.ROTATE_270),
    "mirrored and turned left": lambda image: ImageOps.mirror(image).transpose(TURN.ROTATE_90),
    "mirrored and turned right": lambda image: ImageOps.mirror(image).transpose(TURN.ROTATE_270),
}


def seen(name: str, pixels: NDArray[np.uint8] = PIXELS) -> bytes:
    view = VIEWS[name](pixels)
    return bytes(view.shape[:1]) + view.tobytes()


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_what_pillow_makes_of_its_name(name: str) -> None:
    assert np.array_equal(VIEWS[name](PIXELS), np.asarray(PILLOW[name](Image.fromarray(PIXELS))))


@pytest.mark.parametrize("name", sorted(VIEWS.keys() & EDITS.keys()))
def test_an_edit_of_the_same_name_is_the_same(name: str) -> None:
    assert np.array_equal(np.asarray(EDITS[name](Image.fromarray(PIXELS))), VIEWS[name](PIXELS))


@pytest.mark.parametrize("count", COUNTS)
def test_views_of_views_are_views(count: int) -> None:
    names = first_views(count)
    assert len(names) == count
    assert names[0] == PLAIN
    there = {seen(name) for name in names}
    assert len(there) == count, "no two are alike"
    assert {seen(name, VIEWS[other](PIXELS)) for name in names for other in names} == there


def test_names_say_of_what_they_are_views_and_sort_after_it() -> None:
    sha256 = "f" * 64
    names = [named(sha256, view) for view in VIEWS]
    assert [parsed(name) for name in names] == [(sha256, view) for view in VIEWS]
    assert names[0] == sha256 == min(names)
    assert max(map(len, names)) == LONGEST
    assert sorted([*names, "f" * 63 + "e"])[0] == "f" * 63 + "e"
