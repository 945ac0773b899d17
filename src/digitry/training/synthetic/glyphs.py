"""Scenes to glyphs: the set that `reader` learns from; seeded.

The reader must not learn MNIST, but what `digitry.reading` makes of people's pictures. So every
training image takes the whole way: a digit becomes ink of some width on paper of some light, is
blurred, compressed and cut, and then goes through the reader's own `ink`, `alone` and `glyph`. What ends
up as no digit there (letters, rulings, two digits that touch, halves of one) is taught as such.
"""

import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from digitry import files
from digitry.model.artifact import GLYPH_VERSION, NOT_A_DIGIT_CLASS
from digitry.places import cache_dir
from digitry.progress import Display
from digitry.reading import glyph
from digitry.reading.alone import alone
from digitry.reading.ink import lift
from digitry.training.data.dataset import Dataset, Split, dataset_of
from digitry.training.synthetic import clusters, damage, pen, photos
from digitry.training.synthetic.photos import Bytes, Floats, Random

if TYPE_CHECKING:
    from rich.console import Console

SCENES_VERSION = 6
"""Raised whenever other scenes are drawn, so that no cache gives the old ones."""


def thing_glyph(rng: Random) -> Floats | None:
    """Return what the reader makes of a photograph of anything else, but for an upright bar."""
    return _no_digit(photos.thing_page(rng))


def empty_glyph(rng: Random) -> Floats | None:
    """Return what the reader makes of a page with nothing on it, but for an upright bar."""
    return _no_digit(photos.empty_page(rng))


def _no_digit(gray: Bytes) -> Floats | None:
    piece = alone(lift(gray))
    if piece is None or piece.box.w < 0.4 * piece.box.h:
        # An upright stroke: whoever sees it alone must take it for a 1.
        return None
    result: Floats = glyph.normalise([piece.ink])[0]
    return result


def glyph_of(scene: photos.Scene) -> Floats | None:
    """Return the glyph that the reader makes of a scene, or None where it takes something else for it.

    Returns:
        (28, 28) float32 in [0, 1], ink = 1.
    """
    piece = alone(lift(255 - scene.gray if scene.inverted else scene.gray))
    if piece is None:
        return None
    width = min(piece.box.right, scene.box.right) - max(piece.box.x, scene.box.x)
    height = min(piece.box.bottom, scene.box.bottom) - max(piece.box.y, scene.box.y)
    both = max(width, 0) * max(height, 0)
    union = piece.box.w * piece.box.h + scene.box.w * scene.box.h - both
    # A label must not be taught to a neighbour's ink or to half of the digit.
    if both < 0.55 * union:
        return None
    result: Floats = glyph.normalise([piece.ink])[0]
    return result


def string_glyphs(split: Split, rng: Random) -> list[tuple[Floats, int]]:
    """Write touching digits, cut them as the reader would, and say what each candidate is.

    A candidate that holds one digit and little else is that digit; one that holds parts of several,
    or less than most of one, is no digit. What lies between teaches neither.

    Returns:
        ((28, 28) float32 in [0, 1], label) of each.
    """
    height = float(np.exp(rng.uniform(np.log(16), np.log(80))))
    count = int(rng.choice([2, 3, 4, 5], p=[0.45, 0.25, 0.15, 0.15]))
    chosen = rng.integers(len(split), size=count)
    labels = split.labels[chosen].copy()
    digits = []
    for place, index in enumerate(chosen):
        if rng.random() < 0.15:
            labels[place] = rng.integers(10)
            digits.append(photos.trim(photos.drawn(pen.DIGITS[labels[place]], rng, height)))
        else:
            size = height * float(np.exp(rng.normal(0, 0.06)))
            digits.append(photos.trim(photos.written(split.images[index], size, rng)))
    return _cut_up(digits, labels, height, rng)


