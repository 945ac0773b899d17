"""The sample pictures: what truth.csv says stands in them, and they are drawn by our own code."""

import csv
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).parents[1] / "samples"
PICTURES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".png", ".jpg"))
LIMIT = 700_000
"""Of all files in the folder, in bytes."""


@pytest.fixture(scope="module")
def draw() -> ModuleType:
    spec = importlib.util.spec_from_file_location("samples_draw", FOLDER / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def truth() -> dict[str, dict[str, str]]:
    with (FOLDER / "truth.csv").open(encoding="utf-8", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_truth_names_exactly_the_pictures_there_are(truth: dict[str, dict[str, str]]) -> None:
    assert sorted(truth) == PICTURES


def test_truth_is_what_the_code_draws(truth: dict[str, dict[str, str]], draw: ModuleType) -> None:
    drawn = {name: (label, layout) for name, (_, label, layout) in draw.SAMPLES.items()}
    assert {name: (row["label"], row["layout"]) for name, row in truth.items()} == drawn


def test_labels_are_digits_in_lines_that_suit_their_layout(
    truth: dict[str, dict[str, str]],
) -> None:
    for row in truth.values():
        lines = row["label"].split("|")
        assert all(line.isascii() and line.isdigit() for line in lines)
        assert row["layout"] in ("single", "line", "page")
        if row["layout"] != "page":
            assert len(lines) == 1
        if row["layout"] == "single":
            assert len(lines[0]) == 1
    assert {row["label"] for row in truth.values() if row["layout"] == "single"} == set(
        "0123456789"
    )


def test_a_sheet_has_a_one_and_a_seven_standing_alone(truth: dict[str, dict[str, str]]) -> None:
    assert {"1", "7"} <= set(truth["sheet.jpg"]["label"].split("|"))


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_can_be_opened_and_has_ink(name: str) -> None:
    with Image.open(FOLDER / name) as image:
        image.load()
        assert image.format == ("JPEG" if name.endswith(".jpg") else "PNG")
        grey = np.asarray(
            image.getchannel("A") if image.mode == "RGBA" else image.convert("L"), float
        )
    assert np.ptp(grey) > 60


def test_the_samples_are_small(truth: dict[str, dict[str, str]]) -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < LIMIT


@pytest.mark.parametrize("name", ["digit-4.jpg", "digit-5.png", "digit-9.jpg", "phone-number.jpg"])
def test_drawing_is_deterministic(name: str, draw: ModuleType) -> None:
    picture = draw.SAMPLES[name][0]
    assert np.array_equal(picture(), picture())


@pytest.mark.parametrize("name", ["digit-1.jpg", "digit-3.png", "digit-5.png"])
def test_the_pictures_in_the_tree_are_those_that_the_code_draws(
    name: str, draw: ModuleType
) -> None:
    with Image.open(FOLDER / name) as image:
        kept = np.asarray(image, float)
    # JPEG and other builds of OpenCV may differ by a little; another picture differs by a lot.
    assert np.abs(kept - draw.SAMPLES[name][0]()).mean() < 4


def test_the_forms_in_the_tree_are_those_that_the_code_draws() -> None:
    spec = importlib.util.spec_from_file_location("samples_forms", FOLDER / "forms.py")
    assert spec is not None
    assert spec.loader is not None
    forms = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        spec.loader.exec_module(forms)
    for name, (blank, _, _, _) in forms.FORMS.items():
        assert (forms.FOLDER / f"{name}.toml").read_text() == forms.template(name).to_toml(
            f"{name}.png"
        )
        with Image.open(forms.FOLDER / f"{name}.png") as image:
            kept = np.asarray(image.convert("L"), float)
        assert np.abs(kept - blank()).mean() < 4
    assert sum(path.stat().st_size for path in forms.FOLDER.iterdir()) < 200_000
