"""Inspect a data set: counts, duplicates, label conflicts, faulty and odd images. Needs only NumPy.

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
"""Two images closer than this are near-duplicates: a cosine of 0.997 or more. A copy that was saved as
JPEG or made lighter is that close; two drawings of a digit are not, except for some plain 1s."""
NEAR_CHECKED = 250_000
"""Near-duplicates are searched among at most this many images: the work grows with the square."""
NEAR_KEPT = 2_000
NEAR_FOUND = 200_000
"""Number of nearest pairs that are searched for conflicts and leaks, at most."""
FEW_PIXELS = 12.0
"""An image with less ink than this many full pixels is near-empty; MNIST's thinnest 1 has about 17."""
ODD_KEPT = 60

Floats = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Item:
    """One image of a data set.

    Attributes:
        part: `train` or `test`.
        index: its row in that part.
        label: its label.
        name: its file, line or row; empty for a named set.
    """

    part: str
    index: int
    label: int
    name: str = ""


@dataclass(frozen=True)
class Pair:
    """Two images that are nearly the same drawing.

    Attributes:
        first, second: the two images.
        distance: between them as unit vectors, 0 to sqrt(2).
    """

    first: Item
    second: Item
    distance: float


@dataclass(frozen=True)
class Odd:
    """An image that is unlike those of its label.

    Attributes:
        item: the image.
        score: mean distance to its three nearest images of the same label, divided by that to the three
            nearest of the closest other label. Above 1 it looks more like that other label.
        looks_like: the label of the nearest image with another label.
    """

    item: Item
    score: float
    looks_like: int


@dataclass(frozen=True)
class Exploration(Plain):
    """The findings on a data set.

    Attributes:
        name, source, licence, sha256: of the data set.
        train_counts, test_counts: number of images of each label, 0 to 9.
        blank: images without ink.
        near_empty: images with less ink than `FEW_PIXELS` full pixels.
        inverted: images with dark ink on a light background; in a user's set also those that loading
            has inverted because most of the set is the other way round.
        duplicates: groups of images with equal pixels.
        near: pairs of near-duplicates, closest first; at most `NEAR_KEPT`.
        near_checked: number of images searched for near-duplicates.
        conflicts: exact and near duplicates with different labels.
        leaks: exact and near duplicates with one image in `train` and one in `test`.
        odd: images unlike those of their label, oddest first; at most `ODD_KEPT`.
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
    """Return the findings on a data set.

    70,000 images take some seconds. The work for near-duplicates grows with the square of the number of
    images, up to `NEAR_CHECKED`.

    Args:
        dataset: the data set; its training and test parts are searched together.
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
    # Keep one of each group of equal images; otherwise all of them would form pairs.
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
    """Return groups of two or more rows whose images have equal pixels."""
    rows: dict[bytes, list[int]] = {}
    for row, image in enumerate(images):
        rows.setdefault(hashlib.blake2b(image.tobytes(), digest_size=16).digest(), []).append(row)
    return [np.array(group, np.int64) for group in rows.values() if len(group) > 1]


def _unit_vectors(images: Bytes) -> Floats:
    """Return the images slightly blurred and scaled to length 1.

    With the blur, a stroke that is shifted by half a pixel is still close.
    """
    units = np.empty((len(images), 784), np.float32)
    # In blocks: all at once would need several times the memory of the result.
    for start in range(0, len(images), 4096):
        soft: Floats = images[start : start + 4096].astype(np.float32)
        for axis in (1, 2):
            soft = 2 * soft + np.roll(soft, 1, axis) + np.roll(soft, -1, axis)
        flat = soft.reshape(len(soft), -1)
        flat /= np.maximum(np.sqrt(np.einsum("ij,ij->i", flat, flat)), 1e-6)[:, None]
        units[start : start + 4096] = flat
    return units


def _signatures(units: Floats, count: int = 8) -> Floats:
    """Return the `count` x `count` lowest frequencies of each image, by the orthonormal DCT-II.

    Returns:
        (n, count²) float32; the distance between signatures is at most that between the images.
    """
    k, x = np.arange(count)[:, None], np.arange(28)
    cosines = np.sqrt(2 / 28) * np.cos(np.pi * k * (2 * x + 1) / 56)
    cosines[0] /= np.sqrt(2)
    return np.asarray(units @ np.kron(cosines, cosines).T.astype(np.float32))


def _near(
    units: Floats, short: Floats, rows: Index, block: int = 1024
) -> list[tuple[int, int, float]]:
    """Return all pairs closer than `NEAR`, closest first.

    Signatures are never further apart than their images, so most pairs are excluded by their signatures;
    only the rest are compared in full. Rows are sorted by the coordinate with the largest variance, so a
    block is compared only with the following blocks whose range is within `NEAR`.
    """
    if not len(rows):
        return []
    widest = int(short[rows].var(axis=0).argmax())
    rows = rows[np.argsort(short[rows, widest], kind="stable")]
    first, points = short[rows, widest], short[rows]
    half = np.einsum("ij,ij->i", points, points) / 2
    # |a - b|² = |a|² + |b|² - 2 a·b; two extra columns on each side make it a single product.
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
    """Return the images that are closer to another label than to their own.

    Each image is compared with up to `fellows` images of each label, evenly spread over the set.
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
