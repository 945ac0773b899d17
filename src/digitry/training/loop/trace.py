"""Records what PyTorch computes in a function, as a flat graph of tensor operations.

This is the part of `torch.fx.experimental.proxy_tensor.make_fx` (Reed et al., torch.fx, MLSys 2022)
that a training step needs. `make_fx` itself imports TorchDynamo, Inductor and SymPy, which takes
longer than one epoch of a small network.
"""

import operator
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch.fx import Graph, Node
from torch.fx.node import map_aggregate
from torch.utils._python_dispatch import TorchDispatchMode


def record(
    function: Callable[..., Sequence[torch.Tensor]], inputs: Sequence[torch.Tensor]
) -> tuple[Graph, dict[Node, torch.Tensor]]:
    """Run a function once and record every operation below autograd, in order.

    Args:
        function: of tensors; only its tensor operations are recorded.
        inputs: its arguments.

    Returns:
        The graph and the tensor of each placeholder. The placeholders are the inputs, in order, then
        every other tensor that the function used; each node has its value as `meta["val"]`.
    """
    recorder = _Recorder(inputs)
    with recorder:
        results = function(*inputs)
    recorder.graph.output(tuple(recorder.node_of(result) for result in results))
    return recorder.graph, recorder.placeholders


class _Recorder(TorchDispatchMode):  # type: ignore[misc]
    """Records each operation after autograd and before its kernel runs."""

    def __init__(self, inputs: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.graph = Graph()
        self.placeholders: dict[Node, torch.Tensor] = {}
        self._nodes: dict[int, Node] = {}
        # Keeps the tensors alive, because an id is unique only as long as its tensor exists.
        self._met: list[torch.Tensor] = []
        for tensor in inputs:
            self.node_of(tensor)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # By default PyTorch imports TorchDynamo here only to disable it.
        return False

    def node_of(self, tensor: torch.Tensor) -> Node:
        """Return the node that made a tensor; a placeholder for a tensor from outside."""
        if id(tensor) not in self._nodes:
            before = next((n for n in self.graph.nodes if n.op != "placeholder"), None)
            with nullcontext() if before is None else self.graph.inserting_before(before):
                node = self.graph.placeholder(f"tensor_{len(self.placeholders)}")
            self.placeholders[node] = tensor
            self._note(tensor, node)
        return self._nodes[id(tensor)]

    def _note(self, tensor: torch.Tensor, node: Node) -> None:
        node.meta["val"] = tensor
        self._nodes[id(tensor)] = node
        self._met.append(tensor)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        node = self.graph.call_function(
            function, map_aggregate(args, self._stand_in), map_aggregate(kwargs, self._stand_in)
        )
        result = function(*args, **kwargs)
        if isinstance(result, torch.Tensor):
            self._note(result, node)
        elif isinstance(result, tuple | list):
            for place, part in enumerate(result):
                if isinstance(part, torch.Tensor):
                    self._note(part, self.graph.call_function(operator.getitem, (node, place)))
        return result

    def _stand_in(self, value: Any) -> Any:
        return self.node_of(value) if isinstance(value, torch.Tensor) else value
