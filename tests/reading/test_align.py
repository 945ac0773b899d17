"""Photos laid over a blank form: found in any position, and refused where that is not sure."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from digitry.errors import ImageError, UsageError
from digitry.reading import image
from digitry.reading.align import Aligner, as_it_is, corners_of

FORMS = Path(__file__).parents[2] / "samples" / "forms"
CORNERS = np.array([[140, 60], [820, 130], [780, 640], [90, 560]], np.float32)


@pytest.fixture(scope="module")
def slip() -> np.ndarray:
    return image.load(FORMS / "slip.png").gray


@pytest.fixture(scope="module")
def aligner(slip: np.ndarray) -> Aligner:
    return Aligner(slip, "slip.png")


def laid(form: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """A form on a dark table, with its corners at these places."""
    height, width = form.shape
    frame = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    warp = cv2.getPerspectiveTransform(frame, corners.astype(np.float32))
    return cv2.warpPerspective(form, warp, (900, 700), flags=cv2.INTER_AREA, borderValue=60)


@pytest.mark.parametrize("quarters", [0, 2])
def test_the_corners_of_a_form_are_found(aligner: Aligner, slip: np.ndarray, quarters: int) -> None:
    found = aligner.align(laid(slip, np.roll(CORNERS, quarters, axis=0)))
    at = corners_of(found.to_page, (0, 0, 1, 1))
    assert np.abs(at - np.roll(CORNERS, quarters, axis=0)).max() < 3
    assert found.agreement is not None
    assert found.agreement > 0.9


@pytest.mark.parametrize("other", ["exam", "nothing", "noise", "half"])
def test_what_is_not_the_form_is_refused(aligner: Aligner, slip: np.ndarray, other: str) -> None:
    pages = {
        "exam": lambda: image.load(FORMS / "exam.png").gray,
        "nothing": lambda: np.full((600, 800), 240, np.uint8),
        "noise": lambda: np.random.default_rng(0).integers(0, 255, (600, 800)).astype(np.uint8),
        # Its lower half covered by a sheet of paper: fields there would read as empty.
        "half": lambda: np.concatenate([slip[:420], np.full((420, 1200), 250, np.uint8)]),
    }
    with pytest.raises(ImageError, match="does not look like the form"):
        aligner.align(pages[other]())


def test_a_mirrored_form_is_refused(aligner: Aligner, slip: np.ndarray) -> None:
    with pytest.raises(ImageError, match="does not look like the form"):
        aligner.align(np.ascontiguousarray(slip[:, ::-1]))


def test_a_reference_without_print_is_refused() -> None:
    with pytest.raises(UsageError, match="too little print"):
        Aligner(np.full((600, 800), 240, np.uint8), "blank.png")


def test_without_a_reference_boxes_are_shares_of_the_picture() -> None:
    found = as_it_is(np.zeros((200, 400), np.uint8))
    assert corners_of(found.to_page, (0.25, 0.5, 0.5, 0.5)).tolist() == [
        [100, 100], [300, 100], [300, 200], [100, 200],
    ]  # fmt: skip
