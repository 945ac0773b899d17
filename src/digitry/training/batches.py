"""The data on the device, whole; batches as slices of a shuffled index; augmentation by the batch."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F


class Batches:
    """Images and labels on the device, and one fixed place for the batch at hand.

    The images stay bytes: a quarter of the memory to read at each step. They become float32 in
    [0, 1] as they are gathered, by the same division as everywhere else.

    Args:
        images: (n, 28, 28) uint8, ink = 255.
        labels: (n,) integers.
        device: where they live.
        augment: `none` or `light`, see `light`.
    """

    def __init__(
        self,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.integer],
        device: torch.device,
        *,
        augment: str = "none",
    ) -> None:
        self.images = torch.tensor(np.ascontiguousarray(images), dtype=torch.uint8, device=device)
        self.labels = torch.tensor(labels.astype(np.int64), device=device)
        self.augment = augment

    def __len__(self) -> int:
        return len(self.labels)

    def place(self, size: int, dtype: torch.dtype = torch.float32) -> "Place":
        """Give a place for batches of `size`."""
        return Place(self, size, dtype)

    def order(self, seed: int, epoch: int) -> torch.Tensor:
        """Give the order of images in an epoch: (n,) int64, the same for the same two numbers."""
        shuffled = np.random.default_rng((seed, epoch)).permutation(len(self))
        return torch.from_numpy(shuffled).to(self.images.device)


class Place:
    """A batch that is filled again and again, at fixed addresses, as a traced step wants it.

    Attributes:
        glyphs: (size, 28, 28) float32 in [0, 1].
        labels: (size,) int64.
    """

    def __init__(self, batches: Batches, size: int, dtype: torch.dtype) -> None:
        self._batches = batches
        device = batches.images.device
        self._bytes = torch.empty((size, 28, 28), dtype=torch.uint8, device=device)
        self.glyphs = torch.zeros((size, 28, 28), dtype=dtype, device=device)
        self.labels = torch.zeros(size, dtype=torch.int64, device=device)

    def fill(self, index: torch.Tensor) -> None:
        """Gather the images of `index`, (size,) int64, and augment them if asked to."""
        torch.index_select(self._batches.images, 0, index, out=self._bytes)
        torch.index_select(self._batches.labels, 0, index, out=self.labels)
        self.glyphs.copy_(self._bytes).div_(255)
        if self._batches.augment == "light":
            self.glyphs.copy_(light(self.glyphs))


TURN, ZOOM, SHEAR, SHIFT = 12.0, 0.12, 0.15, 2.0
"""Limits of `light`: degrees, share, share, pixels. Past them, 4 and 9 or 1 and 7 begin to meet."""


def light(glyphs: torch.Tensor) -> torch.Tensor:
    """Turn, zoom, shear and shift each glyph a little, at random (Simard et al. 2003, affine part).

    The random numbers come from PyTorch's global generator of the device, which a run seeds.

    Args:
        glyphs: (n, 28, 28) float32 in [0, 1], ink = 1.

    Returns:
        The same shape and range.
    """
    draws = torch.rand((6, len(glyphs)), device=glyphs.device).mul_(2).sub_(1)
    turn = draws[0] * (TURN * torch.pi / 180)
    wide, high = 1 + ZOOM * draws[1], 1 + ZOOM * draws[2]
    cos, sin, shear = turn.cos(), turn.sin(), SHEAR * draws[3]
    # affine_grid's unit is half the image: 14 pixels.
    across, down = draws[4] * (SHIFT / 14), draws[5] * (SHIFT / 14)
    rows = [wide * cos, wide * (shear * cos - sin), across, high * sin, high * (shear * sin + cos)]
    matrix = torch.stack([*rows, down], dim=-1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, [len(glyphs), 1, 28, 28], align_corners=False)
    moved = F.grid_sample(glyphs.unsqueeze(1), grid, mode="bilinear", align_corners=False)
    return moved.squeeze(1).clamp_(0, 1)
