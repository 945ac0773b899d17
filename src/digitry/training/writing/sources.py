"""The sources of training strips, from MNIST and the packs of handwriting, divided by hand."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from digitry.reading.classes import MARKS
from digitry.reading.lines import lifted, rows_of_writing
from digitry.training.data import handwriting
from digitry.training.data.handwriting import Digits, Images, Other, Samples, Strings, Strokes
from digitry.training.writing.hands import Hands, Ink, cut_to_ink, from_images, from_strokes
from digitry.training.writing.strings import Others
from digitry.training.writing.strips import (
    Real,
    Sources,
    labels_of,
    stroke_strip,
)

S = TypeVar("S", bound=Samples)

SHARES = {"mnist": 0.5, "unipen_digits": 0.28, "bhmsds_digits": 0.12, "mfeat_pixel": 0.1}
"""How often the hands of each pack write a line."""

REAL_SHARES = {"lectaurep_strings": 0.58, "unipen_strings": 0.38, "peraire_strings": 0.04}

MOST_REPEATS = 20.0
"""A transcription that stands more often in a pack is shown as if it stood this often."""


def load(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    data_dir: Path | None = None,
    *,
    held: bool = False,
    seed: int = 0,
) -> Sources:
    """Load what training strips are made of, or what is held out of them.

    Args:
        images: MNIST's training images, (60000, 28, 28) uint8, in MNIST's order.
        labels: (60000,) uint8.
        data_dir: the folder of the packs; see `handwriting`.
        held: load the hands that are held out instead.
        seed: chooses the pens that strokes are drawn with.

    Raises:
        UnavailableError: a pack is not there.
        DataError: a pack is not what it must be.
    """
    rng = np.random.default_rng(seed)
    names = [name for name in SHARES if not held or name in ("mnist", "unipen_digits")]
    hands = []
    for name in names:
        if name == "mnist":
            digits = handwriting.mnist_digits(images, labels, data_dir)
        else:
            digits = handwriting.load_digits(name, data_dir)
        hands.append(hands_of(_side(digits, held), rng))
    shares = np.array([SHARES[name] for name in names])
    real, chances = real_strips(data_dir, held, rng)
    text = texts(data_dir, held)
    return Sources(
        hands=hands,
        shares=[float(share) for share in shares / shares.sum()],
        others=others(data_dir, held, [strip.ink for strip in text]),
        real=real,
        chances=chances,
        text=text,
        doodles=_cut(handwriting.load_other("quickdraw", data_dir)),
    )


def load_characters(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    data_dir: Path | None = None,
    *,
    first: int,
    held: bool = False,
    seed: int = 0,
) -> Sources:
    """Load isolated characters, without strips of real writing, or what is held out of them.

    Args:
        images: MNIST's training images, (60000, 28, 28) uint8, in MNIST's order.
        labels: (60000,) uint8.
        data_dir: the folder of the packs; see `handwriting`.
        first: so many of MNIST's digits, less the hands that are held out, are for training; all that
            follow are held out, as `digitry teach` holds them out, which does not know their hands.
        held: load what is held out instead.
        seed: chooses the pens that strokes are drawn with.

    Raises:
        UnavailableError: a pack is not there.
        DataError: a pack is not what it must be.
    """
    rng = np.random.default_rng(seed)
    digits = handwriting.mnist_digits(images, labels, data_dir)
    part = np.arange(first, len(digits)) if held else np.arange(first)
    mnist = handwriting.take(digits, part)
    names = [name for name in SHARES if not held or name in ("mnist", "unipen_digits")]
    hands = [hands_of(mnist if held else _side(mnist, held), rng)]
    for name in names[1:]:
        hands.append(hands_of(_side(handwriting.load_digits(name, data_dir), held), rng))
    shares = np.array([SHARES[name] for name in names])
    words = [strip.ink for strip in texts(data_dir, held, ("unipen_words",))]
    return Sources(
        hands=hands,
        shares=[float(share) for share in shares / shares.sum()],
        others=others(data_dir, held, words),
        real=(),
        chances=np.zeros(0),
        text=(),
        doodles=_cut(handwriting.load_other("quickdraw", data_dir)),
    )


def of_digits(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> Sources:
    """Return sources of these digits alone, in pictures of 28x28 as MNIST's are; our own strokes stand for
    letters."""
    return Sources(
        hands=[from_images(images, labels)],
        shares=[1.0],
        others=Others((), (), {}),
        real=(),
        chances=np.zeros(0),
        text=(),
        doodles=(),
    )


def _side(samples: S, held: bool) -> S:
    return handwriting.split(samples)[held]


def hands_of(digits: Digits, rng: np.random.Generator) -> Hands:
    """Return the hands of a pack of digits."""
    _, writers = np.unique(digits.hands, return_inverse=True)
    drawings = digits.drawings
    if isinstance(drawings, Strokes):
        # Twice, each time with other pens: a hand is not its pen.
        samples = [drawings.strokes(i) for i in range(len(digits))]
        pens = len(samples)
        return from_strokes(
            samples * 2,
            np.tile(digits.labels, 2),
            np.concatenate([writers, writers + pens]),
            rng,
        )
    return from_images(drawings.stack(), digits.labels, writers)


def real_strips(
    data_dir: Path | None, held: bool, rng: np.random.Generator
) -> tuple[list[Real], npt.NDArray[np.float64]]:
    """Return the real strips, and how often each is shown."""
    strips: list[Real] = []
    chances: list[npt.NDArray[np.float64]] = []
    for name, share in REAL_SHARES.items():
        strings = _side(handwriting.load_strings(name, data_dir), held)
        # A text that lacks a mark would teach not to see that mark.
        strings = handwriting.take(strings, np.flatnonzero(strings.complete))
        found, kept = [], []
        for index in range(len(strings)):
            real = real_strip(strings, index, rng)
            if real is not None:
                found.append(real)
                kept.append(str(strings.texts[index]))
        if not found:
            continue
        _, inverse, counts = np.unique(kept, return_inverse=True, return_counts=True)
        weight = np.minimum(1.0, MOST_REPEATS / counts)[inverse]
        strips += found
        chances.append(share * weight / weight.sum())
    joined = np.concatenate(chances) if chances else np.zeros(0)
    return strips, joined / joined.sum() if len(joined) else joined


def real_strip(strings: Strings, index: int, rng: np.random.Generator) -> Real | None:
    """Return one string as a strip, or None where its drawing holds no ink."""
    drawings = strings.drawings
    if isinstance(drawings, Strokes):
        real = stroke_strip(drawings.strokes(index), rng)
    else:
        real = scanned(drawings, index)
    return None if real is None else replace(real, labels=labels_of(str(strings.texts[index])))


def scanned(drawings: Images, index: int) -> Real | None:
    """Return a picture's ink with the rows of its writing."""
    picture = drawings.raw(index)
    ink = lifted(picture) if drawings.dark_ink else np.ascontiguousarray(picture)
    if min(ink.shape) < 4 or not ink.any():
        return None
    return Real(ink, (), *rows_of_writing(ink))


