"""Pages as cameras and scanners see them, drawn from MNIST digits and our own strokes; seeded.

The reader must not learn MNIST, but what `digitry.reading` makes of people's pictures. So every
training image takes the whole way: a digit becomes ink of some width on paper of some light, is
blurred, compressed and cut, and then goes through the reader's own `segment` and `glyph`. What ends
up as no digit there (letters, rulings, two digits that touch, halves of one) is taught as such.
"""

import os
import zipfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from digitry import files
from digitry.artifact import GLYPH_VERSION
from digitry.reading import glyph, segment
from digitry.reading.ink import lift
from digitry.reading.result import Box
from digitry.training import strokes
from digitry.training.datasets import Dataset, Split, dataset_of
from digitry.training.mirrors import cache_dir

if TYPE_CHECKING:
    from rich.console import Console

SCENES_VERSION = 2
"""Raised whenever other scenes are drawn, so that no cache gives the old ones."""

NOTHING = 10
"""The class of ink that is no digit."""

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Random = np.random.Generator


@dataclass(frozen=True)
class Scene:
    """One synthetic crop.

    Attributes:
        gray: (h, w) uint8, as a camera would give it.
        inverted: whether its ink is lighter than its paper.
        label: 0 to 9, or `NOTHING`.
        box: where the ink that is meant stands.
    """

    gray: Bytes = field(repr=False)
    inverted: bool
    label: int
    box: Box


def digit_scene(digit: Bytes, label: int, rng: Random) -> Scene:
    """Show one MNIST digit as a person's picture.

    Args:
        digit: (28, 28) uint8, ink = 255.
        label: 0 to 9.
        rng: source of all randomness.
    """
    return _photograph(_written(digit, _height(rng), rng), label, rng)


def stroke_scene(rng: Random) -> Scene:
    """Show one digit in our own strokes, in one of the hands that MNIST's writers did not have."""
    label = int(rng.integers(10))
    return _photograph(_drawn(strokes.DIGITS[label], rng), label, rng)


def nothing_scene(split: Split, rng: Random) -> Scene:
    """Show something that is no digit: a sign, a letter, touching digits, a half, a smudge."""
    kind = rng.choice(5, p=[0.34, 0.22, 0.22, 0.1, 0.12])
    if kind == 0:
        ink = _drawn(str(rng.choice(strokes.LETTERS)), rng)
    elif kind == 1:
        names = [name for name in strokes.SYMBOLS if name not in strokes.SMALL]
        ink = _drawn(str(rng.choice(names)), rng)
    elif kind == 2:
        ink = _touching(split, rng)
    elif kind == 3:
        ink = _half(split, rng)
    else:
        ink = _smudge(rng)
    return _photograph(ink, NOTHING, rng)


def glyph_of(scene: Scene) -> Floats | None:
    """Give the glyph that the reader makes of a scene, or None where it takes something else for it.

    Returns:
        (28, 28) float32 in [0, 1], ink = 1.
    """
    piece = segment.single(lift(255 - scene.gray if scene.inverted else scene.gray))
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
    height = float(np.exp(rng.uniform(np.log(18), np.log(70))))
    chosen = rng.integers(len(split), size=2 if rng.random() < 0.6 else 3)
    digits = [_trim(_written(split.images[index], height, rng)) for index in chosen]
    rows = max(digit.shape[0] for digit in digits) + 4
    layers = np.zeros(
        (len(digits), rows, sum(digit.shape[1] for digit in digits) + rows), np.float32
    )
    x = 0
    for layer, digit in zip(layers, digits, strict=True):
        y = int(rng.integers(0, rows - digit.shape[0] + 1))
        layer[y : y + digit.shape[0], x : x + digit.shape[1]] = digit
        x = max(0, x + digit.shape[1] + round(rng.uniform(-0.22, 0.06) * height))
    margin = round(0.25 * height)
    layers = np.pad(layers, ((0, 0), (margin, margin), (margin, margin)))
    gray = rng.uniform(150, 255) * (1 - rng.uniform(0.4, 1.0) * layers.max(axis=0))
    gray += rng.normal(0, rng.uniform(0, 4), gray.shape)
    pixels = np.clip(gray, 0, 255).astype(np.uint8)
    masks = layers > 0.4
    masses = masks.sum(axis=(1, 2))
    found: list[tuple[segment.Piece, int]] = []
    for line in segment.lines(lift(pixels)):
        for cluster in line:
            for piece in segment.candidates(cluster).values():
                label = _label_of(piece, masks, masses, split.labels[chosen], height)
                if label is not None:
                    found.append((piece, label))
    # There are many ways to cut, most of them wrong; the network sees two of each digit and two more.
    kept, taken = [], Counter[int]()
    for index in rng.permutation(len(found)):
        piece, label = found[index]
        taken[label] += 1
        if taken[label] <= 2:
            kept.append((piece, label))
    glyphs = glyph.normalise([piece.ink for piece, _ in kept])
    return [(image, label) for image, (_, label) in zip(glyphs, kept, strict=True)]


