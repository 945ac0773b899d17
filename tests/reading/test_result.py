"""A reading shows itself: in one line, in a notebook, as a picture in a file or on the screen."""

import sys
import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digitry.errors import ImageError, UsageError
from digitry.reading import render
from digitry.reading.result import Box, Digit, Line, Reading, Word


def pixels() -> np.ndarray:
    image = np.full((120, 100), 255, np.uint8)
    image[12:42, 20:24] = 0
    return image


def reading(source: str, **changes: object) -> Reading:
    values: dict[str, object] = {
        "source": source, "text": "1", "confidence": 0.987, "rejected": False, "reason": None,
        "width": 100, "height": 120, "inverted": False, "turned": 0, "marks": (),
        "words": (Word("1", 0.987, Box(20, 12, 4, 30), 0),),
        "lines": (Line("1", 0.987, Box(20, 12, 4, 30)),),
        "digits": (Digit(1, 0.987, Box(20, 12, 4, 30), 0, ((1, 0.987), (7, 0.01))),),
        "model": "reader", "ms": 1.5,
    }  # fmt: skip
    return Reading(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def one(tmp_path: Path) -> Reading:
    Image.fromarray(pixels()).save(tmp_path / "one.png")
    return reading(str(tmp_path / "one.png"))


def test_a_reading_is_one_line_of_text() -> None:
    assert repr(reading("a.png")) == "<Reading of a.png: '1', 0.987>"
    blank = reading("a.png", text="", rejected=True, reason="blank", lines=(), words=(), digits=())
    assert repr(blank) == "<Reading of a.png: '', blank>"
    assert "\n" not in repr(reading("a\n.png", text="1\n2").text)


def test_a_notebook_shows_picture_text_and_confidences(one: Reading) -> None:
    shown = one._repr_html_()
    tree = ElementTree.fromstring(shown.replace('100%">', '100%"/>').replace('=">', '="/>'))
    (picture,) = tree.iter("img")
    assert picture.get("src", "").startswith("data:image/png;base64,")
    assert [cell.text for cell in tree.iter("td")] == ["1", "99%"]
    assert "confidence 99%" in shown


def test_without_the_file_a_notebook_shows_the_text_alone() -> None:
    shown = reading("<array>", text="<b>")._repr_html_()
    assert "<img" not in shown
    assert "&lt;array&gt;" in shown
    assert "&lt;b&gt;" in shown


def test_the_picture_is_written_from_the_file_or_from_the_image(
    one: Reading, tmp_path: Path
) -> None:
    one.annotate(tmp_path / "out.png")
    reading("<array>").annotate(str(tmp_path / "again.png"), pixels())  # type: ignore[arg-type]
    first, second = (Image.open(tmp_path / name) for name in ("out.png", "again.png"))
    assert first.tobytes() == second.tobytes()
    assert first.tobytes() == render.annotate(pixels(), one).tobytes()


def test_what_is_not_at_hand_or_another_image_is_refused(one: Reading, tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    with pytest.raises(ImageError, match=r"<array>: is not a file, .*source="):
        reading("<array>").annotate(target)
    with pytest.raises(
        ImageError, match=r"is 50 x 50 pixels; the image that was read had 100 x 120"
    ):
        one.annotate(target, np.zeros((50, 50), np.uint8))
    with pytest.raises(UsageError, match=r"out\.txt: '\.txt' is not the ending of a picture"):
        one.annotate(tmp_path / "out.txt")
    assert not target.exists()


def test_a_reading_is_shown_in_the_notebook_or_in_a_viewer(
    one: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setitem(sys.modules, "IPython", None)
    monkeypatch.setattr(Image.Image, "show", lambda self, title=None: shown.append("viewer"))
    one.show()
    notebook = types.SimpleNamespace(
        get_ipython=lambda: object(),
        display=types.SimpleNamespace(display=lambda picture: shown.append(type(picture).__name__)),
    )
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    one.show()
    assert shown == ["viewer", "Image"]
