"""The pictures and the report of a run, made only from its folder."""

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from digitry.errors import DataError, UsageError
from digitry.reading.classifier import softmax
from digitry.training import epochs as history
from digitry.training import run_folder
from digitry.training.epochs import Epoch
from digitry.training.evaluation.scores import score, wilson
from digitry.training.recipes import Recipe
from digitry.training.report import page as report
from digitry.training.report.style import percent
from digitry.training.run_folder import PLOTS, Run

COUNT = 400


def written_run(
    folder: Path,
    *,
    epochs: int = 3,
    validation: bool = True,
    classes: int = 10,
    sure: float = 3.0,
    layers: list[dict[str, Any]] | None = None,
    **facts: Any,
) -> Run:
    """Return a run folder as training writes it, without training."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    labels = (np.arange(COUNT) % 10).astype(np.uint8)
    logits = random.normal(size=(COUNT, classes)).astype(np.float32)
    logits[np.arange(COUNT), labels] += np.float32(sure)
    temperature = 1.3 if validation else 1.0
    test = score(logits, labels, temperature=temperature)
    shares = softmax(logits, temperature)
    wrong = np.flatnonzero(shares.argmax(axis=1) != labels)
    wrong = wrong[np.argsort(-shares[wrong].max(axis=1))][:60]
    images = random.integers(0, 256, (COUNT, 28, 28)).astype(np.uint8)
    np.savez(
        folder / "predictions.npz",
        probabilities=softmax(logits).astype(np.float32),
        labels=labels,
        test_sha256=np.array("x" * 64),
        samples=images[:20],
        sample_labels=labels[:20],
        label_counts=np.bincount(labels, minlength=10),
        mistakes_index=wrong,
        mistakes_images=images[wrong],
        example_image=images[0],
    )
    recipe = Recipe(name="trial", summary="a trial", validation=0.2 if validation else 0.0)
    past = [
        Epoch(
            number,
            1 / number,
            1 - 0.5 / number,
            1.1 / number if validation else None,
            0.99 - 0.5 / number if validation else None,
            0.001,
            0.5,
        )
        for number in range(1, epochs + 1)
    ]
    metrics = {
        "recipe": "trial",
        "test": test.to_dict(),
        "validation": test.to_dict() if validation else None,
        "fit_seconds": 1.5,
        "total_seconds": 2.5,
        "interrupted": False,
        "data": {
            "name": "trial-data",
            "sha256": "f" * 64,
            "licence": "free",
            "source": "drawn",
            "train_images": 400,
            "test_images": COUNT,
        },
        "history": history.to_rows(past),
        "example": {
            "index": 0,
            "actual": 0,
            "predicted": int(shares[0].argmax()),
            "confidence": float(shares[0].max()),
        },
        "parameters": 7850,
        "layers": layers or chain("InputLayer", "Flatten", "Dense"),
        "versions": {"digitry": "1.2.3", "python": "3.11"},
        "device": "cpu",
        "finished": "2025-06-01T12:00:00+00:00",
    }
    metrics.update(facts)
    (folder / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return run_folder.load_run(folder)


def chain(*kinds: str) -> list[dict[str, Any]]:
    names = [f"{kind}-{number}" for number, kind in enumerate(kinds)]
    return [
        {
            "name": name,
            "kind": kind,
            "activation": "relu" if kind == "Dense" else None,
            "output_shape": [10],
            "parameters": 7850 if kind == "Dense" else 0,
            "inputs": [names[number - 1]] if number else [],
        }
        for number, (name, kind) in enumerate(zip(names, kinds, strict=True))
    ]


class Page(HTMLParser):
    """Collects what a browser would load from a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(one: Run) -> Page:
    return Page(report.write_html(one).read_text("utf-8"))


def looked_at(path: Path) -> np.ndarray:
    """Return the pixels of a picture, and check that it is not blank."""
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture)
    assert pixels.shape[1] >= 1000
    assert (pixels < 128).any()
    # Nothing is cut off: the outermost pixels are background.
    edges = [pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:]]
    assert all((edge == 255).all() for edge in edges), path.name
    return pixels


def test_every_picture_is_drawn(tmp_path: Path) -> None:
    one = written_run(tmp_path / "run")
    assert [path.name for path in report.write_plots(one)] == list(PLOTS)
    for name in PLOTS:
        looked_at(one.folder / name)


def test_only_requested_pictures_are_drawn(tmp_path: Path) -> None:
    one = written_run(tmp_path / "run")
    written = report.write_plots(one, frozenset({"loss.png", "report.html"}))
    assert [path.name for path in written] == ["loss.png"]
    assert not (one.folder / "accuracy.png").exists()


@pytest.mark.parametrize(
    "unusual",
    [
        {"epochs": 0},
        {"epochs": 1},
        {"epochs": 100},
        {"validation": False},
        {"classes": 11},
        {"sure": 100.0},
        {"sure": -100.0},
        {"layers": chain("InputLayer", *["Conv2D"] * 40, "Dense")},
    ],
    ids=lambda unusual: next(iter(unusual)),
)
def test_unusual_runs_are_drawn_too(tmp_path: Path, unusual: dict[str, Any]) -> None:
    one = written_run(tmp_path / "run", **unusual)
    report.write_plots(one)
    for name in PLOTS:
        looked_at(one.folder / name)
    assert "trial" in page_of(one).text


