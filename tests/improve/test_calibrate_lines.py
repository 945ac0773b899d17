"""Images labelled with strings calibrate the line network; the maps are saved beside it and used."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from digitry.errors import DataError
from digitry.improve.calibrate_lines import calibrate_lines, fit_near, has_strings
from digitry.model.line_calibration import Scale
from digitry.model.line_network import load_lines
from digitry.training.evaluation.line_calibration import Answers
from digitry.training.writing import pen


def write(folder: Path, count: int) -> Path:
    """Draw strings of three digits, with a labels.csv."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True)
    rows = ["file,label"]
    for index in range(count):
        text = f"{rng.integers(100, 1000)}"
        parts = []
        for symbol in text:
            lines = pen.wobble(pen.strokes_of(symbol, pen.pick_hand(symbol, rng)), rng, amount=1.2)
            ink = pen.draw(lines, 24, 2.5, rng)
            parts.append(np.pad(ink, ((0, max(0, 44 - ink.shape[0])), (3, 3)))[:44])
        page = np.pad(np.concatenate(parts, axis=1), 14)
        cv2.imwrite(str(folder / f"{index}.png"), (230 - 190 * page).astype(np.uint8))
        rows.append(f"{index}.png,{text}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITRY_MODELS", str(tmp_path / "models"))


def test_maps_and_curves_are_fitted_saved_and_used(tmp_path: Path) -> None:
    folder = write(tmp_path / "my forms", 70)
    assert has_strings(folder)
    done = calibrate_lines(folder)
    assert done.path == tmp_path / "models" / "lines.calibration.json"
    found = load_lines()
    assert found.is_users
    assert found.calibration == done.calibration
    assert (done.calibration.source, done.calibration.lines) == ("my forms", 70)
    assert done.right > 35
    own = load_lines(calibrated=False).calibration
    assert done.calibration.line != own.line
    assert done.calibration.digit != own.digit
    # No digit stands alone: that map stays.
    assert "single" in done.kept
    assert done.calibration.single == own.single
    # Seventy lines cannot show one error in a hundred.
    assert min(error for _, error, _ in done.calibration.line.risk_coverage) > 0.01


def test_too_few_lines_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few to calibrate on"):
        calibrate_lines(write(tmp_path / "few", 3))
    assert not load_lines().is_users


def test_labels_are_digits_and_marks(tmp_path: Path) -> None:
    folder = write(tmp_path / "forms", 1)
    (folder / "labels.csv").write_text("file,label\n0.png,12 EUR\n")
    with pytest.raises(DataError, match="has the label '12 EUR'"):
        has_strings(folder)
    (folder / "labels.csv").write_text('file,label\n0.png,"1,50"\n')
    assert has_strings(folder)
    (folder / "labels.csv").write_text("file,label\n0.png,7\n")
    assert not has_strings(folder)


def test_a_map_of_few_answers_is_the_networks_own() -> None:
    own = Scale(slope=1.2, shift=0.4)
    assert fit_near(Answers(np.full(49, 0.9), np.ones(49, bool), 49), own) == (own, {})
    fitted, worth = fit_near(Answers(np.full(60, 0.9), np.ones(60, bool), 60), own)
    assert fitted.probability(0.9) > own.probability(0.9)
    assert worth["ece after"] <= worth["ece before"]
