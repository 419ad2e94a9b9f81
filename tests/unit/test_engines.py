"""Every engine computes Keras' VGG16 up to fc2, and what it says of a picture depends on nothing beside it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pyspark.resource import ResourceInformation
from scipy.spatial import distance as scipy

from dedup import contrasts, convolutions, engines, features, reduced_precision, vgg16, vgg16_model, weights
from dedup.arithmetic import PRECISIONS, Arithmetic
from dedup.engines import ENGINES

THREADS = 2
BATCH = {"ncnn": 32, "openvino": 32, "tensorflow": 2}
"""Batch sizes: on a CPU, TensorFlow would take gigabytes for its own."""

CI = {"CI", "TF_BUILD", "JENKINS_URL"}
"""The variables that make libraries behave as they do not for users."""


@dataclass(frozen=True)
class Network:
    """One set of weights in memory for all tests: half a gigabyte."""

    flat: NDArray[np.float32]
    pictures: NDArray[np.uint8]  #: shape (4, 224, 224, 3)
    expected: NDArray[np.float32]  #: what Keras says, shape (4, 4096)
    predict: dict[str, engines.Predict]  #: the engines, in float32
    found: dict[str, NDArray[np.float32]]  #: what they say, one picture at a time


def load(name: str, flat: NDArray[np.float32], precision: str = "float32") -> engines.Predict:
    return ENGINES[name].load(flat, Arithmetic(precision), BATCH[name], THREADS)


def keras_outputs(keras: Any, flat: NDArray[np.float32], pictures: NDArray[np.uint8], outputs: Any) -> Any:
    """What Keras says of pictures: `outputs` chooses from its network."""
    reference = keras.applications.VGG16(weights=None, include_top=True)
    tensors = vgg16.tensors(flat)
    for layer in vgg16.LAYERS:
        reference.get_layer(layer).set_weights([tensors[layer, "kernel"], tensors[layer, "bias"]])
    given = keras.applications.vgg16.preprocess_input(pictures.astype(np.float32))
    return keras.Model(reference.input, outputs(reference))(given)


def he_normal() -> NDArray[np.float32]:
    """Weights none of which is zero: one that is left out would be missed (He et al., arXiv 1502.01852)."""
    random = np.random.default_rng(0)
    flat = np.empty(vgg16.SIZE, np.float32)
    for (_, role), tensor in vgg16.tensors(flat).items():
        random.standard_normal(out=tensor.reshape(-1), dtype=np.float32)
        if role == "kernel":
            tensor *= np.sqrt(2 / np.prod(tensor.shape[:-1]))
    return flat


def shown(photograph: Image.Image) -> NDArray[np.uint8]:
    """A photograph, its mirror image, noise, and one dark colour."""
    upright = np.asarray(photograph.resize((224, 224)))
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    return np.stack([upright, upright[:, ::-1], noise, np.full_like(upright, (3, 0, 9))])


@pytest.fixture(scope="module")
def network(keras: Any, photograph: Image.Image) -> Network:
    flat = he_normal()
    pictures = shown(photograph)
    predict = {name: load(name, flat) for name in ENGINES}
    found = {name: np.concatenate([alone(picture[None]) for picture in pictures]) for name, alone in predict.items()}
    expected = keras_outputs(keras, flat, pictures, lambda reference: reference.get_layer("fc2").output).numpy()
    return Network(flat, pictures, expected, predict, found)


@pytest.fixture(params=list(ENGINES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_there_are_134_million_weights() -> None:
    assert vgg16.SIZE == 134_260_544
    assert len(vgg16.LAYERS) == 15
    assert vgg16.SHAPES["fc1", "kernel"] == (25088, 4096)


def test_tensors_are_views_of_the_flat_weights_in_order(network: Network) -> None:
    end = 0
    for key, tensor in vgg16.tensors(network.flat).items():
        assert tensor.shape == vgg16.SHAPES[key]
        assert np.shares_memory(tensor, network.flat[end : end + tensor.size])
        np.testing.assert_array_equal(tensor.reshape(-1)[:100], network.flat[end : end + tensor.size][:100])
        end += tensor.size
    assert end == vgg16.SIZE
    assert list(vgg16.tensors(network.flat)) == list(vgg16.SHAPES)


def test_features_are_those_of_keras(network: Network, name: str) -> None:
    assert network.found[name].shape == (4, vgg16.WIDTH)
    assert network.found[name].dtype == np.float32
    for found, expected in zip(network.found[name], network.expected, strict=True):
        assert (expected > 0).mean() > 0.2
        error = np.abs(found - expected)
        assert error.max() <= 1e-5 * expected.max()
        large = expected > 0.01 * expected.max()
        assert (error[large] / expected[large]).max() <= 1e-3


def test_different_pictures_have_different_features(network: Network, name: str) -> None:
    assert min(scipy.pdist(network.found[name], "cosine")) > 1e-3


def require_same(name: str, found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Make sure that features are the same bits, as far as the engine promises it here.

    TensorFlow computes for users on GPUs only. On CPUs without AVX-512 its convolutions sum in an order that depends on
    the place in the batch.
    """
    if name == "tensorflow" and "avx512f" not in Path("/proc/cpuinfo").read_text():
        assert np.abs(found - expected).max() <= 1e-5 * expected.max()
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_features_are_the_same_bits_in_any_number(network: Network, name: str, count: int) -> None:
    batches = [network.predict[name](network.pictures[i : i + count]) for i in range(0, 4, count)]
    require_same(name, np.concatenate(batches), network.found[name])


