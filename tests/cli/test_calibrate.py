"""`digitry calibrate`: what it prints, where it saves the result, and that models then use it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import digitry as package
from digitry.training.writing import pen

from ..waiting import PATIENCE_S
from .in_process import digitry

SHIPPED = Path(package.__file__).parent / "models" / "reader.onnx"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "my forms"
    rng = np.random.default_rng(5)
    for index in range(60):
        symbol = str(index % 10)
        lines = pen.wobble(pen.strokes_of(symbol, pen.pick_hand(symbol, rng)), rng)
        ink = np.pad(pen.draw(lines, 24, 2.5, rng), 8)
        (folder / symbol).mkdir(parents=True, exist_ok=True)
        page = (230 - 190 * ink).astype(np.uint8)
        Image.fromarray(page).save(folder / symbol / f"{index}.png")
    return folder


def test_a_shipped_model_is_calibrated_in_the_users_folder_and_says_so(
    digits: Path, tmp_path: Path
) -> None:
    done = digitry("calibrate", digits, DIGITRY_MODELS=str(tmp_path))
    assert done.returncode == 0
    for word in (
        "calibrated to 60 digits in 60 images of my forms",
        "loss (NLL)",
        "ECE",
        "accuracy",
        "coverage at --max-error 0.01 ",
        "coverage at --max-error 0.001 ",
        "not reached",
        f"saved as {tmp_path / 'reader.calibration.json'}",
    ):
        assert word in done.out
    # Sixty digits support only a large share of errors, and the output says so.
    supported = float(done.out.split("60 digits support --max-error ")[1].split()[0])
    assert 0.04 < supported < 0.3
    assert "0.01 needs about 300 digits" in done.out

    assert (
        "calibrated to my forms (60 digits" in digitry("models", DIGITRY_MODELS=str(tmp_path)).out
    )
    card = digitry("models", "--card", "reader", DIGITRY_MODELS=str(tmp_path)).out
    kept = json.loads((tmp_path / "reader.calibration.json").read_text())
    assert (
        f"temperature {kept['temperature']:.3f}, fitted to your own images: my forms (60 digits"
        in card
    )

    # A smaller share than sixty digits support is refused.
    image = next(digits.rglob("*.png"))
    strict = digitry("read", image, "--max-error", "0.001", DIGITRY_MODELS=str(tmp_path))
    assert (strict.returncode, strict.out) == (2, "")
    assert "did not reach an error of 0.001" in strict.err

    removed = digitry("models", "uncalibrate", DIGITRY_MODELS=str(tmp_path))
    assert removed.out.startswith("removed ")
    assert not (tmp_path / "reader.calibration.json").exists()
    assert (
        "has no calibration" in digitry("models", "uncalibrate", DIGITRY_MODELS=str(tmp_path)).out
    )


def test_a_calibration_for_another_model_is_named_in_one_line_and_reading_goes_on(
    digits: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copy(SHIPPED, tmp_path / "model.onnx"))
    quiet = digitry("calibrate", digits, "--model", model, "--quiet", DIGITRY_MODELS=str(tmp_path))
    kept = model.with_name("model.calibration.json")
    assert quiet.out == f"{kept}\n"
    facts = json.loads(kept.read_text())
    kept.write_text(json.dumps({**facts, "model_sha256": "ab" * 32}))
    image = next((digits / "7").iterdir())
    done = digitry(
        "read", image, "--layout", "single", "--model", model, DIGITRY_MODELS=str(tmp_path)
    )
    assert (done.returncode, done.out) == (0, "7\n")
    (line,) = done.err.splitlines()
    assert line.startswith(f"digitry: {model}: its calibration to my forms was made for another")
    assert "digitry models uncalibrate" in line


def test_a_damaged_calibration_is_an_error_and_can_be_removed(digits: Path, tmp_path: Path) -> None:
    kept = tmp_path / "reader.calibration.json"
    kept.write_text('{"format": 1}')
    image = next((digits / "7").iterdir())
    done = digitry("read", image, DIGITRY_MODELS=str(tmp_path))
    assert (done.returncode, done.out) == (3, "")
    (line,) = done.err.splitlines()
    assert line.startswith(f"digitry: {kept}: ")
    assert digitry("models", "uncalibrate", "--quiet", DIGITRY_MODELS=str(tmp_path)).returncode == 0
    assert digitry("read", image, DIGITRY_MODELS=str(tmp_path)).out == "7\n"


def test_the_base_install_is_enough(digits: Path, tmp_path: Path) -> None:
    absent = ("keras", "torch", "onnx", "matplotlib", "sklearn", "scipy", "pooch", "h5py", "jinja2")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"
        "from digitry.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "calibrate", str(digits), "--quiet"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, "DIGITRY_MODELS": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_damaged_image_is_named_and_the_others_count(digits: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(digits, tmp_path / "copy"))
    (folder / "4" / "damaged.png").write_bytes(b"no image")
    done = digitry("calibrate", folder, DIGITRY_MODELS=str(tmp_path))
    assert done.returncode == 1
    assert "damaged.png: is not an image" in done.err
    assert "60 digits in 60 images" in done.out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "LABELLED_FOLDER"),
        (["nowhere"], 3, "nowhere: is not a folder"),
    ],
)
def test_a_wrong_call_is_one_line(
    arguments: list[str], code: int, says: str, tmp_path: Path
) -> None:
    done = digitry("calibrate", *arguments, DIGITRY_MODELS=str(tmp_path))
    assert (done.returncode, done.out) == (code, "")
    (line,) = done.err.splitlines()
    assert says in line
