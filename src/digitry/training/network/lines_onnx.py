"""The line network as ONNX, and back.

The graph is a chain of Conv, Relu and MaxPool, with each normalisation folded into the convolution before
it, and a Reshape that makes columns; number and width of the strips are free.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from digitry.errors import ModelError
from digitry.reading.lines import HEIGHT
from digitry.training.network.lines import OUTPUTS, Conv, Layers, Pool, build
from digitry.training.network.onnx_graph import OnnxGraph

Network = nn.Sequential
"""A line network; what trains it further needs no other name of torch."""

INPUT, OUTPUT = "strips", "log_probs"


def to_onnx(network: nn.Sequential) -> onnx.ModelProto:
    """Return a line network as an ONNX model.

    Args:
        network: what `build` returns, trained; it is taken as in evaluation.

    Returns:
        From `strips` (n, 1, 32, width) float32 to `log_probs` (n, width / 2, 17) float32.

    Raises:
        ModelError: a module has no translation here.
    """
    graph, value = OnnxGraph(), INPUT
    for module in bare(network):
        if isinstance(module, nn.Conv2d):
            value = convolved(graph, value, module)
        elif isinstance(module, nn.ReLU):
            value = graph.add("Relu", value)
        elif isinstance(module, nn.MaxPool2d):
            window = list(module.kernel_size)
            value = graph.add("MaxPool", value, kernel_shape=window, strides=window)
        else:
            raise ModelError(
                f"a {type(module).__name__} has no translation to ONNX", where="the line network"
            )
    # Two columns of each: (n, 34, 1, t) -> (n, 2 t, 17).
    halves = graph.weight([0, 2, OUTPUTS, -1], np.int64)
    by_half = graph.add("Reshape", value, halves)
    by_column = graph.add("Transpose", by_half, perm=[0, 3, 1, 2])
    logits = graph.add("Reshape", by_column, graph.weight([0, -1, OUTPUTS], np.int64))
    graph.add("LogSoftmax", logits, output=OUTPUT, axis=-1)
    strips, columns = ("n", 1, HEIGHT, "width"), ("n", "columns", OUTPUTS)
    model = graph.model("lines", {INPUT: strips}, {OUTPUT: columns})
    onnx.checker.check_model(model)
    return model


def convolved(
    graph: OnnxGraph,
    value: str,
    conv: nn.Conv2d,
    norm: nn.BatchNorm2d | None = None,
    output: str = "",
) -> str:
    """Add a convolution, with the normalisation after it in its weights; return its output's name."""
    weight, bias = numbers(conv)
    if norm is not None:
        weight, bias = folded(weight, bias, norm)
    return graph.add(
        "Conv",
        value,
        graph.weight(weight),
        graph.weight(bias),
        output=output,
        kernel_shape=list(conv.kernel_size),
        pads=[int(side) for side in conv.padding] * 2,
        strides=list(conv.stride),
    )


def numbers(module: nn.Conv2d) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the weights and the biases of a convolution; no bias is zero."""
    weight = module.weight.detach().cpu().numpy().astype(np.float32)
    if module.bias is None:
        return weight, np.zeros(len(weight), np.float32)
    return weight, module.bias.detach().cpu().numpy().astype(np.float32)


def folded(
    weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32], norm: nn.BatchNorm2d
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return a convolution's weights with the normalisation after it in them; in float64 on the way."""
    if norm.running_mean is None or norm.running_var is None:
        raise ModelError("a normalisation keeps no statistics", where="the line network")
    mean, var, gain, shift = (
        tensor.detach().cpu().numpy().astype(np.float64)
        for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    factor = gain / np.sqrt(var + norm.eps)
    return (
        (weight * factor[:, None, None, None]).astype(np.float32),
        ((bias - mean) * factor + shift).astype(np.float32),
    )


def from_onnx(model: onnx.ModelProto) -> tuple[Layers, nn.Sequential]:
    """Return the layers and the network of an ONNX model that `to_onnx` made, to train it on.

    Each normalisation comes back as one that adds the bias and does no more; `measured` makes it one that
    training can go on with.

    Raises:
        ModelError: the graph is not such a chain.
    """
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        # Weights that are stored in half precision are cast to single precision by the graph.
        if node.op_type == "Cast" and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]].astype(np.float32)
    chain = [node for node in model.graph.node if node.op_type in ("Conv", "MaxPool", "Relu")]
    layers: list[Conv | Pool] = []
    convolutions: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = []
    for index, node in enumerate(chain):
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        if node.op_type == "MaxPool":
            down, across = attributes["kernel_shape"]
            layers.append(Pool((down, across)))
        elif node.op_type == "Conv":
            if len(node.input) != 3 or not {node.input[1], node.input[2]} <= weights.keys():
                raise ModelError("a convolution's weights are not stored", where="the line network")
            weight, bias = weights[node.input[1]], weights[node.input[2]]
            after = chain[index + 1].op_type if index + 1 < len(chain) else ""
            pads = attributes["pads"]
            layers.append(
                Conv(
                    len(weight),
                    (weight.shape[2], weight.shape[3]),
                    (pads[0], pads[1]),
                    last=after != "Relu",
                )
            )
            convolutions.append((weight, bias))
    if not layers or not isinstance(layers[-1], Conv) or layers[-1].channels != 2 * OUTPUTS:
        raise ModelError("is not a line network", remedy="give one that digitry trained")
    network = build(tuple(layers))
    _fill(network, convolutions)
    return tuple(layers), network.eval()


