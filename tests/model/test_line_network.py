"""The line network is the package's or the user's version, with a calibration that fits its bytes."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digitry.errors import DigitryWarning, ModelError
from digitry.model import calibration_file, versions
from digitry.model.line_calibration import LineCalibration, Scale, of_network
from digitry.model.line_network import LineNetwork, calibration_path, load_lines

SHIPPED = load_lines("lines@shipped")


def version(content: bytes = SHIPPED.onnx) -> versions.Version:
    return versions.add(
        "lines", content, created="2026-01-01T00:00:00+00:00", reason="tried", passed=True,
        scores={}, gate={}, parent_sha256=SHIPPED.sha256,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIGITRY_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_a_promoted_version_is_used_and_another_can_be_named() -> None:
    added = version()
    assert load_lines().version == "shipped"
    versions.promote("lines", added.number, reason="by hand")
    assert load_lines().reference == "lines@1"
    assert load_lines("lines@shipped").version == "shipped"


def test_a_damaged_default_is_replaced_by_the_shipped_one_with_a_warning() -> None:
    added = version()
    versions.promote("lines", added.number, reason="by hand")
    added.file.write_bytes(b"damaged")
    with pytest.warns(DigitryWarning, match="the shipped network is used"):
        assert load_lines().version == "shipped"
    with pytest.raises(ModelError, match="is damaged"):
        load_lines("lines@1")


@pytest.mark.parametrize("name", ["finder", "lines@", "lines@new", "lines@-1"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r"is not a (line network|version)"):
        load_lines(name)


def test_a_file_is_loaded_with_the_calibration_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "own.onnx"
    path.write_bytes(SHIPPED.onnx)
    found: LineNetwork = load_lines(path)
    assert (found.sha256, found.calibration) == (SHIPPED.sha256, SHIPPED.calibration)
    users = LineCalibration(line=Scale(slope=2.0), model_sha256=SHIPPED.sha256, source="forms")
    calibration_file.save(calibration_path(str(path)), users)
    assert load_lines(path).calibration == users
    assert load_lines(path).fingerprint != SHIPPED.fingerprint
    assert load_lines(path, calibrated=False).calibration == SHIPPED.calibration
    shutil.copy(path, tmp_path / "other.onnx")
    calibration_file.save(
        calibration_path(str(tmp_path / "other.onnx")), replace(users, model_sha256="0" * 64)
    )
    with pytest.warns(DigitryWarning, match="made for another network"):
        assert load_lines(tmp_path / "other.onnx").calibration == SHIPPED.calibration


def test_a_file_without_metadata_has_no_calibration() -> None:
    assert of_network(b"") is None
    assert of_network(SHIPPED.onnx) == SHIPPED.calibration


@given(st.floats(0.01, 100), st.floats(-20, 20), st.floats(0, 1), st.floats(0, 1))
def test_a_map_keeps_the_order(slope: float, shift: float, a: float, b: float) -> None:
    scale = Scale(slope=slope, shift=shift)
    low, high = sorted((a, b))
    assert 0 <= scale.probability(low) <= scale.probability(high) <= 1


@pytest.mark.parametrize(
    "scale",
    [
        {"slope": 0.0},
        {"slope": float("nan")},
        {"shift": 21.0},
        {"risk_coverage": ((0.9, 0.1, 0.5), (0.1, 0.1, 0.5))},
        {"risk_coverage": ((0.9, 1.1, 0.5),)},
    ],
)
def test_what_cannot_be_a_map_is_refused(scale: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        Scale(**scale)  # type: ignore[arg-type]
