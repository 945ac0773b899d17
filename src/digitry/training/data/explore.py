"""What is in a data set: counts, duplicates, conflicts, faulty and odd images. NumPy alone.

Distances are between images scaled to unit length, so that pen pressure and scan brightness do not
matter: 0 = the same drawing, sqrt(2) = no ink in common.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from digitry.plain import Plain
from digitry.training.data.dataset import Bytes, Dataset
from digitry.training.data.formats import light_ground

NEAR = 0.08
"""Two images nearer than this are near-duplicates: a cosine of 0.997 or more. A copy saved as JPEG or
made lighter lies within it; two drawings of a digit do not, but for some plain 1s."""
NEAR_CHECKED = 250_000
"""Near-duplicates are looked for among this many images at most: the work grows with the square."""
NEAR_KEPT = 2_000
NEAR_FOUND = 200_000
"""So many of the nearest pairs are searched for conflicts and leaks."""
FEW_PIXELS = 12.0
"""Ink below this many full pixels is near-empty; the thinnest 1 of MNIST has about 17."""
ODD_KEPT = 60

Floats = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Item:
    """One image, and where it is.

    Attributes:
        part: `train` or `test`.
        index: its row in that part.
        label: what it is labelled.
        name: the file, line or row that it came from; empty for a named set.
    """

    part: str
    index: int
    label: int
    name: str = ""


@dataclass(frozen=True)
class Pair:
    """Two images that are nearly the same drawing.

    Attributes:
        first, second: the two.
        distance: between them as unit vectors, 0 to sqrt(2).
    """

    first: Item
    second: Item
    distance: float


@dataclass(frozen=True)
class Odd:
    """An image that is unlike those of its label.

    Attributes:
        item: which one.
        score: mean distance to its three nearest fellows of the same label, over that to the three
            nearest of any other label. Above 1 it looks like something else.
        looks_like: the label of the nearest image with another label.
    """

    item: Item
    score: float
    looks_like: int


@dataclass(frozen=True)
class Exploration(Plain):
    """The findings.

    Attributes:
        name, source, licence, sha256: of the data set.
        train_counts, test_counts: images of each label, 0 to 9.
        blank: images without ink.
        near_empty: images with less ink than `FEW_PIXELS` full pixels.
        inverted: dark ink on a light ground; of a user's own set, also those that loading has
            turned, unlike most of it.
        duplicates: groups of images that are equal to the pixel.
        near: pairs that are nearly equal, the nearest first; `NEAR_KEPT` at most.
        near_checked: how many images near-duplicates were looked for among.
        conflicts: duplicates, exact and near, whose labels differ.
        leaks: duplicates, exact and near, of which one is in `train` and one in `test`.
        odd: images unlike those of their label, the oddest first; `ODD_KEPT` at most.
    """

    name: str
    source: str
    licence: str
    sha256: str
    train_counts: tuple[int, ...]
    test_counts: tuple[int, ...]
    blank: tuple[Item, ...]
    near_empty: tuple[Item, ...]
    inverted: tuple[Item, ...]
    duplicates: tuple[tuple[Item, ...], ...]
    near: tuple[Pair, ...]
    near_checked: int
    conflicts: tuple[Pair, ...]
    leaks: tuple[Pair, ...]
    odd: tuple[Odd, ...]


def explore(dataset: Dataset) -> Exploration:
    """Look through a data set.

    70,000 images take some seconds. The work for near-duplicates grows with the square of the
    images, up to `NEAR_CHECKED`.

    Args:
        dataset: what to look through; training and test part are searched as one.
    """
    train, test = dataset.train, dataset.test
    images = np.concatenate([train.images, test.images])
    labels = np.concatenate([train.labels, test.labels])

    def item(row: int) -> Item:
        split, part, index = (
            (train, "train", row) if row < len(train) else (test, "test", row - len(train))
        )
        name = split.names[index] if split.names else ""
        return Item(part, int(index), int(split.labels[index]), name)

    def items(rows: Index) -> tuple[Item, ...]:
        return tuple(item(int(row)) for row in rows)

    ink = images.reshape(len(images), -1).sum(axis=1, dtype=np.int64) / 255
    blank = images.reshape(len(images), -1).max(axis=1) < 32
    light = light_ground(images)
    light[[*train.turned, *(len(train) + row for row in test.turned)]] = True
    groups = _equal(images)

    units = _unit_vectors(images)
    drawn = np.flatnonzero(~blank & (ink >= FEW_PIXELS) & ~light_ground(images))
    # Of equal images one stands for all; or each would pair with each.
    spare = np.array([row for group in groups for row in group[1:]], np.int64)
    unique = np.setdiff1d(drawn, spare)
    short = _signatures(units)
    checked = unique[:NEAR_CHECKED]
    near = [Pair(item(a), item(b), distance) for a, b, distance in _near(units, short, checked)]
    every = [
        Pair(item(int(group[0])), item(int(row)), 0.0) for group in groups for row in group[1:]
    ] + near
    return Exploration(
        name=dataset.name,
        source=dataset.source,
        licence=dataset.licence,
        sha256=dataset.sha256,
        train_counts=tuple(np.bincount(train.labels, minlength=10).tolist()),
        test_counts=tuple(np.bincount(test.labels, minlength=10).tolist()),
        blank=items(np.flatnonzero(blank)),
        near_empty=items(np.flatnonzero(~blank & (ink < FEW_PIXELS))),
        inverted=items(np.flatnonzero(light)),
        duplicates=tuple(items(group) for group in groups),
        near=tuple(near[:NEAR_KEPT]),
        near_checked=len(checked),
        conflicts=tuple(pair for pair in every if pair.first.label != pair.second.label),
        leaks=tuple(pair for pair in every if pair.first.part != pair.second.part),
        odd=tuple(
            Odd(item(row), score, other) for row, score, other in _odd(short, labels, unique)
        ),
    )


def _equal(images: Bytes) -> list[Index]:
    """Group the rows of images that are equal to the pixel; groups of one are left out."""
    rows: dict[bytes, list[int]] = {}
    for row, image in enumerate(images):
        rows.setdefault(hashlib.blake2b(image.tobytes(), digest_size=16).digest(), []).append(row)
    return [np.array(group, np.int64) for group in rows.values() if len(group) > 1]


def _unit_vectors(images: Bytes) -> Floats:
    """Blur a little, so that a stroke shifted by half a pixel stays near, and scale to length 1."""
    units = np.empty((len(images), 784), np.float32)
    # In blocks: the whole would need several times the memory of its result.
    for start in range(0, len(images), 4096):
        soft: Floats = images[start : start + 4096].astype(np.float32)
        for axis in (1, 2):
            soft = 2 * soft + np.roll(soft, 1, axis) + np.roll(soft, -1, axis)
        flat = soft.reshape(len(soft), -1)
        flat /= np.maximum(np.sqrt(np.einsum("ij,ij->i", flat, flat)), 1e-6)[:, None]
        units[start : start + 4096] = flat
    return units


def _signatures(units: Floats, count: int = 8) -> Floats:
    """Give the `count` x `count` lowest frequencies of each image, by the orthonormal DCT-II.

    Returns:
        (n, count²) float32; a distance between signatures is never above that between the images.
    """
    k, x = np.arange(count)[:, None], np.arange(28)
    cosines = np.sqrt(2 / 28) * np.cos(np.pi * k * (2 * x + 1) / 56)
    cosines[0] /= np.sqrt(2)
    return np.asarray(units @ np.kron(cosines, cosines).T.astype(np.float32))


def _near(
    units: Floats, short: Floats, rows: Index, block: int = 1024
) -> list[tuple[int, int, float]]:
    """Find all pairs nearer than `NEAR`, the nearest first.

    Signatures are never further apart than the images, so a pair whose signatures are far apart is
    done with; the few that pass are measured in full. Sorted by the coordinate that spreads most, a
    block has to be held against the following ones only while their ranges are within `NEAR`.
    """
    if not len(rows):
        return []
    widest = int(short[rows].var(axis=0).argmax())
    rows = rows[np.argsort(short[rows, widest], kind="stable")]
    first, points = short[rows, widest], short[rows]
    half = np.einsum("ij,ij->i", points, points) / 2
    # |a - b|² = |a|² + |b|² - 2 a·b; one column more on each side makes it a single product.
    left = np.column_stack([points, -half, np.ones(len(rows), np.float32)]).astype(np.float32)
    right = np.column_stack([points, np.ones(len(rows), np.float32), -half]).astype(np.float32)
    limit = -(NEAR**2) / 2 - 1e-5
    pairs, distances = np.zeros((0, 2), np.int64), np.zeros(0, np.float32)
    for start in range(0, len(rows), block):
        stop = min(start + block, len(rows))
        last = int(np.searchsorted(first, first[stop - 1] + NEAR, side="right"))
        for other in range(start, last, 4 * block):
            closeness = left[start:stop] @ right[other : min(other + 4 * block, last)].T
            a, b = np.divmod(np.flatnonzero(closeness.ravel() > limit), closeness.shape[1])
            a, b = rows[start + a[start + a < other + b]], rows[other + b[start + a < other + b]]
            measured = _distances(units, a, b)
            close = measured <= NEAR
            found = np.sort(np.column_stack([a, b])[close], axis=1)
            pairs = np.concatenate([pairs, found])
            distances = np.concatenate([distances, measured[close]])
        if len(pairs) > 2 * NEAR_FOUND:
            best = np.argpartition(distances, NEAR_FOUND)[:NEAR_FOUND]
            pairs, distances = pairs[best], distances[best]
    order = np.lexsort((pairs[:, 1], pairs[:, 0], distances))[:NEAR_FOUND]
    return [(int(pairs[i, 0]), int(pairs[i, 1]), round(float(distances[i]), 4)) for i in order]


def _distances(units: Floats, a: Index, b: Index) -> Floats:
    parts = [np.zeros(0, np.float32)]
    for start in range(0, len(a), 4096):
        gap = units[a[start : start + 4096]] - units[b[start : start + 4096]]
        parts.append(np.sqrt(np.einsum("ij,ij->i", gap, gap)))
    return np.concatenate(parts)


def _odd(
    short: Floats, labels: Bytes, rows: Index, fellows: int = 500
) -> list[tuple[int, float, int]]:
    """Find the images whose neighbours have another label, or that have no near neighbours at all.

    Each image is held against up to `fellows` of each label, evenly spread over the set.
    """
    chosen = []
    for label in range(10):
        of_label = rows[labels[rows] == label]
        chosen.append(of_label[:: max(1, len(of_label) // fellows)][:fellows])
    if sum(len(part) > 3 for part in chosen) < 2:
        return []
    scores = np.zeros(len(rows), np.float32)
    other = np.zeros(len(rows), np.int64)
    for start in range(0, len(rows), 4096):
        part = rows[start : start + 4096]
        means = np.full((len(part), 10), np.inf, np.float32)
        for label, reference in enumerate(chosen):
            if len(reference) <= 3:
                continue
            squares = (
                (short[part] ** 2).sum(axis=1)[:, None]
                + (short[reference] ** 2).sum(axis=1)
                - 2 * short[part] @ short[reference].T
            )
            squares[part[:, None] == reference[None, :]] = np.inf
            nearest = np.sqrt(np.maximum(np.partition(squares, 3, axis=1)[:, :3], 0))
            means[:, label] = nearest.mean(axis=1)
        mine = (np.arange(len(part)), labels[part])
        own = means[mine].copy()
        means[mine] = np.inf
        best = means.min(axis=1)
        # A label with too few images to compare with says nothing: its images score 0.
        score = np.where(np.isfinite(own), own / np.maximum(best, 1e-6), 0)
        scores[start : start + 4096], other[start : start + 4096] = score, means.argmin(axis=1)
    order = np.argsort(-scores, kind="stable")[:ODD_KEPT]
    return [
        (int(rows[i]), round(float(scores[i]), 4), int(other[i])) for i in order if scores[i] > 0
    ]
