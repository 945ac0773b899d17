"""Turns the recording of a training step into the short list of operations that is replayed.

- Results have fixed addresses, so nothing is allocated, and views are created once.
- Gradients are written directly into one flat buffer, element by element in the order of the
  weights. Autograd may return a gradient whose strides differ from its weight's; an optimizer that
  relies on memory order would then silently update the wrong elements.
- Large products of the forward pass go through oneDNN, fused with bias and ReLU.
- Operations are called by PyTorch's own names where it has them: `torch.ops` costs a microsecond more,
  and a step with batches of 32 has twenty operations of ten microseconds.
"""

import functools
import itertools
import platform
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from digitry.training.loop.flat import Flat

aten = torch.ops.aten

LARGE_PRODUCT = 50_000_000
"""Floating-point operations from which oneDNN is faster: its call is slow, but fuses bias and ReLU."""

_VIEWS = frozenset([
    aten.t.default, aten.view.default, aten.permute.default, aten.transpose.int,
    aten.unsqueeze.default, aten.squeeze.dim, aten.expand.default, aten.alias.default,
])  # fmt: skip


class Rewrite:
    """Turns a recorded graph into the short list of operations that is replayed.

    Args:
        graph: from `record`; it is changed.
        fixed: the tensors of each placeholder, known before a replay: one for all batches, or one for
            each batch.
    """

    def __init__(self, graph: Graph, fixed: dict[Node, list[torch.Tensor]]) -> None:
        self.graph, self.fixed = graph, fixed
        self.names = itertools.count()
        self.own: set[Node] = set()
        """Nodes in `fixed` that are results with one user, which may overwrite them."""
        some = next(iter(fixed.values()))[0]
        self.linear = _onednn_linear(some)

    def finish(
        self, gradient: Flat, state: Flat, logits: list[torch.Tensor]
    ) -> list[Callable[[], None]]:
        """Rewrite everything and compile a replay for each batch."""
        self._remove_redundant()
        (end,) = (node for node in self.graph.nodes if node.op == "output")
        found, *rest = end.args[0]
        gradients, new_state = rest[: len(gradient.views)], rest[len(gradient.views) :]
        end.args = ((),)
        self._copy(logits, found)
        for node, view in zip(new_state, state.views, strict=True):
            self._copy([view], node)
        for node, view in zip(gradients, gradient.views, strict=True):
            self._write(node, view)
        self.graph.eliminate_dead_code()
        for node in list(self.graph.nodes):
            if node.op == "call_function":
                with self.graph.inserting_before(node):
                    self._rewrite_node(node)
        for node in list(self.fixed):
            if not node.users:
                self.graph.erase_node(node)
                del self.fixed[node]
        self.graph.lint()
        given = [self.fixed[node] for node in self.graph.nodes if node.op == "placeholder"]
        for node in self.graph.nodes:
            node.meta.clear()  # Releases the tensors of the recording.
        replay = GraphModule(torch.nn.Module(), self.graph).forward
        return [
            functools.partial(replay, *(tensors[batch % len(tensors)] for tensors in given))
            for batch in range(len(logits))
        ]

    # --- nodes -------------------------------------------------------------------------------------

    def _call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        return self.graph.call_function(target, args, kwargs)

    def _placeholder(self, *tensors: torch.Tensor) -> Node:
        """Return a new placeholder for one tensor for all batches, or for one tensor per batch."""
        first = next(iter(self.graph.nodes))
        with self.graph.inserting_before(first):
            node = self.graph.placeholder(f"fixed_{next(self.names)}")
        node.meta["val"] = tensors[0]
        self.fixed[node] = list(tensors)
        return node

    def _replace(self, node: Node, other: Node) -> None:
        node.replace_all_uses_with(other)
        self.graph.erase_node(node)

    def _transposed(self, node: Node) -> Node:
        """Return the transpose of a matrix; the transpose of a transpose is its source."""
        if node in self.fixed:
            return self._placeholder(*(tensor.t() for tensor in self.fixed[node]))
        if _is(node, aten.t.default):
            source: Node = node.args[0]
            return source
        transposed = self._call(aten.t.default, node)
        transposed.meta["val"] = node.meta["val"].t()
        return transposed

    # --- before results have addresses -------------------------------------------------------------

    def _remove_redundant(self) -> None:
        for node in list(self.graph.nodes):
            if node.op != "call_function":
                continue
            source: Any = node.args[0] if node.args else None
            if node.target in (aten.detach.default, aten.alias.default):
                self._replace(node, source)
            elif node.target is aten.permute.default and _is(source, aten.permute.default):
                order = [source.args[1][axis] for axis in node.args[1]]
                if order == sorted(order):
                    self._replace(node, source.args[0])
                else:
                    node.args = (source.args[0], order)
            elif node.target is aten.view.default and tuple(node.args[1]) == _shape(source):
                self._replace(node, source)
        self.graph.eliminate_dead_code()

    def _copy(self, places: list[torch.Tensor], node: Node) -> None:
        with self.graph.inserting_after(node):
            copy = self._call(aten.copy_.default, node, node)
        copy.args = (self._placeholder(*places), node)

    def _write(self, node: Node, view: torch.Tensor) -> None:
        """Write a gradient into the flat buffer, in one operation where possible."""
        if _is(node, aten._to_copy.default) and not node.users:
            node = node.args[0]  # copy_ converts the dtype.
        if _is(node, aten.t.default) and len(node.users) <= 1:
            node, view = node.args[0], view.t()
        with self.graph.inserting_before(node.next):
            same = node.meta["val"].dtype == view.dtype
            if _is(node, aten.mm.default) and len(node.users) <= 1 and same:
                a, b = node.args
                if not view.is_contiguous():
                    a, b, view = self._transposed(b), self._transposed(a), view.t()
                self._call(aten.mm.out, a, b, out=self._placeholder(view))
            elif _is_sum(node, len(view)) and not node.users:
                self._call(
                    aten.sum.IntList_out, node.args[0].args[0], [0], out=self._placeholder(view)
                )
            else:
                self._call(aten.copy_.default, self._placeholder(view), node)

    # --- addresses of results, and the operations that write them ----------------------------------

    def _rewrite_node(self, node: Node) -> None:
        """Rewrite one operation; all operations before it are rewritten already."""
        target, source = node.target, node.args[0] if node.args else None
        if not isinstance(source, Node):
            return
        relu = target is aten.relu.default
        if target in _VIEWS and source in self.fixed:
            tensors = [target(tensor, *node.args[1:]) for tensor in self.fixed[source]]
            self._replace(node, self._placeholder(*tensors))
        elif target is aten.addmm.default and self._is_large(node):
            bias, a, b = node.args
            product = self._call(self.linear, a, self._transposed(b), bias, "none", [], "")
            product.meta["val"] = node.meta["val"]
            place = self._place(node)
            if place is not None:
                self._call(aten.copy_.default, place, product)
            self._replace(node, place or product)
        elif target in _OUT_FUNCTIONS:
            self._write_out(node)
        elif relu and _is(source, self.linear) and len(source.users) == 1:
            source.update_arg(3, "relu")
            self._replace(node, source)
        elif relu and source in self.own:
            self._overwrite(node, torch.relu_, source)
        elif relu and _is(source, aten.convolution.default) and len(source.users) == 1:
            node.target = torch.relu_
        elif target is aten.threshold_backward.default and source in self.own:
            self._overwrite(node, aten.threshold_backward.grad_input, *node.args, grad_input=source)
        elif target is aten.copy_.default and source is node.args[1]:
            self.graph.erase_node(node)
        else:
            node.target = _FASTER_NAMES.get(target, target)

    def _is_large(self, product: Node) -> bool:
        _, a, b = product.args
        (rows, inner), columns = a.meta["val"].shape, b.meta["val"].shape[1]
        large = 2 * rows * inner * columns >= LARGE_PRODUCT
        return large and self.linear is not None and a.meta["val"].dtype == torch.float32

    def _place(self, node: Node) -> Node | None:
        """Return the buffer that a result is copied to without conversion, if there is one."""
        places = [user.args[0] for user in node.users if _is(user, aten.copy_.default)]
        dtype = node.meta["val"].dtype
        return next((place for place in places if place.meta["val"].dtype == dtype), None)

    def _write_out(self, node: Node) -> None:
        """Write a result to a fixed address: where it would be copied to, or a buffer of its own."""
        place = self._place(node)
        if place is None:
            like = node.meta["val"]
            place = self._placeholder(torch.empty_like(like, memory_format=torch.contiguous_format))
            if len(node.users) == 1:
                self.own.add(place)
        function, arguments = _OUT_FUNCTIONS[node.target]
        self._call(function, *node.args[:arguments], **node.kwargs, out=place)
        self._replace(node, place)

    def _overwrite(self, node: Node, function: Any, *args: Any, **kwargs: Any) -> None:
        """Write the result of an operation over its first argument."""
        place = args[0]
        self._call(function, *args, **kwargs)
        if len(node.users) != 1:
            self.own.discard(place)
        self._replace(node, place)