def word_glyphs(split: Split, rng: Random) -> list[tuple[Floats, int]]:
    """Write letters and signs, with digits among them or not, and cut them as the reader would.

    Whatever is cut out of a letter is no digit, though it may look like a 1.

    Returns:
        ((28, 28) float32 in [0, 1], label) of each.
    """
    height = float(np.exp(rng.uniform(np.log(16), np.log(80))))
    count = int(rng.choice([1, 2, 3, 4], p=[0.55, 0.15, 0.15, 0.15]))
    labels = np.full(count, NOT_A_DIGIT_CLASS, np.uint8)
    signs = [name for name in pen.SYMBOLS if name not in pen.SMALL]
    drawn = []
    for place in range(count):
        kind = rng.random()
        if count > 1 and kind < 0.3:
            index = int(rng.integers(len(split)))
            labels[place] = split.labels[index]
            drawn.append(photos.trim(photos.written(split.images[index], height, rng)))
        elif kind < 0.75:
            drawn.append(photos.trim(photos.drawn(str(rng.choice(pen.LETTERS)), rng, height)))
        elif kind < 0.9:
            drawn.append(photos.trim(photos.drawn(str(rng.choice(signs)), rng, height)))
        else:
            drawn.append(photos.trim(photos.doodle(rng, height)))
    return _cut_up(drawn, labels, height, rng)


def _cut_up(
    digits: list[Floats], labels: npt.NDArray[np.uint8], height: float, rng: Random
) -> list[tuple[Floats, int]]:
    count = len(digits)
    slack = round(rng.uniform(0.05, 0.25) * height)
    rows = max(digit.shape[0] for digit in digits) + slack
    layers = np.zeros((count, rows, sum(digit.shape[1] for digit in digits) + rows), np.float32)
    x = 0
    for layer, digit in zip(layers, digits, strict=True):
        y = int(rng.integers(0, rows - digit.shape[0] + 1))
        layer[y : y + digit.shape[0], x : x + digit.shape[1]] = digit
        x = max(0, x + digit.shape[1] + round(rng.uniform(-0.22, 0.08) * height))
    margin = round(0.25 * height)
    layers = np.pad(layers, ((0, 0), (margin, margin), (margin, margin)))
    gray = rng.uniform(150, 255) * (1 - rng.uniform(0.4, 1.0) * layers.max(axis=0))
    if rng.random() < 0.4:
        gray = cv2.GaussianBlur(gray, (0, 0), rng.uniform(0.3, 0.025 * height + 0.3))
    gray += rng.normal(0, rng.uniform(0, 4), gray.shape)
    pixels = np.clip(gray, 0, 255).astype(np.uint8)
    masks = layers > 0.4
    masses = masks.sum(axis=(1, 2))
    found: list[tuple[clusters.Piece, int]] = []
    for line in clusters.lines(lift(pixels)):
        for cluster in line:
            for piece in clusters.candidates(cluster).values():
                label = _label_of(piece, masks, masses, labels, height)
                if label is not None:
                    found.append((piece, label))
    # There are many ways to cut, most of them wrong; the network sees two of each digit and four more.
    kept, taken = [], Counter[int]()
    for index in rng.permutation(len(found)):
        piece, label = found[index]
        taken[label] += 1
        if taken[label] <= (4 if label == NOT_A_DIGIT_CLASS else 2):
            kept.append((piece, label))
    glyphs = glyph.normalise(
        [piece.ink for piece, _ in kept], [piece.surroundings for piece, _ in kept]
    )
    return [(image, label) for image, (_, label) in zip(glyphs, kept, strict=True)]


