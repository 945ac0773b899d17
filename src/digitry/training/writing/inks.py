"""Single characters as crisp ink of any size: digits of the hands and of our own, and what is none."""

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from digitry.training.writing import pen
from digitry.training.writing.figures import figure
from digitry.training.writing.hands import Ink
from digitry.training.writing.strips import Sources
from digitry.training.writing.texts import drawn

Floats = npt.NDArray[np.float32]
"""(h, w) float32 in [0, 1], ink = 1 on 0."""

SMALLEST, LARGEST = 14.0, 150.0
"""Heights of a digit in a picture, pixels."""

SHARE_DRAWN = 0.1
"""Of digits: in our own strokes, in hands that the packs do not have."""

NARROW = 0.4
"""What is narrower than so many of its heights is a 1 to everybody, whatever it was meant to be."""

SIGNS = tuple(name for name in pen.SYMBOLS if name not in pen.SMALL)


def any_height(rng: np.random.Generator) -> float:
    """Return the height of a digit in a picture: each doubling is as likely as the next."""
    return float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))))


def digit(sources: Sources, height: float, rng: np.random.Generator) -> tuple[Floats, int]:
    """Return a digit of a hand, and which it is."""
    if rng.random() < SHARE_DRAWN:
        label = int(rng.integers(10))
        return symbol(pen.DIGITS[label], height, rng), label
    glyph, em, label = picked(sources, rng)
    return enlarged(glyph, em, height, rng), label


def picked(
    sources: Sources, rng: np.random.Generator, wanted: Sequence[int] = ()
) -> tuple[Ink, float, int]:
    """Return a digit of a hand as it lies there, its em, and which it is: any, or one of those wanted."""
    hands = sources.hands[drawn(sources.shares, rng)]
    if wanted:
        present = [label for label in wanted if label in hands.by_class]
        places = hands.by_class[int(rng.choice(present))]
        place = int(places[rng.integers(len(places))])
    else:
        place = int(rng.integers(len(hands.glyphs)))
    return hands.glyphs[place], float(hands.em[place]), int(hands.labels[place])


def enlarged(glyph: Ink, em: float, height: float, rng: np.random.Generator) -> Floats:
    """Return a character as crisp ink: leaning, stretched, bent, thinner or thicker.

    Args:
        glyph: (h, w) uint8, 255 = ink.
        em: how many of its pixels make the height of a digit.
        height: that it gets, pixels.
        rng: what changes it.
    """
    scale = height / em
    angle = np.deg2rad(rng.normal(0, 7) if rng.random() < 0.8 else rng.uniform(-25, 25))
    lean, stretch = rng.normal(0, 0.13), np.exp(rng.normal(0, 0.1))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = scale * turn @ np.array([[stretch, lean], [0, 1 / stretch]])
    rows, columns = glyph.shape
    corners = np.array([(0, 0), (columns, 0), (0, rows), (columns, rows)]) @ matrix.T
    margin = 3 + 0.1 * height
    low, high = corners.min(axis=0) - margin, corners.max(axis=0) + margin
    size = np.ceil(high - low).astype(int)
    # The centre of a pixel is half a pixel from its corner.
    offset = matrix @ (0.5, 0.5) - low - 0.5
    source = glyph
    if scale < 0.7:
        # Averages first: a warp alone would skip pixels.
        small = (max(2, round(columns * scale)), max(2, round(rows * scale)))
        source = np.asarray(cv2.resize(glyph, small, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = matrix / (small[0] / columns, small[1] / rows)
        scale = 1.0
    large = cv2.warpAffine(
        source.astype(np.float32) / np.float32(255),
        np.hstack((matrix, offset[:, None])),
        (int(size[0]), int(size[1])),
        flags=cv2.INTER_CUBIC,
    )
    if rng.random() < 0.5 and min(large.shape) >= 16:
        large = _bent(large, height, rng)
    # The grey rim of a stroke says where its edge is: scaled up smoothly, then cut at some level.
    level = rng.uniform(0.28, 0.62)
    # Never so smoothly that bare paper turns grey.
    steep = max(max(1.0, scale) * rng.uniform(0.9, 2.0), 0.5 / level)
    ink = np.clip((large - level) * steep + 0.5, 0, 1)
    ink = _with_other_pen(ink.astype(np.float32), rng.normal(0, 0.055) * height)
    return trimmed(ink)


def _bent(ink: Floats, height: float, rng: np.random.Generator) -> Floats:
    """Displace smoothly by a few hundredths of the height (Simard et al. 2003, elastic distortions)."""
    rows, columns = ink.shape
    coarse = rng.normal(0, 0.03 * height, (2, 5, 5)).astype(np.float32)
    fields = [cv2.resize(part, (columns, rows), interpolation=cv2.INTER_CUBIC) for part in coarse]
    down, across = np.mgrid[0:rows, 0:columns].astype(np.float32)
    result: Floats = cv2.remap(ink, across + fields[0], down + fields[1], cv2.INTER_LINEAR)
    return result


def _with_other_pen(ink: Floats, change: float) -> Floats:
    """Return ink with strokes thicker or thinner by so many pixels, not so thin that it falls apart."""
    width = round(abs(change))
    if width < 1:
        return ink
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width + 1, width + 1))
    if change > 0:
        return np.asarray(cv2.dilate(ink, disc), np.float32)
    thin = np.asarray(cv2.erode(ink, disc), np.float32)
    return thin if thin.sum() > 0.35 * ink.sum() else ink