def test_there_may_be_more_pictures_than_a_batch_holds(network: Network, name: str) -> None:
    many = np.tile(network.pictures[:1], (BATCH[name] + 1, 1, 1, 1))
    require_same(name, network.predict[name](many), np.tile(network.found[name][:1], (BATCH[name] + 1, 1)))


def test_features_are_the_same_bits_at_another_place_of_the_batch(network: Network, name: str) -> None:
    order = [2, 3, 1, 0]
    require_same(name, network.predict[name](network.pictures[order]), network.found[name][order])


def test_features_are_the_same_bits_beside_black(network: Network, name: str) -> None:
    batch = np.zeros_like(network.pictures)
    batch[0] = network.pictures[1]
    require_same(name, network.predict[name](batch)[0], network.found[name][1])


@dataclass(frozen=True)
class Elsewhere:
    """Other processes, which map the weights from a file."""

    folder: Path

    def computed(
        self,
        name: str,
        flat: NDArray[np.float32],
        arithmetic: Arithmetic,
        pictures: NDArray[np.uint8],
        **variables: str,
    ) -> NDArray[np.float32]:
        """Return what an engine says of pictures on one thread, under variables of the environment."""
        flat.tofile(self.folder / "weights.f32")
        np.save(self.folder / "pictures.npy", pictures)
        script = f"""if True:
            import sys
            import numpy as np
            from dedup.arithmetic import Arithmetic
            from dedup.engines import ENGINES
            flat = np.memmap(sys.argv[1] + "/weights.f32", dtype="<f4", mode="c")
            predict = ENGINES["{name}"].load(flat, {arithmetic!r}, {BATCH[name]}, 1)
            np.save(sys.argv[1] + "/features.npy", predict(np.load(sys.argv[1] + "/pictures.npy")))
        """
        self.run(script, **variables)
        (self.folder / "weights.f32").unlink()
        found: NDArray[np.float32] = np.load(self.folder / "features.npy")
        return found

    def run(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script, str(self.folder)],
            cwd=Path(vgg16.__file__).parents[1],
            env={name: value for name, value in os.environ.items() if name not in CI} | variables,
            check=True,
            timeout=300,
            capture_output=True,
            text=True,
        )


@pytest.fixture
def elsewhere(tmp_path: Path) -> Elsewhere:
    return Elsewhere(tmp_path)


def test_features_are_the_same_bits_on_one_thread_and_from_a_mapped_file(
    network: Network, name: str, elsewhere: Elsewhere
) -> None:
    found = elsewhere.computed(name, network.flat, Arithmetic("float32"), network.pictures)
    require_same(name, found, network.found[name])


def openvino_computes_in() -> list[str]:
    """Return the numbers that OpenVINO has kernels for on this processor: what it has none for is in float32."""
    found: list[str] = reduced_precision._openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return found


