"""A pattern says what Python's own regular expressions say of the same digits."""

import re
import sys
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digitry.errors import UsageError
from digitry.reading import pattern

PATTERNS = [
    r"\d{4}",
    r"\d",
    r"12",
    r"[0-3]\d[01]\d\d{4}",
    r"\d{5}|\d{9}",
    r"(\d\d)?7",
    r"(?:12|3)+",
    r"1*2",
    r"\d{2,4}",
    r"\d{2,}",
    r"[^9]{3}",
    r"(1(2|3){2}){2}",
]


@pytest.mark.parametrize("text", PATTERNS)
@settings(max_examples=150, deadline=None)
@given(digits=st.text("0123456789", max_size=10))
def test_it_agrees_with_re(text: str, digits: str) -> None:
    assert pattern.compile(text).matches(digits) == bool(re.fullmatch(text, digits))


def test_marks_between_digits_are_not_read() -> None:
    for text in (r"\d\d\.\d\d\.\d{4}", "\\d\\d/\\d\\d \\d{4}", r"\d\d-\d\d-\d{4}"):
        assert pattern.compile(text).matches("24122026")
        assert not pattern.compile(text).matches("2412202")


@pytest.mark.parametrize(
    "text",
    ["", "abc", "*", "(", ")", "[1", r"\w", "1{", "1{2", "1{999}", "1{3,2}", "{2}", r"\d{0}", "1]"],
)
def test_what_cannot_be_understood_is_told_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        pattern.compile(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", [r"((\d?){200}){20}", r"((\d?){30}){30}", r"(((\d?){20}){20}){10}", "(" * 400 + "1"]
)
def test_a_pattern_that_would_take_minutes_is_refused_after_little_work(text: str) -> None:
    calls = 0

    def count(_: FrameType, event: str, __: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        with pytest.raises(UsageError, match=r"too much of it|more than 50 groups in groups"):
            pattern.compile(text, pattern.READABLE)
    finally:
        sys.setprofile(None)
    assert calls < 2_000_000


def test_a_pattern_that_explodes_is_refused() -> None:
    with pytest.raises(UsageError):
        pattern.compile("(((\\d{200}){200}){200}){200}")


@settings(max_examples=300, deadline=None)
@given(st.text("0123456789\\d[]{}()|?*+,^-. ", max_size=14))
def test_any_text_is_a_pattern_or_our_error(text: str) -> None:
    try:
        compiled = pattern.compile(text)
    except UsageError:
        return
    assert len(compiled.steps) <= pattern.MOST_STATES


# --- for a reader of marks ------------------------------------------------------------------------

WITH_MARKS = [
    r"\d\d/\d\d/\d{4}",
    r"\d+\.\d\d",
    r"-?\d+",
    r"\d+([.,]\d{2})?",
    r"[0-2]?\d:\d\d",
    r"\d+[-/]\d+",
    r"\d{1,3}(,\d{3})*",
    r"\d,-",
]


@pytest.mark.parametrize("text", WITH_MARKS)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_with_marks_it_agrees_with_re(text: str, data: st.DataObject) -> None:
    compiled = pattern.compile(text, pattern.READABLE)
    written = data.draw(
        st.one_of(st.text("0123456789.,-/:", max_size=10), st.from_regex(text, fullmatch=True))
    )
    if written.isascii():
        assert compiled.matches(written) == bool(re.fullmatch(text, written))


def test_a_reader_of_marks_wants_the_marks_of_a_pattern() -> None:
    date = pattern.compile(r"\d\d/\d\d/\d{4}", pattern.READABLE)
    assert date.matches("13/01/2023")
    assert not date.matches("13012023")
    assert not date.matches("13-01-2023")
    assert pattern.compile(r"\d\d/?\d\d", pattern.READABLE).matches("1301")


def test_a_pattern_of_digits_wants_no_marks() -> None:
    assert not pattern.compile(r"\d{8}", pattern.READABLE).matches("13/01/2023")


def test_a_space_may_be_a_gap_or_nothing() -> None:
    assert pattern.compile(r"\d{3} \d{3}", pattern.READABLE).matches("123456")


@pytest.mark.parametrize("text", [r"\d+ €", r"CHF \d+", r"\$\d+", r"[€$]\d+"])
def test_a_character_that_is_not_read_may_be_other_writing_or_nothing(text: str) -> None:
    compiled = pattern.compile(text, pattern.READABLE)
    assert compiled.matches("12")
    assert compiled.matches("?12") != compiled.matches("12?")
    assert not compiled.matches("1?2")


@pytest.mark.parametrize("dash", ["-", "\u2212", "\u2013", "\u2010"])
def test_every_dash_is_the_one_that_is_read(dash: str) -> None:
    assert pattern.compile(dash + r"\d", pattern.READABLE).matches("-5")


def test_a_set_that_excludes_is_a_set_of_digits() -> None:
    compiled = pattern.compile("[^9]", pattern.READABLE)
    assert compiled.matches("8")
    assert not compiled.matches("9")
    assert not compiled.matches(".")


def test_marks_alone_are_no_pattern() -> None:
    with pytest.raises(UsageError, match="no digit"):
        pattern.compile(r"\.-", pattern.READABLE)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        (r"\d{4}", 4),
        (r"\d\d/\d\d", 5),
        (r"12|34", 2),
        (r"\d\d/?\d\d", None),
        (r"\d+", None),
        (r"(\d{5})+", None),
        (r"\d{5}|\d{9}", None),
        (r"\d €", None),
    ],
)
def test_it_knows_how_long_every_text_is(text: str, length: int | None) -> None:
    assert pattern.compile(text, pattern.READABLE).length == length


@settings(max_examples=300, deadline=None)
@given(st.text("0123456789\\d[]{}()|?*+,^-. /:a", max_size=14))
def test_any_text_is_a_pattern_with_marks_or_our_error(text: str) -> None:
    try:
        compiled = pattern.compile(text, pattern.READABLE)
    except UsageError:
        return
    assert len(compiled.steps) <= pattern.MOST_STATES