def trimmed(ink: Floats) -> Floats:
    """Return ink cut close to it."""
    strong = ink > 0.3
    rows, columns = np.flatnonzero(strong.any(axis=1)), np.flatnonzero(strong.any(axis=0))
    if len(rows) == 0:
        return ink
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def as_mnist(glyph: Ink, em: float) -> Floats:
    """Return a character as MNIST has its digits: in a box of 20, its mass in the middle of 28x28."""
    scale = min(20 / em, 26 / max(glyph.shape))
    rows, columns = (max(1, round(side * scale)) for side in glyph.shape)
    small = glyph.astype(np.float32) / np.float32(255)
    if small.shape != (rows, columns):
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = np.asarray(cv2.resize(small, (columns, rows), interpolation=how), np.float32)
    mass = max(float(small.sum()), 1e-6)
    x = float(small.sum(axis=0) @ np.arange(columns)) / mass
    y = float(small.sum(axis=1) @ np.arange(rows)) / mass
    left = min(max(round(13.5 - x), 0), 28 - columns)
    top = min(max(round(13.5 - y), 0), 28 - rows)
    picture = np.zeros((28, 28), np.float32)
    picture[top : top + rows, left : left + columns] = small
    return picture


# --- what is no digit ------------------------------------------------------------------------------


def symbol(name: str, height: float, rng: np.random.Generator) -> Floats:
    """Return one of our own symbols in some pen: a hairline, a ballpoint, a marker, pixels."""
    width = max(float(np.exp(rng.uniform(np.log(0.02), np.log(0.24)))) * height, 0.9)
    lines = pen.strokes_of(name, pen.pick_hand(name, rng))
    lines = pen.wobble(lines, rng, amount=rng.uniform(0.4, 1.5))
    return trimmed(pen.draw(lines, height, width, rng, pressure=rng.uniform(0, 0.4)))


def no_digit(sources: Sources, height: float, rng: np.random.Generator) -> Floats:
    """Return the ink of a letter, a sign, a word, several digits, half of one, a figure or a smudge."""
    kind = _OTHERS[drawn(_SHARES, rng)]
    return kind(sources, height, rng)


def letter(sources: Sources, height: float, rng: np.random.Generator) -> Floats:
    """Return a letter, somebody's or ours, that does not look like a digit."""
    if rng.random() < 0.75 and len(sources.others.letters):
        glyph = sources.others.letters[int(rng.integers(len(sources.others.letters)))]
        ink = enlarged(glyph, float(max(glyph.shape)), height, rng)
    else:
        ink = symbol(str(rng.choice(pen.LETTERS)), height, rng)
    return ink if ink.shape[1] >= NARROW * ink.shape[0] else letter(sources, height, rng)


