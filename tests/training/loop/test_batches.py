"""Batches are slices of a seeded order, gathered and augmented on the device."""

import numpy as np
import pytest
import torch

from digitry.training.loop.batches import SHIFT, Batches, light

CPU = torch.device("cpu")


def some(count: int = 50, augment: str = "none") -> Batches:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
    return Batches(images, np.arange(count) % 10, CPU, augment=augment)


def test_an_epoch_has_each_image_once_in_an_order_fixed_by_seed_and_epoch() -> None:
    batches = some()
    first = batches.begin(1, 1)
    assert sorted(first.tolist()) == list(range(50))
    assert torch.equal(first, some().begin(1, 1))
    assert not torch.equal(first, batches.begin(1, 2))
    assert not torch.equal(first, batches.begin(2, 1))


def test_batches_hold_images_divided_by_255_and_a_row_for_each_label() -> None:
    batches = some()
    rows = torch.rand(10, 10)
    buffers = batches.buffers(2, 3, rows)
    address = buffers.glyphs.data_ptr()
    for places in ([3, 1, 40, 3], [0, 49, 2, 2, 7, 30]):
        index = torch.tensor(places)
        buffers.fill(index)
        expected = batches.images[index].numpy().astype(np.float32) / np.float32(255)
        n = len(places) // 2
        np.testing.assert_array_equal(buffers.glyphs[:n].flatten(0, 1).numpy(), expected)
        assert buffers.labels[:n].flatten().tolist() == [place % 10 for place in places]
        found = buffers.rows[:n].transpose(1, 2).flatten(0, 1)
        assert torch.equal(found, rows[[place % 10 for place in places]])
        assert buffers.glyphs.data_ptr() == address


def test_read_only_images_are_accepted() -> None:
    images = np.zeros((2, 28, 28), np.uint8)
    images.flags.writeable = False
    assert len(Batches(images, np.zeros(2, np.uint8), CPU)) == 2


def blob() -> torch.Tensor:
    glyphs = torch.zeros(200, 28, 28)
    glyphs[:, 10:18, 12:16] = 1.0
    return glyphs


def moves(count: int = 200) -> torch.Tensor:
    return torch.rand((count, 6), generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_light_augmentation_moves_little_and_without_bias() -> None:
    moved = light(blob(), moves())
    assert moved.shape == (200, 28, 28)
    assert moved.min() >= 0
    assert moved.max() <= 1
    ink = moved.sum((1, 2))
    rows, columns = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    row, column = (moved * rows).sum((1, 2)) / ink, (moved * columns).sum((1, 2)) / ink
    for centre in (row, column):
        assert (centre - 13.5).abs().max() <= SHIFT * 1.25 + 0.1
        assert abs(centre.mean() - 13.5) < 0.3
        assert centre.std() > 0.5
    assert (ink / 32).min() > 0.6
    assert (ink / 32).max() < 1.6
    assert len({round(value, 3) for value in ink.tolist()}) > 100


def test_elastic_augmentation_bends_lines_and_light_does_not() -> None:
    bars = torch.zeros(200, 28, 28)
    bars[:, 4:24, 13:15] = 1.0
    columns = torch.arange(28.0)

    def bow(glyphs: torch.Tensor) -> float:
        """Tell how far the middles of a bar's rows lie from one straight line, in pixels."""
        rows = glyphs[:, 8:20]
        middles = (rows * columns).sum(2) / rows.sum(2)
        # The second difference over eight rows: zero on any line, however it leans.
        return float((middles[:, 2] + middles[:, 10] - 2 * middles[:, 6]).abs().mean())

    bends = torch.randn((200, 2, 5, 5), generator=torch.Generator().manual_seed(2))
    straight, bent = light(bars, moves()), light(bars, moves(), bends)
    assert bow(straight) < 0.1
    assert bow(bent) > 0.5
    assert bent.min() >= 0
    assert bent.max() <= 1


def seen(augment: str, seed: int, epoch: int, size: int) -> torch.Tensor:
    """Return what an epoch trains on, in the order of the images: (50, 28, 28)."""
    batches = some(augment=augment)
    order = batches.begin(seed, epoch)
    buffers = batches.buffers(size, 50 // size, torch.eye(10))
    buffers.fill(order)
    return buffers.glyphs.flatten(0, 1)[order.argsort()]


@pytest.mark.parametrize("augment", ["light", "elastic"])
def test_seed_and_epoch_alone_say_what_an_image_looks_like(augment: str) -> None:
    first = seen(augment, 1, 1, 10)
    torch.rand(3)
    assert torch.equal(first, seen(augment, 1, 1, 10))
    assert torch.allclose(first, seen(augment, 1, 1, 25), atol=1e-6)
    assert not torch.allclose(first, seen(augment, 1, 2, 10), atol=0.1)
    assert not torch.allclose(first, seen(augment, 2, 1, 10), atol=0.1)


def test_augmentations_are_chosen_by_name() -> None:
    glyphs = {name: seen(name, 3, 1, 50) for name in ("none", "light", "elastic")}
    assert torch.equal(glyphs["none"], some().images / 255)
    assert not torch.allclose(glyphs["none"], glyphs["light"], atol=0.1)
    assert not torch.allclose(glyphs["light"], glyphs["elastic"], atol=0.1)
