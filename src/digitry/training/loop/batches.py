"""Batches: all images on the device, a shuffled index for each epoch, augmentation for each batch.

NumPy draws the order and the augmentation of an epoch, on the processor: each device's own generator
would give other numbers from the same seed.
"""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F


class Batches:
    """Images and labels on the device.

    The images stay uint8: a quarter of the memory to read at each step. They become float32 in
    [0, 1] when a batch is gathered, by the same division as everywhere else.

    Args:
        images: (n, 28, 28) uint8, ink = 255.
        labels: (n,) integers.
        device: where they are stored.
        augment: `none`, `light` or `elastic`, see `light`.
        targets: (n, classes) float32, target probabilities that replace the labels; None = none.
    """

    def __init__(
        self,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.integer],
        device: torch.device,
        *,
        augment: str = "none",
        targets: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self.images = torch.tensor(np.ascontiguousarray(images), dtype=torch.uint8, device=device)
        self.labels = torch.tensor(labels.astype(np.int64), device=device)
        self.augment = augment
        self.targets = None if targets is None else torch.tensor(targets, device=device)
        # At fixed addresses, because traced steps read them.
        moves = len(labels) if augment != "none" else 0
        bends = len(labels) if augment == "elastic" else 0
        self._moves = torch.zeros((moves, 6), device=device)
        self._bends = torch.zeros((bends, 2, 5, 5), device=device)

    def __len__(self) -> int:
        return len(self.labels)

    def buffers(self, size: int, count: int, rows: torch.Tensor) -> "BatchBuffers":
        """Return buffers for up to `count` consecutive batches of `size`; see `BatchBuffers`."""
        return BatchBuffers(self, size, count, rows)

    def begin(self, seed: int, epoch: int) -> torch.Tensor:
        """Draw how each image is augmented in an epoch, and return the order of the images.

        Both depend on `seed` and `epoch` alone, not on the device or on what was drawn before.

        Returns:
            (n,) int64.
        """
        if len(self._moves):
            rng = np.random.default_rng((seed, epoch, 1))
            moves = rng.random(self._moves.shape, np.float32) * 2 - 1
            self._moves.copy_(torch.from_numpy(moves))
            if len(self._bends):
                bends = rng.standard_normal(self._bends.shape, np.float32)
                self._bends.copy_(torch.from_numpy(bends))
        shuffled = np.random.default_rng((seed, epoch)).permutation(len(self))
        return torch.from_numpy(shuffled).to(self.images.device)

    def augmented(self, glyphs: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Return glyphs as the current epoch augments them.

        Args:
            glyphs: (n, 28, 28) float32 in [0, 1], the images of `index`.
            index: (n,) int64.
        """
        bends = torch.index_select(self._bends, 0, index) if len(self._bends) else None
        return light(glyphs, torch.index_select(self._moves, 0, index), bends)


class BatchBuffers:
    """Buffers for consecutive batches, at fixed addresses because traced steps need that.

    Args:
        batches: where the images come from.
        size: images per batch.
        count: number of batches.
        rows: (classes, classes) float32, a row for each label.

    Attributes:
        glyphs: (count, size, 28, 28) float32 in [0, 1].
        labels: (count, size) int64.
        rows: (count, classes, size), the row of each label as a column; with targets, the mean of the
            rows weighted by the targets.
    """

    def __init__(self, batches: Batches, size: int, count: int, rows: torch.Tensor) -> None:
        self._batches, self._table = batches, rows
        device = batches.images.device
        self._bytes = torch.empty((count * size, 28, 28), dtype=torch.uint8, device=device)
        self.glyphs = rows.new_zeros((count, size, 28, 28))
        self.labels = torch.zeros((count, size), dtype=torch.int64, device=device)
        self.rows = rows.new_zeros((count, rows.shape[1], size))

    def fill(self, index: torch.Tensor) -> None:
        """Gather the images of `index`, and augment them as `augment` says.

        Args:
            index: (n,) int64; n is a multiple of the batch size and at most `count * size`.
        """
        n, size = len(index), self.glyphs.shape[1]
        gathered, glyphs = self._bytes[:n], self.glyphs.flatten(0, 1)[:n]
        labels = self.labels.flatten()[:n]
        torch.index_select(self._batches.images, 0, index, out=gathered)
        torch.index_select(self._batches.labels, 0, index, out=labels)
        targets = self._batches.targets
        if targets is None:
            picked = torch.index_select(self._table, 0, labels)
        else:
            picked = torch.index_select(targets, 0, index).to(self._table.dtype) @ self._table
        rows = picked.view(-1, size, self._table.shape[1])
        self.rows[: n // size].copy_(rows.transpose(1, 2))
        glyphs.copy_(gathered).div_(255)
        if self._batches.augment != "none":
            for batch, part in zip(glyphs.split(size), index.split(size), strict=True):
                batch.copy_(self._batches.augmented(batch, part))


TURN, ZOOM, SHEAR, SHIFT = 12.0, 0.12, 0.15, 2.0
"""Limits of `light`: degrees, share, share, pixels. Beyond them, a 4 may look like a 9, a 1 like a 7."""

BEND = 0.9
"""Standard deviation by which `elastic` moves the points of a 5x5 grid, in pixels per direction."""


def light(
    glyphs: torch.Tensor, moves: torch.Tensor, bends: torch.Tensor | None = None
) -> torch.Tensor:
    """Turn, zoom, shear and shift each glyph a little, and bend it (Simard et al. 2003).

    Args:
        glyphs: (n, 28, 28) float32 in [0, 1], ink = 1.
        moves: (n, 6) float32 in [-1, 1], as shares of the limits: turn, zoom across and down, shear,
            shift across and down.
        bends: (n, 2, 5, 5) float32, shifts of an elastic grid's points, in units of `BEND`; None = no
            bending.

    Returns:
        The same shape and range as `glyphs`.
    """
    draws = moves.t()
    turn = draws[0] * (TURN * torch.pi / 180)
    wide, high = 1 + ZOOM * draws[1], 1 + ZOOM * draws[2]
    cos, sin, shear = turn.cos(), turn.sin(), SHEAR * draws[3]
    # affine_grid's unit is half the image: 14 pixels.
    across, down = draws[4] * (SHIFT / 14), draws[5] * (SHIFT / 14)
    rows = [wide * cos, wide * (shear * cos - sin), across, high * sin, high * (shear * sin + cos)]
    matrix = torch.stack([*rows, down], dim=-1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, [len(glyphs), 1, 28, 28], align_corners=False)
    if bends is not None:
        shifts = F.interpolate(
            bends * (BEND / 14), size=(28, 28), mode="bicubic", align_corners=True
        )
        grid = grid + shifts.permute(0, 2, 3, 1)
    moved = F.grid_sample(glyphs.unsqueeze(1), grid, mode="bilinear", align_corners=False)
    return moved.squeeze(1).clamp_(0, 1)
