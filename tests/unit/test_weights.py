"""Weights: from a seed, and the same from any file format. VGG16's layers are shrunk here, but for their names."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from dedup import vgg16, weights
from dedup.errors import UsageError

Flat = NDArray[np.float32]
Writer = Callable[[Path, Flat, Any], None]

SHAPES: dict[tuple[str, str], tuple[int, ...]] = {
    ("block1_conv1", "kernel"): (3, 3, 3, 8),
    ("block1_conv1", "bias"): (8,),
    ("block1_conv2", "kernel"): (3, 3, 8, 8),
    ("block1_conv2", "bias"): (8,),
    ("fc1", "kernel"): (32, 64),
    ("fc1", "bias"): (64,),
    ("fc2", "kernel"): (64, 64),
    ("fc2", "bias"): (64,),
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vgg16, "SHAPES", SHAPES)
    monkeypatch.setattr(vgg16, "LAYERS", tuple(dict.fromkeys(layer for layer, _ in SHAPES)))
    monkeypatch.setattr(vgg16, "SIZE", sum(math.prod(shape) for shape in SHAPES.values()))


@pytest.fixture
def flat(small: None) -> Flat:
    return np.random.default_rng(7).standard_normal(vgg16.SIZE).astype(np.float32)


def named(flat: Flat, pattern: str = "{layer}/{role}") -> dict[str, Any]:
    return {pattern.format(layer=layer, role=role): array for (layer, role), array in vgg16.tensors(flat).items()}


def model(keras: Any, flat: Flat) -> Any:
    """A Keras model with the layers and these weights, and a head that is none of VGG16's first ones."""
    layers = keras.layers
    x = given = keras.Input((2, 2, 3))
    for layer in (
        layers.Conv2D(8, 3, padding="same", name="block1_conv1"),
        layers.Conv2D(8, 3, padding="same", name="block1_conv2"),
        layers.Flatten(),
        layers.Dense(64, name="fc1"),
        layers.Dense(64, name="fc2"),
        layers.Dense(5, name="predictions"),
    ):
        x = layer(x)
    network = keras.Model(given, x)
    tensors = vgg16.tensors(flat)
    for name in vgg16.LAYERS:
        network.get_layer(name).set_weights([tensors[name, "kernel"], tensors[name, "bias"]])
    return network


def keras_1(path: Path, flat: Flat, _: Any) -> None:
    """Write the layout of the ImageNet file that Keras offers."""
    with h5py.File(path, "w") as file:
        for (layer, role), array in vgg16.tensors(flat).items():
            file[f"{layer}/{layer}_{role[0].upper()}_1:0"] = array
        file["predictions/predictions_W_1:0"] = np.ones((64, 5))
        file.create_group("block1_pool")


def keras_2(path: Path, flat: Flat, _: Any) -> None:
    with h5py.File(path, "w") as file:
        for name, array in named(flat, "{layer}/{layer}/{role}:0").items():
            file[name] = array


def whole_model(path: Path, flat: Flat, keras: Any) -> None:
    model(keras, flat).save(path)


def only_weights(path: Path, flat: Flat, keras: Any) -> None:
    model(keras, flat).save_weights(path)


def trained_model(path: Path, flat: Flat, keras: Any) -> None:
    """Write a model with the state of its optimiser, whose arrays have the shapes and names of the layers' own."""
    network = model(keras, flat)
    network.compile(keras.optimizers.SGD(0.0, momentum=0.9), "mse")  # at rate 0: the weights stay
    network.fit(np.ones((2, 2, 2, 3)), np.ones((2, 5)), verbose=0)
    network.save(path)


def tensor_file(path: Path, flat: Flat, _: Any) -> None:
    safetensors.numpy.save_file(named(flat, "vgg.{layer}.{role}"), path)


def arrays(path: Path, flat: Flat, _: Any) -> None:
    np.savez(path, **named(flat), extra=np.ones(3))


