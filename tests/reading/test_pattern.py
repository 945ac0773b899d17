"""A pattern says what Python's own regular expressions say of the same digits."""

import re

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