def _label_of(
    piece: clusters.Piece,
    masks: npt.NDArray[np.bool_],
    masses: npt.NDArray[np.int64],
    labels: npt.NDArray[np.uint8],
    height: float,
) -> int | None:
    box = piece.box
    own = piece.ink > 0.4 * float(piece.ink.max(initial=0.0))
    shared = (masks[:, box.y : box.bottom, box.x : box.right] & own).sum(axis=(1, 2))
    recall, precision = shared / np.maximum(masses, 1), shared / max(int(own.sum()), 1)
    best = int(np.argmax(np.minimum(recall, precision)))
    if recall[best] > 0.8 and precision[best] > 0.8:
        return int(labels[best])
    if piece.whole is None and max(box.w, box.h) < 0.4 * height:
        return None
    if piece.whole is None and labels[best] == NOT_A_DIGIT_CLASS and box.w < 0.4 * box.h:
        # The stroke of a letter that stands alone is a 1 to everybody.
        return None
    return NOT_A_DIGIT_CLASS if min(recall[best], precision[best]) < 0.66 else None


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What a set of pages is made of, for each MNIST digit, besides that digit as it is.

    Attributes:
        variants: pictures of the digit.
        strokes: pictures of a digit in our own strokes, as a share of the digits.
        nothing: pictures of what is no digit, as a share of the digits.
        strings: strings of touching digits, cut up, as a share of the digits.
        things: photographs of anything else, as a share of the digits.
        words: letters and signs, cut up, as a share of the digits.
        empty: pages with nothing on them, as a share of the digits.
        mirrored: digits as in a mirror, as a share of the digits.
        plain: the digit just as MNIST has it, so many times: that is what glyphs of others look like.
        spoilt: the digit in a bad state, as the reader finds it, as a share of the digits.
        spoilt_plain: likewise, just as it is.
        spoilt_nothing: letters and empty pictures in a bad state, likewise.
    """

    variants: int = 5
    strokes: float = 0.9
    nothing: float = 0.45
    strings: float = 0.6
    things: float = 0.08
    words: float = 0.3
    empty: float = 0.15
    mirrored: float = 0.1
    plain: int = 2
    spoilt: float = 1.0
    spoilt_plain: float = 0.3
    spoilt_nothing: float = 0.25


def pages(
    source: Dataset,
    *,
    mix: Mix | None = None,
    seed: int = 0,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Make the set that `reader` learns from.

    Training images come in the order of the MNIST digits that they are made of, so that a share held
    out from the end shows digits, and writers, that the rest has never shown.

    Args:
        source: MNIST.
        mix: how much of what.
        seed: of everything.
        workers: processes.
        progress: called with (parts done, parts in all).

    Returns:
        glyphs as images, labels 0 to 10.
    """
    mix = mix or Mix()
    train = _glyphs(source.train, mix, seed, workers, progress)
    test = _glyphs(source.test, replace(mix, variants=1), seed + 1, workers, None)
    return dataset_of("pages", train, test, source.licence, _made_from(source))


def load(source: Dataset, *, console: "Console | None" = None) -> Dataset:
    """Return the pages made of MNIST, from the user's cache if they have been made before.

    Args:
        source: MNIST.
        console: shows progress.
    """
    name = f"pages-{SCENES_VERSION}-{GLYPH_VERSION}-{source.sha256[:12]}.npz"
    cache = cache_dir()
    path = None if cache is None else cache / name
    if path is not None and path.is_file():
        try:
            with np.load(path, allow_pickle=False) as kept:
                parts = [kept[key] for key in ("x_train", "y_train", "x_test", "y_test")]
            train, test = Split(parts[0], parts[1]), Split(parts[2], parts[3])
            return dataset_of("pages", train, test, source.licence, _made_from(source))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            # A cut or foreign file in a cache is no loss: it is made again, below.
            path.unlink(missing_ok=True)
    with Display(console, text="drawing pages") as display:

        def progress(done: int, total: int) -> None:
            display.at(done, f"drawing pages, {100 * done // total}%", total=total)

        data = pages(source, workers=os.cpu_count() or 1, progress=progress)
    if path is None:
        return data
    with files.replacing(path) as temporary:
        np.savez(
            temporary,
            x_train=data.train.images, y_train=data.train.labels,
            x_test=data.test.images, y_test=data.test.labels,
        )  # fmt: skip
    return data


def _made_from(source: Dataset) -> str:
    return f"drawn from {source.name} ({source.sha256[:12]}), scenes {SCENES_VERSION}"


def _glyphs(
    split: Split,
    mix: Mix,
    seed: int,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> Split:
    parts = [slice(start, start + 500) for start in range(0, len(split), 500)]
    images, labels = [], []
    # Spawned, not forked: OpenCV's and torch's threads do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(_part, Split(split.images[part], split.labels[part]), mix, (seed, index))
            for index, part in enumerate(parts)
        ]
        for index, job in enumerate(jobs):
            part_images, part_labels = job.result()
            images.append(part_images)
            labels.append(part_labels)
            if progress is not None:
                progress(index + 1, len(jobs))
    return Split(np.concatenate(images), np.concatenate(labels))


