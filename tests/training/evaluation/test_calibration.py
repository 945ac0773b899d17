"""Calibration of confidences. Expected values are computed by hand in each test."""

import math

import numpy as np
import pytest

from digitry.errors import DataError
from digitry.improve.calibrate import (
    FEWEST,
    bounded_curve,
    fit_source,
    fit_temperature_near,
    upper_bound,
)
from digitry.reading.classifier import softmax
from digitry.training.evaluation import calibration
from digitry.training.evaluation.calibration import (
    COOLEST,
    HOTTEST,
    Bin,
    expected_calibration_error,
    fit_temperature,
    reliability,
    risk_coverage,
)


def rows(*confidences: float, classes: int = 10) -> np.ndarray:
    """Return probabilities whose best label is 0, with these confidences; the rest is spread evenly."""
    table = np.zeros((len(confidences), classes))
    for row, confidence in zip(table, confidences, strict=True):
        row[:] = (1 - confidence) / (classes - 1)
        row[0] = confidence
    return table


def test_temperature_makes_confidence_equal_accuracy() -> None:
    # Two labels, logits (2, 0), 8 of 10 right: the best confidence is 0.8 = 1 / (1 + e^(-2/T)), so
    # e^(2/T) = 4 and T = 2 / ln 4.
    logits = np.tile([2.0, 0.0], (10, 1))
    labels = np.array([0] * 8 + [1] * 2)
    assert fit_temperature(logits, labels) == pytest.approx(2 / math.log(4), abs=1e-6)


def test_temperature_of_ten_overconfident_labels() -> None:
    # Logit 8 for the best of ten, 0 for the others, 9 of 10 right: 0.9 = e^(8/T) / (e^(8/T) + 9),
    # so e^(8/T) = 81.
    logits = np.tile([8.0] + [0.0] * 9, (10, 1))
    labels = np.array([0] * 9 + [3])
    assert fit_temperature(logits, labels) == pytest.approx(8 / math.log(81), abs=1e-6)


def test_temperature_does_not_follow_a_perfect_score_to_zero() -> None:
    logits = np.tile([5.0] + [0.0] * 9, (20, 1))
    assert fit_temperature(logits, np.zeros(20, int)) == pytest.approx(COOLEST)


def test_temperature_of_a_model_that_is_always_wrong_is_the_hottest() -> None:
    logits = np.tile([5.0] + [0.0] * 9, (20, 1))
    assert fit_temperature(logits, np.full(20, 4)) == pytest.approx(HOTTEST)


def test_temperature_survives_huge_and_equal_logits() -> None:
    huge = np.tile([3e4] + [0.0] * 9, (4, 1)).astype(np.float32)
    assert fit_temperature(huge, np.array([0, 0, 1, 0])) == pytest.approx(HOTTEST)
    flat = np.zeros((4, 10), np.float32)
    assert COOLEST <= fit_temperature(flat, np.array([0, 1, 2, 3])) <= HOTTEST


def test_temperature_needs_images() -> None:
    with pytest.raises(DataError, match="no held-out images"):
        fit_temperature(np.zeros((0, 10)), np.zeros(0, int))


def test_reliability_sorts_images_into_bins_of_confidence() -> None:
    probabilities = rows(0.35, 0.9, 0.95, 0.93)
    labels = np.array([1, 0, 0, 2])
    bins = reliability(probabilities, labels, bins=10)
    assert len(bins) == 10
    assert bins[3] == Bin(0.3, 0.4, 1, pytest.approx(0.35), 0.0)
    # 0.9 lies on an edge and belongs to the bin below it.
    assert bins[8] == Bin(0.8, 0.9, 1, pytest.approx(0.9), 1.0)
    assert bins[9] == Bin(0.9, 1.0, 2, pytest.approx(0.94), 0.5)
    assert bins[0] == Bin(0.0, 0.1, 0, None, None)


def test_bins_go_through_json() -> None:
    for part in reliability(rows(0.4, 0.97), np.array([0, 1])):
        assert Bin.from_dict(part.to_dict()) == part


def test_ece_is_the_weighted_difference_of_confidence_and_accuracy() -> None:
    # Bin (0.5, 0.6]: two images of confidence 0.6 and 0.56, one right: |0.5 - 0.58| = 0.08.
    # Bin (0.9, 1.0]: two images of 0.95, both right: 0.05. Half of the images each: 0.065.
    probabilities = rows(0.6, 0.56, 0.95, 0.95)
    ece = expected_calibration_error(probabilities, np.array([0, 1, 0, 0]), bins=10)
    assert ece == pytest.approx(0.065)


def test_ece_of_calibrated_confidence_is_zero() -> None:
    # Four images of 0.75, three of them right.
    probabilities = rows(0.75, 0.75, 0.75, 0.75)
    assert expected_calibration_error(probabilities, np.array([0, 0, 0, 5])) == pytest.approx(0)


def test_risk_coverage_gives_error_and_coverage_by_threshold() -> None:
    probabilities = rows(0.9, 0.8, 0.8, 0.6)
    labels = np.array([0, 0, 7, 0])
    # From 0.9: one image, right. From 0.8: three, of which one is wrong. From 0.6: all four.
    expected = [(0.6, 1 / 4, 1.0), (0.8, 1 / 3, 0.75), (0.9, 0.0, 0.25)]
    assert risk_coverage(probabilities, labels) == tuple(pytest.approx(row) for row in expected)