def signs(sources: Sources, count: int, rng: np.random.Generator) -> list[Ink]:
    """Return pictures of what is neither a digit nor a mark, for lines and pages of writing."""
    found: list[Ink] = []
    while len(found) < count:
        ink = _SIGN_KINDS[drawn(_SIGN_SHARES, rng)](sources, 40.0, rng)
        rows, columns = ink.shape
        # An upright stroke looks like a 1, a lying one is a dash.
        if NARROW * rows < columns < 2 * rows and rows > 8:
            found.append(np.rint(255 * ink).astype(np.uint8))
    return found


def _sign(sources: Sources, height: float, rng: np.random.Generator) -> Floats:
    return symbol(str(rng.choice(SIGNS)), height, rng)


def _several(sources: Sources, height: float, rng: np.random.Generator) -> Floats:
    """Lay two or three digits so close that they are one piece of ink, or nearly."""
    ink = digit(sources, height, rng)[0]
    for _ in range(1 if rng.random() < 0.8 else 2):
        other = digit(sources, height * float(np.exp(rng.normal(0, 0.06))), rng)[0]
        gap = round(rng.uniform(-0.22, 0.15) * height)
        ink = _beside(ink, other, gap, rng)
    return ink


def _word(sources: Sources, height: float, rng: np.random.Generator) -> Floats:
    """Write a word, or a few letters and digits."""
    words = sources.others.words
    if len(words) and rng.random() < 0.5:
        word = words[int(rng.integers(len(words)))]
        return enlarged(word, float(word.shape[0]), height, rng)
    ink = letter(sources, height, rng)
    for _ in range(int(rng.integers(1, 4))):
        other = letter if rng.random() < 0.75 else lambda *told: digit(*told)[0]
        gap = round(rng.uniform(-0.15, 0.15) * height)
        ink = _beside(ink, other(sources, height * float(rng.uniform(0.6, 1.0)), rng), gap, rng)
    return ink


def _beside(ink: Floats, other: Floats, gap: int, rng: np.random.Generator) -> Floats:
    left = max(0, ink.shape[1] + gap)
    rows = max(ink.shape[0], other.shape[0]) + 2
    joined = np.zeros((rows, max(left + other.shape[1], ink.shape[1])), np.float32)
    for part, x in ((ink, 0), (other, left)):
        y = int(rng.integers(0, rows - part.shape[0] + 1))
        place = joined[y : y + part.shape[0], x : x + part.shape[1]]
        np.maximum(place, part, out=place)
    return joined


def _half(sources: Sources, height: float, rng: np.random.Generator) -> Floats:
    """Cut a digit in two; only those digits of which no half looks like another digit."""
    glyph, em, label = picked(sources, rng, wanted=(0, 2, 3, 5, 6, 8))
    ink = enlarged(glyph, em, height, rng)
    if label == 0 or rng.random() < 0.4:
        # Left or right. The right half of a 3 or an 8 can pass for a 3, the left one of 6 for a 1.
        column = round(ink.shape[1] * rng.uniform(0.42, 0.58))
        return ink[:, column:] if label == 6 else ink[:, :column]
    row = round(ink.shape[0] * rng.uniform(0.35, 0.5))
    return ink[row:] if label in (2, 3, 5) else ink[:row]


def _mirrored(sources: Sources, height: float, rng: np.random.Generator) -> Floats:
    """Show a digit as in a mirror, where that makes it none."""
    glyph, em, _ = picked(sources, rng, wanted=(3, 4, 7, 9))
    return np.ascontiguousarray(enlarged(glyph, em, height, rng)[:, ::-1])


