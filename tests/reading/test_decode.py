"""From scores to a line: its text, its characters, how sure they are, within a pattern or without."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digitry.errors import ModelError, UsageError
from digitry.reading import pattern
from digitry.reading.classes import BLANK, CLASSES, OTHER, SYMBOLS
from digitry.reading.decode import (
    FAR,
    LONE_GAP,
    STRIDE,
    UNFIT,
    WORD_GAP,
    Line,
    Strip,
    decode,
    single,
)

HEIGHT = 20


def strip(text: str, *, pitch: int = 16, sure: float = 0.999, **doubts: dict[str, float]) -> Strip:
    """A strip that says a text: a column a character, blanks between; a space is a wide gap.

    Args:
        text: what it says.
        pitch: pixels from one character to the next.
        sure: the probability of each column's class.
        doubts: `at_2={"9": 0.4}`: the character at 2 is a 9 with 0.4, with the rest itself.
    """
    width = 2 * pitch + pitch * len(text)
    p = np.full((width // STRIDE, len(CLASSES)), (1 - sure) / (len(CLASSES) - 1))
    ink = np.zeros((32, width), np.float32)
    p[:, BLANK] = sure
    for i, character in enumerate(text):
        if character == " ":
            continue
        x = pitch + pitch * i
        column = p[x // STRIDE]
        column[BLANK], column[SYMBOLS.index(character)] = column[0], sure
        for value, doubt in doubts.get(f"at_{i}", {}).items():
            other = BLANK if value == "" else SYMBOLS.index(value)
            column[other] += doubt
            column[SYMBOLS.index(character)] -= doubt
        ink[6:26, x - 4 : x + 5] = 1
    return Strip(np.log(p).astype(np.float32), ink, HEIGHT)


def compiled(text: str) -> pattern.Pattern:
    return pattern.compile(text, pattern.READABLE)


# --- free -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["7", "2749", "00", "1100", "21.5", "-52", "13/01/2023", "12:30"])
def test_what_the_scores_say_is_read_with_its_marks(text: str) -> None:
    line = decode(strip(text))
    assert line.text == text
    assert [character.value for character in line.characters] == list(text)
    assert line.confidence > 0.7
    assert line.fits is None


def test_a_stroke_that_may_be_a_slash_or_a_1_is_told_by_its_height_and_its_place() -> None:
    # No character is higher than the digits: a slash within, a 1 at either end.
    doubt = {"1": 0.05}
    assert decode(strip("2/3", at_1=doubt)).text == "2/3"
    assert decode(strip("/23", at_0=doubt)).text == "123"
    assert decode(strip("23/", at_2=doubt)).text == "231"
    high = strip("/23", at_0=doubt)
    high.ink[3:29, 12:21] = 1
    assert decode(high).text == "/23"


def test_other_writing_is_one_question_mark() -> None:
    assert decode(strip("12?")).text == "12?"
    assert decode(strip("?")).text == "?"
    assert decode(strip("???")).text == "?"


def test_a_strip_of_blanks_says_nothing() -> None:
    line = decode(strip(""))
    assert line == Line("", line.confidence, (), ())
    assert line.confidence > 0.9


@pytest.mark.parametrize("columns", [0, 1])
def test_the_smallest_strips_are_read(columns: int) -> None:
    scores = np.zeros((columns, len(CLASSES)))
    scores[:, 5] = 20
    line = decode(Strip(scores, np.zeros((32, columns * STRIDE), np.float32), HEIGHT))
    assert line.text == "5" * columns
    assert line.confidence == pytest.approx(1)


def test_gaps_part_words() -> None:
    line = decode(strip("37 65 40"))
    assert line.text == "37 65 40"
    assert [(word.text, word.first, word.past) for word in line.words] == [
        ("37", 0, 2),
        ("65", 2, 4),
        ("40", 4, 6),
    ]
    for word in line.words:
        inside = line.characters[word.first : word.past]
        assert (word.box.start, word.box.end) == (inside[0].box.start, inside[-1].box.end)
        assert line.confidence <= word.confidence <= 1


def test_a_gap_is_measured_in_heights_of_a_digit() -> None:
    # Ink is 9 columns wide.
    least = (WORD_GAP + LONE_GAP) * HEIGHT
    narrow, wide = 9 + math.floor(least) - 1, 9 + math.ceil(least) + 1
    assert decode(strip("22", pitch=narrow)).text == "22"
    assert decode(strip("22", pitch=wide)).text == "2 2"


def test_digits_that_are_written_far_apart_are_one_word_all_the_same() -> None:
    # As in the boxes of a form: every gap is as wide as the next.
    assert decode(strip("2749", pitch=9 + HEIGHT)).text == "2749"


def test_columns_of_single_digits_do_not_run_together() -> None:
    assert decode(strip("274", pitch=9 + math.ceil(FAR * HEIGHT) + 2)).text == "2 7 4"


def test_beside_a_mark_a_gap_may_be_wider() -> None:
    gap = 9 + math.ceil((WORD_GAP + LONE_GAP) * HEIGHT) + 2
    assert decode(strip("2.5", pitch=gap)).text == "2.5"
    assert decode(strip("25", pitch=gap)).text == "2 5"


@pytest.mark.parametrize("text", ["7", "2749", "00", "21.5", "13/01/2023"])
def test_what_is_plain_is_read_as_the_search_reads_it(text: str) -> None:
    surely = strip(text, sure=0.9999)
    plain, searched = decode(surely), decode(surely, plain=False)
    assert plain.text == searched.text == text
    assert [c.box for c in plain.characters] == [c.box for c in searched.characters]
    assert plain.confidence == pytest.approx(searched.confidence, abs=0.02)


def test_a_line_with_a_doubt_is_searched() -> None:
    doubtful = strip("274", at_1={"1": 0.3})
    assert decode(doubtful) == decode(doubtful, plain=False)


def test_characters_stand_where_their_ink_is() -> None:
    line = decode(strip("274", pitch=16))
    assert [(c.box.start, c.box.end) for c in line.characters] == [(12, 21), (28, 37), (44, 53)]


# --- how sure -------------------------------------------------------------------------------------


def test_a_doubt_is_in_the_confidence_and_in_the_alternatives() -> None:
    line = decode(strip("274", at_1={"1": 0.3}))
    sure, doubtful, _ = line.characters
    assert line.text == "274"
    assert sure.confidence > 0.9
    assert doubtful.alternatives[0] == ("7", doubtful.confidence)
    assert doubtful.alternatives[1][0] == "1"
    assert doubtful.confidence == pytest.approx(0.7, abs=0.03)
    assert doubtful.alternatives[1][1] == pytest.approx(0.3, abs=0.03)
    assert line.confidence == pytest.approx(0.7, abs=0.1)


def test_that_there_is_no_character_counts_against_it() -> None:
    assert decode(strip("1", at_0={"": 0.4})).characters[0].confidence < 0.65


def test_that_there_are_two_characters_counts_against_one() -> None:
    # One column says 4 or 1, the next but one says 1 or nothing: 4, or 11.
    p = np.full((5, len(CLASSES)), 1e-9)
    p[[0, 2, 4], BLANK] = 1
    p[1, [4, 1]] = 0.6, 0.4
    p[3, [BLANK, 1]] = 0.6, 0.4
    line = decode(Strip(np.log(p), np.ones((32, 10), np.float32), HEIGHT))
    assert line.text == "4"
    assert line.characters[0].confidence == pytest.approx(0.36, abs=0.01)


SEEN = (1, 2, OTHER, BLANK)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(*[st.floats(-5, 5)] * len(SEEN)), min_size=1, max_size=5))
def test_confidences_are_shares_of_all_texts(rows, scores_of, every_text) -> None:
    texts = every_text(SEEN, rows)
    ink = np.ones((32, STRIDE * len(rows)), np.float32)
    line = decode(Strip(scores_of(SEEN, rows), ink, HEIGHT), plain=False)
    said = tuple(SYMBOLS.index(character.value) for character in line.characters)
    assert line.confidence == pytest.approx(max(texts.values()), abs=1e-9)
    assert texts[said] == pytest.approx(line.confidence, abs=1e-9)
    for i, character in enumerate(line.characters):
        after = said[i + 1 :]
        agree = {
            text[i : len(text) - len(after)]: p
            for text, p in texts.items()
            if len(text) >= len(said) - 1
            and text[:i] == said[:i]
            and text[len(text) - len(after) :] == after
        }
        for value, p in character.alternatives:
            share = agree[(SYMBOLS.index(value),)] / sum(agree.values())
            assert p == pytest.approx(share, abs=1e-9)
        assert sum(p for _, p in character.alternatives) <= 1 + 1e-9
        values = [value for value, _ in character.alternatives]
        assert len(set(values)) == len(values)
        assert values[0] == character.value


def test_a_temperature_changes_how_sure_it_is_and_not_what_it_says() -> None:
    lines = [decode(strip("274", sure=0.99), temperature=t) for t in (0.5, 1.0, 1.5)]
    assert {line.text for line in lines} == {"274"}
    assert lines[0].confidence > lines[1].confidence > lines[2].confidence


def test_the_same_strip_gives_the_same_line() -> None:
    rng = np.random.default_rng(0)
    noisy = Strip(rng.normal(size=(40, 17)), rng.random((32, 80), np.float32), HEIGHT)
    assert decode(noisy) == decode(noisy)


# --- several scalings -----------------------------------------------------------------------------


def test_of_several_scalings_the_text_with_the_greatest_mean_probability_is_taken() -> None:
    doubtful = strip("27", at_1={"1": 0.6})
    assert decode(doubtful).text == "21"
    line = decode([doubtful, strip("27"), strip("27")])
    assert line.text == "27"
    assert decode(doubtful).confidence < line.confidence < decode(strip("27")).confidence


def test_it_stands_where_it_does_on_the_strip_that_is_the_surest() -> None:
    small, large = strip("27", pitch=12, sure=0.99), strip("27", pitch=20)
    expected = [(c.box.start, c.box.end) for c in decode(large).characters]
    line = decode([small, large])
    assert line.strip == 1
    assert [(c.box.start, c.box.end) for c in line.characters] == expected


def test_alike_strips_say_what_one_says() -> None:
    one, both = decode(strip("274")), decode([strip("274")] * 2)
    assert both.text == one.text
    assert both.confidence == pytest.approx(one.confidence)


# --- within a pattern -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("13/01/2023", r"\d\d/\d\d/\d{4}"),
        ("21.50", r"\d+\.\d\d"),
        ("2749", r"\d{4}"),
        ("-5", r"-?\d"),
        ("37 65", r"\d\d \d\d"),
    ],
)
def test_what_fits_is_read_as_it_is(text: str, form: str) -> None:
    line = decode(strip(text), pattern=compiled(form))
    assert line.text == text
    assert line.fits is True
    assert line.confidence >= decode(strip(text)).confidence


def test_a_pattern_resolves_a_doubt() -> None:
    doubtful = strip("2749", at_1={"1": 0.3})
    line = decode(doubtful, pattern=compiled(r"2[0-4]\d\d"))
    assert line.text == "2149"
    assert line.fits is True
    assert line.characters[1].value == "1"
    assert line.characters[1].confidence > 0.85
    assert sum(p for _, p in line.characters[1].alternatives) <= 1


def test_a_digit_that_may_be_missing_is_found_where_the_pattern_needs_it() -> None:
    doubtful = strip("2749", at_1={"": 0.8})
    assert [c.value for c in decode(doubtful).characters] == ["2", "4", "9"]
    assert decode(doubtful, pattern=compiled(r"\d{4}")).text == "2749"


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("13/01/2023", r"\d{8}"),
        ("13/01/2023", r"\d{4}"),
        ("13/01/2023", r"\d\d-\d\d-\d{4}"),
        ("13012023", r"\d\d/\d\d/\d{4}"),
        ("21.5", r"\d+"),
        ("2749", r"\d{3}"),
        ("2749", r"\d{5}"),
        ("2749", r"\d{100}|\d"),
        ("-52", r"\d\d"),
        ("12?", r"\d\d"),
        ("", r"\d"),
    ],
)
def test_what_surely_does_not_fit_is_said_so_and_read_freely(text: str, form: str) -> None:
    surely = strip(text, sure=1 - 1e-6)
    line = decode(surely, pattern=compiled(form))
    assert line.fits is False
    free = decode(surely, plain=False)
    assert (line.text, line.characters, line.words) == (free.text, free.characters, free.words)


def test_an_optional_mark_may_be_missing() -> None:
    form = compiled(r"\d\d/?\d\d")
    assert decode(strip("1301"), pattern=form).text == "1301"
    assert decode(strip("13/01"), pattern=form).text == "13/01"


def test_other_writing_that_a_pattern_names_is_passed_over() -> None:
    line = decode(strip("12?"), pattern=compiled(r"\d+ ?€"))
    assert (line.text, line.fits) == ("12", True)
    assert [character.value for character in line.characters] == ["1", "2"]
    assert decode(strip("12"), pattern=compiled(r"\d+ ?€")).text == "12"


def test_it_fits_down_to_the_bound_and_no_further() -> None:
    # The 7 may be a 1 with a probability just above and just below the bound.
    for share, fits in ((3 * UNFIT, True), (UNFIT / 3, False)):
        line = decode(strip("27", sure=1 - 1e-9, at_1={"1": share}), pattern=compiled("21"))
        assert line.fits is fits


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(*[st.floats(-5, 5)] * len(SEEN)), min_size=2, max_size=5))
def test_within_a_pattern_confidences_are_shares_with_what_fits_weighing_more(
    rows, scores_of, every_text
) -> None:
    form = compiled(r"\d\d")
    weighted = {
        text: p * (1.0 if form.matches("".join(SYMBOLS[s] for s in text)) else UNFIT)
        for text, p in every_text(SEEN, rows).items()
    }
    ink = np.ones((32, STRIDE * len(rows)), np.float32)
    line = decode(Strip(scores_of(SEEN, rows), ink, HEIGHT), pattern=form, plain=False)
    if not line.fits:
        return
    said = tuple(SYMBOLS.index(character.value) for character in line.characters)
    share = weighted[said] / sum(weighted.values())
    assert line.confidence == pytest.approx(share, abs=1e-9)
    for i, character in enumerate(line.characters):
        after = said[i + 1 :]
        agree = sum(
            p
            for text, p in weighted.items()
            if text[:i] == said[:i]
            and text[len(text) - len(after) :] == after
            and len(text) >= len(said) - 1
        )
        assert character.confidence == pytest.approx(weighted[said] / agree, abs=1e-9)


# --- one digit ------------------------------------------------------------------------------------


def test_a_single_digit_is_the_mean_over_the_scalings() -> None:
    sure, doubtful = strip("7").scores, strip("7", at_0={"1": 0.4}).scores
    p = single([sure, doubtful])
    assert p.shape == (10,)
    assert p.argmax() == 7
    assert p[1] == pytest.approx(0.2, abs=0.02)
    assert np.allclose(p, (single([sure]) + single([doubtful])) / 2)


@pytest.mark.parametrize("text", ["", "?", "77", "7.", "/"])
def test_what_is_not_one_digit_is_none(text: str) -> None:
    assert single([strip(text).scores]).sum() < 0.2


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(*[st.floats(-5, 5)] * len(SEEN)), max_size=5))
def test_a_single_digit_is_as_probable_as_its_text(rows, scores_of, every_text) -> None:
    texts = every_text(SEEN, rows)
    p = single([scores_of(SEEN, rows)])
    assert p == pytest.approx([texts.get((d,), 0.0) for d in range(10)], abs=1e-12)


# --- what cannot be decoded -----------------------------------------------------------------------


def test_scores_that_are_not_numbers_are_told() -> None:
    broken = strip("7")
    broken.scores[3, 3] = np.nan
    with pytest.raises(ModelError, match="column 3"):
        decode(broken)
    with pytest.raises(ModelError, match="column 3"):
        single([broken.scores])


def test_no_strip_is_told() -> None:
    with pytest.raises(UsageError):
        decode([])
    with pytest.raises(UsageError):
        single([])


def test_a_temperature_of_nought_is_told() -> None:
    with pytest.raises(UsageError):
        decode(strip("7"), temperature=0)