def test_images_read_as_not_a_digit_are_never_covered() -> None:
    probabilities = rows(0.9, 0.8, classes=11)
    none = np.zeros((1, 11))
    none[0, 10] = 1.0
    # A 0 that is refused, and ink of no digit that is read as 0.
    curve = risk_coverage(np.concatenate([probabilities, none]), np.array([0, 10, 0]))
    assert curve == (pytest.approx((0.8, 1 / 2, 2 / 3)), pytest.approx((0.9, 0.0, 1 / 3)))
    assert risk_coverage(none, np.array([0])) == ()


def test_a_thinned_risk_coverage_curve_has_exact_rows() -> None:
    random = np.random.default_rng(0)
    confidences = random.uniform(0.3, 1, 5000)
    probabilities = rows(*confidences)
    labels = np.where(random.uniform(size=5000) < confidences, 0, 1)
    curve = risk_coverage(probabilities, labels)
    assert 32 <= len(curve) <= calibration.ROWS
    thresholds = [threshold for threshold, _, _ in curve]
    assert thresholds == sorted(set(thresholds))
    assert curve[0][2] == 1.0  # the lowest threshold answers everything
    for threshold, error, coverage in curve:
        kept = confidences >= threshold
        assert coverage == pytest.approx(kept.mean())
        assert error == pytest.approx((labels[kept] != 0).mean())
    # The widest threshold without a single error is always among the rows.
    first_wrong = confidences[labels != 0].max()
    flawless = confidences[confidences > first_wrong].min()
    assert flawless in thresholds


def source(count: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits of a model that is calibrated at `temperature`, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (count, 11))
    logits[:, 10] -= 9
    logits[np.arange(count), rng.integers(0, 10, count)] += rng.choice([3.0, 9.0], count)
    shares = softmax(logits)
    labels = np.array([rng.choice(11, p=row) for row in shares])
    kept = labels < 10
    return logits[kept] * temperature, labels[kept]


def test_with_many_images_the_prior_has_no_effect() -> None:
    logits, labels = source(20_000, 2.0)
    near = fit_temperature_near(logits, labels, 0.5)
    assert near == pytest.approx(fit_temperature(logits, labels), rel=0.01)
    assert near == pytest.approx(2.0, rel=0.05)


def test_a_few_right_digits_do_not_make_the_model_overconfident() -> None:
    logits = np.tile([5.0] + [0.0] * 9, (FEWEST, 1))
    labels = np.zeros(FEWEST, int)
    assert fit_temperature(logits, labels) == pytest.approx(COOLEST)
    assert 0.4 < fit_temperature_near(logits, labels, 1.0) < 1.0


def test_a_small_share_of_errors_needs_many_images() -> None:
    # (1 - p)^n = 0.05; for many images that is the rule of three.
    assert upper_bound(0, 1) == pytest.approx(0.95)
    assert upper_bound(0, 2) == pytest.approx(1 - math.sqrt(0.05))
    assert upper_bound(0, 300) == pytest.approx(3 / 300, rel=0.01)
    # Two images, one wrong: p^2 = 0.95 is what leaves 0.05 for none or one.
    assert upper_bound(1, 2) == pytest.approx(math.sqrt(0.95))
    assert upper_bound(2, 2) == upper_bound(0, 0) == 1.0
    assert upper_bound(500, 100_000) == pytest.approx(0.00539, abs=2e-5)


def test_the_curve_of_a_source_is_an_upper_bound() -> None:
    logits, labels = source(400, 1.0)
    probabilities = softmax(logits)
    seen = risk_coverage(probabilities, labels)
    promised = bounded_curve(probabilities, labels, images=800)
    assert [row[0] for row in promised] == [row[0] for row in seen]
    for (_, error, coverage), (_, bound, share) in zip(seen, promised, strict=True):
        assert error < bound <= 1
        # Half of the images have no digit: they are never covered.
        assert share == pytest.approx(coverage * len(labels) / 800)
    assert min(bound for _, bound, _ in promised) > 1 / 400


def test_too_few_digits_are_refused() -> None:
    logits, labels = source(200, 1.0)
    keep = FEWEST - 1
    with pytest.raises(DataError, match="49 digits are too few"):
        fit_source(logits[:keep], labels[:keep], images=60, temperature=1.0, curve=())


def test_overconfidence_on_a_source_is_corrected_and_measured_on_held_out_images() -> None:
    logits, labels = source(1500, 2.5)
    images = len(labels)
    own = risk_coverage(softmax(logits), labels)
    fit = fit_source(logits, labels, images=images, temperature=1.0, curve=own)
    assert fit.temperature == pytest.approx(2.5, rel=0.1)
    assert fit.after.nll < fit.before.nll
    assert fit.after.ece < fit.before.ece
    assert fit.after.accuracy == fit.before.accuracy
    # Judged on what was held out, it is a little worse than on what it was fitted to.
    fitted = -np.log(softmax(logits, fit.temperature)[np.arange(images), labels]).mean()
    assert fit.after.nll > fitted
    for kept in fit.after.kept:
        if kept.error is not None:
            assert kept.error <= 2 * kept.limit
    assert fit == fit_source(logits, labels, images=images, temperature=1.0, curve=own)


def test_a_small_source_supports_no_small_error() -> None:
    logits, labels = source(200, 1.0)
    fit = fit_source(logits, labels, images=len(labels), temperature=1.0, curve=())
    for kept in (*fit.before.kept, *fit.after.kept):
        assert (kept.coverage, kept.error) == (None, None)
