"""An error is one line: where, what, what to do; and it survives a trip between processes."""

import pickle

from digitry import errors
from digitry.errors import DigitryError, ImageError, UnavailableError, UsageError


def test_the_line_says_where_what_and_what_to_do() -> None:
    error = ImageError("is empty", where="a.png", remedy="give a whole file")
    assert str(error) == "a.png: is empty; give a whole file"
    assert str(DigitryError("is odd")) == "is odd"


def test_a_line_break_in_a_file_name_does_not_break_the_line() -> None:
    assert "\n" not in str(ImageError("is empty", where="a\nb.png"))


def test_exit_codes_follow_the_remedy() -> None:
    assert (UsageError.exit_code, ImageError.exit_code, UnavailableError.exit_code) == (2, 3, 4)


def test_an_error_keeps_its_parts_when_pickled() -> None:
    error = pickle.loads(pickle.dumps(ImageError("is cut", where="x", remedy="copy it")))
    assert (type(error), error.what, error.where, error.remedy) == (
        ImageError,
        "is cut",
        "x",
        "copy it",
    )


def test_the_errors_that_a_caller_catches_are_public() -> None:
    import digitry

    for name in ("DigitryError", "ImageError", "ModelError", "UsageError"):
        assert getattr(digitry, name) is getattr(errors, name)
        assert name in digitry.__all__
