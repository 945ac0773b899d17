"""`evaluate --corrupt`, undisputed scores, and model cards, as a user types them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from digitry import extras
from digitry.cli.card import card_text
from digitry.training.data.dataset import Dataset, Split
from digitry.training.evaluation import robustness
from digitry.training.evaluation.corruptions import CORRUPTIONS

from .conftest import Say

pytest.importorskip("sklearn")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure on five digits only, to be fast."""
    monkeypatch.setattr(robustness, "MOST", 5)


@pytest.mark.usefixtures("few")
def test_corrupt_prints_every_corruption_and_writes_its_pictures(say: Say, tmp_path: Path) -> None:
    answer = say("evaluate", "reader", "--data", "uci", "--corrupt", "--out", "found")
    assert answer.code == 0, answer.err
    for name in CORRUPTIONS:
        assert name.replace("_", " ") in answer.out
        # Progress, one line per corruption, goes to stderr.
        assert re.search(rf"^{name}( +\d+\.\d%){{5}}$", answer.err, re.MULTILINE)
    assert "5 of them under 15 corruptions at 5 severities" in answer.out
    assert "95% interval" in answer.out
    written = {path.name for path in (tmp_path / "found").iterdir()}
    assert written == {"robustness.json", "robustness.png", "corruptions.png"}
    for name in written:
        assert str(Path("found") / name) in answer.out


@pytest.mark.usefixtures("few")
def test_corrupt_as_json_holds_every_share(say: Say, tmp_path: Path) -> None:
    answer = say(
        "evaluate", "reader", "--data", "uci", "--corrupt", "--out", "found",
        "--format", "json", "--quiet",
    )  # fmt: skip
    assert answer.err == ""
    found = json.loads(answer.out)
    assert found == json.loads((tmp_path / "found" / "robustness.json").read_text())
    table = found["robustness"]["corruptions"]
    assert [one["name"] for one in table] == list(CORRUPTIONS)
    errors = [error for one in table for error in one["errors"]]
    assert found["robustness"]["mean_error"] == pytest.approx(np.mean(errors))
    assert found["test"]["count"] == 299


def test_without_corrupt_nothing_is_written(say: Say, tmp_path: Path) -> None:
    answer = say("evaluate", "reader", "--data", "uci", "--out", "found")
    assert answer.code == 2
    assert "--corrupt" in answer.err
    assert list(tmp_path.iterdir()) == []
    assert "robustness" not in json.loads(
        say("evaluate", "reader", "--data", "uci", "--format", "json").out
    )


def test_labels_that_the_model_does_not_have_are_refused_in_one_line(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from digitry.training import datasets

    part = Split(np.zeros((11, 28, 28), np.uint8), np.arange(11, dtype=np.uint8))
    data = Dataset("glyphs", part, part, "0" * 64, "a licence", "here")
    trained = say("train", "dense-128", "--data", "uci", "--epochs", 1, "--only", "loss", "--quiet")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: data)
    answer = say("evaluate", trained.out.strip(), "--data", "glyphs")
    assert answer.code == 3
    assert answer.err == (
        "digitry: the test images: have 11 labels, but the model has 10; "
        "use other data, or a model that was trained on these labels\n"
    )


def test_a_run_trained_on_corrections_is_measured_on_mnist(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from digitry.training import datasets
    from digitry.training.data.dataset import WITH_CORRECTIONS

    words = ("train", "dense-128", "--data", "uci", "--epochs", 1, "--only", "summary", "--quiet")
    folder = say(*words).out.strip()
    start = tmp_path / folder / "run.json"
    start.write_text(start.read_text().replace('"data": "uci"', f'"data": "{WITH_CORRECTIONS}"'))
    asked = []
    uci = datasets.load_dataset("uci")
    monkeypatch.setattr(datasets, "load_dataset", lambda name, **__: asked.append(name) or uci)
    assert say("evaluate", folder).code == 0
    assert asked == ["mnist"]


def test_a_missing_matplotlib_is_an_error_before_any_picture(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(extras, "find_spec", lambda name: name != "matplotlib" or None)
    answer = say("evaluate", "reader", "--data", "uci", "--corrupt", "--out", "found")
    assert answer.code == 4
    assert "matplotlib" in answer.err


def test_disputed_labels_are_scored_beside_the_official_ones(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    from digitry.training import datasets
    from digitry.training.evaluation import disputed, scores

    rng = np.random.default_rng(0)
    part = Split(rng.integers(0, 256, (20, 28, 28), np.uint8), np.arange(20, dtype=np.uint8) % 10)
    data = Dataset("mnist", part, part, "0" * 64, "a licence", "here")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: data)
    monkeypatch.setattr(disputed, "MNIST_TEST", scores.fingerprint(part))
    monkeypatch.setattr(disputed, "DISPUTED", {3: "so", 5: "so"})
    text = say("evaluate", "reader", "--data", "mnist").out
    assert "without the 2 test images whose labels are disputed" in text
    found = json.loads(say("evaluate", "reader", "--data", "mnist", "--format", "json").out)["test"]
    assert found["disputed"] == 2
    low, high = found["interval_undisputed"]
    assert low <= found["accuracy_undisputed"] <= high
    # Other data sets have no disputed labels.
    monkeypatch.setattr(disputed, "MNIST_TEST", "another")
    assert "disputed" not in say("evaluate", "reader", "--data", "mnist").out


FACTS = {
    "name": "mine",
    "labels": [str(digit) for digit in range(10)],
    "glyph_version": 1,
    "temperature": 1.25,
    "recipe": {"name": "dense-128", "hidden": [128]},
    "risk_coverage": [[0.9, 0.01, 0.8]],
    "data": {"letters": "a" * 64},
    "scores": {
        "letters/test/accuracy": 0.9,
        "letters/test/ece": 0.05,
        "letters/test/calibrated_ece": 0.02,
    },
    "created": "2026-01-01T00:00:00+00:00",
    "digitry": "0.1.0",
    "source": "runs/mine/model.onnx",
    "bytes": 400_000,
    "sha256": "b" * 64,
    "calibration": None,
}


def test_a_card_has_six_parts_for_a_users_own_model() -> None:
    card = card_text(FACTS)
    parts = {
        part.partition("\n")[0]: part.partition("\n")[2].strip() for part in card.split("\n## ")[1:]
    }
    assert set(parts) == {"Data", "Scores", "Calibration", "Limits", "Recipe", "Licence"}
    assert all(parts.values())
    assert "letters" in parts["Data"] and "a" * 64 in parts["Data"]
    assert "letters/test/accuracy: 0.9000" in parts["Scores"]
    assert "1.250, fitted on held-out data" in parts["Calibration"]
    assert "off by 2.00% on average, 5.00% before" in parts["Calibration"]
    assert "hidden: [128]" in parts["Recipe"]
    # digitry claims no rights in models that users train.
    assert "Apache" not in parts["Licence"] and "its trainer decides" in parts["Licence"]
    assert "Apache-2.0" in card_text({**FACTS, "source": "reader"})


def test_a_card_says_what_is_not_known() -> None:
    bare = {**FACTS, "data": {}, "scores": {}, "recipe": {}, "risk_coverage": [], "temperature": 1}
    card = card_text(bare)
    for heading, text in (
        ("Data", "unknown"),
        ("Scores", "none stated"),
        ("Calibration", "not fitted"),
        ("Recipe", "unknown"),
    ):
        after = card[card.index(f"## {heading}") :]
        assert text in after[: after.index("\n\n")]
