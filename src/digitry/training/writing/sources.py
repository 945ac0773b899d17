"""The sources of training strips, from MNIST and the packs of handwriting, divided by hand."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from digitry.reading.classes import MARKS
from digitry.reading.lines import lifted, rows_of_writing
from digitry.training.data import handwriting
from digitry.training.data.handwriting import Digits, Images, Other, Samples, Strings, Strokes
from digitry.training.writing.hands import Hands, Ink, cut_to_ink, from_images, from_strokes
from digitry.training.writing.inks import signs
from digitry.training.writing.real import Real, labels_of, stroke_strip
from digitry.training.writing.strings import Others
from digitry.training.writing.strips import Sources

S = TypeVar("S", bound=Samples)

SHARES = {"mnist": 0.5, "unipen_digits": 0.28, "bhmsds_digits": 0.12, "mfeat_pixel": 0.1}
"""How often the hands of each pack write a line."""

REAL_SHARES = {"lectaurep_strings": 0.58, "unipen_strings": 0.38, "peraire_strings": 0.04}

SIGN_COUNT = 4000
"""Signs that are no letter beside the letters of other writing; see `inks.signs`."""

MIRRORED, UPSIDE_DOWN, LYING = "Kk", "AFKMTVYkt", "AFHKTYkt"
"""Letters that look like no digit in a mirror, upside down, and on their side: signs of other scripts."""

LIKE_DIGITS = {
    "Balinese": (4, 5, 14),
    "Early_Aramaic": (2, 3, 4, 6, 10, 11, 12, 13, 14, 16, 17, 20),
    "Greek": (2, 4, 6, 8, 9, 15, 18),
    "Japanese_(katakana)": (1, 2, 24, 27, 28, 32, 38, 39, 42, 43, 45, 46),
    "Korean": (1, 9, 10, 12, 19, 21, 22, 23, 27, 28, 33, 37),
    "Sanskrit": (5, 13, 14, 21, 36, 37),
    "Tagalog": (3, 4, 7, 14, 16, 17),
}
"""Omniglot's characters that look like digits, several digits or a mark, by alphabet. Latin letters are
those of other packs."""

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
    known = others(data_dir, held, [strip.ink for strip in text])
    found = Sources(
        hands=hands,
        shares=[float(share) for share in shares / shares.sum()],
        others=known,
        real=real,
        chances=chances,
        text=text,
        doodles=_cut(handwriting.load_other("quickdraw", data_dir)),
    )
    more = [] if held else signs(found, SIGN_COUNT, rng)
    return replace(found, others=replace(known, letters=[*known.letters, *more]))


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
                page = str(strings.pages[index]) or str(strings.hands[index])
                found.append(replace(real, page=f"{name}/{page}"))
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
    turned = [] if held else turned_letters(writing)
    # Its hands are not told apart: nothing of it can be held out.
    crosses = np.flatnonzero(np.isin(symbols.labels, ("+", "x", "w")) & (not held))
    plus = _cut(handwriting.take(symbols, crosses))
    return Others([*_cut(writing), *turned, *foreign(data_dir, held), *plus[:1500]], words, marks)


def foreign(data_dir: Path | None, held: bool) -> list[Ink]:
    """Return characters of other scripts that look like no digit, each with some pen."""
    characters = _side(handwriting.load_other("omniglot", data_dir), held)
    alike = {
        f"{alphabet}/character{number:02}"
        for alphabet, numbers in LIKE_DIGITS.items()
        for number in numbers
    }
    names = [str(name) for name in characters.labels]
    kept = [i for i, name in enumerate(names) if name not in alike and not name.startswith("Latin")]
    found = []
    for at, glyph in enumerate(_cut(handwriting.take(characters, np.array(kept)))):
        # All are drawn with one thin line.
        thick = 1 + 2 * (at % 3)
        wider = cv2.copyMakeBorder(glyph, 2, 2, 2, 2, cv2.BORDER_CONSTANT)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (thick, thick))
        found.append(np.asarray(cv2.dilate(wider, disc), np.uint8))
    return found


def turned_letters(letters: Other) -> list[Ink]:
    """Return letters in a mirror, upside down and on their side, those that look like no digit then."""
    found = []
    for those, turn in ((MIRRORED, np.fliplr), (UPSIDE_DOWN, np.flipud), (LYING, np.rot90)):
        some = handwriting.take(letters, np.flatnonzero(np.isin(letters.labels, list(those))))
        found += [np.ascontiguousarray(turn(glyph)) for glyph in _cut(some)]
    return found


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
