"""Altered copies: another picture of the right size, made of the same original."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps

from dedup.edits import EDITS

Size = tuple[int, int]

UNDONE_BY: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "turned left": lambda image: image.transpose(Image.Transpose.ROTATE_270),
    "turned over": lambda image: image.transpose(Image.Transpose.ROTATE_180),
    "turned right": lambda image: image.transpose(Image.Transpose.ROTATE_90),
}

# The sizes that copies have of originals of 96 x 64, 301 x 301 and 20 x 500, where they have another.
SIZES: dict[str, tuple[Size, Size, Size]] = {
    "small and re-encoded": ((48, 32), (150, 150), (10, 250)),
    "resized": ((48, 32), (150, 150), (10, 250)),
    "cropped 5 %": ((92, 60), (285, 285), (20, 476)),
    "cropped 10 %": ((86, 58), (271, 271), (18, 450)),
    "padded": ((96, 96), (361, 301), (500, 500)),
    "border": ((104, 72), (325, 325), (60, 540)),
    "turned left": ((64, 96), (301, 301), (500, 20)),
    "turned right": ((64, 96), (301, 301), (500, 20)),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_another_picture_of_the_right_size(photograph: Image.Image, edit: str) -> None:
    sizes = ((96, 64), (301, 301), (20, 500))
    for size, expected in zip(sizes, SIZES.get(edit, sizes), strict=True):
        original = photograph.resize(size)
        before = original.tobytes()
        copy = EDITS[edit](original)
        assert (copy.mode, copy.size) == ("RGB", expected)
        assert copy.tobytes() != before
        assert original.tobytes() == before


def test_no_two_edits_make_the_same_picture(photograph: Image.Image) -> None:
    large = photograph.resize((480, 320))
    copies = {(copy.size, copy.tobytes()) for copy in (alter(large) for alter in EDITS.values())}
    assert len(copies) == len(EDITS)


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (1, 40), (40, 1)])
def test_a_tiny_image_can_be_edited(photograph: Image.Image, edit: str, size: Size) -> None:
    original = photograph.resize(size)
    before = original.tobytes()
    copy = EDITS[edit](original)
    assert copy.mode == "RGB"
    assert min(copy.size) > 0
    assert original.tobytes() == before


@pytest.mark.parametrize("edit", UNDONE_BY)
def test_flips_and_turns_can_be_undone(photograph: Image.Image, edit: str) -> None:
    assert UNDONE_BY[edit](EDITS[edit](photograph)).tobytes() == photograph.tobytes()


@pytest.mark.parametrize("edit", ["cropped 5 %", "cropped 10 %"])
def test_a_crop_is_the_middle_of_the_image(photograph: Image.Image, edit: str) -> None:
    pixels, copy = np.asarray(photograph), np.asarray(EDITS[edit](photograph))
    y, x = ((whole - part) // 2 for whole, part in zip(pixels.shape[:2], copy.shape[:2], strict=True))
    np.testing.assert_array_equal(copy, pixels[y : y + copy.shape[0], x : x + copy.shape[1]])


@pytest.mark.parametrize(("edit", "colour"), [("border", 255), ("padded", 0)])
@pytest.mark.parametrize("size", [(96, 64), (64, 96), (64, 64)])
def test_what_is_put_around_an_image_has_one_colour(
    photograph: Image.Image, edit: str, colour: int, size: Size
) -> None:
    original = photograph.resize(size)
    copy = np.array(EDITS[edit](original))
    y, x = ((whole - part) // 2 for whole, part in zip(copy.shape[:2], size[::-1], strict=True))
    inside = (slice(y, y + size[1]), slice(x, x + size[0]))
    np.testing.assert_array_equal(copy[inside], np.asarray(original))
    copy[inside] = colour
    assert (copy == colour).all()


@pytest.mark.parametrize(
    ("more", "less", "measure"), [("brighter", "darker", np.mean), ("more contrast", "less contrast", np.std)]
)
def test_light_and_contrast_change_as_named(
    photograph: Image.Image, more: str, less: str, measure: Callable[[np.ndarray], float]
) -> None:
    light = [measure(np.asarray(copy)) for copy in (EDITS[more](photograph), photograph, EDITS[less](photograph))]
    assert light == sorted(light, reverse=True)
    assert len(set(light)) == 3


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
