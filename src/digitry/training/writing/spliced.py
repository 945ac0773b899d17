"""New numbers in real hands: parts of strips of one page, joined where no character stands.

Real strips are few, and many say the same: a network learns them by heart. Their parts, joined otherwise,
say numbers that nobody wrote, in the same hands and on the same paper.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from digitry.reading import decode, lines
from digitry.reading.classes import DIGITS, OTHER, SYMBOLS
from digitry.reading.network import Session
from digitry.reading.pattern import READABLE
from digitry.reading.pattern import compile as compile_pattern
from digitry.training.writing.hands import Ink
from digitry.training.writing.real import Real, cut_of

SLANTS = np.linspace(-0.3, 0.9, 25)
"""Slants of writing that are tried: columns to the right for each row up."""

INTO = 0.25
"""How far into a character's box a cut may lie, in heights of a digit: a leg reaches over its neighbour."""

MOST_PARTS = 4
"""Parts that are joined, at the most."""

ROOM = 0.7
"""Empty paper at the ends, in heights of a digit, at the most."""

FROM_FIRST = 0.6
"""The part of the spliced strips that begins with its strip's first character."""

ALONE = 0.15
"""The part of spliced strips that is one part, joined to nothing."""


def with_cuts(real: Sequence[Real], network: Session) -> list[Real]:
    """Return strips with the places between their characters, where a line network finds them.

    It is told what each strip says; a strip that it reads otherwise with confidence gets no cuts.

    Args:
        real: strips, and what they say.
        network: the line network.
    """
    found = list(real)
    told = [i for i, one in enumerate(real) if len(one.labels) > 1 and OTHER not in one.labels]
    cuts = [cut_of(real[i]) for i in told]
    for i, cut, strips in zip(told, cuts, lines.seen(cuts, network), strict=True):
        text = "".join(SYMBOLS[label] for label in real[i].labels).replace(".", r"\.")
        read = decode.decode(strips, pattern=compile_pattern(text, READABLE))
        if read.fits and len(read.characters) == len(real[i].labels):
            scale = strips[read.strip].height / (lines.CUT / 2)
            scale *= cut.ink.shape[1] / real[i].ink.shape[1]
            boxes = [one.box for one in read.characters]
            spans = [(box.start / scale, box.end / scale) for box in boxes]
            found[i] = _parted(real[i], spans)
    return found


def _parted(real: Real, spans: Sequence[tuple[float, float]]) -> Real:
    """Return a strip with its slant and its cuts: upright columns with the least ink between characters."""
    tall = _tall(real)
    # The ink of columns is the most unequal where strokes stand upright.
    slant = float(max(SLANTS, key=lambda slant: (_by_column(real, slant) ** 2).sum()))
    ink = _by_column(real, slant)
    cuts = []
    for (_, left), (right, _) in pairwise(spans):
        middle, reach = (left + right) / 2, max((right - left) / 2, 0) + INTO * tall
        columns = np.arange(max(1, round(middle - reach)), min(len(ink), round(middle + reach) + 1))
        if not len(columns):
            return real
        # Of columns with as much ink, the one in the middle.
        costs = ink[columns] + ((columns - middle) / tall) ** 2
        cuts.append(int(columns[np.argmin(costs)]))
    if any(right - left < 2 for left, right in pairwise(cuts)):
        return real
    return replace(real, slant=slant, cuts=tuple(cuts))


def _by_column(real: Real, slant: float) -> npt.NDArray[np.float32]:
    """Return how much ink the columns of a strip hold between its digits' heads and feet."""
    rows = upright(real.ink, real, slant)[max(real.top, 0) : real.bottom]
    return np.asarray(rows.sum(axis=0, dtype=np.float32) / np.float32(255))


def _tall(real: Real) -> int:
    return max(real.bottom - real.top, 4)


def upright(ink: Ink, real: Real, slant: float) -> Ink:
    """Return ink sheared by a slant, around the middle of a strip's digits; by minus it, sheared back."""
    middle = (real.top + real.bottom) / 2
    matrix = np.array([[1, slant, -slant * middle], [0, 1, 0]])
    return np.asarray(cv2.warpAffine(ink, matrix, (ink.shape[1], ink.shape[0])), np.uint8)


def spliced(first: Real, others: Sequence[Real], rng: np.random.Generator) -> Real:
    """Return a strip of parts of several: one that nobody wrote.

    A part follows another as its own neighbour did: a digit where a digit followed, a mark where a mark or
    nothing did.

    Args:
        first: a strip with cuts; what follows is written as large and as slanted.
        others: strips with cuts, of the same page or hand.
        rng: chooses the parts.
    """
    count = 1 if rng.random() < ALONE else int(rng.integers(2, MOST_PARTS + 1))
    start = 0 if rng.random() < FROM_FIRST else int(rng.integers(len(first.labels)))
    past = int(rng.integers(start + 1, len(first.labels) + 1))
    parts, labels = [_between(first, start, past)], [*first.labels[start:past]]
    last = first
    for _ in range(count - 1):
        digit = past < len(last.labels) and last.labels[past] < len(DIGITS)
        other = others[int(rng.integers(len(others)))]
        begins = [k for k, label in enumerate(other.labels) if k and (label < len(DIGITS)) == digit]
        if not begins:
            continue
        start = begins[int(rng.integers(len(begins)))]
        past = int(rng.integers(start + 1, len(other.labels) + 1))
        parts.append(_as_large(_between(other, start, past), other, first))
        labels += other.labels[start:past]
        last = other
    if not any(label < len(DIGITS) for label in labels):
        return first
    # Slanted again, the ends reach over.
    least = abs(first.slant) * _tall(first) / 2 + 1
    left, right = (least + rng.uniform(0, ROOM, 2) * _tall(first)).astype(int)
    ink = np.pad(np.concatenate(parts, axis=1), ((0, 0), (left, right)))
    ink = upright(ink, first, -first.slant)
    return replace(first, ink=ink, labels=tuple(labels), cuts=(), slant=0.0)


def _between(real: Real, start: int, past: int) -> Ink:
    """Return the upright ink of some characters of a strip, with the paper at its ends."""
    edges = [0, *real.cuts, real.ink.shape[1]]
    return upright(real.ink, real, real.slant)[:, edges[start] : edges[past]]


def _as_large(part: Ink, own: Real, other: Real) -> Ink:
    """Return a part of a strip with digits as high as those of another, in the same rows."""
    scale = _tall(other) / _tall(own)
    down = (other.top + other.bottom) / 2 - scale * (own.top + own.bottom) / 2
    matrix = np.array([[scale, 0, 0], [0, scale, down]])
    size = max(2, round(part.shape[1] * scale)), other.ink.shape[0]
    return np.asarray(cv2.warpAffine(part, matrix, size), np.uint8)
