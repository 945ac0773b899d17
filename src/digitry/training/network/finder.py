"""The finder: a small U-shaped network from an ink map to where numbers stand on it.

Down to cells of 32 pixels and up again to cells of 4 (Ronneberger et al. 2015), so that a cell knows the
line that it lies in. It says for each cell whether it lies in the middle half of the height of a number,
whether in other writing, and how high the digits there are.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from digitry.training.network.lines_onnx import OPSET, folded, numbers

OUTPUTS = 3
"""Number, other writing, height."""

INPUT, OUTPUT = "ink", "cells"


def _conv(inputs: int, outputs: int, stride: int = 1, side: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, stride=stride, padding=side // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Finder(nn.Module):  # type: ignore[misc]
    """From (n, 1, h, w) float32 in [0, 1], ink = 1, to (n, 3, h / 4, w / 4); h and w multiples of 32.

    The outputs are the logits of "in a number" and of "in other writing", and the logarithm to base 2 of
    the height of a digit, divided by `find.TALL` pixels.
    """

    def __init__(self, channels: tuple[int, int, int, int, int] = (8, 16, 32, 48, 64)) -> None:
        super().__init__()
        first, c4, c8, c16, c32 = channels
        self.channels = channels
        self.down = nn.ModuleList(
            [
                nn.Sequential(_conv(1, first, 2), _conv(first, c4, 2), _conv(c4, c4)),
                nn.Sequential(_conv(c4, c8, 2), _conv(c8, c8)),
                nn.Sequential(_conv(c8, c16, 2), _conv(c16, c16)),
                nn.Sequential(_conv(c16, c32, 2), _conv(c32, c32), _conv(c32, c32)),
            ]
        )
        self.across = nn.ModuleList(
            [_conv(c4, c4, side=1), _conv(c8, c8, side=1), _conv(c16, c16, side=1)]
        )
        self.narrow = nn.ModuleList(
            [_conv(c8, c4, side=1), _conv(c16, c8, side=1), _conv(c32, c16, side=1)]
        )
        self.join = nn.ModuleList([_conv(c4, c4), _conv(c8, c8), _conv(c16, c16)])
        self.head = nn.Conv2d(c4, OUTPUTS, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, 0.0)
        with torch.no_grad():
            # Most of a page is paper.
            self.head.bias[:2] = -3.0

    def forward(self, ink: torch.Tensor) -> torch.Tensor:
        """Return what the network says by cells."""
        seen: list[torch.Tensor] = []
        value = ink
        for stage in self.down:
            value = stage(value)
            seen.append(value)
        for level in (2, 1, 0):
            small = self.narrow[level](value)
            large = nn.functional.interpolate(small, scale_factor=2.0, mode="nearest")
            value = self.join[level](large + self.across[level](seen[level]))
        result: torch.Tensor = self.head(value)
        return result


def to_onnx(network: Finder) -> onnx.ModelProto:
    """Return a finder as an ONNX model, each normalisation folded into the convolution before it.

    Returns:
        From `ink` (n, 1, h, w) float32 to `cells` (n, 3, h / 4, w / 4) float32.
    """
    graph = _Graph()
    seen: list[str] = []
    value = INPUT
    for stage in network.down:
        for block in stage:
            value = graph.conv(value, block)
        seen.append(value)
    for level in (2, 1, 0):
        small = graph.conv(value, network.narrow[level])
        large = graph.twice(small)
        joined = graph.add(large, graph.conv(seen[level], network.across[level]))
        value = graph.conv(joined, network.join[level])
    graph.last(value, network.head)
    made = helper.make_graph(
        graph.nodes,
        "finder",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", 1, "height", "width"])],
        [
            helper.make_tensor_value_info(
                OUTPUT, TensorProto.FLOAT, ["n", OUTPUTS, "down", "across"]
            )
        ],
        [numpy_helper.from_array(array, name) for name, array in graph.weights.items()],
    )
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="digitry"
    )
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


class _Graph:
    """The nodes and weights of an ONNX graph while it is written."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, npt.NDArray[Any]] = {"scales": np.array([1, 1, 2, 2], np.float32)}

    def _name(self) -> str:
        return f"v{len(self.nodes)}"

    def conv(self, value: str, block: nn.Module) -> str:
        """Add a convolution, its normalisation and its ReLU."""
        conv, norm = block[0], block[1]
        weight, bias = folded(*numbers(conv), norm)
        return self._relu(self._conv(value, weight, bias, conv))

    def _conv(
        self,
        value: str,
        weight: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        conv: nn.Conv2d,
        name: str = "",
    ) -> str:
        name = name or self._name()
        self.weights[f"{name}_w"], self.weights[f"{name}_b"] = weight, bias
        pad, stride = int(conv.padding[0]), int(conv.stride[0])
        self.nodes.append(
            helper.make_node(
                "Conv",
                [value, f"{name}_w", f"{name}_b"],
                [name],
                kernel_shape=list(conv.kernel_size),
                pads=[pad] * 4,
                strides=[stride] * 2,
            )
        )
        return name

    def _relu(self, value: str) -> str:
        name = self._name()
        self.nodes.append(helper.make_node("Relu", [value], [name]))
        return name

    def twice(self, value: str) -> str:
        """Add an upsampling: each cell becomes four."""
        name = self._name()
        self.nodes.append(
            helper.make_node(
                "Resize",
                [value, "", "scales"],
                [name],
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
        )
        return name

    def add(self, one: str, other: str) -> str:
        """Add a sum."""
        name = self._name()
        self.nodes.append(helper.make_node("Add", [one, other], [name]))
        return name

    def last(self, value: str, head: nn.Conv2d) -> None:
        """Add the output."""
        self._conv(value, *numbers(head), head, name=OUTPUT)