def test_bfloat16_is_near(network: Network, name: str) -> None:
    rough = load(name, network.flat, "bfloat16")(network.pictures)
    assert rough.dtype == np.float32
    rounds = name != "openvino" or "BF16" in openvino_computes_in()
    for found, expected in zip(rough, network.found[name], strict=True):
        assert np.array_equal(found, expected) != rounds
        assert scipy.cosine(found.astype(np.float64), expected.astype(np.float64)) <= 1e-3


@pytest.fixture(scope="module")
def int8(network: Network) -> Arithmetic:
    return Arithmetic("int8", convolutions.ranges(network.flat, network.pictures[:1]))


def test_ranges_are_the_largest_numbers_that_go_into_each_convolution(network: Network, keras: Any) -> None:
    def inputs(reference: Any) -> list[Any]:
        return [layer.input for layer in reference.layers if "_conv" in layer.name]

    expected = [float(np.abs(one).max()) for one in keras_outputs(keras, network.flat, network.pictures[:2], inputs)]
    found = convolutions.ranges(network.flat, network.pictures[:2])
    assert len(found) == 13
    assert found[0] == pytest.approx(255 - 103.939)  # black and white, whatever the pictures are
    for number, most in zip(found[1:], expected[1:], strict=True):
        assert most * (1 - 1e-5) <= number <= 1.11 * most


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_short_numbers_are_near_and_the_same_bits_in_any_number_and_on_one_thread(
    network: Network, int8: Arithmetic, precision: str
) -> None:
    short = int8 if precision == "int8" else Arithmetic(precision)
    predict = [ENGINES["openvino"].load(network.flat, short, BATCH["openvino"], threads) for threads in (1, THREADS)]
    whole = predict[0](network.pictures)
    assert whole.dtype == np.float32
    for found, expected in zip(whole[:2], network.found["ncnn"][:2], strict=True):  # as the ranges are the first's
        apart = scipy.cosine(found.astype(np.float64), expected.astype(np.float64))
        assert apart <= 2e-3
        if precision == "int8" or reduced_precision.multiplies_bfloat16():
            assert apart > (1e-5 if precision == "int8" else 1e-7), "else they are not short"
    for again in predict:
        np.testing.assert_array_equal(np.concatenate([again(picture[None]) for picture in network.pictures]), whole)


@dataclass(frozen=True)
class Rounded:
    """A network in int8, with the seeded weights: with random ones, one rounding upwards changes all that follow."""

    flat: NDArray[np.float32]
    int8: Arithmetic
    exact: NDArray[np.float32]  #: what it says in float32
    found: NDArray[np.float32]  #: and in int8


@pytest.fixture(scope="module")
def rounded(network: Network) -> Rounded:
    flat = contrasts.weights(0)
    int8 = Arithmetic("int8", convolutions.ranges(flat, network.pictures))
    exact, found = (
        ENGINES[name].load(flat, arithmetic, 32, THREADS)(network.pictures)
        for name, arithmetic in (("ncnn", Arithmetic("float32")), ("openvino", int8))
    )
    return Rounded(flat, int8, exact, found)


def test_int8_is_a_network_in_float32_whose_numbers_are_rounded(network: Network, rounded: Rounded) -> None:
    import tensorflow as tf

    tensors, ranges = vgg16.tensors(rounded.flat), iter(rounded.int8.ranges)
    x = tf.cast(network.pictures, tf.float32)[..., ::-1] - tf.constant(vgg16.MEANS)
    for block in vgg16.BLOCKS:
        for name in block:
            most, kernel = next(ranges), tensors[name, "kernel"]
            step, least = (most / 127, -most) if name == "block1_conv1" else (most / 255, 0)
            x = tf.round(tf.clip_by_value(x, least, most) / step) * step
            scale = np.maximum(np.abs(kernel).max(axis=(0, 1, 2)), 1e-30) / 127
            x = tf.nn.conv2d(x, np.rint(kernel / scale) * scale, strides=1, padding="SAME")
            x = tf.nn.relu(x + tensors[name, "bias"])
        x = tf.nn.max_pool2d(x, ksize=2, strides=2, padding="VALID")
    x = tf.reshape(x, (len(network.pictures), -1))
    for name in vgg16.DENSE:
        x = tf.nn.relu(x @ tensors[name, "kernel"] + tensors[name, "bias"])
    for found, expected, exact in zip(rounded.found, x.numpy(), rounded.exact, strict=True):
        # Where a sum lies on the edge of two steps, the last bits of a float32 tell which one it becomes.
        assert scipy.cosine(found, expected) < scipy.cosine(found, exact) / 10


