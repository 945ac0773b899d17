"""The line network: fully convolutional, from a strip of ink to classes by column, read with CTC.

Plain 3x3 convolutions with pooling (Simonyan & Zisserman 2014), and CTC (Graves et al. 2006) without
recurrence: a recurrent layer memorises the strings of its training set. The last convolution gives two
columns for each of its own, so that the output is twice as fine as the features: repeated digits, between
which CTC needs a blank, stay apart.
"""

from dataclasses import dataclass

import torch
from torch import nn

from digitry.errors import ModelError
from digitry.reading.classes import CLASSES
from digitry.reading.lines import HEIGHT

OUTPUTS = len(CLASSES)
"""Ten digits, five marks, other writing, blank."""


@dataclass(frozen=True)
class Conv:
    """A convolution, a normalisation and a ReLU; with `last` the convolution alone, with a bias."""

    channels: int
    kernel: tuple[int, int]
    padding: tuple[int, int]
    last: bool = False


@dataclass(frozen=True)
class Pool:
    """The largest value of each window; windows do not overlap."""

    window: tuple[int, int]


Layers = tuple[Conv | Pool, ...]


def line_layers(channels: tuple[int, int, int, int, int] = (16, 32, 64, 96, 128)) -> Layers:
    """Return the layers of a line network, by the channels of its stages.

    The early stages are thin: there, memory and not arithmetic takes a processor's time.
    """
    first, second, third, fourth, top = channels
    square, wide = ((3, 3), (1, 1)), ((1, 5), (0, 2))
    return (
        Conv(first, *square),
        Pool((2, 2)),
        Conv(second, *square),
        Pool((2, 2)),
        Conv(third, *square),
        Conv(third, *square),
        Pool((2, 1)),
        Conv(fourth, *square),
        Conv(fourth, *square),
        Conv(fourth, *square),
        Conv(top, (4, 1), (0, 0)),
        Conv(top, *wide),
        Conv(top, *wide),
        Conv(2 * OUTPUTS, (1, 1), (0, 0), last=True),
    )


def build(layers: Layers) -> nn.Sequential:
    """Return a network of these layers with fresh weights.

    Returns:
        From (n, 1, 32, width) float32 in [0, 1], ink = 1, to (n, 34, 1, width / 4); `columns` makes
        columns of it.
    """
    modules: list[nn.Module] = []
    inputs = 1
    for layer in layers:
        if isinstance(layer, Pool):
            modules.append(nn.MaxPool2d(layer.window))
            continue
        modules.append(
            nn.Conv2d(inputs, layer.channels, layer.kernel, padding=layer.padding, bias=layer.last)
        )
        if not layer.last:
            modules += [nn.BatchNorm2d(layer.channels), nn.ReLU(inplace=True)]
        inputs = layer.channels
    network = nn.Sequential(*modules)
    for module in network:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network


def columns(raw: torch.Tensor) -> torch.Tensor:
    """Return a network's output as logits by column.

    Args:
        raw: (n, 2 * classes, 1, t); the first half of the channels are the left columns.

    Returns:
        (n, 2 * t, classes).
    """
    count, channels, rows, width = raw.shape
    if rows != 1 or channels % 2:
        raise ModelError(
            f"an output of shape {tuple(raw.shape)} is not two columns of one row",
            remedy=f"give strips {HEIGHT} pixels high",
        )
    halves = raw.reshape(count, 2, channels // 2, width)
    return halves.permute(0, 3, 1, 2).reshape(count, 2 * width, channels // 2)
