"""One training step, traced once for each batch size and then replayed.

Forward and backward pass are recorded as a flat list of tensor operations (`trace.record`). A replay
runs only that list: no autograd, no Keras, no shape checks. Before the first replay the list is made
shorter and faster:

- results have fixed addresses, so nothing is allocated, and views are created once;
- gradients are written directly into one flat buffer, element by element in the order of the
  weights. Autograd may return a gradient whose strides differ from its weight's; an optimizer that
  relies on memory order would then silently update the wrong elements;
- large products of the forward pass go through oneDNN, fused with bias and ReLU;
- operations are called by PyTorch's own names where it has them: `torch.ops` costs a microsecond more,
  and a step with batches of 32 has twenty operations of ten microseconds.
"""

import functools
import itertools
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.fx import Graph, GraphModule, Node

from digitry.training.loop.device import has_bfloat16
from digitry.training.loop.trace import record
from digitry.training.network.build import keras

aten = torch.ops.aten

ALIGNMENT = 16
"""Each weight starts at a multiple of this many floats: 64 bytes, a cache line."""

LARGE_PRODUCT = 50_000_000
"""Floating-point operations from which oneDNN is faster: its call is slow, but fuses bias and ReLU."""

NARROW = 16
"""Up to this many outputs, a product is faster if the weights of each output are contiguous."""

_VIEWS = frozenset([
    aten.t.default, aten.view.default, aten.permute.default, aten.transpose.int,
    aten.unsqueeze.default, aten.squeeze.dim, aten.expand.default, aten.alias.default,
])  # fmt: skip


# --- the weights in one buffer ----------------------------------------------------------------------


