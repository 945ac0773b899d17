from itertools import pairwise

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from digitry.errors import ModelError
from digitry.reading.decode import STRIDE
from digitry.training.network.lines import (
    OUTPUTS,
    Conv,
    Pool,
    build,
    columns,
    line_layers,
)
from digitry.training.network.lines_onnx import deepened, from_onnx, measured, to_onnx

SMALL = (4, 4, 8, 8, 8)


@pytest.fixture
def network() -> nn.Sequential:
    """A network whose normalisations have seen something."""
    torch.manual_seed(0)
    network = build(line_layers(SMALL)).train()
    for _ in range(3):
        network(torch.rand(4, 1, 32, 40))
    return network.eval()


def log_probs(network: nn.Module, strips: torch.Tensor) -> torch.Tensor:
    """The log-probabilities of the classes by column, (n, width / 2, 17)."""
    return columns(network(strips)).log_softmax(-1)


def strips(count: int, width: int) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.rand(count, 1, 32, width)


@pytest.mark.parametrize("width", [16, 36, 200])
def test_there_is_a_column_for_every_two_pixels(network: nn.Sequential, width: int):
    result = log_probs(network, strips(2, width))
    assert result.shape == (2, width // STRIDE, OUTPUTS)
    assert torch.allclose(result.exp().sum(-1), torch.ones(2, width // STRIDE), atol=1e-5)


def test_the_two_halves_of_the_output_are_neighbours():
    raw = torch.zeros(1, 2 * OUTPUTS, 1, 3)
    raw[0, 5, 0, 1] = 1
    raw[0, OUTPUTS + 7, 0, 1] = 1
    by_column = columns(raw)
    assert by_column[0, 2, 5] == 1
    assert by_column[0, 3, 7] == 1
    assert by_column.sum() == 2


def test_empty_columns_on_the_right_change_nothing_far_from_them(network: nn.Sequential):
    line = strips(1, 200)
    padded = torch.nn.functional.pad(line, (0, 80))
    assert torch.allclose(
        log_probs(network, line)[:, :60], log_probs(network, padded)[:, :60], atol=1e-5
    )


def test_a_strip_of_another_height_is_refused(network: nn.Sequential):
    with pytest.raises(ModelError, match="32"):
        log_probs(network, torch.rand(1, 1, 48, 40))


@pytest.mark.parametrize(("count", "width"), [(1, 16), (3, 100)])
def test_onnx_says_what_torch_says(network: nn.Sequential, count: int, width: int):
    session = onnxruntime.InferenceSession(
        to_onnx(network).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    line = strips(count, width)
    (result,) = session.run(["log_probs"], {"strips": line.numpy()})
    np.testing.assert_allclose(
        result, log_probs(network, line).detach().numpy(), atol=2e-5, rtol=1e-5
    )


def test_a_network_comes_back_from_its_onnx(network: nn.Sequential):
    layers, back = from_onnx(to_onnx(network))
    assert layers == line_layers(SMALL)
    line = strips(2, 64)
    assert torch.allclose(log_probs(back, line), log_probs(network, line), atol=1e-5)
    again = from_onnx(to_onnx(back))[1]
    assert torch.allclose(log_probs(again, line), log_probs(network, line), atol=1e-5)


def test_a_network_that_came_back_is_trained_on_from_where_it_was(network: nn.Sequential):
    shown = [(strips(8, 64) * 255).byte().numpy() for _ in range(2)]
    line = torch.from_numpy(np.concatenate(shown)).float() / 255
    said = log_probs(network, line)
    back = measured(from_onnx(to_onnx(network))[1], shown)
    assert torch.allclose(log_probs(back, line), said, atol=1e-4)
    # A step of training sees the statistics of its batch: here those that were measured.
    assert torch.allclose(log_probs(back.train(), line), said, atol=0.02)


def test_a_deepened_network_says_the_same(network: nn.Sequential):
    layers = line_layers(SMALL)
    once = next(i for i, (a, b) in enumerate(pairwise(layers)) if a == b)
    shallow = build((*layers[:once], *layers[once + 1 :]))
    known, back = from_onnx(to_onnx(shallow.eval()))
    line = strips(2, 64)
    assert torch.allclose(
        log_probs(deepened(known, back, layers), line), log_probs(back, line), atol=1e-5
    )
    # One that lacks nothing stays as it is.
    assert torch.allclose(
        log_probs(deepened(layers, network, layers), line), log_probs(network, line), atol=1e-5
    )


@pytest.mark.parametrize("channels", [(4, 8, 8, 8, 12), (5, 8, 8, 8, 8)])
def test_a_network_of_other_widths_is_not_deepened(network: nn.Sequential, channels):
    with pytest.raises(ModelError, match="other layers"):
        deepened(line_layers(SMALL), network, line_layers(channels))


def test_a_module_without_translation_is_named():
    with pytest.raises(ModelError, match="Sigmoid"):
        to_onnx(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sigmoid()))


def test_another_network_is_no_line_network():
    other = build((Conv(4, (3, 3), (1, 1)), Pool((2, 2)), Conv(6, (1, 1), (0, 0), last=True)))
    with pytest.raises(ModelError, match="not a line network"):
        from_onnx(to_onnx(other))
