"""The finder: cells of four pixels, and the same in ONNX as in torch."""

import numpy as np
import onnxruntime
import pytest
import torch

from digitry.reading.find import CELL, MULTIPLE
from digitry.training.network.finder import OUTPUTS, Finder, to_onnx

SMALL = (4, 4, 8, 8, 8)


@pytest.fixture
def network() -> Finder:
    """A finder whose normalisations have seen something, and whose output is not the same everywhere."""
    torch.manual_seed(0)
    network = Finder(SMALL).train()
    for _ in range(3):
        network(torch.rand(2, 1, 64, 64))
    torch.nn.init.normal_(network.head.weight)
    return network.eval()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 160), (256, 96)])
def test_there_is_a_cell_for_every_four_pixels(network: Finder, height: int, width: int) -> None:
    assert height % MULTIPLE == width % MULTIPLE == 0
    cells = network(torch.rand(2, 1, height, width))
    assert cells.shape == (2, OUTPUTS, height // CELL, width // CELL)


def test_a_fresh_finder_sees_paper_everywhere() -> None:
    cells = Finder(SMALL).eval()(torch.rand(1, 1, 64, 64))
    assert float(cells[:, :2].sigmoid().max().detach()) < 0.1


@pytest.mark.parametrize(("count", "height", "width"), [(1, 32, 32), (3, 96, 160)])
def test_onnx_says_what_torch_says(network: Finder, count: int, height: int, width: int) -> None:
    session = onnxruntime.InferenceSession(
        to_onnx(network).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    torch.manual_seed(1)
    ink = torch.rand(count, 1, height, width)
    (cells,) = session.run(["cells"], {"ink": ink.numpy()})
    np.testing.assert_allclose(cells, network(ink).detach().numpy(), atol=2e-4, rtol=1e-4)
    assert cells.std() > 0.01
