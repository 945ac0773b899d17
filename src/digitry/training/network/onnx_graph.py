"""An ONNX graph while it is written: its nodes and weights, and the model that they become."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
"""What ONNX Runtime 1.10 and later read."""

Shape = Sequence[int | str]


class OnnxGraph:
    """Nodes and weights. Images are channels first, as ONNX requires."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, npt.NDArray[Any]] = {}

    def weight(self, values: Any, kind: Any = np.float32, *, name: str = "") -> str:
        """Add a weight, and return its name; `kind` None = of the type that it has."""
        name = name or f"w{len(self.weights)}"
        self.weights[name] = np.ascontiguousarray(values, kind)
        return name

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        output = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def model(
        self,
        name: str,
        inputs: Mapping[str, Shape],
        outputs: Mapping[str, Shape],
        *,
        opset: int = OPSET,
        ir_version: int = IR_VERSION,
    ) -> onnx.ModelProto:
        """Return the model, with the weights that a node reads."""
        used = {name for node in self.nodes for name in node.input}
        graph = helper.make_graph(
            self.nodes,
            name,
            [_info(*one) for one in inputs.items()],
            [_info(*one) for one in outputs.items()],
            [numpy_helper.from_array(v, k) for k, v in self.weights.items() if k in used],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="digitry"
        )
        model.ir_version = ir_version
        return model

    def digit_model(
        self, classes: int, *, opset: int = OPSET, ir_version: int = IR_VERSION
    ) -> onnx.ModelProto:
        """Return the model of a model file: from `glyphs` to `logits` and `probabilities`."""
        inputs: dict[str, Shape] = {"glyphs": ("n", 28, 28)}
        outputs: dict[str, Shape] = dict.fromkeys(("logits", "probabilities"), ("n", classes))
        return self.model("digits", inputs, outputs, opset=opset, ir_version=ir_version)


def _info(name: str, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def same_padding(
    sizes: Iterable[int], window: Iterable[int], strides: Iterable[int], dilations: Iterable[int]
) -> list[int]:
    """Return ONNX's numbers of padding pixels for Keras' padding `same`.

    Args:
        sizes, window, strides, dilations: by axis, height first.

    Returns:
        Those before each axis, then those after it.
    """
    needed = [
        max((-(-size // step) - 1) * step + (width - 1) * gap + 1 - size, 0)
        for size, width, step, gap in zip(sizes, window, strides, dilations, strict=True)
    ]
    return [pixels // 2 for pixels in needed] + [pixels - pixels // 2 for pixels in needed]