def test_int8_does_not_overflow_on_processors_that_add_its_products_in_16_bits(
    network: Network, rounded: Rounded, elsewhere: Elsewhere
) -> None:
    old = {"ONEDNN_MAX_CPU_ISA": "AVX2"}  # what such processors have
    if platform.machine() == "x86_64":
        said = elsewhere.run("from dedup import reduced_precision; print(reduced_precision._overflows())", **old).stdout
        assert said.strip() == "True", "else this tests nothing"
    features = elsewhere.computed("openvino", rounded.flat, rounded.int8, network.pictures, **old)
    for found, expected, exact in zip(features, rounded.found, rounded.exact, strict=True):
        assert scipy.cosine(found, expected) < scipy.cosine(expected, exact) / 10


def test_openvino_tells_nobody_that_it_is_used(int8: Arithmetic, elsewhere: Elsewhere) -> None:
    """Its package brings another one, which reports each import from a process of its own."""
    script = f"""if True:
        import sys
        told = []
        def hear(event, given):
            if event in ("os.fork", "subprocess.Popen", "socket.connect", "socket.getaddrinfo"):
                told.append(event)
        import numpy as np
        from dedup import reduced_precision, vgg16
        from dedup.arithmetic import Arithmetic
        sys.addaudithook(hear)
        convolve = reduced_precision.network(np.zeros(vgg16.SIZE, np.float32), {int8!r}, 1)
        print(convolve(np.zeros((224, 224, 3), np.uint8)).shape, told)
    """
    done = elsewhere.run(script, HOME=str(elsewhere.folder))
    assert (done.stdout.strip(), done.stderr) == ("(25088,) []", "")
    assert list(elsewhere.folder.iterdir()) == []


def test_ncnn_is_given_no_int8(network: Network, int8: Arithmetic) -> None:
    with pytest.raises(ValueError, match="no int8"):
        ENGINES["ncnn"].load(network.flat, int8, 32, 1)


def test_the_id_of_a_model_in_int8_names_its_ranges(network: Network) -> None:
    some = weights.Weights(network.flat, "test")
    ids = {precision: vgg16_model.Vgg16Model(some, precision).id for precision in PRECISIONS}
    assert ids["float32"] == f"vgg16-fc2-{some.fingerprint}-float32-bilinear224"
    assert re.fullmatch(rf"vgg16-fc2-{some.fingerprint}-int8\.[0-9a-f]{{6}}-bilinear224", ids["int8"])
    assert vgg16_model.Vgg16Model(some, "int8").id == ids["int8"]
    assert str(Arithmetic("int8", (1.0, 2.0))) != str(Arithmetic("int8", (1.0, 2.1)))


def test_openvino_computes_what_it_is_fastest_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for has, name in ((True, "openvino"), (False, "ncnn")):
        monkeypatch.setattr(reduced_precision, "multiplies_bfloat16", lambda has=has: has)
        assert engines.on_cpu(Arithmetic("bfloat16")) is ENGINES[name]
        assert engines.on_cpu(Arithmetic("float32")) is ENGINES["ncnn"]
        assert engines.on_cpu(Arithmetic("int8", (1.0,))) is ENGINES["openvino"]


def test_tensorflow_computes_where_spark_gave_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert features.engine(Arithmetic("float32")) is ENGINES["ncnn"]
    resources: dict[str, ResourceInformation] = {}
    context = SimpleNamespace(resources=lambda: resources)
    monkeypatch.setattr("pyspark.TaskContext.get", lambda: context)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that it is put back, whatever it becomes
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert features.engine(Arithmetic("float32")) is ENGINES["ncnn"]
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    resources["gpu"] = ResourceInformation("gpu", ["2", "5"])
    monkeypatch.setattr(engines, "sees_gpus", lambda: os.environ["CUDA_VISIBLE_DEVICES"] == "2,5")
    assert features.engine(Arithmetic("float32")) is ENGINES["tensorflow"]
    assert features.engine(Arithmetic("int8", (1.0,))) is ENGINES["openvino"]
    monkeypatch.setattr(engines, "sees_gpus", lambda: False)
    assert features.engine(Arithmetic("float32")) is ENGINES["ncnn"]
