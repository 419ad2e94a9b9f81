"""Weights made from a seed: what they see, and that altered copies of photographs stay near to them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dedup import contrasts, engines, photographs, pixels, vgg16
from dedup.arithmetic import Arithmetic
from dedup.distances import distances
from dedup.edits import EDITS

EDITED = {
    **dict.fromkeys(("re-encoded", "blurred", "brighter", "darker", "greyscale", "cropped 10 %"), 0),
    **dict.fromkeys(("text", "lines"), 1),  # where a picture is nearly flat, what is drawn over it is all that is seen
}
"""Edits, and of how many photographs a copy may be nearer to another one."""


@pytest.fixture(scope="module")
def predict() -> engines.Predict:
    return engines.ENGINES["ncnn"].load(contrasts.weights(0), Arithmetic("float32"), 32, 2)


@pytest.fixture(scope="module")
def known() -> list[Image.Image]:
    return [pixels.open_upright(file.read_bytes()) for file in photographs.named()]


@pytest.fixture(scope="module")
def seen(predict: engines.Predict, known: list[Image.Image]) -> NDArray[np.float32]:
    return predict(np.stack([pixels.shrunk(image) for image in known]))


@pytest.mark.parametrize(("edit", "lost"), EDITED.items())
def test_copies_of_a_photograph_are_nearest_to_it_by_every_metric(
    predict: engines.Predict, known: list[Image.Image], seen: NDArray[np.float32], edit: str, lost: int
) -> None:
    copies = predict(np.stack([pixels.shrunk(EDITS[edit](image)) for image in known]))
    for metric, found in distances(seen, copies).items():
        assert (found.argmin(axis=0) == range(len(known))).sum() >= len(known) - lost, metric


def test_colours_of_one_brightness_are_one(predict: engines.Predict, known: list[Image.Image]) -> None:
    grey = known[0].convert("L").convert("RGB")
    colour, plain = predict(np.stack([pixels.shrunk(known[0]), pixels.shrunk(grey)]))
    assert np.abs(colour - plain).max() < 0.02 * plain.max(), "but for rounding to whole levels"


def test_features_are_of_places_so_that_a_mirror_image_is_another(
    predict: engines.Predict, seen: NDArray[np.float32], known: list[Image.Image]
) -> None:
    mirrored = predict(np.stack([pixels.shrunk(EDITS["mirrored"](known[0]))]))
    apart = distances(seen, seen)["euclidean"]
    assert distances(seen[:1], mirrored)["euclidean"][0, 0] > 0.5 * np.median(apart[apart > 0])


def test_half_of_all_numbers_are_more_than_zero_for_any_photograph(seen: NDArray[np.float32]) -> None:
    assert np.isfinite(seen).all()
    share = (seen > 0).mean(axis=1)
    assert share.min() > 0.3
    assert share.max() < 0.7


def test_features_are_the_same_bits_alone_and_at_any_place_of_a_batch(
    predict: engines.Predict, known: list[Image.Image], seen: NDArray[np.float32]
) -> None:
    pictures = np.stack([pixels.shrunk(image) for image in known])
    np.testing.assert_array_equal(predict(pictures[5:6])[0], seen[5])
    np.testing.assert_array_equal(predict(pictures[::-1])[::-1], seen)


def test_seeds_differ_where_they_are_random() -> None:
    one, other = (vgg16.tensors(contrasts.weights(seed)) for seed in (0, 1))
    for key in one:
        drawn = key[0] in {"block4_conv1", "block5_conv1", "fc1"} and (key[1] == "kernel" or key[0] == "fc1")
        assert np.array_equal(one[key], other[key]) != drawn, key
