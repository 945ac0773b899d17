"""Parts of real strips are joined between characters, and say what is written."""

from dataclasses import replace

import numpy as np
import pytest

from digitry.reading import decode, lines
from digitry.reading.classes import SYMBOLS
from digitry.reading.network import Session, shipped
from digitry.training.writing import pen
from digitry.training.writing.real import Real, cut_of, labels_of
from digitry.training.writing.spliced import spliced, with_cuts

TOP, BOTTOM = 12, 44


@pytest.fixture(scope="module")
def network() -> Session:
    return shipped("lines")


def strip(text: str, seed: int = 0) -> Real:
    """A number in our own strokes, as a scan of it would be."""
    rng = np.random.default_rng(seed)
    ink = np.zeros((56, 40 + 34 * len(text)), np.uint8)
    for place, symbol in enumerate(text):
        drawn = pen.draw(pen.wobble(pen.strokes_of(symbol, 0), rng, 0.4), 32, 3.0, rng)
        height, width = drawn.shape
        x = 20 + 34 * place
        part = ink[BOTTOM - height : BOTTOM, x : x + width]
        part[:] = np.maximum(part, np.rint(drawn * 255).astype(np.uint8))
    return Real(ink, labels_of(text), TOP, BOTTOM, page="one")


def said(real: Real, network: Session) -> str:
    (strips,) = lines.seen([cut_of(real)], network)
    return decode.decode(strips).text.replace(" ", "")


def test_cuts_lie_between_the_characters(network: Session) -> None:
    (found,) = with_cuts([strip("2735")], network)
    assert len(found.cuts) == 3
    for place, cut in enumerate(found.cuts, 1):
        assert abs(cut - (20 + 34 * place)) < 12


def test_a_strip_that_says_something_else_has_no_cuts(network: Session) -> None:
    wrong = replace(strip("2735"), labels=labels_of("9014"))
    assert with_cuts([wrong], network)[0].cuts == ()


def test_a_spliced_strip_reads_as_its_labels_say(network: Session) -> None:
    texts = ("2735", "3864", "5293", "4627")
    known = with_cuts([strip(text, seed) for seed, text in enumerate(texts)], network)
    assert all(one.cuts for one in known)
    rng = np.random.default_rng(0)
    made = [spliced(known[i % 4], known, rng) for i in range(40)]
    meant = ["".join(SYMBOLS[label] for label in one.labels) for one in made]
    assert len(set(meant)) > 25
    # Numbers that nobody wrote.
    assert any(all(text not in whole for whole in texts) for text in meant)
    right = sum(said(one, network) == text for one, text in zip(made, meant, strict=True))
    assert right >= 36