def deepened(layers: Layers, network: nn.Sequential, wanted: Layers) -> nn.Sequential:
    """Return the same network with further convolutions, which at first hand on what they get.

    Args:
        layers: of the network, as `from_onnx` returns both.
        network: stays as it is.
        wanted: the same layers, some of the convolutions more than once in a row.

    Raises:
        ModelError: the layers differ in another way.
    """
    known = [numbers(module) for module in bare(network) if isinstance(module, nn.Conv2d)]
    convolutions: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = []
    at = 0
    for before, layer in pairwise((None, *wanted)):
        if at < len(layers) and layers[at] == layer:
            at += 1
            if isinstance(layer, Conv):
                convolutions.append(known.pop(0))
        elif isinstance(layer, Conv) and layer == before and not layer.last:
            down, across = layer.kernel
            same = np.zeros((layer.channels, layer.channels, down, across), np.float32)
            same[range(layer.channels), range(layer.channels), down // 2, across // 2] = 1
            convolutions.append((same, np.zeros(layer.channels, np.float32)))
        else:
            at = -1
            break
    if at != len(layers):
        raise ModelError("has other layers than the shipped line network")
    made = build(wanted)
    _fill(made, convolutions)
    return made.eval()


def _fill(
    network: nn.Sequential,
    convolutions: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]],
) -> None:
    modules = list(network)
    found = iter(convolutions)
    for at, module in enumerate(modules):
        if not isinstance(module, nn.Conv2d):
            continue
        weight, bias = next(found)
        if tuple(module.weight.shape) != weight.shape:
            raise ModelError("its layers do not fit together", where="the line network")
        module.weight.data.copy_(torch.from_numpy(np.array(weight)))
        if module.bias is not None:
            module.bias.data.copy_(torch.from_numpy(np.array(bias)))
            continue
        norm = modules[at + 1]
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None:
            raise ModelError("a convolution has no normalisation", where="the line network")
        if norm.running_var is None:
            raise ModelError("a normalisation keeps no statistics", where="the line network")
        norm.running_var.fill_(1 - norm.eps)
        norm.bias.data.copy_(torch.from_numpy(np.array(bias)))


def measured(network: nn.Sequential, strips: Sequence[npt.NDArray[np.uint8]]) -> nn.Sequential:
    """Return the same network with normalisations that hold the statistics of strips.

    It computes the same as before, in training nearly so, too.

    Args:
        network: from `from_onnx`; its normalisations change.
        strips: batches, (n, 1, 32, width) each, 255 = ink.
    """
    network.eval()
    values = [torch.from_numpy(batch).float().div(255) for batch in strips]
    with torch.no_grad():
        for module in network:
            if isinstance(module, nn.BatchNorm2d):
                flat = torch.cat([value.transpose(0, 1).flatten(1) for value in values], dim=1)
                mean, variance = flat.mean(dim=1), flat.var(dim=1)
                found = {
                    "weight": (variance + module.eps).sqrt(),
                    "bias": module.bias + mean,
                    "running_mean": mean,
                    "running_var": variance,
                }
                module.load_state_dict(module.state_dict() | found)
            values = [module(value) for value in values]
    return network


def bare(network: nn.Sequential) -> nn.Sequential:
    """Return the same network with its normalisations in the convolutions before them.

    A network without normalisations needs none of their statistics measured before a short training.
    """
    modules = list(network)
    kept: list[nn.Module] = []
    for at, module in enumerate(modules):
        if isinstance(module, nn.BatchNorm2d):
            continue
        if isinstance(module, nn.Conv2d):
            weight, bias = numbers(module)
            after = modules[at + 1] if at + 1 < len(modules) else None
            if isinstance(after, nn.BatchNorm2d):
                weight, bias = folded(weight, bias, after)
            made = nn.Conv2d(
                module.in_channels, module.out_channels, (weight.shape[2], weight.shape[3]),
                padding=(int(module.padding[0]), int(module.padding[1])),
            )  # fmt: skip
            made.weight.data.copy_(torch.from_numpy(np.array(weight)))
            if made.bias is not None:
                made.bias.data.copy_(torch.from_numpy(np.array(bias)))
            module = made
        kept.append(module)
    return nn.Sequential(*kept)


def between(old: nn.Sequential, new: nn.Sequential, step: float) -> nn.Sequential:
    """Return the network whose weights are so far on the way from the old ones to the new ones."""
    weights = {
        name: (1 - step) * value + step * new.state_dict()[name]
        for name, value in old.state_dict().items()
    }
    made = bare(old)
    made.load_state_dict(weights)
    return made.eval()
