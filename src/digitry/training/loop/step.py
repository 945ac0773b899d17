"""One training step, traced once for each batch size and then replayed.

Forward and backward pass are recorded as a flat list of tensor operations (`trace.record`). A replay
runs only that list: no autograd, no Keras, no shape checks. Before the first replay `rewrite` makes the
list shorter and faster. On a CUDA device a step is captured as one graph.
"""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch

from digitry.training.loop.flat import Flat
from digitry.training.loop.forward import logits_of
from digitry.training.loop.rewrite import Rewrite
from digitry.training.loop.trace import record
from digitry.training.network.build import keras


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
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
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
    return Rewrite(graph, fixed).finish(gradient, state, [one.t() for one in logits])


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


def keep_memory() -> None:
    """Ask the C library to keep large blocks for the next step.

    By default glibc returns them to the system at each `free` and maps them again, page by page; for
    the activations of a convolution this takes as long as the arithmetic. Without glibc this function
    does nothing.
    """
    # On Windows CDLL(None) raises a TypeError.
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