FILES: list[Any] = [
    ("keras1.h5", keras_1),
    ("KERAS1.H5", keras_1),
    ("keras2.h5", keras_2),
    ("keras3.h5", whole_model),
    ("some.weights.h5", only_weights),
    ("model.keras", whole_model),
    ("trained.keras", trained_model),
    ("trained.h5", trained_model),
    ("tensors.safetensors", tensor_file),
    ("arrays.npz", arrays),
]


@pytest.mark.parametrize(("name", "write"), FILES)
def test_every_file_format_gives_the_same_weights(
    tmp_path: Path, flat: Flat, keras: Any, name: str, write: Writer
) -> None:
    path = tmp_path / name
    write(path, flat, keras)
    found = weights.load(os.fspath(path))
    np.testing.assert_array_equal(found.flat, flat)
    assert found.flat.dtype == np.float32
    assert found.fingerprint == weights.Weights(flat, "made").fingerprint
    assert found.source == os.fspath(path)


def complaint(source: str | Path) -> str:
    with pytest.raises(UsageError) as caught:
        weights.load(os.fspath(source))
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    assert os.fspath(source) in said
    return said


def test_missing_layers_are_named(tmp_path: Path, flat: Flat) -> None:
    given = named(flat)
    del given["fc1/kernel"], given["block1_conv2/kernel"], given["block1_conv2/bias"]
    np.savez(tmp_path / "w.npz", **given)
    said = complaint(tmp_path / "w.npz")
    assert "block1_conv2 kernel, block1_conv2 bias, fc1 kernel" in said
    assert "fc2" not in said


def test_layers_of_another_shape_are_named(tmp_path: Path, flat: Flat) -> None:
    given = named(flat) | {"fc2/kernel": np.ones((64, 63)), "block1_conv1/bias": np.ones(9)}
    np.savez(tmp_path / "w.npz", **given)
    said = complaint(tmp_path / "w.npz")
    assert "fc2 kernel has shape (64, 63), not (64, 64)" in said
    assert "block1_conv1 bias has shape (9,), not (8,)" in said
    assert "fc1" not in said


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_layers_that_are_not_finite_are_named(tmp_path: Path, flat: Flat, bad: float) -> None:
    vgg16.tensors(flat)["fc1", "kernel"][3, 4] = bad
    tensor_file(tmp_path / "w.safetensors", flat, None)
    said = complaint(tmp_path / "w.safetensors")
    assert "fc1 kernel holds numbers that are not finite" in said
    assert "fc2" not in said


def test_numbers_beyond_float32_are_not_finite(tmp_path: Path, flat: Flat) -> None:
    np.savez(tmp_path / "w.npz", **named(flat) | {"fc1/bias": np.full(64, 1e300)})
    with np.errstate(over="ignore"):
        assert "fc1 bias" in complaint(tmp_path / "w.npz")


def test_words_are_no_weights(tmp_path: Path, flat: Flat) -> None:
    np.savez(tmp_path / "w.npz", **named(flat) | {"fc1/bias": np.array(["a"] * 64)})
    assert "fc1 bias" in complaint(tmp_path / "w.npz")


GARBAGE = [b"", b"garbage\nin two lines\n", b"PK\3\4" + bytes(99), b"\x89HDF\r\n\x1a\n", b"\x80"]


@pytest.mark.parametrize("end", list(weights.FORMATS))
@pytest.mark.parametrize("content", GARBAGE)
def test_garbage_cannot_be_read(tmp_path: Path, end: str, content: bytes) -> None:
    path = tmp_path / f"garbage{end}"
    path.write_bytes(content)
    assert "cannot be read" in complaint(path)


def test_an_archive_without_weights_cannot_be_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    assert "model.weights.h5" in complaint(tmp_path / "m.keras")