_OUT_FUNCTIONS: dict[Any, tuple[Any, int]] = {
    aten.addmm.default: (torch.addmm, 3),
    aten.mm.default: (torch.mm, 2),
    aten.add.Tensor: (torch.add, 2),
    aten._softmax.default: (torch.softmax, 2),
}
"""Operations that can write to a given `out`: the function, and how many arguments it takes."""

_FASTER_NAMES: dict[Any, Any] = {
    aten.mm.out: torch.mm,
    aten.sum.IntList_out: torch.sum,
    aten.t.default: torch.t,
}
"""Faster names for the same operations."""


def _onednn_linear(like: torch.Tensor) -> Any:
    """Return oneDNN's fused linear(a, b.t(), bias) with activation, or None where it is not available."""
    if (
        like.device.type == "cpu"
        and like.dtype == torch.float32
        and platform.machine() in ("x86_64", "AMD64")
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ):
        return torch.ops.mkldnn._linear_pointwise.default
    return None


def _is(node: Any, target: Any) -> bool:
    return isinstance(node, Node) and node.op == "call_function" and node.target is target


def _is_sum(node: Node, length: int) -> bool:
    """Return whether a node is a sum over rows, as in the gradient of a bias."""
    if not _is(node, aten.view.default) or list(node.args[1]) != [length]:
        return False
    total = node.args[0]
    return _is(total, aten.sum.dim_IntList) and list(total.args[1]) == [0] and len(total.users) == 1


def _shape(node: Any) -> tuple[int, ...] | None:
    value = node.meta.get("val") if isinstance(node, Node) else None
    return tuple(value.shape) if isinstance(value, torch.Tensor) else None
