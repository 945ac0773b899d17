"""A calibration is beside its model, applies only to its bytes, and is used only if it is valid."""

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import digitry
from digitry.errors import DigitryWarning, ModelError, UnavailableError
from digitry.model import calibration_file, versions
from digitry.model.calibration_file import Calibration
from digitry.model.load import calibration_path, load_model, load_uncalibrated
from digitry.places import user_models

SHIPPED = Path(digitry.__file__).parent / "models" / "reader.onnx"


def calibration(**changes: object) -> Calibration:
    facts: dict[str, object] = {
        "model_sha256": load_model(SHIPPED).sha256,
        "temperature": 1.5,
        "risk_coverage": ((0.4, 0.05, 0.99), (0.9, 0.01, 0.8)),
        "source": "my forms",
        "images": 400,
        "digits": 398,
        "data_sha256": "0" * 64,
        "scores": {"ece before": 0.02},
        "created": "2026-01-01T00:00:00+00:00",
        "digitry": "0.1",
    }
    return Calibration(**{**facts, **changes})  # type: ignore[arg-type]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copy(SHIPPED, tmp_path / "model.onnx"))


def test_save_and_find_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model.calibration.json"
    assert calibration_file.save(path, calibration()) == path
    assert calibration_file.find(path) == calibration()


def test_without_a_file_find_returns_none(tmp_path: Path) -> None:
    assert calibration_file.find(tmp_path / "model.calibration.json") is None
    assert calibration_file.find(None) is None


def test_paths_are_beside_a_file_and_in_the_users_folder_for_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert calibration_path("runs/model.onnx") == Path("runs/model.calibration.json")
    # A run folder holds its model under a fixed name.
    assert calibration_path(tmp_path) == tmp_path / "model.calibration.json"
    monkeypatch.setenv("DIGITRY_MODELS", str(tmp_path))
    assert calibration_path("reader") == tmp_path / "reader.calibration.json"
    monkeypatch.delenv("DIGITRY_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert user_models() == tmp_path / "data" / "digitry" / "models"


def test_a_user_without_a_home_can_read_but_not_save(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calibration_file, "user_models", lambda: None)
    monkeypatch.setattr(versions, "user_models", lambda: None)
    assert load_model("reader").calibration is None
    with pytest.raises(UnavailableError, match="no home"):
        calibration_file.save(calibration_path("reader"), calibration())


def test_loading_applies_the_calibration_made_for_these_bytes(model: Path) -> None:
    plain = load_model(model)
    calibration_file.save(calibration_file.path_of(model), calibration())
    fitted = load_model(model)
    assert fitted.calibration == calibration()
    assert (fitted.metadata.temperature, fitted.metadata.risk_coverage) == (
        1.5,
        calibration().risk_coverage,
    )
    assert fitted.sha256 == plain.sha256
    assert fitted.fingerprint != plain.fingerprint == plain.sha256
    assert load_uncalibrated(model).metadata == plain.metadata


def test_a_calibration_for_other_bytes_is_ignored_with_a_warning(model: Path) -> None:
    plain = load_model(model).metadata
    calibration_file.save(calibration_file.path_of(model), calibration(model_sha256="ab" * 32))
    with pytest.warns(DigitryWarning, match="my forms was made for another model"):
        loaded = load_model(model)
    assert (loaded.metadata, loaded.calibration) == (plain, None)


def test_remove_deletes_valid_and_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "model.calibration.json"
    assert not calibration_file.remove(path)
    path.write_text("{")
    assert calibration_file.remove(path)
    assert not path.exists()
    path.symlink_to("nowhere")
    assert calibration_file.remove(path)


def changed(**changes: object) -> str:
    facts = {"format": 1, **calibration().__dict__, **changes}
    return json.dumps(facts)


HOSTILE = {
    "empty": "",
    "no JSON": "{",
    "a list": "[]",
    "deeply nested": "[" * 50_000,
    "not a number": changed().replace("1.5", "NaN"),
    "infinite": changed().replace("1.5", "1e999"),
    "a number of many digits": changed().replace("1.5", "9" * 4000),
    "a key twice": changed()[:-1] + ', "images": 1}',
    "another format": changed(format=2),
    "an unknown field": changed(surprise=1),
    "a field missing": json.dumps({"format": 1, "temperature": 1.0}),
    "a bool for a number": changed(temperature=True),
    "a text for a number": changed(temperature="1"),
    "a fraction of an image": changed(images=400.5),
    "a temperature of zero": changed(temperature=0),
    "a temperature below zero": changed(temperature=-1),
    "more digits than images": changed(images=10, digits=11),
    "a negative count": changed(images=-1, digits=-2),
    "no sha256": changed(model_sha256="reader"),
    "a sha256 with a line break": changed(model_sha256="0" * 63 + "\n"),
    "thresholds out of order": changed(risk_coverage=[[0.9, 0, 1], [0.5, 0, 1]]),
    "a share above one": changed(risk_coverage=[[0.5, 0.1, 1.5]]),
    "a row of two": changed(risk_coverage=[[0.5, 0.1]]),
    "a row of text": changed(risk_coverage=["abc"]),
    "too many rows": changed(risk_coverage=[[0.5, 0.1, 1]] * 300),
    "terminal control characters": changed(source="\x1b[2J"),
    "a very long name": changed(source="x" * 500),
    "a score that is a text": changed(scores={"ece": "good"}),
    "a score with a control character in its name": changed(scores={"\x1b[2J": 1}),
    "a lone surrogate": changed(source="\ud800"),
    "too large": " " * 70_000,
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_an_invalid_file_is_one_line_that_names_it(content: str, model: Path) -> None:
    path = calibration_file.path_of(model)
    path.write_text(content)
    with pytest.raises(ModelError) as caught:
        load_model(model)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_give_a_typed_error(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "model.calibration.json"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        calibration_file.find(path)


def test_folders_and_pipes_are_refused_at_once(tmp_path: Path) -> None:
    folder, pipe, broken = (tmp_path / name for name in ("folder", "pipe", "broken"))
    folder.mkdir()
    os.mkfifo(pipe)
    broken.symlink_to("nowhere")
    for path in (folder, pipe, broken):
        with pytest.raises(ModelError, match="is not a file"):
            calibration_file.find(path)
