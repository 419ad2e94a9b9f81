"""Altered copies: another picture of the right size, made of the same original."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps

from dedup.edits import EDITS

UNDONE_BY: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_270),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("size", [(96, 64), (64, 96), (300, 300), (64, 64), (500, 20), (20, 500)])
def test_an_edit_is_another_picture_of_the_right_size(
    photograph: Image.Image, edit: str, size: tuple[int, int]
) -> None:
    original = photograph.resize(size)
    before = original.tobytes()
    copy = EDITS[edit](original)
    assert copy.mode == "RGB"
    assert copy.size == (size[::-1] if edit == "turned" else size)
    assert copy.tobytes() != before
    assert original.tobytes() == before


@pytest.mark.parametrize("edit", UNDONE_BY)
def test_flips_and_turns_can_be_undone(photograph: Image.Image, edit: str) -> None:
    assert UNDONE_BY[edit](EDITS[edit](photograph)).tobytes() == photograph.tobytes()


def test_greyscale_has_no_colours(photograph: Image.Image) -> None:
    red, green, blue = EDITS["greyscale"](photograph).split()
    assert red.tobytes() == green.tobytes() == blue.tobytes()


def test_blur_leaves_less_contrast_and_the_same_light(photograph: Image.Image) -> None:
    large = photograph.resize((480, 320))
    before, after = (np.asarray(image, np.float64) for image in (large, EDITS["blurred"](large)))
    assert np.abs(np.diff(after, axis=1)).max() < np.abs(np.diff(before, axis=1)).max()
    assert after.mean() == pytest.approx(before.mean(), abs=1)


@pytest.mark.parametrize("edit", ["text", "lines"])
def test_what_is_drawn_leaves_most_of_the_picture(photograph: Image.Image, edit: str) -> None:
    large = photograph.resize((480, 320))
    changed = (np.asarray(large) != np.asarray(EDITS[edit](large))).any(axis=2).mean()
    assert 0.01 < changed < 0.5