def others(data_dir: Path | None, held: bool, words: Sequence[Ink]) -> Others:
    """Return letters and marks, beside words."""
    letters = _side(handwriting.load_other("unipen_letters", data_dir), held)
    named = np.isin(letters.labels, [*MARKS, "_", "`", "'", '"', ";", "~", "^"])
    writing = handwriting.take(letters, np.flatnonzero(~(named | letters.looks_like_digit)))
    marks: dict[str, Sequence[Ink]] = {}
    symbols = handwriting.load_other("bhmsds_symbols", data_dir)
    for mark in "-/":
        marks[mark] = [
            *_cut(handwriting.take(symbols, np.flatnonzero(symbols.labels == mark)[:800])),
            *_cut(handwriting.take(letters, np.flatnonzero(letters.labels == mark))),
        ]
    # Its hands are not told apart: nothing of it can be held out.
    crosses = np.flatnonzero(np.isin(symbols.labels, ("+", "x", "w")) & (not held))
    plus = _cut(handwriting.take(symbols, crosses))
    return Others([*_cut(writing), *plus[:1500]], words, marks)


def texts(
    data_dir: Path | None, held: bool, names: Sequence[str] = ("unipen_words", "lectaurep_text")
) -> list[Real]:
    """Return words and windows of text without digits."""
    found = []
    for name in names:
        other: Other = _side(handwriting.load_other(name, data_dir), held)
        drawings = other.drawings
        if isinstance(drawings, Images):
            reals = (scanned(drawings, index) for index in range(len(other)))
            found += [real for real in reals if real is not None]
    return found


def _cut(other: Other) -> list[Ink]:
    drawings = other.drawings
    if not isinstance(drawings, Images):
        return []
    cut = (cut_to_ink(np.asarray(drawings.raw(index))) for index in range(len(other)))
    return [glyph for glyph in cut if glyph is not None]
