"""Calibration to a user's images is saved beside the model, which is not changed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import digitry
from digitry.errors import DataError
from digitry.improve import calibrate
from digitry.model.load import load_model, load_uncalibrated
from digitry.reading.reader import Reader
from digitry.training.writing import pen

SHIPPED = Path(digitry.__file__).parent / "models" / "reader.onnx"


def picture(symbol: str, rng: np.random.Generator) -> Image.Image:
    lines = pen.wobble(pen.strokes_of(symbol, pen.pick_hand(symbol, rng)), rng, amount=1.5)
    ink = np.pad(pen.draw(lines, 24, 2.5, rng), 8)
    return Image.fromarray((230 - 190 * ink).astype(np.uint8))


def write(folder: Path, count: int) -> Path:
    """Draw `count` digits into class folders."""
    rng = np.random.default_rng(3)
    for index in range(count):
        symbol = str(index % 10)
        (folder / symbol).mkdir(parents=True, exist_ok=True)
        picture(symbol, rng).save(folder / symbol / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("source") / "my forms", 60)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copy(SHIPPED, tmp_path / "model.onnx"))


def test_the_calibration_is_saved_beside_the_model_and_used(digits: Path, model: Path) -> None:
    before = model.read_bytes()
    done = calibrate.calibrate(digits, model)
    assert done.path == model.with_name("model.calibration.json")
    assert model.read_bytes() == before
    found = load_model(model)
    assert found.calibration == done.calibration
    assert found.metadata.temperature == done.calibration.temperature != 1
    assert (done.calibration.source, done.calibration.images, done.calibration.digits) == (
        "my forms",
        60,
        60,
    )
    # The reader's confidences are those of the calibration.
    plain, fitted = Reader(load_uncalibrated(model)), Reader(model)
    glyph = plain.examine(next(digits.rglob("*.png")), layout="single")[1]
    own = load_uncalibrated(model).metadata.temperature
    logits = own * np.log(plain.probabilities(glyph))
    shares = np.exp(logits / done.calibration.temperature)
    assert np.allclose(fitted.probabilities(glyph), shares / shares.sum(), atol=1e-9)


def test_calibrating_again_starts_from_the_model_itself(digits: Path, model: Path) -> None:
    first = calibrate.calibrate(digits, model)
    again = calibrate.calibrate(digits, model)
    assert (again.before, again.after) == (first.before, first.after)
    assert again.calibration.temperature == first.calibration.temperature
    assert again.calibration.data_sha256 == first.calibration.data_sha256


def test_images_go_through_the_whole_reading_pipeline(digits: Path, model: Path) -> None:
    done = calibrate.calibrate(digits, model)
    readings = Reader(load_uncalibrated(model), "single").read_many(sorted(digits.rglob("*.png")))
    right = [
        reading.digits[0].alternatives[0][0] == int(path.parent.name)
        for path, reading in zip(sorted(digits.rglob("*.png")), readings, strict=True)
    ]
    assert done.before.accuracy == pytest.approx(np.mean(right))


def test_images_without_a_digit_count_and_invalid_files_are_named(
    digits: Path, model: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(digits, tmp_path / "copy"))
    Image.new("L", (40, 40), 230).save(folder / "3" / "empty.png")
    (folder / "4" / "damaged.png").write_bytes(b"no image")
    done = calibrate.calibrate(folder, model)
    assert (done.calibration.images, done.calibration.digits, done.unread) == (61, 60, 1)
    assert [Path(str(error.where)).name for error in done.failed] == ["damaged.png"]
    assert done.before.accuracy <= 60 / 61


def too_few(folder: Path) -> None:
    write(folder, 20)


def nothing(folder: Path) -> None:
    folder.mkdir()


def a_file(folder: Path) -> None:
    folder.write_text("7")


def other_classes(folder: Path) -> None:
    (folder / "sevens").mkdir(parents=True)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (too_few, "20 digits are too few"),
        (nothing, "has no images"),
        (a_file, "is not a folder"),
        (other_classes, "is not a class folder"),
    ],
)
def test_invalid_folders_are_refused_and_nothing_is_written(
    make: Callable[[Path], None], says: str, model: Path, tmp_path: Path
) -> None:
    make(tmp_path / "given")
    with pytest.raises(DataError, match=says) as caught:
        calibrate.calibrate(tmp_path / "given", model)
    assert "given" in str(caught.value)
    assert not model.with_name("model.calibration.json").exists()


def test_a_table_of_labels_and_a_test_part_are_understood(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write(folder / "train", 10)
    pictures = sorted(write(folder / "test" / "images", 60).rglob("*.png"))
    rows = [f"{path.relative_to(folder / 'test')},{path.parent.name}" for path in pictures]
    (folder / "test" / "labels.csv").write_text("\n".join(["file,label", *rows]))
    assert calibrate.calibrate(folder, model).calibration.images == 60
