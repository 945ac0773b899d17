"""Lines of writing that no network was trained on, cut out as the reader cuts them, with what they say."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from digitry.reading.classes import DIGITS, MARKS, SYMBOLS
from digitry.reading.lines import Cut, rows_of_writing
from digitry.training.data import handwriting
from digitry.training.writing import sources as written
from digitry.training.writing.hands import Hands
from digitry.training.writing.real import Real, cut_of
from digitry.training.writing.strips import Composer, Mix

COMPOSED, SINGLES = 1200, 400
"""Lines that are composed of held-out characters, and digits alone."""

WORDS = 150
"""Words and windows of text, which hold no digit."""


@dataclass(frozen=True, eq=False)
class HeldLine:
    """One line.

    Attributes:
        kind: what it is made of: `registers`, `strings`, `composed`, `single` or `words`.
        half: 0 or 1: lines of different halves are by different hands, or of different pages.
        cut: the line as the reader cuts it out.
        text: its digits and marks, spaces and other writing left aside.
    """

    kind: str
    half: int
    cut: Cut
    text: str


def load(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    data_dir: Path | None = None,
    *,
    seed: int = 0,
) -> list[HeldLine]:
    """Return lines of the hands that `training.data.handwriting` holds out, the same for the same seed.

    Args:
        images, labels: MNIST's training part, in its order.
        data_dir: the folder of the packs.
        seed: of the pens and of what is composed.

    Raises:
        UnavailableError: a pack is not there.
        DataError: a pack is not what it must be.
    """
    rng = np.random.default_rng(seed)
    found = [*_registers(data_dir), *_strings(data_dir, rng)]
    sources = written.load(images, labels, data_dir, held=True, seed=seed)
    for half in (0, 1):
        # No real strips: they are there already. Letters and words are few, and shared.
        own = replace(sources, real=[], hands=[_half(hands, half) for hands in sources.hands])
        lines = Composer(own, [seed, half], Mix(single=0.0, real=0.0, nothing=0.0))
        found += composed("composed", half, lines, COMPOSED // 2)
        alone = Composer(own, [seed, half, 1], Mix(single=1.0, real=0.0, nothing=0.0))
        found += composed("single", half, alone, SINGLES // 2)
    chosen = rng.permutation(len(sources.text))[:WORDS].tolist()
    found += [HeldLine("words", i % 2, cut_of(sources.text[k]), "") for i, k in enumerate(chosen)]
    return found


def plain(text: str) -> str:
    """Return the digits and marks of a text."""
    return "".join(character for character in text if character in DIGITS + MARKS)


def _registers(data_dir: Path | None) -> Iterable[HeldLine]:
    """Yield the strings of the held-out register; its pages by turns in the one half and the other."""
    strings = handwriting.split(handwriting.load_strings("lectaurep_strings", data_dir))[1]
    pages = {page: k % 2 for k, page in enumerate(sorted(set(strings.pages.tolist())))}
    for index in range(len(strings)):
        drawings = strings.drawings
        real = (
            written.scanned(drawings, index) if isinstance(drawings, handwriting.Images) else None
        )
        if real is not None and plain(str(strings.texts[index])):
            half = pages[str(strings.pages[index])]
            yield HeldLine("registers", half, cut_of(real), plain(str(strings.texts[index])))


def _strings(data_dir: Path | None, rng: np.random.Generator) -> Iterable[HeldLine]:
    """Yield the pen strokes of held-out writers, drawn with one pen each."""
    strings = handwriting.split(handwriting.load_strings("unipen_strings", data_dir))[1]
    hands = {hand: k % 2 for k, hand in enumerate(sorted(set(strings.hands.tolist())))}
    for index in np.flatnonzero(strings.complete).tolist():
        real = written.real_strip(strings, index, rng)
        if real is not None and plain(str(strings.texts[index])):
            half = hands[str(strings.hands[index])]
            yield HeldLine("strings", half, cut_of(real), plain(str(strings.texts[index])))


def composed(kind: str, half: int, composer: Composer, count: int) -> Iterable[HeldLine]:
    """Yield lines that a composer makes, cut out as the reader would."""
    for _ in range(count):
        strip, labels = composer.strip()
        ink = np.rint(strip * 255).astype(np.uint8)
        text = plain("".join(SYMBOLS[label] for label in labels))
        yield HeldLine(kind, half, cut_of(Real(ink, labels, *rows_of_writing(ink))), text)


def _half(hands: Hands, half: int) -> Hands:
    """Return the characters of every second writer."""
    writers = np.unique(hands.writers)
    places = np.flatnonzero(np.isin(hands.writers, writers[half::2]))
    return Hands(
        [hands.glyphs[place] for place in places.tolist()],
        hands.labels[places],
        hands.writers[places],
        hands.em[places],
    )


def agreeing(said: Sequence[str], meant: str) -> list[bool]:
    """Return which characters of a line stand where they are meant, by the cheapest alignment.

    Args:
        said: the characters that were read.
        meant: what the line says.
    """
    rows, columns = len(said) + 1, len(meant) + 1
    cost = np.zeros((rows, columns), int)
    cost[:, 0], cost[0] = np.arange(rows), np.arange(columns)
    for i in range(1, rows):
        for j in range(1, columns):
            swap = cost[i - 1, j - 1] + (said[i - 1] != meant[j - 1])
            cost[i, j] = min(swap, cost[i - 1, j] + 1, cost[i, j - 1] + 1)
    right = [False] * len(said)
    i, j = len(said), len(meant)
    while i and j:
        if cost[i, j] == cost[i - 1, j - 1] + (said[i - 1] != meant[j - 1]):
            right[i - 1] = said[i - 1] == meant[j - 1]
            i, j = i - 1, j - 1
        elif cost[i, j] == cost[i - 1, j] + 1:
            i -= 1
        else:
            j -= 1
    return right
