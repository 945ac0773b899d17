"""The measuring of refusals: the same images for one seed, every kind, nothing that training draws."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from digitry.reading.result import Box, Digit, Line, Reading, Word
from digitry.training.writing import pen, shapes

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def reading(values: list[tuple[int | None, int, float]], lines: int = 1) -> Reading:
    """A reading of digits, of a word each line: accepted value or None, best guess, confidence."""
    box = Box(0, 0, 1, 1)
    each = -(-len(values) // lines)
    digits = tuple(
        Digit(
            value, sure, box, index // each, ((best, sure),), None if value == best else "cut off"
        )
        for index, (value, best, sure) in enumerate(values)
    )
    texts = ["".join(one.text for one in digits if one.line == line) for line in range(lines)]
    return Reading(
        source="x",
        text="",
        confidence=0.5,
        rejected=any(digit.value is None for digit in digits) or not digits,
        reason=next((digit.reason for digit in digits if digit.reason), None),
        width=1,
        height=1,
        inverted=False,
        turned=0,
        lines=tuple(Line(text, 0.5, box) for text in texts if digits),
        words=tuple(Word(text, 0.5, box, line) for line, text in enumerate(texts) if digits),
        digits=digits,
        marks=(),
        model="m",
        ms=0.0,
    )


def test_the_negatives_are_the_same_for_one_seed_and_others_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    negatives = script("negatives", monkeypatch)
    count = len(negatives.KINDS)
    first = list(negatives.negatives(count, 0))
    again = list(negatives.negatives(count, 0))
    other = list(negatives.negatives(count, 1))
    assert [kind for kind, _ in first] == list(negatives.KINDS)
    for (_, one), (_, same) in zip(first, again, strict=True):
        assert one.dtype == np.uint8
        assert one.ndim == 3
        assert min(one.shape[:2]) >= 10
        assert np.array_equal(one, same)
    assert any(
        one.shape != two.shape or not np.array_equal(one, two)
        for (_, one), (_, two) in zip(first, other, strict=True)
    )


def test_no_letter_that_may_be_a_digit_is_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    signs = script("negatives", monkeypatch)._signs
    ambiguous = set("BDGIJOQSUYZabgijloqrstyz0123456789")
    assert not ambiguous & {*signs.LATIN, *signs.PRINTED}
    assert not {letter for word in signs.WORDS for letter in word} - set(signs.LATIN)
    # The letters that training knows are written in other strokes here.
    known = {hand for letter in pen.LETTERS for hand in shapes.LETTERS[letter]}
    assert not known & set(signs.LATIN.values())


def test_refusals_are_counted_with_their_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = script("negatives", monkeypatch).Tally()
    for one in (
        reading([]),
        reading([(None, 3, 0.2)]),
        reading([(3, 3, 0.9), (None, 1, 0.4)]),
        reading([(3, 3, 0.9), (1, 1, 0.7)]),
    ):
        tally.add(one)
    assert (tally.images, tally.refused, tally.silent) == (4, 3, 2)
    assert tally.confidences == [0.7]


def test_what_was_guessed_stands_line_by_line_whether_refused_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guessed = script("reading", monkeypatch).guessed
    assert guessed(None) == guessed(reading([])) == ""
    assert guessed(reading([(None, 4, 0.2), (2, 2, 0.9), (None, 7, 0.3)], lines=2)) == "42\n7"


def test_a_text_is_compared_as_its_label_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    label = script("_compare", monkeypatch).Label.of
    # Spaces and marks count only where the label has them.
    assert label("030901820").errors("030 901-820") == 0
    assert label("13/01|7").errors("13/01\n7") == 0
    assert label("13/01|7").errors("1301\n7") == 1
    assert label("12 5").errors("125") == 1
    # What is no digit is a mark or refused; a refused digit is not right.
    assert label("12?5/7", trials=True).errors("12.5\n7") == 0
    assert label("12?5").errors("12?5") == 0
    assert label("12?5").errors("1235") == 1
    assert label("1235").errors("12?5") == 1
    assert label("12|3", any_order=True).errors("3\n21") == 0
    assert label("12?5").same_digits("125")
    assert not label("1235").same_digits("12?5")
    assert not label("7 in each of 26x47 cells").is_comparable


def test_authors_count_alike_however_many_images_they_gave(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    by_author = script("reading", monkeypatch).by_author
    # a: 1 of 1, b: 1 of 2, c: 0 of 1. Mean 50%; without each in turn: 25%, 50%, 75%.
    by_author([("a", True), ("b", True), ("b", False), ("c", False)], data=None)
    said = capsys.readouterr().out
    assert "3 authors, 4 images: mean over authors 50.0%" in said
    assert "leaving one author out: 25.0% to 75.0%" in said
    # The jackknife's error of a mean is that of the mean: 0.5 / sqrt(3).
    assert "(standard error 28.9)" in said
    assert [line.split()[0] for line in said.splitlines()[1:]] == ["c", "b", "a"]
