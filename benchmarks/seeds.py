"""Weights made from a seed: which find most copies, and what short numbers do to the features that they give.

    python benchmarks/seeds.py --data DIR

DIR holds `photos/`. Every tenth photograph is altered in every way of `dedup.edits`, and each copy hidden alone among
all photographs, by brute force. Prints two tables of docs/quality.md: the share of copies among the first 10 images, by
the poll, and the micro average precision of all; and features in short numbers beside those in float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from metrics import Lake, hidden
from numpy.typing import NDArray
from quality import EVERY, SIDE, photographs, row, say
from scipy.spatial.distance import cdist
from tqdm import tqdm

from dedup import contrasts, engines, pixels, ranks, storage, vgg16, vgg16_model, weights
from dedup.arithmetic import PRECISIONS, Arithmetic
from dedup.edits import EDITS
from dedup.ranks import ALL, METHODS, PLACES, POLL

Flat = NDArray[np.float32]

_BLUR = np.outer([1, 2, 1], [1, 2, 1]) / 16


def he_normal() -> Flat:
    """Return kernels with a standard deviation of sqrt(2 / inputs), and no biases (He et al., arXiv 1502.01852)."""
    random = np.random.Generator(np.random.PCG64(0))
    flat = np.zeros(vgg16.SIZE, np.float32)
    for (_, role), tensor in vgg16.tensors(flat).items():
        if role == "kernel":
            random.standard_normal(out=tensor.reshape(-1), dtype=np.float32)
            tensor *= np.sqrt(2 / np.prod(tensor.shape[:-1]))
    return flat


def balanced() -> Flat:
    """Return He-normal kernels of which each has the sum 0 over its places: none sees how bright it is as a whole."""
    flat = he_normal()
    for (layer, role), tensor in vgg16.tensors(flat).items():
        if role == "kernel" and layer.startswith("block"):
            tensor -= tensor.mean(axis=(0, 1), keepdims=True)
            tensor *= 3 / np.sqrt(8)  # a ninth of what there was is gone
    return flat


def blurred() -> Flat:
    """Return random mixtures of channels, blurred: no kernel sees details."""
    random = np.random.Generator(np.random.PCG64(0))
    flat = he_normal()
    for (layer, role), tensor in vgg16.tensors(flat).items():
        if role == "kernel" and layer.startswith("block"):
            mixture = random.standard_normal(tensor.shape[2:]) * np.sqrt(2 / tensor.shape[2])
            tensor[...] = _BLUR[:, :, None, None] * mixture
    return flat


WEIGHTS: dict[str, Callable[[], Flat]] = {
    "He-normal": he_normal,
    "He-normal, each kernel of sum 0": balanced,
    "random mixtures of channels, blurred": blurred,
    "contrasts, twice the gain": partial(contrasts.weights, 0, 2 * contrasts.GAIN),
    "contrasts, half the gain": partial(contrasts.weights, 0, contrasts.GAIN / 2),
}
SEEDED = "contrasts (`seeded`)"
SHORT = {precision: f"{SEEDED}, {precision}" for precision in PRECISIONS[1:]}


def main() -> None:
    """Alter, compute, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    photos = photographs(options.data)
    plain, altered = [], []
    for number, photo in enumerate(tqdm(photos, desc="alter")):
        image = pixels.open_upright(storage.read(str(photo)))
        plain.append(pixels.shrunk(image))
        if number % EVERY == 0:
            image.thumbnail((SIDE, SIDE))
            altered += [pixels.shrunk(edit(image)) for edit in EDITS.values()]
    asked = np.repeat(np.arange(0, len(photos), EVERY), len(EDITS))
    kinds = np.tile(np.array(list(EDITS)), len(altered) // len(EDITS))
    networks = {name: (made(), Arithmetic("float32")) for name, made in WEIGHTS.items()}
    seeded = weights.load("seeded")
    for precision, name in ((PRECISIONS[0], SEEDED), *SHORT.items()):
        networks[name] = (seeded.flat, vgg16_model.Vgg16Model(seeded, precision).arithmetic)
    vectors = {name: _computed(*network, np.stack(plain), np.stack(altered)) for name, network in networks.items()}
    found = {name: _found(*both, asked, kinds) for name, both in vectors.items()}
    say(row("copies", *found))
    say(row("---", *["---:"] * len(found)))
    for kind in (*EDITS, ALL):
        say(row(kind, *[by_kind[kind] for by_kind, _ in found.values()]))
    for method in METHODS:
        say(row(f"average precision, {method}", *[average[method] for _, average in found.values()]))
    say()
    _compare(vectors[SEEDED][0], {precision: vectors[name][0] for precision, name in SHORT.items()})


def _compare(exact: Flat, rough: dict[str, Flat]) -> None:
    """Print what other arithmetics do to features, and to which photographs are nearest, as cosine has it."""
    distances, first = _others(exact)
    own, nearest, five = [], [], []
    for vectors in rough.values():
        apart = np.diag(cdist(exact, vectors, "cosine"))
        own.append(", ".join(f"{value:.1e}" for value in (*np.quantile(apart, (0.5, 0.99)), apart.max())))
        _, second = _others(vectors)
        nearest.append(f"{100 * (first[:, 0] == second[:, 0]).mean():.0f} %")
        same = [len(set(left) & set(right)) for left, right in zip(first.tolist(), second.tolist(), strict=True)]
        five.append(f"{20 * np.mean(same):.0f} %")
    say(row(f"{len(exact):,} photographs, beside float32", *rough))
    say(row("---", *["---:"] * len(rough)))
    say(row("cosine distance between the two features of an image: median, 99 of 100, largest", *own))
    said = f"{np.median(distances):.1e}, {distances.min():.1e}"
    say(
        row(
            "to compare with: cosine distance to the nearest other photograph, median and smallest",
            *[said] * len(rough),
        )
    )
    say(row("the nearest photograph is the same one", *nearest))
    say(row("of the five nearest, the same ones", *five))


def _others(vectors: Flat) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return for each row the distance to the nearest other one, and the five nearest."""
    table = cdist(vectors, vectors, "cosine")
    np.fill_diagonal(table, np.inf)
    return table.min(axis=1), np.argsort(table, axis=1, kind="stable")[:, :5]


def _computed(
    flat: Flat, arithmetic: Arithmetic, plain: NDArray[np.uint8], altered: NDArray[np.uint8]
) -> tuple[Flat, Flat]:
    """Return the features of photographs and of copies."""
    network = engines.on_cpu(arithmetic).load(flat, arithmetic, 32, 2)
    vectors, copies = (
        np.concatenate([network(some) for some in tqdm(np.array_split(pictures, 40), desc="compute")])
        for pictures in (plain, altered)
    )
    return vectors, copies


def _found(
    vectors: Flat, copies: Flat, asked: NDArray[np.intp], kinds: NDArray[np.str_]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return recall by kind, and average precision by method, as texts."""
    _, equal = np.unique(vectors, axis=0, return_inverse=True)
    lake = Lake(vectors, asked, copies, kinds, equal, np.arange(len(vectors)))
    others, mine = hidden(lake, 3.0)
    recall, curves = ranks.recall(others, mine), ranks.curves(others, mine)[ALL]
    by_kind = {kind: f"{shares[POLL][PLACES[-1]].value:.2f}" for kind, shares in recall.items()}
    return by_kind, {method: f"{curves[method].average.value:.2f}" for method in METHODS}


if __name__ == "__main__":
    main()
