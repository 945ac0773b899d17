"""Training strips: composed ones and real ones, with what they say, in batches by width."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from digitry.reading.lines import HEIGHT
from digitry.training.writing import camera, paper
from digitry.training.writing.camera import Strip
from digitry.training.writing.hands import Hands, Ink
from digitry.training.writing.real import Real, placed, rewritten
from digitry.training.writing.spliced import spliced
from digitry.training.writing.strings import (
    SHARE_BENT,
    Others,
    Written,
    bent,
    style,
    warp,
    write,
)
from digitry.training.writing.texts import LETTER, WORD, drawn, text

WIDTH_STEP = 32
"""Batches are a multiple of this many columns wide, and of 8 after the network's pools: for some other
widths oneDNN's convolutions with AMX read memory that nobody wrote, and gradients are no numbers then
(PyTorch 2.13)."""


@dataclass(frozen=True, eq=False)
class Sources:
    """What strips are made of."""

    hands: Sequence[Hands]
    shares: Sequence[float]
    """How often each of the hands writes; sums to 1."""
    others: Others
    real: Sequence[Real]
    chances: npt.NDArray[np.float64]
    """How often each real strip is shown; sums to 1."""
    text: Sequence[Real]
    """Words and windows of text without digits."""
    doodles: Sequence[Ink]


@dataclass(frozen=True)
class Mix:
    """What part of the strips is of which kind; the rest is composed lines."""

    single: float = 0.12
    real: float = 0.3
    nothing: float = 0.18


SHARE_REWRITTEN = 0.85
"""The part of real strips that is shown as other hands might have written them."""

SHARE_SPLICED = 0.5
"""The part of the real strips whose characters are told apart that is shown as parts, joined otherwise."""

SHARE_COMPOSED_REWRITTEN = 0.5
"""The same of composed lines: their hands, too, are fewer than those to come."""


@dataclass(frozen=True)
class Batch:
    """Strips of about one width.

    `strips` is (n, 1, 32, width) uint8, 255 = ink on 0; `labels[i]` the classes in strip i, in order.
    """

    strips: npt.NDArray[np.uint8]
    labels: tuple[tuple[int, ...], ...]


class Composer:
    """Strips without end, the same for the same seed."""

    def __init__(self, sources: Sources, seed: int | Sequence[int], mix: Mix | None = None) -> None:
        self.sources = sources
        self.rng = np.random.default_rng(seed)
        self.mix = mix or Mix()
        self._chances = np.cumsum(sources.chances)
        self.before: Ink | None = None
        self._pages: dict[str, list[Real]] = {}
        for real in sources.real:
            if real.cuts:
                self._pages.setdefault(real.page, []).append(real)

    def strip(self) -> tuple[Strip, tuple[int, ...]]:
        """Return a strip, (32, width) float32, and its labels."""
        rng, mix, sources = self.rng, self.mix, self.sources
        kind = rng.random()
        if kind < mix.single:
            return single(sources, rng)
        kind -= mix.single
        if kind < mix.real and len(sources.real):
            place = int(np.searchsorted(self._chances, rng.random() * self._chances[-1]))
            real = sources.real[min(place, len(sources.real) - 1)]
            if real.cuts and rng.random() < SHARE_SPLICED:
                real = spliced(real, self._pages[real.page], rng)
            if rng.random() < SHARE_REWRITTEN:
                real = rewritten(real, rng)
            return camera.spoilt(placed(real, rng), rng), real.labels
        kind -= mix.real
        if kind < mix.nothing:
            return camera.spoilt(nothing(sources, rng), rng), ()
        return self._line()

    def _line(self) -> tuple[Strip, tuple[int, ...]]:
        rng, sources = self.rng, self.sources
        hands = sources.hands[drawn(sources.shares, rng)]
        written = write(text(rng), hands, sources.others, style(rng), rng)
        ink = paper.under(written, self.before, rng)
        self.before = written.ink
        if rng.random() < SHARE_COMPOSED_REWRITTEN:
            # With its paper, which leans and bends a little before a camera, too.
            line = Real(ink, written.labels, written.top, written.bottom)
            ink = rewritten(line, rng).ink
        return camera.spoilt(ink, rng), written.labels

    def batches(self, count: int, columns: int) -> list[Batch]:
        """Return strips in batches, in a random order of batches.

        Args:
            count: how many strips are made; each is put beside others of about its width.
            columns: strips times width in a batch, at the most.
        """
        parts = by_width([self.strip() for _ in range(count)], columns)
        return [stacked(parts[index]) for index in self.rng.permutation(len(parts))]


def by_width(
    made: Sequence[tuple[Strip, tuple[int, ...]]], columns: int
) -> list[list[tuple[Strip, tuple[int, ...]]]]:
    """Return strips in groups of about one width, each of `columns` columns at the most."""
    parts: list[list[tuple[Strip, tuple[int, ...]]]] = [[]]
    for strip, labels in sorted(made, key=lambda pair: pair[0].shape[1]):
        width = -(-strip.shape[1] // WIDTH_STEP) * WIDTH_STEP
        if parts[-1] and (len(parts[-1]) + 1) * width > columns:
            parts.append([])
        parts[-1].append((strip, labels))
    return parts


def stacked(made: Sequence[tuple[Strip, tuple[int, ...]]]) -> Batch:
    """Return strips as one batch, as wide as the widest; empty columns are added on the right."""
    width = max(strip.shape[1] for strip, _ in made)
    strips = np.zeros((len(made), 1, HEIGHT, -(-width // WIDTH_STEP) * WIDTH_STEP), np.uint8)
    for place, (strip, _) in zip(strips, made, strict=True):
        place[0, :, : strip.shape[1]] = np.rint(strip * 255)
    return Batch(strips, tuple(labels for _, labels in made))


def single(sources: Sources, rng: np.random.Generator) -> tuple[Strip, tuple[int, ...]]:
    """Return a strip of one digit in one of the forms that digits alone come in."""
    hands = sources.hands[drawn(sources.shares, rng)]
    place = int(rng.integers(len(hands.glyphs)))
    glyph, label = hands.glyphs[place], int(hands.labels[place])
    if rng.random() < SHARE_BENT:
        glyph = bent(glyph, rng)
    form = drawn((0.4, 0.3, 0.15, 0.15), rng)
    if form == 0:
        # As MNIST has it: 20 pixels tall, its mass in the middle of 28x28.
        scale = 20 / float(hands.em[place]) * rng.uniform(0.9, 1.2)
        glyph = warp(glyph, scale, scale, rng.normal(0, 0.05), rng.normal(0, 0.03))
        return _framed(glyph, 28 + int(rng.integers(0, 9)), rng, rng.random() < 0.6), (label,)
    if form == 1:
        # Scaled up again below.
        glyph = camera.squared(glyph, rng)
    elif form == 2:
        # Small, its aspect kept.
        scale = rng.uniform(8, 16) / float(hands.em[place])
        glyph = warp(glyph, scale, scale, rng.normal(0, 0.08), rng.normal(0, 0.03))
        if rng.random() < 0.5:
            _, glyph = cv2.threshold(glyph, 100, 255, cv2.THRESH_BINARY)
    else:
        # It fills its crop.
        scale = rng.uniform(26, 31) / glyph.shape[0]
        wide = scale * float(np.exp(rng.normal(0, 0.15)))
        glyph = warp(glyph, wide, scale, rng.normal(0, 0.08), rng.normal(0, 0.03))
    tall = int(rng.integers(14, 30)) if form != 3 else min(glyph.shape[0], 31)
    wide_ = max(3, round(glyph.shape[1] * tall / glyph.shape[0]))
    how = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.integers(3))]
    glyph = cv2.resize(glyph, (wide_, tall), interpolation=how)
    return _framed(glyph, wide_ + int(rng.integers(2, 24)), rng, rng.random() < 0.5), (label,)


def _framed(glyph: Ink, width: int, rng: np.random.Generator, plain: bool) -> Strip:
    """Return one glyph in the middle of a strip, plain or spoilt by the camera."""
    glyph = glyph[:HEIGHT]
    height, wide = glyph.shape
    ink = np.zeros((HEIGHT, max(width, wide + 2, 16)), np.uint8)
    y = int(np.clip((HEIGHT - height) / 2 + rng.normal(0, 1), 0, HEIGHT - height))
    x = int(np.clip((ink.shape[1] - wide) / 2 + rng.normal(0, 1), 0, ink.shape[1] - wide))
    ink[y : y + height, x : x + wide] = glyph
    return np.asarray(ink, np.float32) / np.float32(255) if plain else camera.spoilt(ink, rng)


def nothing(sources: Sources, rng: np.random.Generator) -> Ink:
    """Return a strip without a digit: words, letters, a doodle, or paper alone."""
    kind = drawn((0.38, 0.38, 0.08, 0.16), rng)
    if kind == 0 and len(sources.text):
        real = sources.text[int(rng.integers(len(sources.text)))]
        return placed(real, rng)[:, :320]
    if kind == 1:
        count = 1 if rng.random() < 0.5 else int(rng.integers(2, 8))
        said = LETTER * count if rng.random() < 0.85 else WORD
        written = write(said, sources.hands[0], sources.others, style(rng), rng)
        return written.ink if rng.random() < 0.4 else paper.under(written, None, rng)
    width = int(rng.integers(16, 200))
    ink = np.zeros((HEIGHT, width), np.uint8)
    spans: tuple[tuple[int, int], ...] = ((8, max(9, width - 8)),)
    if kind == 2 and len(sources.doodles):
        doodle = sources.doodles[int(rng.integers(len(sources.doodles)))]
        side = int(rng.integers(14, 32))
        small = cv2.resize(doodle, (side, side), interpolation=cv2.INTER_AREA)[:, :width]
        ink[:side, : small.shape[1]] = small
        spans = ((0, small.shape[1]),)
    written = Written(ink, (), spans, 5, 27, rng.uniform(1.5, 3))
    for _ in range(rng.integers(0, 3)):
        written = Written(paper.under(written, None, rng), (), spans, 5, 27, written.pen)
    return written.ink
