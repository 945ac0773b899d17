"""One training step, traced once for each batch size and then replayed.

Forward pass, loss and backward pass are recorded by `torch.fx` as a flat list of tensor operations
(`make_fx`; Reed et al., torch.fx, MLSys 2022). What is left at replay is that list: no autograd, no
Keras, no shape checks. Before the first replay the list is made shorter and faster:

- views of tensors that never move (weights, the batch) are taken once, not at each step;
- gradients are written straight into one flat buffer, element by element in the order of the
  weights. Autograd may give a gradient whose strides differ from its weight's; an optimizer that
  trusts memory order then updates the wrong elements without a word;
- large matrix products go through oneDNN, which on AMD processors is twice as fast as the MKL that
  PyTorch calls, and takes the bias and the ReLU along.
"""

import ctypes
import itertools
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from digitry.training.architectures import keras

aten = torch.ops.aten

ALIGNMENT = 16
"""Floats between the starts of two weights are a multiple of this: 64 bytes, a cache line."""

LARGE_PRODUCT = 5_000_000
"""Floating-point operations from which oneDNN beats MKL's lower cost of a call."""

_VIEWS = frozenset([
    aten.t.default, aten.view.default, aten.permute.default, aten.transpose.int,
    aten.unsqueeze.default, aten.squeeze.dim, aten.expand.default, aten.alias.default,
])  # fmt: skip


# --- the weights in one buffer ----------------------------------------------------------------------