def _label_of(
    piece: segment.Piece,
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
    if recall[best] > 0.88 and precision[best] > 0.84:
        return int(labels[best])
    # A straight stroke cut off a digit looks like a 1; that it is none cannot be seen in it.
    points = cv2.findNonZero(own.astype(np.uint8))
    if points is None or max(box.w, box.h) < 0.4 * height:
        return None
    sides = cv2.minAreaRect(points)[1]
    if min(sides) < 0.42 * max(sides):
        return None
    return NOTHING if min(recall[best], precision[best]) < 0.62 else None


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What a set of pages is made of, for each MNIST digit, besides that digit as it is.

    Attributes:
        variants: pictures of the digit.
        strokes: pictures of a digit in our own strokes, as a share of the digits.
        nothing: pictures of what is no digit, as a share of the digits.
        strings: strings of touching digits, cut up, as a share of the digits.
    """

    variants: int = 3
    strokes: float = 0.5
    nothing: float = 0.2
    strings: float = 0.3


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
    """Give the pages made of MNIST, from the user's cache if they have been made before.

    Args:
        source: MNIST.
        console: shows progress.
    """
    name = f"pages-{SCENES_VERSION}-{GLYPH_VERSION}-{source.sha256[:12]}.npz"
    path = cache_dir() / name
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as kept:
                parts = [kept[key] for key in ("x_train", "y_train", "x_test", "y_test")]
            train, test = Split(parts[0], parts[1]), Split(parts[2], parts[3])
            return dataset_of("pages", train, test, source.licence, _made_from(source))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            # A cut or foreign file in a cache is no loss: it is made again, below.
            path.unlink(missing_ok=True)
    said = -1

    def progress(done: int, total: int) -> None:
        nonlocal said
        if console is not None and 10 * done // total > said:
            said = 10 * done // total
            console.print(f"drawing pages: {100 * done // total}%")

    data = pages(source, workers=os.cpu_count() or 1, progress=progress)
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
        scenes = [digit_scene(image, int(label), rng) for _ in range(mix.variants)]
        if rng.random() < mix.strokes:
            scenes.append(stroke_scene(rng))
        if rng.random() < mix.nothing:
            scenes.append(nothing_scene(split, rng))
        for scene in scenes:
            add(glyph_of(scene), scene.label)
        if rng.random() < mix.strings:
            for piece, piece_label in string_glyphs(split, rng):
                add(piece, piece_label)
    return np.rint(np.stack(images) * 255).astype(np.uint8), np.array(labels, np.uint8)


# --- ink -------------------------------------------------------------------------------------------


def _height(rng: Random) -> float:
    """Choose the height of a digit in a picture: 14 to 150 pixels, each doubling as likely."""
    return float(np.exp(rng.uniform(np.log(14), np.log(150))))


def _written(digit: Bytes, height: float, rng: Random) -> Floats:
    """Enlarge an MNIST digit to crisp ink, leaning, stretched, thinner or thicker.

    Args:
        digit: (28, 28) uint8, ink = 255.
        height: of its 20-pixel box, in pixels.
        rng: source of all randomness.

    Returns:
        (h, w) float32 in [0, 1], with some empty margin.
    """
    scale = height / 20
    angle = np.deg2rad(rng.normal(0, 7) if rng.random() < 0.8 else rng.uniform(-25, 25))
    lean, stretch = rng.normal(0, 0.13), np.exp(rng.normal(0, 0.1))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = scale * turn @ np.array([[stretch, lean], [0, 1 / stretch]])
    side = round(36 * scale * 1.2)
    offset = side / 2 - matrix @ np.array([13.5, 13.5])
    # Away from its own grid, MNIST's grey rims are course information: upscaled smoothly, then cut.
    large = cv2.warpAffine(
        digit.astype(np.float32) / 255,
        np.hstack((matrix, offset[:, None])),
        (side, side),
        flags=cv2.INTER_CUBIC,
    )
    if rng.random() < 0.5 and side >= 24:
        large = _bent(large, rng)
    level = rng.uniform(0.28, 0.62)
    # At the edge of a stroke MNIST rises by about half its range a pixel; here that is `scale` pixels.
    ink = np.clip((large - level) * max(1.0, scale) * rng.uniform(0.9, 2.0) + 0.5, 0, 1)
    change = rng.normal(0, 0.055) * height
    width = round(abs(change))
    if width >= 1:
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width + 1, width + 1))
        if change > 0:
            ink = cv2.dilate(ink, disc)
        else:
            thin = cv2.erode(ink, disc)
            # Not so thin that it falls apart.
            ink = thin if thin.sum() > 0.35 * ink.sum() else ink
    result: Floats = ink.astype(np.float32)
    return result


def _bent(ink: Floats, rng: Random) -> Floats:
    """Displace smoothly by a few hundredths of the size (Simard et al. 2003, elastic distortions)."""
    side = ink.shape[0]
    coarse = rng.normal(0, 0.022 * side, (2, 5, 5)).astype(np.float32)
    fields = [cv2.resize(part, (side, side), interpolation=cv2.INTER_CUBIC) for part in coarse]
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
    result: Floats = cv2.remap(
        ink, columns + fields[0], rows + fields[1], cv2.INTER_LINEAR, borderValue=0
    )
    return result


def _drawn(symbol: str, rng: Random) -> Floats:
    """Draw one of our own symbols with some pen: a hairline, a ballpoint, a marker, pixels."""
    height = _height(rng)
    share = float(np.exp(rng.uniform(np.log(0.02), np.log(0.24))))
    pen = max(share * height, 0.9)
    hand = strokes.pick_hand(symbol, rng)
    lines = strokes.wobble(strokes.strokes_of(symbol, hand), rng, amount=rng.uniform(0.4, 1.5))
    ink = strokes.draw(lines, height, pen, rng, pressure=rng.uniform(0, 0.4))
    margin = 3
    return np.pad(ink, margin)


def _touching(split: Split, rng: Random) -> Floats:
    """Lay two or three digits so close that their ink meets."""
    height = _height(rng)
    count = 2 if rng.random() < 0.8 else 3
    digits = [_trim(_written(_any(split, rng), height, rng)) for _ in range(count)]
    ink = digits[0]
    for other in digits[1:]:
        gap = round(rng.uniform(-0.22, 0.02) * height)
        rows = max(ink.shape[0], other.shape[0])
        left = max(0, ink.shape[1] + gap)
        joined = np.zeros((rows + 2, max(left + other.shape[1], ink.shape[1])), np.float32)
        for part, x in ((ink, 0), (other, left)):
            y = int(rng.integers(0, joined.shape[0] - part.shape[0] + 1))
            place = joined[y : y + part.shape[0], x : x + part.shape[1]]
            np.maximum(place, part, out=place)
        ink = joined
    return np.pad(ink, 3)


def _half(split: Split, rng: Random) -> Floats:
    """Cut a digit in two; only those digits of which no half looks like another digit."""
    for _ in range(40):
        index = int(rng.integers(len(split)))
        if split.labels[index] in (0, 2, 3, 5, 6, 8):
            break
    ink = _trim(_written(split.images[index], _height(rng), rng))
    if split.labels[index] == 0 or rng.random() < 0.4:
        # Left or right. The right half of a 3 or an 8 can pass for a 3, the left one of 6 for a 1.
        column = round(ink.shape[1] * rng.uniform(0.42, 0.58))
        keep_left = split.labels[index] in (0, 2, 3, 5, 8)
        part = ink[:, :column] if keep_left else ink[:, column:]
    else:
        row = round(ink.shape[0] * rng.uniform(0.35, 0.5))
        part = ink[row:] if split.labels[index] in (2, 3, 5) else ink[:row]
    return np.pad(part, 3)


def _smudge(rng: Random) -> Floats:
    """A blot, a speck, a bit of texture or a lying dash."""
    height = int(max(10, _height(rng)))
    kind = rng.integers(3)
    if kind == 0:
        noise = rng.normal(0, 1, (8, 8)).astype(np.float32)
        blot = cv2.resize(noise, (height, height), interpolation=cv2.INTER_CUBIC)
        return np.pad((blot > rng.uniform(0.0, 1.0)).astype(np.float32), 3)
    if kind == 1:
        length, thick = height * 2, max(2, round(height * rng.uniform(0.05, 0.4)))
        dash = np.zeros((thick + 12, length + 12), np.float32)
        slope = int(rng.normal(0, 0.08) * length)
        cv2.line(dash, (6, 6 + thick // 2), (length + 6, 6 + thick // 2 + slope), 1.0, thick)
        return dash
    fine = rng.random((max(6, height // 3), max(6, height // 3))) < rng.uniform(0.2, 0.6)
    grown = cv2.resize(fine.astype(np.float32), (height, height), interpolation=cv2.INTER_NEAREST)
    return np.pad(grown, 3)


def _any(split: Split, rng: Random) -> Bytes:
    image: Bytes = split.images[int(rng.integers(len(split)))]
    return image


def _trim(ink: Floats) -> Floats:
    rows = np.flatnonzero((ink > 0.3).any(axis=1))
    columns = np.flatnonzero((ink > 0.3).any(axis=0))
    if len(rows) == 0:
        return ink
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


# --- paper, light, camera --------------------------------------------------------------------------


def _photograph(ink: Floats, label: int, rng: Random) -> Scene:
    """Lay ink on paper, light it, photograph it and cut it out."""
    ink = _trim(ink)
    height, width = ink.shape
    side = max(height, width)
    clean = rng.random() < 0.35
    # Margins: from a tight crop to a digit that is small in its picture.
    share = rng.uniform(0.0, 0.12) if rng.random() < 0.3 else rng.uniform(0.1, 0.9)
    top, bottom, left, right = (
        round(side * share * rng.uniform(0.4, 1.4)) + (0 if label < NOTHING and share < 0.05 else 1)
        for _ in range(4)
    )
    shape = (height + top + bottom, width + left + right)
    page = np.zeros(shape, np.float32)
    page[top : top + height, left : left + width] = ink
    box = Box(left, top, width, height)
    if rng.random() < 0.22 and share > 0.1:
        _neighbour(page, box, rng)
    density = rng.uniform(0.75, 1.0) if clean else rng.uniform(0.22, 0.95)
    if not clean and rng.random() < 0.35:
        page *= _waves(shape, rng, coarse=max(3, side // 6), low=0.55)
    paper = np.full(shape, 255.0 if clean else rng.uniform(120, 250), np.float32)
    if not clean:
        paper *= _light(shape, rng)
        if rng.random() < 0.18:
            _ruling(paper, side, rng)
    gray = paper * (1 - density * page)
    if clean:
        if rng.random() < 0.5:
            gray = np.where(page > 0.5, 255 * (1 - density), 255.0).astype(np.float32)
    else:
        blur = rng.uniform(0, 0.03) * side
        if blur > 0.3:
            gray = cv2.GaussianBlur(gray, (0, 0), blur)
        gray = gray + rng.normal(0, rng.uniform(0, 5), shape).astype(np.float32)
    inverted = bool(rng.random() < 0.2)
    pixels = np.clip(255 - gray if inverted else gray, 0, 255).astype(np.uint8)
    if not clean and rng.random() < 0.5:
        quality = int(rng.integers(25, 90))
        _, packed = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE)
        pixels = pixels if decoded is None else decoded.astype(np.uint8)
    return Scene(pixels, inverted, label, box)


def _neighbour(page: Floats, box: Box, rng: Random) -> None:
    """Let the ink of a neighbour come in at the left or right rim."""
    height, width = page.shape
    room = box.x if rng.random() < 0.5 else width - box.right
    reach = round(room * rng.uniform(0.2, 0.75))
    if reach < 3:
        return
    symbol = strokes.DIGITS[int(rng.integers(10))]
    lines = strokes.wobble(strokes.strokes_of(symbol, strokes.pick_hand(symbol, rng)), rng)
    other = strokes.draw(lines, box.h, max(1.0, 0.08 * box.h), rng)
    rows = min(other.shape[0], height - box.y)
    reach = min(reach, other.shape[1])
    if room == box.x:
        place = page[box.y : box.y + rows, :reach]
        np.maximum(place, other[:rows, -reach:], out=place)
    else:
        place = page[box.y : box.y + rows, width - reach :]
        np.maximum(place, other[:rows, :reach], out=place)


def _waves(shape: tuple[int, int], rng: Random, *, coarse: int, low: float) -> Floats:
    """A smooth random field in [low, 1]; `coarse` is the distance of its knots in pixels."""
    knots = rng.uniform(
        low, 1, (max(2, shape[0] // coarse + 2), max(2, shape[1] // coarse + 2))
    ).astype(np.float32)
    grown: Floats = cv2.resize(knots, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return grown


def _light(shape: tuple[int, int], rng: Random) -> Floats:
    """Light that falls off to one side, and sometimes the edge of a shadow."""
    rows, columns = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j].astype(np.float32)
    slope = rng.normal(0, 0.12, 2)
    light = 1 + slope[0] * rows + slope[1] * columns
    if rng.random() < 0.25:
        angle, soft = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.8)
        edge = (np.cos(angle) * rows + np.sin(angle) * columns - rng.uniform(-0.6, 0.6)) / soft
        light = light * (1 - rng.uniform(0.1, 0.45) / (1 + np.exp(-4 * edge)))
    result: Floats = np.clip(light, 0.25, 1.15).astype(np.float32)
    return result


def _ruling(paper: Floats, side: int, rng: Random) -> None:
    """Rule the paper, or square it, in a paler colour than most ink."""
    height, width = paper.shape
    darkness = 1 - rng.uniform(0.06, 0.35)
    thick = max(1, round(side * rng.uniform(0.008, 0.03)))
    step = max(6, round(side * rng.uniform(0.4, 1.5)))
    slope = rng.normal(0, 0.02)
    ruled = np.zeros(paper.shape, np.uint8)
    for y in range(int(rng.integers(step)), height, step):
        cv2.line(ruled, (0, y), (width, round(y + slope * width)), 1, thick)
    if rng.random() < 0.4:
        for x in range(int(rng.integers(step)), width, step):
            cv2.line(ruled, (x, 0), (round(x - slope * height), height), 1, thick)
    paper[ruled > 0] *= darkness
