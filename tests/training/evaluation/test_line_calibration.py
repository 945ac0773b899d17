"""The map of a network that is too modest is found again, and written into its file."""

import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from digitry.errors import DataError
from digitry.model.line_calibration import LineCalibration, Scale
from digitry.model.line_network import load_lines
from digitry.reading.lines import CUT
from digitry.training.evaluation.held_lines import agreeing, cut_of, plain
from digitry.training.evaluation.line_calibration import Answers, calibrated, ece, fitted, write
from digitry.training.writing.real import Real


def modest(count: int, seed: int = 0) -> Answers:
    """Return answers that are right more often than they say, by a shift of 1."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.05, 0.99, count)
    true = 1 / (1 + np.exp(-np.log(p / (1 - p)) - 1))
    return Answers(p, rng.random(count) < true, count)


def test_the_map_is_found_and_holds_on_answers_that_did_not_fit_it() -> None:
    scale = fitted(modest(4000))
    assert scale.slope == pytest.approx(1, abs=0.1)
    assert scale.shift == pytest.approx(1, abs=0.1)
    other = modest(4000, seed=1)
    # Of 4,000 answers in 15 bins, even the true probabilities are off by 0.02.
    assert ece(calibrated(other, scale), other.right) < 0.035 < ece(other.p, other.right)
    assert scale.risk_coverage[0][2] <= 1


def test_few_answers_stay_near_what_is_expected() -> None:
    few = Answers(np.full(60, 0.9), np.ones(60, bool), 60)
    near = fitted(few, Scale(slope=2.0, shift=0.5), spread=0.1)
    assert near.slope == pytest.approx(2, abs=0.3)
    with pytest.raises(DataError, match="too few"):
        fitted(modest(49))


def test_a_calibration_is_written_into_the_file_and_replaces_the_one_there(tmp_path: Path) -> None:
    shipped = Path(str(resources.files("digitry") / "models" / "lines.onnx"))
    path = Path(shutil.copy(shipped, tmp_path / "lines.onnx"))
    found = LineCalibration(line=Scale(slope=2.0), lines=5, source="forms")
    for one in (LineCalibration(), found):
        write(path, one)
        assert load_lines(path).calibration == one


@pytest.mark.parametrize(
    ("said", "meant", "right"),
    [
        ("123", "123", [True, True, True]),
        ("13", "123", [True, True]),
        ("1823", "123", [True, False, True, True]),
        ("729", "720", [True, True, False]),
        ("4", "", [False]),
        ("", "12", []),
    ],
)
def test_characters_are_right_where_they_are_meant(
    said: str, meant: str, right: list[bool]
) -> None:
    assert agreeing(said, meant) == right


def test_digits_and_marks_are_what_counts() -> None:
    assert plain("12, 50 fr?") == "12,50"


def test_a_strip_is_cut_with_its_digits_at_half_the_height() -> None:
    ink = np.zeros((40, 60), np.uint8)
    ink[10:26, 20:24] = 255
    cut = cut_of(Real(ink, (1,), 10, 26)).ink
    rows = np.flatnonzero((cut > 128).any(axis=1))
    assert cut.shape == (CUT, 120)
    assert (rows[0], rows[-1]) == pytest.approx((CUT // 4, 3 * CUT // 4 - 1), abs=1)
