"""The finder: a small U-shaped network from an ink map to where numbers stand on it.

Down to cells of 32 pixels and up again to cells of 4 (Ronneberger et al. 2015), so that a cell knows the
line that it lies in. It says for each cell whether it lies in the middle half of the height of a number,
whether in other writing, and how high the digits there are.
"""

import onnx
import torch
from torch import nn

from digitry.training.network.lines_onnx import convolved
from digitry.training.network.onnx_graph import OnnxGraph

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
    graph, value = OnnxGraph(), INPUT
    scales = graph.weight([1, 1, 2, 2])
    seen: list[str] = []

    def conv(value: str, block: nn.Module) -> str:
        return graph.add("Relu", convolved(graph, value, block[0], block[1]))

    for stage in network.down:
        for block in stage:
            value = conv(value, block)
        seen.append(value)
    for level in (2, 1, 0):
        # Each cell becomes four.
        large = graph.add(
            "Resize",
            conv(value, network.narrow[level]),
            "",
            scales,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        joined = graph.add("Add", large, conv(seen[level], network.across[level]))
        value = conv(joined, network.join[level])
    convolved(graph, value, network.head, output=OUTPUT)
    ink, cells = ("n", 1, "height", "width"), ("n", OUTPUTS, "down", "across")
    model = graph.model("finder", {INPUT: ink}, {OUTPUT: cells})
    onnx.checker.check_model(model)
    return model