def test_a_pickle_is_refused_and_not_run(tmp_path: Path, flat: Flat) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (os.fspath(tmp_path / "sprung"),)

    trap = np.empty(1, object)
    trap[0] = Trap()
    np.savez(tmp_path / "w.npz", **named(flat) | {"fc1/bias": trap})
    assert "cannot be read" in complaint(tmp_path / "w.npz")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["w.pt", "w.bin", "w", "h5", "imagenet2"])
def test_an_unknown_ending_is_answered_with_those_that_are_known(tmp_path: Path, name: str) -> None:
    said = complaint(tmp_path / name)
    assert all(known in said for known in (*weights.FORMATS, "imagenet", "seeded"))


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    assert "missing" in complaint(tmp_path / "none.h5")


def test_a_seed_makes_the_same_weights_and_another_seed_others() -> None:
    same, again = weights.load("seeded"), weights.load("seeded:0")
    assert same.source == again.source == "seeded:0"
    np.testing.assert_array_equal(same.flat, again.flat)
    assert same.fingerprint == again.fingerprint
    assert len(same.fingerprint) == 12
    assert weights.load("seeded:1").fingerprint != same.fingerprint


@pytest.mark.parametrize("source", ["seeded:", "seeded:x", "seeded:-1"])
def test_a_seed_is_a_whole_number(source: str) -> None:
    complaint(source)


def test_imagenet_that_cannot_be_had_names_the_ways_out(tmp_path: Path, root: Path) -> None:
    nowhere = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}
    script = """if True:
        from dedup import errors, weights
        try:
            weights.load("imagenet")
        except errors.UsageError as error:
            print("UsageError:", error)
    """
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=root / "lib",
        env=os.environ | nowhere | {"no_proxy": "", "KERAS_HOME": os.fspath(tmp_path)},
        timeout=120,
        check=True,
    )
    (said,) = [line for line in run.stdout.splitlines() if line.startswith("UsageError:")]
    assert run.stdout.endswith(said + "\n")
    assert "cannot be had" in said
    assert "--weights FILE" in said
    assert "--weights seeded" in said


def test_seed_0_has_one_fingerprint_for_ever() -> None:
    # It stands beside every vector that was ever made with it: if this must change, those tables are of another model.
    assert weights.load("seeded").fingerprint == "3c67b0244122"


def test_an_array_that_lies_in_another_file_is_refused(tmp_path: Path, flat: Flat) -> None:
    other = tmp_path / "other"
    other.write_bytes(flat.tobytes())
    for way in ("external", "virtual"):
        with h5py.File(tmp_path / f"{way}.h5", "w") as file:
            if way == "external":
                file.create_dataset("fc2/bias", (64,), "<f4", external=[(str(other), 0, 256)])
            else:
                layout = h5py.VirtualLayout((64,), "<f4")
                layout[:] = h5py.VirtualSource(str(other), "x", (64,))
                file.create_virtual_dataset("fc2/bias", layout)
        with pytest.raises(UsageError, match="fc2/bias lies in another file"):
            weights.load(str(tmp_path / f"{way}.h5"))


def test_arrays_that_claim_more_than_a_file_may_have_are_refused(tmp_path: Path, small: None) -> None:
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        for number in range(3):  # no byte of them is stored
            file.create_dataset(f"fc{number}/bias", (1 << 28,), "<f8", chunks=(1 << 20,), compression="gzip")
    with pytest.raises(UsageError, match="bias claims 6442450944 bytes, more than 4294967296"):
        weights.load(str(tmp_path / "huge.h5"))


@pytest.mark.parametrize("end", [".keras", ".npz"])
def test_an_archive_that_unfolds_to_more_than_a_file_may_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(weights, "_MOST_BYTES", 1 << 20)
    member = "model.weights.h5" if end == ".keras" else "fc2.bias.npy"
    with zipfile.ZipFile(tmp_path / f"bomb{end}", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, bytes(100 << 20))
    with pytest.raises(UsageError, match="claims 104857600 bytes, more than 1048576"):
        weights.load(str(tmp_path / f"bomb{end}"))
