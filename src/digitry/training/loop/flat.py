"""The weights of a model in one flat buffer, so that an optimizer is a few operations on it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

ALIGNMENT = 16
"""Each weight starts at a multiple of this many floats: 64 bytes, a cache line."""

NARROW = 16
"""Up to this many outputs, a product is faster if the weights of each output are contiguous."""


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
    part = buffer[offset : offset + math.prod(shape)]
    if len(shape) == 4 or (len(shape) == 2 and shape[-1] <= NARROW):
        return part.view(shape[-1], *shape[:-1]).movedim(0, -1)
    return part.view(*shape)