@dataclass(frozen=True)
class Flat:
    """Variables of a model, laid into one buffer of which each variable is a view.

    Attributes:
        buffer: (floats,), of the variables' own precision: float32 but in tests.
        views: of `buffer`, one for each variable, in the shape that Keras gives it.
    """

    buffer: torch.Tensor
    views: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, variables: Sequence[Any]) -> "Flat":
        """Move Keras variables into a new flat buffer; afterwards they live there."""
        tensors = [variable.value.detach() for variable in variables]
        offsets, end = [], 0
        for tensor in tensors:
            offsets.append(end)
            end += -(-tensor.numel() // ALIGNMENT) * ALIGNMENT
        buffer = tensors[0].new_zeros(end) if tensors else torch.zeros(0)
        views = tuple(
            _within(buffer, offset, tensor.shape)
            for offset, tensor in zip(offsets, tensors, strict=True)
        )
        for variable, view, tensor in zip(variables, views, tensors, strict=True):
            view.copy_(tensor)
            variable.value.data = view
        return cls(buffer, views)

    def like(self) -> "Flat":
        """Give a zeroed buffer of the same layout."""
        buffer = torch.zeros_like(self.buffer)
        views = tuple(
            buffer.as_strided(view.shape, view.stride(), view.storage_offset())
            for view in self.views
        )
        return Flat(buffer, views)


def _within(buffer: torch.Tensor, offset: int, shape: Sequence[int]) -> torch.Tensor:
    """Give the view of a variable, in the order of memory that the kernels like best.

    Keras' (inputs, outputs) and (height, width, inputs, outputs) lie in memory with the outputs
    outermost, as oneDNN and cuDNN want them; so nothing is reordered at each step.
    """
    count = 1
    for size in shape:
        count *= size
    part = buffer[offset : offset + count]
    if len(shape) in (2, 4):
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

    The last layer stops short of its softmax, whose logarithm is taken more precisely from the
    logits. The layers that take the time are one PyTorch operation each, with channels last in
    memory all through; Keras would spell out five for a normalisation, and copy to channels first
    around a convolution or a pool. Every other layer is called as Keras calls it.

    Args:
        model: a stack that ends with a softmax `Dense`.
        weights: of each of `model.trainable_variables`.
        state: of each of `state_variables(model)`.
        glyphs: (n, 28, 28) float32 in [0, 1], ink = 1.
        training: whether dropout drops and normalisation uses the batch's own statistics.

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
            around = layer.kernel_size[0] // 2 if layer.padding == "same" else 0
            x = F.conv2d(x.movedim(-1, 1), kernel, bias, layer.strides, around).movedim(1, -1)
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
    """Tell whether PyTorch's padding is Keras' for this convolution: odd squares, every pixel."""
    (height, width), plain = layer.kernel_size, layer.groups == 1 and layer.dilation_rate == (1, 1)
    same = layer.padding == "valid" or (height % 2 == 1 and layer.strides == (1, 1))
    return bool(height == width and plain and same)


def state_variables(model: keras.Model) -> list[Any]:
    """Give the variables that a step changes without a gradient: the moving statistics."""
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
    """Batch normalisation over the last axis; notes the new moving statistics in `updates`."""
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
    # Keras averages the variance as it is, where PyTorch's own update would scale it by n / (n - 1).
    batch_variance = inverse.detach().pow(-2).sub(layer.epsilon).clamp_min(0)
    updates[id(layer.moving_mean)] = mean.lerp(batch_mean.detach(), 1 - layer.momentum)
    updates[id(layer.moving_variance)] = variance.lerp(batch_variance, 1 - layer.momentum)
    return y.movedim(1, -1)


# --- the traced step --------------------------------------------------------------------------------


def trace(
    model: keras.Sequential,
    weights: Flat,
    gradient: Flat,
    state: Flat,
    glyphs: torch.Tensor,
    labels: torch.Tensor,
    totals: torch.Tensor,
    *,
    label_smoothing: float = 0.0,
    precision: str = "float32",
) -> Callable[[], None]:
    """Record a training step on a batch that lies in fixed buffers.

    Args:
        model: whose variables are the views of `weights` and `state`.
        weights: read.
        gradient: of the mean loss, written.
        state: the moving statistics, read and written.
        glyphs: (n, 28, 28) float32 in [0, 1]; refill it before each call.
        labels: (n,) int64; refill it, too.
        totals: (2,) float64; the summed loss and the count of right answers are added to it.
        label_smoothing, precision: as in the recipe.

    Returns:
        A function that makes the step; it wants to be called in `torch.inference_mode`.
    """
    many = len(weights.views)

    def step(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        leaves = [tensor.detach().requires_grad_() for tensor in tensors[:many]]
        x, y = tensors[-2:]
        # Weights, statistics and the loss stay float32; what is rounded are the products' factors.
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            logits, new_state = logits_of(model, leaves, tensors[many:-2], x, training=True)
        if logits.dtype == torch.bfloat16:
            logits = logits.float()
        loss = F.cross_entropy(logits, y, label_smoothing=label_smoothing)
        gradients = torch.autograd.grad(loss, leaves)
        right = (logits.detach().argmax(-1) == y).sum()
        return (loss.detach(), right, *gradients, *new_state)

    inputs = [*weights.views, *state.views, glyphs, labels]
    # Tracing runs the step once; the random numbers of a run must not depend on when it was traced.
    devices = [glyphs.device] if glyphs.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.enable_grad():
        graph = make_fx(step)(*inputs).graph
    return _Rewrite(graph, inputs).finish(weights, gradient, state, totals, len(labels))


class _Rewrite:
    """Turns a traced graph into the short list of operations that is replayed.

    Args:
        graph: as `make_fx` gave it; it is changed.
        inputs: the tensors of its placeholders, which will be the same at each replay.
    """

    def __init__(self, graph: Graph, inputs: Sequence[torch.Tensor]) -> None:
        self.graph = graph
        holders = [node for node in graph.nodes if node.op == "placeholder"]
        self.fixed: dict[Node, torch.Tensor] = dict(zip(holders, inputs, strict=True))
        """Nodes whose tensor is the same one at each replay."""
        self.names = itertools.count()
        self.onednn = (
            inputs[0].device.type == "cpu"
            and inputs[0].dtype == torch.float32
            and platform.machine() in ("x86_64", "AMD64")
            and torch.backends.mkldnn.is_available()
            and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        )

    def finish(
        self, weights: Flat, gradient: Flat, state: Flat, totals: torch.Tensor, count: int
    ) -> Callable[[], None]:
        """Rewrite everything and compile the replay."""
        self._drop_needless()
        (end,) = (node for node in self.graph.nodes if node.op == "output")
        loss, right, *rest = end.args[0]
        gradients, new_state = rest[: len(weights.views)], rest[len(weights.views) :]
        with self.graph.inserting_before(end):
            self._call(aten.add_.Tensor, self._fix(totals[0]), loss, alpha=count)
            self._call(aten.add_.Tensor, self._fix(totals[1]), right)
            for node, view in zip(new_state, state.views, strict=True):
                self._call(aten.copy_.default, self._fix(view), node)
        for node, view in zip(gradients, gradient.views, strict=True):
            self._write(node, view, end)
        end.args = ((),)
        for change in (self._rectify_in_place, self._through_onednn):
            for node in list(self.graph.nodes):
                change(node)
        self._drop_dead()
        self.graph.lint()
        replay = GraphModule(torch.nn.Module(), self.graph).forward
        holders = [node for node in self.graph.nodes if node.op == "placeholder"]
        tensors = [self.fixed[node] for node in holders]
        return lambda: replay(*tensors)

    @property
    def _any(self) -> torch.Tensor:
        """Give a tensor of the right device and precision."""
        return next(iter(self.fixed.values()))

    def _call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        return self.graph.call_function(target, args, kwargs)

    def _fix(self, tensor: torch.Tensor) -> Node:
        """Give a placeholder for a tensor that is the same at each replay."""
        first = next(iter(self.graph.nodes))
        with self.graph.inserting_before(first):
            node = self.graph.placeholder(f"fixed_{next(self.names)}")
        self.fixed[node] = tensor
        return node

    def _replace(self, node: Node, other: Node) -> None:
        node.replace_all_uses_with(other)
        self.graph.erase_node(node)

    def _drop_needless(self) -> None:
        for node in list(self.graph.nodes):
            if node.op != "call_function":
                continue
            source: Any = node.args[0] if node.args else None
            if node.target in (aten.detach.default, aten.alias.default):
                self._replace(node, source)
            elif node.target in _VIEWS and source in self.fixed:
                view = node.target(self.fixed[source], *node.args[1:], **node.kwargs)
                self._replace(node, self._fix(view))
            elif node.target is aten.ones_like.default:
                # The gradient of the loss by itself.
                ones = self._any.new_ones(_shape(node) or ())
                self._replace(node, self._fix(ones))
            elif node.target is aten.permute.default and _is(source, aten.permute.default):
                order = [source.args[1][axis] for axis in node.args[1]]
                if order == sorted(order):
                    self._replace(node, source.args[0])
                else:
                    node.args = (source.args[0], order)
            elif node.target is aten.view.default and tuple(node.args[1]) == _shape(source):
                self._replace(node, source)
        self._drop_dead()

    def _drop_dead(self) -> None:
        self.graph.eliminate_dead_code()
        for node in list(self.fixed):
            if not node.users and node in self.graph.nodes:
                self.graph.erase_node(node)
                del self.fixed[node]

    def _write(self, node: Node, view: torch.Tensor, end: Node) -> None:
        """Bring a gradient into its place in the flat buffer, in one operation where possible."""
        if _is(node, aten.t.default) and len(node.users) == 1:
            node, view = node.args[0], view.t()
        alone = len(node.users) == 1
        with self.graph.inserting_before(end):
            if alone and node.target is aten.mm.default:
                a, b = node.args
                if not view.is_contiguous():
                    a, b, view = self._turned(b), self._turned(a), view.t()
                if self._is_large(a, b):
                    product = self._linear(a, b, None)
                    self._call(aten.copy_.default, self._fix(view), product)
                else:
                    self._call(aten.mm.out, a, b, out=self._fix(view))
            elif alone and _is_sum(node, len(view)):
                rows = node.args[0].args[0]
                self._call(aten.sum.IntList_out, rows, [0], out=self._fix(view))
            else:
                self._call(aten.copy_.default, self._fix(view), node)

    def _turned(self, node: Node) -> Node:
        """Give the transpose of a matrix, without turning twice."""
        if node in self.fixed:
            return self._fix(self.fixed[node].t())
        if _is(node, aten.t.default):
            source: Node = node.args[0]
            return source
        return self._call(aten.t.default, node)

    def _is_large(self, a: Node, b: Node) -> bool:
        (rows, inner), (_, columns) = self._matrix(a), self._matrix(b)
        return self.onednn and 2 * rows * inner * columns >= LARGE_PRODUCT

    def _matrix(self, node: Node) -> tuple[int, ...]:
        """Give the shape of a matrix."""
        if node in self.fixed:
            return tuple(self.fixed[node].shape)
        if _is(node, aten.t.default):
            return self._matrix(node.args[0])[::-1]
        return tuple(node.meta["val"].shape)

    def _linear(self, a: Node, b: Node, bias: Node | None, then: str = "none") -> Node:
        """Give a @ b + bias by oneDNN, which calls it linear(a, b.t(), bias)."""
        target = torch.ops.mkldnn._linear_pointwise.default
        return self._call(target, a, self._turned(b), bias, then, [], "")

    def _rectify_in_place(self, node: Node) -> None:
        """Let a ReLU overwrite its input where nobody else reads that."""
        if _is(node, aten.relu.default):
            source = node.args[0]
            fresh = (aten.addmm.default, aten.convolution.default)
            if source.op == "call_function" and source.target in fresh and len(source.users) == 1:
                node.target = aten.relu_.default

    def _through_onednn(self, node: Node) -> None:
        """Send a large product through oneDNN, with its bias and the ReLU behind it."""
        if node.op != "call_function" or node.target not in (aten.mm.default, aten.addmm.default):
            return
        *bias, a, b = node.args
        if not self._is_large(a, b):
            return
        (first, *others) = node.users
        relu = not others and _is(first, aten.relu_.default)
        with self.graph.inserting_before(node):
            product = self._linear(a, b, bias[0] if bias else None, "relu" if relu else "none")
        product.meta["val"] = node.meta["val"]
        if relu:
            self._replace(first, product)
            self.graph.erase_node(node)
        else:
            self._replace(node, product)


def _is(node: Any, target: Any) -> bool:
    return isinstance(node, Node) and node.op == "call_function" and node.target is target


def _is_sum(node: Node, length: int) -> bool:
    """Tell whether a node is the sum of rows that ends as the gradient of a bias."""
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
    """Put tensors and random generators back to what they were, whatever the block did to them."""
    kept = [tensor.clone() for tensor in tensors]
    devices = [tensors[0].device] if tensors[0].device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        yield
    for tensor, value in zip(tensors, kept, strict=True):
        tensor.copy_(value)


def capture(work: Callable[[], None], touched: Sequence[torch.Tensor]) -> Callable[[], None]:
    """Record a step as one CUDA graph: a single launch in place of one for each operation.

    Args:
        work: reads and writes tensors at fixed addresses only; every number that changes from step
            to step lies in a tensor.
        touched: what `work` changes; capturing leaves it as it was.

    Returns:
        A function that does what `work` does.
    """
    with unchanged(touched):
        # Libraries choose their kernels and take their memory at the first calls, which a capture
        # cannot record; PyTorch's notes on CUDA graphs ask for them on a side stream.
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


def keep_memory() -> None:
    """Ask the C library to keep large blocks for the next step.

    By default glibc hands them back to the system at each `free` and has them mapped anew, page by
    page; for the activations of a convolution that takes as long as the arithmetic. Elsewhere than
    on glibc nothing is done.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