@dataclass(frozen=True)
class Flat:
    """Variables of a model in one flat buffer; each variable is a view of it.

    Attributes:
        buffer: (floats,), in the precision of the variables: float32, except in tests.
        views: of `buffer`, one for each variable, in Keras' shape.
    """

    buffer: torch.Tensor
    views: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, variables: Sequence[Any], device: torch.device) -> "Flat":
        """Move Keras variables, all on `device`, into a new flat buffer."""
        tensors = [variable.value.detach() for variable in variables]
        offsets, end = [], 0
        for tensor in tensors:
            offsets.append(end)
            end += -(-tensor.numel() // ALIGNMENT) * ALIGNMENT
        buffer = tensors[0].new_zeros(end) if tensors else torch.zeros(0, device=device)
        views = tuple(
            _within(buffer, offset, tensor.shape)
            for offset, tensor in zip(offsets, tensors, strict=True)
        )
        for variable, view, tensor in zip(variables, views, tensors, strict=True):
            view.copy_(tensor)
            variable.value.data = view
        return cls(buffer, views)

    def like(self) -> "Flat":
        """Return a buffer of zeros with the same layout."""
        buffer = torch.zeros_like(self.buffer)
        views = tuple(
            buffer.as_strided(view.shape, view.stride(), view.storage_offset())
            for view in self.views
        )
        return Flat(buffer, views)


def _within(buffer: torch.Tensor, offset: int, shape: Sequence[int]) -> torch.Tensor:
    """Return the view of a variable, in the memory order that is fastest for the kernels.

    Keras' (height, width, inputs, outputs) is stored with the outputs outermost, as oneDNN and cuDNN
    need it, so nothing is reordered at each step. A matrix (inputs, outputs) keeps Keras' order, which
    is fastest for the product that gives its gradient, unless it is narrow.
    """
    count = 1
    for size in shape:
        count *= size
    part = buffer[offset : offset + count]
    if len(shape) == 4 or (len(shape) == 2 and shape[-1] <= NARROW):
        return part.view(shape[-1], *shape[:-1]).movedim(0, -1)
    return part.view(*shape)


# --- the network as tensor operations ---------------------------------------------------------------


def logits_of(
    model: keras.Sequential,
    weights: Sequence[torch.Tensor],
    state: Sequence[torch.Tensor],
    glyphs: torch.Tensor,
    *,
    training: bool,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Run a model up to its logits, with given values for its variables.

    The softmax of the last layer is left out: the loss is more precise from logits. The slow layers
    are one PyTorch operation each, with channels last in memory throughout; Keras would use five
    operations for a normalisation, and copy to channels first around a convolution or a pool. Every
    other layer is called as Keras calls it.

    Args:
        model: a sequence of layers that ends with a softmax `Dense`.
        weights: of each of `model.trainable_variables`.
        state: of each of `state_variables(model)`.
        glyphs: (n, 28, 28) float32 in [0, 1], ink = 1.
        training: whether dropout is active and normalisation uses the statistics of the batch.

    Returns:
        (n, classes) float32, and the new `state`.
    """
    variables = [*model.trainable_variables, *state_variables(model)]
    values = {id(v): value for v, value in zip(variables, [*weights, *state], strict=True)}
    updates: dict[int, torch.Tensor] = {}
    x = glyphs
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense) and x.ndim == 2:
            x = torch.addmm(values[id(layer.bias)], x, values[id(layer.kernel)])
            if layer is not model.layers[-1]:
                x = layer.activation(x)
        elif isinstance(layer, keras.layers.BatchNormalization):
            x = _normalise(layer, values, updates, x, training=training)
        elif isinstance(layer, keras.layers.Conv2D) and _is_plain(layer):
            kernel = values[id(layer.kernel)].permute(3, 2, 0, 1)
            bias = values[id(layer.bias)] if layer.use_bias else None
            padding = layer.kernel_size[0] // 2 if layer.padding == "same" else 0
            x = F.conv2d(x.movedim(-1, 1), kernel, bias, layer.strides, padding).movedim(1, -1)
            x = layer.activation(x)
        elif isinstance(layer, keras.layers.MaxPooling2D) and layer.padding == "valid":
            x = F.max_pool2d(x.movedim(-1, 1), layer.pool_size, layer.strides).movedim(1, -1)
        else:
            own = layer.non_trainable_variables
            x, _ = layer.stateless_call(
                [values[id(v)] for v in layer.trainable_variables],
                [values.get(id(v), v.value) for v in own],
                x,
                **({"training": training} if isinstance(layer, keras.layers.Dropout) else {}),
            )
    return x, [updates.get(id(v), values[id(v)]) for v in state_variables(model)]


def _is_plain(layer: Any) -> bool:
    """Return whether PyTorch and Keras pad this convolution equally: odd square kernel, stride 1."""
    (height, width), plain = layer.kernel_size, layer.groups == 1 and layer.dilation_rate == (1, 1)
    same = layer.padding == "valid" or (height % 2 == 1 and layer.strides == (1, 1))
    return bool(height == width and plain and same)


def state_variables(model: keras.Model) -> list[Any]:
    """Return the variables that a step changes without a gradient: the moving statistics."""
    return [
        variable
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
        for variable in (layer.moving_mean, layer.moving_variance)
    ]


def _normalise(
    layer: Any,
    values: dict[int, torch.Tensor],
    updates: dict[int, torch.Tensor],
    x: torch.Tensor,
    *,
    training: bool,
) -> torch.Tensor:
    """Return `x` batch-normalised over the last axis; put the new moving statistics into `updates`."""
    mean, variance = values[id(layer.moving_mean)], values[id(layer.moving_variance)]
    gamma, beta = values[id(layer.gamma)], values[id(layer.beta)]
    x = x.movedim(-1, 1)
    if not training:
        y = torch.batch_norm(
            x, gamma, beta, mean, variance, False, 0.0, layer.epsilon, torch.backends.cudnn.enabled
        )
        return y.movedim(1, -1)
    y, batch_mean, inverse = torch.native_batch_norm(
        x, gamma, beta, None, None, True, 0.0, layer.epsilon
    )
    # Keras averages the biased variance; PyTorch's own update would scale it by n / (n - 1).
    batch_variance = inverse.detach().pow(-2).sub(layer.epsilon).clamp_min(0)
    updates[id(layer.moving_mean)] = mean.lerp(batch_mean.detach(), 1 - layer.momentum)
    updates[id(layer.moving_variance)] = variance.lerp(batch_variance, 1 - layer.momentum)
    return y.movedim(1, -1)


# --- the traced step --------------------------------------------------------------------------------


def label_gradients(
    classes: int, batch_size: int, label_smoothing: float, like: torch.Tensor
) -> torch.Tensor:
    """Return the part of the gradient of the mean cross-entropy that depends on the label only.

    The gradient at the logits is (probabilities - targets) / batch size; this is -targets / batch size.

    Args:
        classes: of the model.
        batch_size: images that the mean is over.
        label_smoothing: mass moved from the true label to all.
        like: a tensor with the dtype and device of the result.

    Returns:
        (classes, classes), a row for each label.
    """
    targets = torch.eye(classes, dtype=like.dtype, device=like.device)
    return targets.mul_(1 - label_smoothing).add_(label_smoothing / classes).div_(-batch_size)


def trace(
    model: keras.Sequential,
    weights: Flat,
    gradient: Flat,
    state: Flat,
    glyphs: torch.Tensor,
    label_rows: torch.Tensor,
    logits: torch.Tensor,
    *,
    precision: str = "float32",
) -> list[Callable[[], None]]:
    """Record a training step for each of several batches in fixed buffers.

    Args:
        model: its variables are the views of `weights` and `state`.
        weights: read.
        gradient: of the mean cross-entropy, written.
        state: the moving statistics, read and written.
        glyphs: (batches, n, 28, 28) float32 in [0, 1]; fill it before a step.
        label_rows: (batches, classes, n), the rows of `label_gradients` for the labels; fill it before a
            step. Here and in `logits` the images are innermost: a softmax over ten contiguous numbers
            is slow.
        logits: (batches, classes, n), written.
        precision: as in the recipe.

    Returns:
        A function for each batch that runs the step on it; call it in `torch.inference_mode`.
    """
    many, share = len(weights.views), 1 / glyphs.shape[1]

    def step(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        leaves = [tensor.detach().requires_grad_() for tensor in tensors[:many]]
        x, row = tensors[-2:]
        # Weights, statistics and the loss stay float32; only the factors of products are rounded.
        rounded = precision == "bfloat16" and has_bfloat16(x.device)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=rounded):
            found, new_state = logits_of(model, leaves, tensors[many:-2], x, training=True)
        found = found.to(row.dtype)
        gradient_at_logits = torch.add(row, torch.softmax(found.detach().t(), 0), alpha=share).t()
        return (
            found,
            *torch.autograd.grad(_Loss.apply(found, gradient_at_logits), leaves),
            *new_state,
        )

    inputs = [*weights.views, *state.views, glyphs[0], label_rows[0]]
    # Tracing runs the step once, which must not change the random numbers of the run.
    devices = [glyphs.device] if glyphs.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.enable_grad():
        graph, met = record(step, inputs)
    fixed = {node: [tensor] for node, tensor in met.items()}
    of_batch = list(fixed)[len(inputs) - 2 : len(inputs)]
    fixed |= zip(of_batch, (list(glyphs), list(label_rows)), strict=True)
    return _Rewrite(graph, fixed).finish(gradient, state, [one.t() for one in logits])


class _Loss(torch.autograd.Function):  # type: ignore[misc]
    """A scalar with a given gradient; passing the gradient to `grad` itself would import SymPy."""

    @staticmethod
    def forward(
        context: Any, logits: torch.Tensor, gradient_at_logits: torch.Tensor
    ) -> torch.Tensor:
        context.gradient_at_logits = gradient_at_logits
        return logits.new_zeros(())

    @staticmethod
    def backward(context: Any, *_: torch.Tensor) -> tuple[torch.Tensor, None]:
        return context.gradient_at_logits, None


class _Rewrite:
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


# --- the step on a CUDA device ----------------------------------------------------------------------


@contextmanager
def unchanged(tensors: Sequence[torch.Tensor]) -> Iterator[None]:
    """Restore tensors and random generators after the block."""
    kept = [tensor.clone() for tensor in tensors]
    devices = [tensors[0].device] if tensors[0].device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        yield
    for tensor, value in zip(tensors, kept, strict=True):
        tensor.copy_(value)


def capture(work: Callable[[], None], touched: Sequence[torch.Tensor]) -> Callable[[], None]:
    """Record a step as one CUDA graph: one launch instead of one per operation.

    Args:
        work: reads and writes tensors at fixed addresses only; every number that changes from step
            to step is in a tensor.
        touched: what `work` changes; it is restored after capturing.

    Returns:
        A function that does the same as `work`.
    """
    with unchanged(touched):
        # At their first calls, libraries choose kernels and allocate memory, which a capture cannot
        # record; PyTorch's notes on CUDA graphs ask for these calls on a side stream.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
    replay: Callable[[], None] = graph.replay
    return replay
