"""A network from a file computes what ONNX's own reference computes, and what is no such network is refused."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from PIL import Image
from tests.networks import WIDTH, network, save

from dedup import job, onnx_model, pixels
from dedup.errors import UsageError
from dedup.onnx_model import ENGINE, MOST_WIDTH, OnnxModel

SIDE = 32


def predict(model: OnnxModel, pictures: NDArray[np.uint8], threads: int = 1) -> NDArray[np.float32]:
    return ENGINE.load(model.blob, model.arithmetic, ENGINE.batch_size, threads)(pictures)


@pytest.fixture(scope="module")
def pictures(photograph: Image.Image) -> NDArray[np.uint8]:
    noise = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    return np.stack([pixels.shrunk(photograph, SIDE), noise, np.zeros_like(noise)])


@pytest.mark.parametrize("shape", [("n", 3, "h", "w"), (1, 3, SIDE, SIDE), ("n", "h", "w", 3)])
@pytest.mark.parametrize("layer", ["", "features", "rectified"])
def test_features_are_those_of_the_reference(
    pictures: NDArray[np.uint8], shape: tuple[Any, ...], layer: str, tmp_path: Path
) -> None:
    made = network(shape)
    model = onnx_model.load(save(made, tmp_path / "a.onnx"), SIDE, (0.5, 0.4, 0.3), (0.2, 0.25, 0.5), layer)
    found = predict(model, pictures)
    if layer == "rectified":
        made.graph.output[0].name = layer
    reference = ReferenceEvaluator(made)
    for picture, vector in zip(pictures, found, strict=True):
        scaled = ((picture / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.25, 0.5]).astype(np.float32)
        given = scaled if shape[-1] == 3 else scaled.transpose(2, 0, 1)
        (expected,) = reference.run(None, {"pixels": given[None]})
        np.testing.assert_allclose(vector, np.ravel(np.asarray(expected)), rtol=1e-4, atol=1e-4)
    assert model.width == found.shape[1] == (WIDTH if layer != "rectified" else 8 * 14 * 14)


def test_a_size_that_the_file_says_need_not_be_said(tmp_path: Path) -> None:
    model = onnx_model.load(save(network((1, 3, SIDE, SIDE)), tmp_path / "a.onnx"))
    assert (model.side, model.recipe.layer, model.width) == (SIDE, "features", WIDTH)
    partly = onnx_model.load(save(network((-1, 3, SIDE, "w")), tmp_path / "b.onnx"))
    assert partly.side == SIDE


def test_of_axes_that_are_all_names_the_second_is_the_channels(pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    named = onnx_model.load(save(network(("batch", "channels", "height", "width")), tmp_path / "a.onnx"), SIDE)
    fixed = onnx_model.load(save(network(), tmp_path / "b.onnx"), SIDE)
    assert (predict(named, pictures) == predict(fixed, pictures)).all()


def test_what_a_layer_does_not_need_is_cut_off(pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    made = network()
    plain = onnx_model.load(save(made, tmp_path / "a.onnx"), SIDE)
    graph = made.graph
    graph.initializer.append(numpy_helper.from_array(np.ones((WIDTH, 1000), np.float32), "more"))
    graph.node.append(helper.make_node("MatMul", ["features", "more"], ["classes"]))
    graph.node.append(helper.make_node("Unheard", ["classes", "words"], ["said"], domain="of.others"))
    graph.input.append(helper.make_tensor_value_info("words", TensorProto.INT64, ["n", 77]))
    for name in ("classes", "said"):
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    cut = onnx_model.load(save(made, tmp_path / "b.onnx"), SIDE, layer="features")
    assert len(cut.graph) < len(plain.graph) + 100
    assert (predict(cut, pictures) == predict(plain, pictures)).all()


def test_what_a_subgraph_takes_from_outside_is_not_cut_off(pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    made = network()
    plain = onnx_model.load(save(made, tmp_path / "a.onnx"), SIDE)
    graph = made.graph
    branches = [
        helper.make_graph(
            [helper.make_node("MatMul", ["flat", "dense"], ["inside"])],
            name,
            [],
            [helper.make_tensor_value_info("inside", TensorProto.FLOAT, None)],
        )
        for name in ("then", "else")
    ]
    graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    graph.node[-1].CopyFrom(
        helper.make_node("If", ["yes"], ["features"], then_branch=branches[0], else_branch=branches[1])
    )
    inside = onnx_model.load(save(made, tmp_path / "b.onnx"), SIDE)
    np.testing.assert_allclose(predict(inside, pictures), predict(plain, pictures), rtol=1e-5, atol=1e-5)


def test_weights_that_are_listed_as_inputs_too_are_none(tmp_path: Path) -> None:
    made = network()
    listed = [helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in made.graph.initializer]
    made.graph.input.extend(listed)
    assert onnx_model.load(save(made, tmp_path / "a.onnx"), SIDE).width == WIDTH


def test_a_layer_of_any_shape_is_flat(tmp_path: Path) -> None:
    made = network()
    made.graph.node.append(helper.make_node("Squeeze", ["features"], ["vector"]))
    assert onnx_model.load(save(made, tmp_path / "a.onnx"), SIDE, layer="vector").width == WIDTH


def test_a_network_that_is_mapped_from_a_file_says_the_same(pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    model = onnx_model.load(save(network(), tmp_path / "a.onnx"), SIDE)
    (tmp_path / model.blob_name).write_bytes(model.graph)
    mapped = np.memmap(tmp_path / model.blob_name, np.uint8, mode="c")
    assert (ENGINE.load(mapped, model.recipe, 8, 1)(pictures) == predict(model, pictures)).all()


def test_a_width_that_depends_on_the_picture_ends_the_job_with_a_line(tmp_path: Path) -> None:
    made = network()
    made.graph.node.append(helper.make_node("NonZero", ["rectified"], ["places"]))
    made.graph.node.append(helper.make_node("Cast", ["places"], ["numbers"], to=TensorProto.FLOAT))
    model = onnx_model.load(save(made, tmp_path / "a.onnx"), SIDE, layer="numbers")
    with pytest.raises(UsageError, match=f"the network made .* features of a picture, and {model.width} of others"):
        predict(model, np.zeros((1, SIDE, SIDE, 3), np.uint8))


def test_the_only_output_by_its_name_is_the_same_model(tmp_path: Path) -> None:
    said = save(network(), tmp_path / "a.onnx")
    model = onnx_model.load(said, SIDE)
    assert onnx_model.load(said, SIDE, layer="features").id == model.id == onnx_model.id_of(said, model.recipe)
    assert model.recipe.neutral == (124, 116, 104)


def test_what_is_said_of_a_picture_depends_on_nothing_beside_it(pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    model = onnx_model.load(save(network(), tmp_path / "a.onnx"), SIDE)
    whole = predict(model, pictures)
    assert (predict(model, pictures[::-1])[::-1] == whole).all()
    assert (predict(model, pictures, threads=2) == whole).all()
    assert (np.concatenate([predict(model, picture[None]) for picture in pictures]) == whole).all()


def test_an_id_names_all_that_features_depend_on_and_not_where_the_file_is(tmp_path: Path) -> None:
    said = save(network(), tmp_path / "a.onnx")
    models = [
        onnx_model.load(said, SIDE),
        onnx_model.load(said, SIDE + 1),
        onnx_model.load(said, SIDE, mean=(0.5, 0.5, 0.5)),
        onnx_model.load(said, SIDE, std=(0.5, 0.5, 0.5)),
        onnx_model.load(said, SIDE, layer="flat"),
        onnx_model.load(save(network(seed=1), tmp_path / "b.onnx"), SIDE),
    ]
    assert len({model.id for model in models}) == len(models)
    assert len({(model.blob_name, str(model.recipe)) for model in models}) == len(models)
    again = onnx_model.load(save(network(), tmp_path / "elsewhere.onnx"), SIDE)
    assert again.id == models[0].id
    assert again.source == f"onnx:{tmp_path}/elsewhere.onnx"


def without(change: Callable[[Any], object], **options: Any) -> Any:
    made = network(**options)
    change(made.graph)
    return made


def asks_for_weights(graph: Any) -> None:
    graph.input.append(helper.make_tensor_value_info("dense", TensorProto.FLOAT, graph.initializer[1].dims))
    del graph.initializer[1]


def draws_at_random(graph: Any) -> None:
    graph.node[-1].output[0] = "steady"
    graph.node.append(helper.make_node("RandomNormalLike", ["steady"], ["features"]))


def from_the_future() -> Any:
    made = network()
    made.ir_version = 99
    return made


def far_away(tensor: Any) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def with_constant() -> Any:
    """A network whose weights are far away in an attribute of a node, not among those of the graph."""
    made = network()
    kernel = made.graph.initializer[0]
    constant = helper.make_node("Constant", [], ["kernel"], value=kernel)
    far_away(constant.attribute[0].t)
    del made.graph.initializer[0]
    made.graph.node.insert(0, constant)
    return made


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "two inputs": (without(asks_for_weights), {}, "it has 2 inputs"),
    "bytes": (network(kind=TensorProto.UINT8), {}, r"its input is uint8 \(\?, 3, \?, \?\); it must be float32"),
    "no pictures": (network(("n", 1, 32, 32)), {}, r"its input is float32 \(\?, 1, 32, 32\); it must be"),
    "a vector": (network(("n", 3)), {}, r"its input is float32 \(\?, 3\); it must be"),
    "several at a time": (network((4, 3, 32, 32)), {}, "it takes 4 pictures at a time"),
    "not square": (network((1, 3, 32, 48)), {}, "only square pictures are made"),
    "no size": (network(), {"size": None}, "it takes pictures of any size: say which with --size"),
    "another size": (network((1, 3, 48, 48)), {}, "it takes pictures of 48 x 48 pixels, not of --size 32"),
    "too small": (network(), {"size": 4}, "--size 4: possible are 8 to 1024 pixels"),
    "no such layer": (network(), {"layer": "rectifed"}, "no tensor is named --layer rectifed; there are .*rectified"),
    "several outputs": (
        without(lambda graph: graph.output.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, None))),
        {},
        "it has 2 outputs: choose one with --layer: features, flat",
    ),
    "weights elsewhere": (without(lambda graph: far_away(graph.initializer[1])), {}, "its weights lie in other files"),
    "a constant elsewhere": (with_constant(), {}, "its weights lie in other files"),
    "one number": (network(width=1), {}, "it makes 1 features of a picture; 2 to 16,384 are possible"),
    "too many numbers": (network(width=MOST_WIDTH + 1), {}, "it makes 16,385 features"),
    "not finite": (network(gain=np.inf), {}, "it makes numbers of a picture that are not finite"),
    "unknown operation": (
        without(lambda graph: setattr(graph.node[1], "op_type", "Rectify")),
        {},
        "it does not compute: .*Rectify",
    ),
    "weights of another shape": (
        without(
            lambda graph: graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones((7, 7), np.float32), "dense"))
        ),
        {},
        "it does not compute",
    ),
    "no spread": (network(), {"std": (1.0, 0.0, 1.0)}, r"--std 1\.0,0\.0,1\.0: three numbers from 1e-09 to 1e\+09"),
    "no mean": (network(), {"mean": (np.nan, 0.0, 1.0)}, "--mean nan,.*: three numbers from -10 to 10"),
    "a mean that no float is": (network(), {"mean": (10**400, 0, 0)}, "--mean 1000.*: three numbers from -10 to 10"),
    "a mean of other pixels": (network(), {"mean": (123.7, 116.3, 103.5)}, "--mean 123.7,.* for pixels from 0 to 1"),
    "half a letter": (network(), {"layer": "\ud800"}, "no tensor is named"),
    "at random": (without(draws_at_random), {}, "it makes other features of the same picture each time"),
    "from the future": (from_the_future(), {}, "it does not compute: .*Unsupported model IR version: 99"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_network_for_pictures_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    made, options, complaint = WRONG[name]
    with pytest.raises(UsageError, match=complaint) as refused:
        onnx_model.load(save(made, tmp_path / "a.onnx"), **{"size": SIDE} | options)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500 + len(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x0a", None])
def test_a_file_that_is_no_network_is_refused(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(UsageError, match=r"--model onnx:/.*a\.onnx: (not an ONNX file|missing|empty)"):
        onnx_model.load(f"onnx:{tmp_path}/a.onnx", SIDE)


def test_a_network_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(network().SerializeToString()[:-500])
    with pytest.raises(UsageError, match="not an ONNX file"):
        onnx_model.load(f"onnx:{tmp_path}/a.onnx", SIDE)


def test_an_output_that_is_no_float32_is_refused(tmp_path: Path) -> None:
    made = network()
    made.graph.node.append(helper.make_node("Shape", ["features"], ["shape"]))
    with pytest.raises(UsageError, match="it makes int64"):
        onnx_model.load(save(made, tmp_path / "a.onnx"), SIDE, layer="shape")


def options(**given: Any) -> Namespace:
    names = ("model", "weights", "precision", "size", "mean", "std", "layer")
    return Namespace(**dict.fromkeys(names) | given)


def test_options_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(UsageError, match="--size goes with --model onnx:FILE"):
        job.load_network(options(size=SIDE, weights="seeded"))
    with pytest.raises(UsageError, match="has weights and a precision of its own"):
        job.load_network(options(model="onnx:a.onnx", precision="int8"))
    parser = job.Parser("extract", "")
    parser.add_network()
    with pytest.raises(UsageError, match=r"'a\.onnx' does not begin with onnx:"):
        parser.parse_args(["--model", "a.onnx"])
    with pytest.raises(UsageError, match="--model onnx:: the place of a file is missing"):
        onnx_model.load("onnx:")
    with pytest.raises(UsageError, match="'1,2': three numbers with commas"):
        onnx_model.channels("1,2")


def test_options_name_a_network(tmp_path: Path) -> None:
    parser = job.Parser("extract", "")
    parser.add_network()
    said = save(network(), tmp_path / "a.onnx")
    words = ["--model", said, "--size", "40", "--mean", "0,0,0", "--std", "1,1,.5", "--layer", "flat"]
    found = job.load_network(parser.parse_args(words))
    assert isinstance(found, OnnxModel)
    assert found.id == onnx_model.load(said, 40, (0, 0, 0), (1, 1, 0.5), "flat").id
    onnx.checker.check_model(said.removeprefix("onnx:"))