def test_a_network_with_a_shortcut_is_drawn(tmp_path: Path) -> None:
    layers = chain("InputLayer", "Conv2D", "ReLU", "Add", "Dense")
    layers[3]["inputs"] = ["ReLU-2", "InputLayer-0"]
    one = written_run(tmp_path / "run", layers=layers)
    report.write_plots(one, frozenset({"model_architecture.png"}))
    looked_at(one.folder / "model_architecture.png")


def test_the_report_has_the_headline_numbers(tmp_path: Path) -> None:
    one = written_run(tmp_path / "run")
    text = page_of(one).text
    low, high = (f"{100 * bound:.2f}%" for bound in one.test.interval)
    assert f"{low} to {high}" in text
    assert f"{100 * one.test.accuracy:.2f}" in text
    assert f"{one.test.loss:.4f}" in text
    assert text.index(low) < text.index("How it learned")
    for word in ("trial-data", "free", "f" * 64, "1.2.3", "temperature of 1.30", "metrics.json"):
        assert word in text


def test_every_accuracy_has_its_interval_also_without_disputed_labels(tmp_path: Path) -> None:
    one = written_run(tmp_path / "run")
    text = page_of(one).text
    low, high = (f"{100 * bound:.2f}%" for bound in one.test.interval)
    # The same numbers stand for test and validation here.
    assert text.count(f"{low} to {high}") == 2
    assert "disputed labels" not in text
    recall = one.test.classes[4]
    bounds = wilson(round(recall.recall * recall.support), recall.support)
    assert " to ".join(percent(bound, 1) for bound in bounds) in text

    test = {
        **one.metrics["test"],
        "disputed": 15,
        "accuracy_undisputed": 0.97654,
        "interval_undisputed": [0.961, 0.982],
    }
    text = page_of(written_run(tmp_path / "mnist", test=test)).text
    assert "97.65% (96.10% to 98.20%) without the 15 images with disputed labels" in text


def test_the_report_needs_no_network(tmp_path: Path) -> None:
    one = written_run(tmp_path / "run")
    report.write_plots(one)
    page = page_of(one)
    images = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(images) == len(PLOTS)
    for source in images:
        kind, data = str(source).split(",")
        assert kind == "data:image/png;base64"
        Image.open(io.BytesIO(base64.b64decode(data))).verify()
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe")
        # Links lead to the files beside the page.
        assert not re.match(r"[a-z]+:|/", attributes.get("href") or "")
    whole = (one.folder / "report.html").read_text("utf-8")
    assert "url(" not in whole
    assert "prefers-color-scheme: dark" in whole


def test_every_picture_has_an_alternative_text(tmp_path: Path) -> None:
    page = page_of(written_run(tmp_path / "run"))
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")


def test_the_report_is_complete_without_pictures_in_the_folder(tmp_path: Path) -> None:
    one = written_run(tmp_path / "run")
    page = page_of(one)
    assert sum(tag == "img" for tag, _ in page.tags) == len(PLOTS)
    assert not list(one.folder.glob("*.png"))


def test_names_are_escaped_in_the_report(tmp_path: Path) -> None:
    facts = {
        "name": "<script>alert(1)</script>",
        "sha256": "f",
        "licence": '"><img src=x>',
        "source": "a & b",
        "train_images": 400,
        "test_images": COUNT,
    }
    page = page_of(written_run(tmp_path / "run", data=facts))
    assert "script" not in [tag for tag, _ in page.tags]
    assert sum(tag == "img" for tag, _ in page.tags) == len(PLOTS)
    assert "<script>alert(1)</script>" in page.text


def test_the_report_says_that_nothing_was_held_out(tmp_path: Path) -> None:
    text = page_of(written_run(tmp_path / "run", validation=False)).text
    assert "holds no images out" in text
    assert "the temperature is 1" in text


def test_the_report_says_that_a_run_was_interrupted(tmp_path: Path) -> None:
    text = page_of(written_run(tmp_path / "run", interrupted=True)).text
    assert "This training was interrupted" in text
    assert "--resume" in text


def test_an_accuracy_below_one_is_never_rounded_to_100_percent(tmp_path: Path) -> None:
    one = written_run(tmp_path / "run")
    test = {**one.metrics["test"], "accuracy": 0.99999}
    text = page_of(replace(one, metrics={**one.metrics, "test": test})).text
    assert "99.99" in text
    assert "100.00" not in text.split("How it learned")[0]


def test_runs_are_compared_in_one_picture(tmp_path: Path) -> None:
    runs = [written_run(tmp_path / name, sure=sure) for name, sure in (("a", 3), ("b", 4))]
    (path,) = report.write_comparison(runs, tmp_path / "out")
    assert path == tmp_path / "out" / "comparison.png"
    looked_at(path)
    with pytest.raises(UsageError, match="only one run is named"):
        report.write_comparison(runs[:1], tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    one = written_run(tmp_path / "run")
    (one.folder / "predictions.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(DataError, match=r"predictions\.npz"):
        report.write_plots(one)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.837, "0.84 s"), (12.34, "12.3 s"), (245.2, "4 min 05 s"), (7800, "2 h 10 min")],
)
def test_times_are_formatted(value: float, text: str) -> None:
    assert report.seconds(value) == text