def _part(split: Split, mix: Mix, seed: tuple[int, int]) -> tuple[Bytes, Bytes]:
    cv2.setNumThreads(1)
    rng = np.random.default_rng(seed)
    images: list[Floats] = list(
        glyph.normalise([image / np.float32(255) for image in split.images])
    )
    labels = [int(label) for label in split.labels]

    def add(image: Floats | None, label: int) -> None:
        if image is not None:
            images.append(image)
            labels.append(label)

    for image, label in zip(split.images, split.labels, strict=True):
        seen = [photos.digit_scene(image, int(label), rng) for _ in range(mix.variants)]
        if rng.random() < mix.strokes:
            seen.append(photos.stroke_scene(rng))
        if rng.random() < mix.nothing:
            seen.append(photos.nothing_scene(split, rng))
        for scene in seen:
            add(glyph_of(scene), scene.label)
        if rng.random() < mix.things:
            add(thing_glyph(rng), NOT_A_DIGIT_CLASS)
        if rng.random() < mix.strings:
            for piece, piece_label in string_glyphs(split, rng):
                add(piece, piece_label)
    for image, label in _refused(split, mix, np.random.default_rng((*seed, 1))):
        add(image, label)
    for image, label in _spoilt(split, mix, np.random.default_rng((*seed, 2))):
        add(image, label)
    return np.rint(np.stack(images) * 255).astype(np.uint8), np.array(labels, np.uint8)


def _refused(split: Split, mix: Mix, rng: Random) -> Iterator[tuple[Floats | None, int]]:
    for _ in range(len(split)):
        if rng.random() < mix.words:
            yield from word_glyphs(split, rng)
        if rng.random() < mix.empty:
            yield empty_glyph(rng), NOT_A_DIGIT_CLASS
        if rng.random() < mix.mirrored:
            scene = photos.mirrored_scene(split, rng)
            yield (None if scene is None else glyph_of(scene)), NOT_A_DIGIT_CLASS


def _spoilt(split: Split, mix: Mix, rng: Random) -> Iterator[tuple[Floats | None, int]]:
    for digit, label in zip(split.images, split.labels, strict=True):
        # Whoever hands over glyphs himself gets no paper taken away, so those are shown, too.
        for _ in range(mix.plain):
            yield digit / np.float32(255), int(label)
        if rng.random() < mix.spoilt_plain:
            yield damage.spoilt(digit, rng)[0], int(label)
        if rng.random() < mix.spoilt:
            yield _found(*damage.spoilt(digit, rng)), int(label)
        if rng.random() < mix.spoilt_nothing:
            yield _spoilt_nothing(rng), NOT_A_DIGIT_CLASS
        if rng.random() < mix.spoilt_nothing:
            yield _no_digit(_pixels(_spoilt_nothing(rng))), NOT_A_DIGIT_CLASS


def _spoilt_nothing(rng: Random) -> Floats:
    return damage.nothing(rng) if rng.random() < 0.5 else damage.spoilt(_letter(rng), rng)[0]


def _found(picture: Floats, digit: Floats) -> Floats | None:
    """Return what the reader makes of a spoilt picture, or None where it loses the digit."""
    piece = alone(lift(_pixels(picture)))
    if piece is None:
        return None
    box = piece.box
    if digit[box.y : box.bottom, box.x : box.right].sum() < 0.6 * digit.sum():
        return None
    result: Floats = glyph.normalise([piece.ink])[0]
    return result


def _pixels(ink: Floats) -> Bytes:
    """Return a picture as dark ink on white paper."""
    result: Bytes = np.rint(255 * (1 - ink)).astype(np.uint8)
    return result


def _letter(rng: Random) -> Bytes:
    """Draw a letter as MNIST has its digits: (28, 28) uint8, ink = 255, in a box of about 20."""
    ink = photos.trim(photos.drawn(str(rng.choice(pen.LETTERS)), rng, 20.0))
    while ink.shape[1] < 0.4 * ink.shape[0]:
        # An upright stroke is a 1 to everybody.
        ink = photos.trim(photos.drawn(str(rng.choice(pen.LETTERS)), rng, 20.0))
    height, width = min(ink.shape[0], 28), min(ink.shape[1], 28)
    top, left = (28 - height) // 2, (28 - width) // 2
    page = np.zeros((28, 28), np.float32)
    page[top : top + height, left : left + width] = ink[:height, :width]
    result: Bytes = np.rint(255 * page).astype(np.uint8)
    return result
