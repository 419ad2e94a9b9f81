"""Boxes: how they are read, what they leave of an image, and what is no box."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dedup.errors import UsageError
from dedup.focus import Focus, box
from dedup.vgg16 import NEUTRAL

WIDTH, HEIGHT = 40, 20
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
IMAGE = Image.fromarray(PIXELS)


def focus(on: tuple[str, ...] = (), off: tuple[str, ...] = ()) -> Focus:
    return Focus(tuple(map(box, on)), tuple(map(box, off)))


def cut(on: tuple[str, ...] = (), off: tuple[str, ...] = ()) -> np.ndarray:
    return np.asarray(focus(on, off).cut(IMAGE, "query", NEUTRAL))


def test_without_boxes_all_counts() -> None:
    assert not focus()
    assert np.array_equal(cut(), PIXELS)


@given(st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1), st.integers(2, 60), st.integers(1, 60))
def test_a_focus_is_cut_out_and_what_is_ignored_is_painted_over(x: int, y: int, width: int, height: int) -> None:
    text = f"{x},{y},{width},{height}"
    assert np.array_equal(cut(on=(text,)), PIXELS[y : y + height, x : x + width])
    painted = PIXELS.copy()
    painted[y : y + height, x : x + width] = NEUTRAL
    whole = x == y == 0 and width >= WIDTH and height >= HEIGHT
    if whole:
        with pytest.raises(UsageError, match="nothing is left"):
            cut(off=(text,))
        return
    assert np.array_equal(cut(off=(text,)), painted), "nothing moves"


def test_a_focus_is_as_large_as_it_is_also_where_its_edge_is_ignored() -> None:
    found = cut(on=("10,5,20,10",), off=("10,5,20,4",))
    assert found.shape == (10, 20, 3)
    assert (found[:4] == NEUTRAL).all()


def test_of_several_boxes_all_count_and_what_is_between_them_is_painted_over() -> None:
    found = cut(on=("0,0,10,5", "30,10,10,5"), off=("0,0,2,2",))
    assert found.shape == (15, 40, 3)
    expected = np.full((15, 40, 3), NEUTRAL, np.uint8)
    expected[:5, :10], expected[10:, 30:] = PIXELS[:5, :10], PIXELS[10:15, 30:]
    expected[:2, :2] = NEUTRAL
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("fractions", "pixels"),
    [("0.25,0.5,0.5,0.5", "10,10,20,10"), (".5,0,.5,1", "20,0,20,20"), (" 0 , 0 , 0.1 , 1 ", "0,0,4,20")],
)
def test_fractions_are_of_width_and_height(fractions: str, pixels: str) -> None:
    assert np.array_equal(cut(on=(fractions,)), cut(on=(pixels,)))


def test_the_whole_image_in_fractions_is_the_image() -> None:
    assert np.array_equal(cut(on=("0,0,1,1",)), PIXELS)


def test_what_lies_beyond_the_edge_is_left_out() -> None:
    assert np.array_equal(cut(on=("30,10,100,100",)), PIXELS[10:, 30:])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no box"),
        ("1,2,3", "no box"),
        ("1,2,3,4,5", "no box"),
        ("a,b,c,d", "no box"),
        ("-1,0,5,5", "no box"),
        ("nan,0,5,5", "no box"),
        ("1e3,0,5,5", "no box"),
        ("0,0,0,5", "empty"),
        ("0,0,5,0", "empty"),
        ("0.5,0,20,20", "whole pixels, or fractions"),
        ("0,0,10.5,20", "whole pixels, or fractions"),
    ],
)
def test_what_is_no_box_is_said(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        box(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["40,0,5,5", "0,20,5,5", "1,0,0.5,0.5", "500,500,2,2", "0,0,.0000000001,1"])
def test_a_box_beside_the_image_is_said_with_the_size_of_the_image(text: str) -> None:
    for on, off in (((text,), ()), ((), (text,))):
        with pytest.raises(UsageError, match=r"covers no pixel of /a/cat\.jpg, which has 40 x 20 pixels"):
            focus(on, off).cut(IMAGE, "/a/cat.jpg", NEUTRAL)
        with pytest.raises(UsageError, match="covers no pixel of"):
            focus(on, off).shown(IMAGE, "/a/cat.jpg")


def test_a_focus_of_which_all_is_ignored_is_said() -> None:
    with pytest.raises(UsageError, match=r"/a/cat\.jpg: nothing is left of it"):
        focus(("5,5,10,10",), ("0,0,20,20",)).cut(IMAGE, "/a/cat.jpg", NEUTRAL)


def test_the_boxes_are_drawn_and_the_rest_is_dimmed() -> None:
    shown = np.asarray(focus(("5,5,20,10",), ("8,8,4,4",)).shown(IMAGE, "query")).astype(int)
    assert np.array_equal(shown[7, 6:24], PIXELS[7, 6:24]), "as it is, inside"
    assert shown[5, 5].tolist() == shown[14, 24].tolist() == [0, 0xB8, 0x6B]
    assert shown[8, 8].tolist() == shown[11, 11].tolist() == [0xFF, 0x3B, 0x30]
    outside = np.abs(shown[16:] - 0.35 * PIXELS[16:])
    assert outside.max() <= 0.5
    assert np.array_equal(PIXELS, np.asarray(IMAGE)), "the image itself is left alone"
