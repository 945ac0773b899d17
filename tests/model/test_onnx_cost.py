"""A model that would take too long or too much memory is refused before it is run."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from digitry.errors import ModelError
from digitry.model.load import load_model
from digitry.model.onnx_cost import check_cost
from digitry.model.onnx_wire import message, walk


def graph_of(*nodes: onnx.NodeProto, **weights: np.ndarray) -> bytes:
    """Return a graph from glyphs (n, 28, 28) through these operators."""
    made = helper.make_graph(
        list(nodes),
        "tried",
        [helper.make_tensor_value_info("glyphs", TensorProto.FLOAT, ["n", 28, 28])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return made.SerializeToString()


def floats(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


AXIS = np.array([1], np.int64)
UNSQUEEZE = helper.make_node("Unsqueeze", ["glyphs", "axis"], ["image"])


def test_the_shipped_reader_is_far_below_the_bounds() -> None:
    (graph,) = [value for number, value in walk(load_model("reader").onnx) if number == 7]
    check_cost(message(graph))


def test_many_convolutions_are_counted_before_the_first_one_runs() -> None:
    nodes, name = [UNSQUEEZE], "image"
    for place in range(300):
        nodes.append(
            helper.make_node(
                "Conv", [name, "first" if place == 0 else "more"], [f"x{place}"], pads=[1] * 4
            )
        )
        name = f"x{place}"
    graph = graph_of(*nodes, axis=AXIS, first=floats(64, 1, 3, 3), more=floats(64, 64, 3, 3))
    with pytest.raises(ModelError, match="needs more than 500,000,000 operations for one digit"):
        check_cost(graph)


def test_an_image_enlarged_by_padding_is_refused() -> None:
    pad = helper.make_node("Pad", ["image", "pads"], ["large"])
    pads = np.array([0, 0, 2000, 2000, 0, 0, 2000, 2000], np.int64)
    with pytest.raises(
        ModelError, match=r"needs a tensor of 16,224,784 numbers for one digit \(in Pad\)"
    ):
        check_cost(graph_of(UNSQUEEZE, pad, axis=AXIS, pads=pads))


def test_an_image_enlarged_by_broadcasting_is_refused() -> None:
    add = helper.make_node("Add", ["image", "many"], ["large"])
    with pytest.raises(ModelError, match=r"numbers for one digit \(in Add\)"):
        check_cost(graph_of(UNSQUEEZE, add, axis=AXIS, many=floats(1, 2000, 1, 1)))


def test_sizes_computed_at_run_time_are_refused() -> None:
    reshape = helper.make_node("Reshape", ["glyphs", "glyphs"], ["flat"])
    with pytest.raises(ModelError, match="computes the sizes of Reshape while it runs"):
        check_cost(graph_of(reshape))


def test_operators_out_of_order_are_refused() -> None:
    relu = helper.make_node("Relu", ["later"], ["logits"])
    with pytest.raises(ModelError, match="input shape is not known before it runs"):
        check_cost(graph_of(relu))


@pytest.mark.parametrize(
    ("node", "weights"),
    [
        (helper.make_node("Gemm", ["glyphs", "w"], ["y"]), floats(30, 10)),
        (helper.make_node("MatMul", ["glyphs", "w"], ["y"]), floats(27, 10)),
        (helper.make_node("Conv", ["glyphs", "w"], ["y"]), floats(4, 1, 3, 3)),
        (helper.make_node("Add", ["glyphs", "w"], ["y"]), floats(27)),
        (helper.make_node("Transpose", ["glyphs"], ["y"], perm=[0, 0, 1]), floats(1)),
        (helper.make_node("Concat", ["glyphs", "w"], ["y"], axis=0), floats(1, 27, 28)),
        (helper.make_node("MaxPool", ["glyphs"], ["y"], kernel_shape=[0]), floats(1)),
    ],
)
def test_shapes_that_do_not_match_are_refused(node: onnx.NodeProto, weights: np.ndarray) -> None:
    with pytest.raises(ModelError, match="whose shapes do not match"):
        check_cost(graph_of(node, w=weights))


def shape_by_onnx(graph: bytes) -> list[int]:
    """Return the shape of the last output for one digit, as the `onnx` package infers it."""
    parsed = onnx.GraphProto.FromString(graph)
    parsed.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    model = helper.make_model(parsed, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    return [side.dim_value for side in found.graph.output[0].type.tensor_type.shape.dim]


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Conv", ["image", "w"], ["y"], strides=[2, 3], pads=[1, 0, 2, 1]),
        helper.make_node("Conv", ["image", "w"], ["y"], dilations=[2, 2], auto_pad="VALID"),
        helper.make_node("Conv", ["image", "w"], ["y"], strides=[3, 3], auto_pad="SAME_UPPER"),
        helper.make_node("MaxPool", ["image"], ["y"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node(
            "MaxPool", ["image"], ["y"], kernel_shape=[3, 2], strides=[2, 3], ceil_mode=1
        ),
        helper.make_node("AveragePool", ["image"], ["y"], kernel_shape=[5, 5]),
        helper.make_node("GlobalAveragePool", ["image"], ["y"]),
        helper.make_node("Flatten", ["image"], ["y"], axis=2),
        helper.make_node("Transpose", ["image"], ["y"], perm=[0, 2, 3, 1]),
        helper.make_node("Squeeze", ["image", "axis"], ["y"]),
        helper.make_node("ReduceMean", ["image"], ["y"], axes=[2, 3], keepdims=0),
        helper.make_node("Concat", ["image", "image"], ["y"], axis=1),
    ],
    ids=lambda node: node.op_type,
)
def test_shapes_equal_those_that_onnx_infers(node: onnx.NodeProto) -> None:
    graph = graph_of(UNSQUEEZE, node, axis=AXIS, w=floats(4, 1, 3, 3))
    assert list(check_cost(graph)["y"]) == shape_by_onnx(graph)
