"""Each refusal has a reason in every output: blank, not a digit, ambiguous, too small, cut off."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from digitry.reading.assemble import SMALLEST
from digitry.reading.reader import Reader
from digitry.reading.render import REFUSED, annotate
from digitry.training.writing import pen

from ..waiting import PATIENCE_S

AMPERSAND = pen.strokes_of("ampersand", 0)


@pytest.fixture(scope="module")
def shipped() -> Reader:
    return Reader(layout="single")


def sheet(lines: tuple[np.ndarray, ...], *, height: float = 60, margin: int = 24) -> np.ndarray:
    """Draw strokes in dark ink in the middle of light paper."""
    ink = pen.draw(lines, height, max(1.2, 0.08 * height), np.random.default_rng(0), taper=0)
    return (235 - 200 * np.pad(ink, margin)).astype(np.uint8)


def digit(symbol: str, height: float) -> np.ndarray:
    """Return a page with a digit reduced to a height of `height` pixels."""
    large = sheet(pen.strokes_of(symbol, 1), height=200, margin=160)
    factor = height / 200
    return np.asarray(cv2.resize(large, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))


def between_1_and_7(share: float) -> np.ndarray:
    """Draw a 1 whose flag, as `share` goes from 0 to 1, becomes the bar of a 7."""
    top = np.array([0.62, 0.04])
    flag = np.array([0.42, 0.24]) * (1 - share) + np.array([0.14, 0.05]) * share
    foot = np.array([0.6, 1.0]) * (1 - share) + np.array([0.42, 1.0]) * share
    return sheet(
        (np.linspace(flag, top, 20), np.linspace(top, foot, 40)),
    )


def cut_off() -> np.ndarray:
    return sheet(AMPERSAND)[:, :48]


def tiny() -> np.ndarray:
    """Return a scribble that is a few pixels high."""
    page = np.full((24, 24), 235, np.uint8)
    page[9:14, 9:14] = np.random.default_rng(5).integers(40, 220, (5, 5))
    return page


def save(page: np.ndarray, path: Path) -> Path:
    Image.fromarray(page).save(path)
    return path


def test_paper_without_ink_is_blank(shipped: Reader) -> None:
    reading = shipped.read(np.full((80, 60), 220, np.uint8))
    assert (reading.text, reading.rejected, reading.reason) == ("", True, "blank")


def test_a_sign_is_not_a_digit(shipped: Reader) -> None:
    reading = shipped.read(sheet(AMPERSAND))
    assert (reading.text, reading.reason) == ("?", "not a digit")
    assert reading.digits[0].value is None


def test_a_clear_digit_at_the_edge_is_read(shipped: Reader) -> None:
    page = sheet(pen.strokes_of("5", 1))
    rows, columns = (
        np.flatnonzero((page < 150).any(axis=1)),
        np.flatnonzero((page < 150).any(axis=0)),
    )
    tight = page[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert shipped.read(tight).text == "5"


@pytest.mark.parametrize("symbol", pen.DIGITS)
def test_a_tiny_digit_that_is_refused_is_too_small(symbol: str, shipped: Reader) -> None:
    for height in (3, 4, 5, SMALLEST - 2):
        reading = shipped.read(digit(symbol, height))
        assert reading.reason in (None, "too small", "blank"), height
    # From a little more on, digits are read.
    assert shipped.read(digit(symbol, 2.5 * SMALLEST)).text == symbol


def test_a_sign_at_the_edge_is_cut_off(shipped: Reader) -> None:
    reading = shipped.read(cut_off())
    assert (reading.text, reading.reason) == ("?", "cut off")


def test_a_tiny_sign_is_too_small(shipped: Reader) -> None:
    reading = shipped.read(tiny())
    assert (reading.text, reading.reason) == ("?", "too small")


def test_a_long_thin_mark_is_not_taken_for_a_small_digit(shipped: Reader) -> None:
    page = np.full((60, 120), 235, np.uint8)
    page[28:31, 20:100] = 30
    assert shipped.read(page).reason == "not a digit"


def test_an_ambiguous_digit_has_both_values_in_its_reason() -> None:
    # A strict reader: its doubt is wide enough to be met.
    strict = Reader(layout="single").accepting(0.005)
    readings = [strict.read(between_1_and_7(share)) for share in np.linspace(0, 1, 21)]
    assert (readings[0].text, readings[-1].text) == ("1", "7")
    reasons = {reading.reason for reading in readings if reading.rejected}
    assert reasons & {"ambiguous 1/7", "ambiguous 7/1"}
    for reading in readings:
        if reading.reason and reading.reason.startswith("ambiguous"):
            (best, _), (second, _), *_ = reading.digits[0].alternatives
            assert reading.reason == f"ambiguous {best}/{second}"
            assert reading.digits[0].confidence < max(strict.trust.single, strict.trust.model)


def test_the_reason_of_a_page_is_its_first_one(shipped: Reader) -> None:
    two = np.concatenate([sheet(pen.strokes_of("2", 1)), sheet(pen.strokes_of("2", 1))], 1)
    sign = sheet(AMPERSAND)
    rows = max(two.shape[0], sign.shape[0])
    parts = [
        np.pad(part, ((0, rows - part.shape[0]), (0, 0)), constant_values=235)
        for part in (two, sign)
    ]
    reading = shipped.read(np.concatenate(parts, axis=1), layout="line")
    assert reading.text.replace(" ", "") == "22?"
    assert reading.reason == "not a digit"
    assert [digit.reason for digit in reading.digits] == [None, None, "not a digit"]


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (np.full((80, 60), 220, np.uint8), "blank"),
        (sheet(AMPERSAND), "not a digit"),
        (cut_off(), "cut off"),
        (tiny(), "too small"),
    ],
    ids=["blank", "not a digit", "cut off", "too small"],
)
def test_a_refusal_is_drawn_on_the_annotated_picture(
    page: np.ndarray, reason: str, shipped: Reader
) -> None:
    reading = shipped.read(page)
    assert reading.reason == reason
    pixels = np.asarray(annotate(page, reading)).reshape(-1, 3)
    marked = (pixels == REFUSED).all(axis=1).any()
    assert marked == bool(reading.digits)


def test_the_command_line_prints_each_reason(tmp_path: Path) -> None:
    wanted = {
        "blank": np.full((80, 60), 220, np.uint8),
        "not a digit": sheet(AMPERSAND),
        "cut off": cut_off(),
        "too small": tiny(),
    }
    paths = [save(page, tmp_path / f"{index}.png") for index, page in enumerate(wanted.values())]
    options = ("--layout", "single", "--format")
    table = csv.DictReader(io.StringIO(_digitry("read", *paths, *options, "csv").stdout))
    assert [row["reason"] for row in table] == list(wanted)
    rows = [
        json.loads(line) for line in _digitry("read", *paths, *options, "jsonl").stdout.splitlines()
    ]
    assert [row["reason"] for row in rows] == list(wanted)
    assert all(row["rejected"] for row in rows)


def test_the_command_line_prints_both_values_of_an_ambiguous_digit(tmp_path: Path) -> None:
    for index, share in enumerate(np.linspace(0, 1, 21)):
        save(between_1_and_7(share), tmp_path / f"{index:02}.png")
    strict = min(error for _, error, _ in Reader()._classifier.metadata.risk_coverage)
    done = _digitry(
        "read", tmp_path, "--layout", "single", "--format", "csv", "--max-error", max(0.001, strict)
    )
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {row["reason"] for row in rows} & {"ambiguous 1/7", "ambiguous 7/1"}
    assert all(row["rejected"] == str(bool(row["reason"])).lower() for row in rows)


def test_one_refused_image_prints_a_question_mark_and_its_reason_on_stderr(tmp_path: Path) -> None:
    path = save(sheet(AMPERSAND), tmp_path / "sign.png")
    done = _digitry("read", path, "--layout", "single", "--annotate", tmp_path)
    assert (done.returncode, done.stdout) == (0, "?\n")
    assert done.stderr.splitlines()[0] == f"digitry: {path}: ? is not a digit"
    assert (tmp_path / "sign.annotated.png").is_file()


def _digitry(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "digitry", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, "NO_COLOR": "1"},
        check=True,
    )