def _doodle(sources: Sources, height: float, rng: np.random.Generator) -> Floats:
    """Draw with too many corners or strokes for a digit: polygons, crossing lines, hatching."""
    if rng.random() < 0.4 and len(sources.doodles):
        picture = sources.doodles[int(rng.integers(len(sources.doodles)))]
        return enlarged(picture, float(max(picture.shape)), height, rng)
    kind = rng.integers(3)
    if kind == 0:
        # A closed line of five to nine corners, each across from the one before.
        corners = int(rng.integers(5, 10))
        turns = np.arange(corners) * 2 * np.pi * (2 if corners % 2 else 3) / corners
        radius = rng.uniform(0.3, 0.5, corners)
        rim = 0.5 + np.stack([np.cos(turns), np.sin(turns)], 1) * radius[:, None]
        lines = [np.concatenate([rim, rim[:1]])]
    elif kind == 1:
        lines = [rng.uniform(0, 1, (2, 2)) for _ in range(int(rng.integers(5, 10)))]
    else:
        count, lean = int(rng.integers(3, 9)), rng.uniform(-0.5, 0.5)
        lines = [
            np.array([[x + lean / 2, 0.0], [x - lean / 2, 1.0]]) + rng.normal(0, 0.03, (2, 2))
            for x in np.linspace(0, rng.uniform(0.8, 1.6), count)
        ]
        if rng.random() < 0.6:
            lines += [np.array([[0.0, y], [1.0, y]]) for y in rng.uniform(0.1, 0.9, 3)]
    spread = [
        np.concatenate([np.linspace(a, b, 12) for a, b in itertools.pairwise(line)])
        for line in lines
    ]
    width = max(float(np.exp(rng.uniform(np.log(0.02), np.log(0.12)))) * height, 0.9)
    bent = pen.wobble(spread, rng, amount=rng.uniform(0.4, 1.5))
    return trimmed(pen.draw(bent, height, width, rng))


def _compound(sources: Sources, height: float, rng: np.random.Generator) -> Floats:
    """Write two letters as one sign: beside, above or across each other, often with a bar.

    Scripts that the packs do not have build their signs so.
    """
    parts = [letter(sources, height, rng) for _ in range(2)]
    beside, above = rng.integers(3) == np.arange(2)
    wide, tall = 0.55 if beside else 1.0, 0.5 if above else 1.0
    squeezed = []
    for part in parts:
        size = (max(3, round(part.shape[1] * wide)), max(3, round(part.shape[0] * tall)))
        squeezed.append(
            np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.float32)
        )
    gap = round(rng.uniform(-0.15, 0.12) * height)
    if above:
        upper, lower = (np.ascontiguousarray(part.T) for part in squeezed)
        ink = np.ascontiguousarray(_beside(upper, lower, gap, rng).T)
    else:
        apart = gap if beside else -round(rng.uniform(0.7, 1.0) * squeezed[0].shape[1])
        ink = _beside(squeezed[0], squeezed[1], apart, rng)
    if rng.random() < 0.4:
        rows, columns = ink.shape
        y = int(rng.integers(rows))
        end = (columns - 1, int(np.clip(y + rng.normal(0, 0.1) * rows, 0, rows - 1)))
        ink = np.ascontiguousarray(ink)
        cv2.line(ink, (0, y), end, 1.0, max(1, round(height * rng.uniform(0.03, 0.12))))
    return trimmed(ink)


def _smudge(sources: Sources, height: float, rng: np.random.Generator) -> Floats:
    """Return a blot, a bit of texture or a lying dash."""
    side = int(height)
    kind = rng.integers(3)
    if kind == 0:
        noise = rng.normal(0, 1, (8, 8)).astype(np.float32)
        blot = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
        return trimmed((blot > rng.uniform(0.0, 1.0)).astype(np.float32))
    if kind == 1:
        length, thick = side * 2, max(2, round(side * rng.uniform(0.05, 0.4)))
        dash = np.zeros((thick + side, length + 12), np.float32)
        down = int(rng.normal(0, 0.08) * length)
        middle = dash.shape[0] // 2
        cv2.line(dash, (6, middle), (length + 6, middle + down), 1.0, thick)
        return trimmed(dash)
    fine = rng.random((max(6, side // 3), max(6, side // 3))) < rng.uniform(0.2, 0.6)
    grown = cv2.resize(fine.astype(np.float32), (side, side), interpolation=cv2.INTER_NEAREST)
    return trimmed(np.asarray(grown, np.float32))


def _figure(sources: Sources, height: float, rng: np.random.Generator) -> Floats:
    return figure(height, rng)


_OTHERS = (letter, _sign, _several, _word, _half, _mirrored, _doodle, _smudge, _compound, _figure)
_SHARES = (0.32, 0.08, 0.12, 0.07, 0.04, 0.04, 0.07, 0.05, 0.05, 0.16)
_SIGN_KINDS = (_sign, _half, _mirrored, _doodle, _smudge, _compound, _figure)
_SIGN_SHARES = (0.2, 0.1, 0.07, 0.15, 0.08, 0.2, 0.2)
