"""Recorded operations compute the same as the original function."""

import torch
from torch.fx import GraphModule

from digitry.training.loop.trace import record


def replayed(graph, placeholders) -> list[torch.Tensor]:
    return list(GraphModule(torch.nn.Module(), graph)(*placeholders.values()))


def layer(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> list[torch.Tensor]:
    w, b = (tensor.detach().requires_grad_() for tensor in (w, b))
    y = torch.softmax(torch.relu(torch.addmm(b, x, w)), -1)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), [w, b])]


def test_forward_and_backward_are_recorded_and_replayed() -> None:
    inputs = [torch.randn(3, 4), torch.randn(4, 5), torch.randn(5)]
    graph, placeholders = record(layer, inputs)
    assert list(placeholders.values())[:3] == inputs
    for tensor in inputs:
        tensor.copy_(torch.randn_like(tensor))
    for again, fresh in zip(replayed(graph, placeholders), layer(*inputs), strict=True):
        torch.testing.assert_close(again, fresh)


def test_a_tensor_from_outside_becomes_a_placeholder() -> None:
    outside, x = torch.randn(4), torch.randn(4)
    graph, placeholders = record(lambda x: [x * outside], [x])
    assert [tensor is outside for tensor in placeholders.values()] == [False, True]
    assert torch.equal(replayed(graph, placeholders)[0], x * outside)


def test_in_place_changes_and_several_results_are_recorded() -> None:
    def work(x: torch.Tensor) -> list[torch.Tensor]:
        y = x + 1
        y.mul_(2).add_(x)
        values, places = y.max(-1)
        return [y, values, places]

    x = torch.randn(3, 4)
    graph, placeholders = record(work, [x])
    for again, fresh in zip(replayed(graph, placeholders), work(x), strict=True):
        assert torch.equal(again, fresh)


def test_dropout_is_random_at_each_replay() -> None:
    graph, placeholders = record(lambda x: [torch.dropout(x, 0.5, True)], [torch.ones(1000)])
    first, second = (replayed(graph, placeholders)[0] for _ in range(2))
    assert not torch.equal(first, second)
    assert set(first.tolist()) == {0.0, 2.0}
