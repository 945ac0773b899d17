"""The parts of the shipped reader: trained from sources to files, and not trained twice."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from digitry.errors import ModelError, UsageError
from digitry.model.line_calibration import LineCalibration
from digitry.model.line_network import load_lines, parse
from digitry.model.load import load_model
from digitry.reading.network import Session
from digitry.training import reader, run_folder
from digitry.training.data.dataset import Dataset, Split, dataset_of
from digitry.training.evaluation import line_calibration
from digitry.training.loop import lines
from digitry.training.network.lines import build, columns, line_layers
from digitry.training.network.lines_onnx import to_onnx
from digitry.training.reader import Much, train_part
from digitry.training.writing.strips import Sources


def digits(count: int, seed: int) -> Split:
    images = np.random.default_rng(seed).integers(0, 256, (count, 28, 28)).astype(np.uint8)
    return Split(images, (np.arange(count) % 11).astype(np.uint8))


DATA: Dataset = dataset_of("glyphs-66", digits(66, 1), digits(22, 2), "free", "drawn here")


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch, sources: Sources) -> None:
    """Compose from few sources, in small pools."""
    monkeypatch.setattr(reader.mnist, "load", lambda *_, **__: DATA)
    monkeypatch.setattr(reader, "load_sources", lambda *_, **__: sources)
    monkeypatch.setattr(reader, "load_dataset", lambda *_, **__: DATA)
    monkeypatch.setattr(reader, "LINE_POOL", (24, 1500))
    monkeypatch.setattr(reader.held_lines, "load", lambda *_, **__: [])
    monkeypatch.setattr(reader.line_calibration, "calibrate", calibrated)


def calibrated(path: Path, held: object) -> None:
    """Write that it was calibrated into a line network."""
    assert held == []
    line_calibration.write(path, LineCalibration())


def no_more(*_: object, **__: object) -> None:
    raise AssertionError("trained again")


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize(("part", "shape"), [("lines", (1, 1, 32, 64)), ("finder", (1, 1, 64, 64))])
def test_a_network_is_trained_to_its_file_once(
    part: reader.Part, shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    much = Much(samples=20)
    built = train_part(part, tmp_path, much, device="cpu")
    assert built.path == tmp_path / f"{part}.onnx"
    assert built.samples >= 20
    assert np.isfinite(Session(built.path).run(np.zeros(shape, np.float32))).all()
    monkeypatch.setattr(reader, "load_sources", no_more)
    again = train_part(part, tmp_path, much, device="cpu")
    assert (again.path, again.samples) == (built.path, built.samples)


INK = np.random.default_rng(1).random((1, 1, 32, 64), np.float32)


@pytest.mark.usefixtures("little")
def test_a_line_network_is_trained_on_from_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = load_lines("lines@shipped", calibrated=False)
    began: list[np.ndarray] = []
    train_lines = lines.train_lines

    def told(*given: Any, start: Any, **how: Any) -> Any:
        raw = start.eval()(torch.from_numpy(INK))
        began.append(columns(raw).log_softmax(-1).detach().numpy())
        return train_lines(*given, start=start, **how)

    monkeypatch.setattr(lines, "train_lines", told)
    train_part("lines", tmp_path, Much(samples=20, start=start), device="cpu")
    assert np.allclose(began[0], Session(start).run(INK), atol=1e-2)


@pytest.mark.usefixtures("little")
def test_a_less_deep_network_is_deepened_and_trained_on(tmp_path: Path) -> None:
    layers = line_layers(lines.LineSettings().channels)
    twice = [at for at, pair in enumerate(pairwise(layers)) if pair[0] == pair[1]]
    shallow = to_onnx(build((*layers[: twice[0]], *layers[twice[0] + 1 :])).eval())
    start = parse(shallow.SerializeToString(), "shallow")
    much = Much(samples=20, start=start, moved=1e-9)
    built = train_part("lines", tmp_path, much, device="cpu")
    assert np.allclose(Session(built.path).run(INK), Session(start).run(INK), atol=1e-2)


@pytest.mark.usefixtures("little")
def test_the_file_lies_between_the_start_and_what_was_trained(tmp_path: Path) -> None:
    start = load_lines("lines@shipped", calibrated=False)
    said = Session(start).run(INK)
    for moved, close in ((1e-9, True), (1.0, False)):
        much = Much(samples=20, rate=0.1, start=start, moved=moved)
        built = train_part("lines", tmp_path / f"{moved}", much, device="cpu")
        assert np.allclose(Session(built.path).run(INK), said, atol=1e-2) == close


@pytest.mark.usefixtures("little")
def test_a_training_goes_on_from_its_own_start_alone(tmp_path: Path) -> None:
    start = load_lines("lines@shipped", calibrated=False)
    fresh, other = Much(samples=20), Much(samples=20, start=start)
    train_part("lines", tmp_path / "fresh", fresh, device="cpu")
    train_part("lines", tmp_path / "other", replace(other, moved=0.5), device="cpu")
    for folder, much in (("fresh", other), ("other", other), ("other", fresh)):
        with pytest.raises(UsageError, match="started from another network"):
            train_part("lines", tmp_path / folder, much, device="cpu")
    train_part("lines", tmp_path / "other", replace(other, moved=0.5), device="cpu")
    with pytest.raises(UsageError, match="at most 1"):
        replace(other, moved=1.5)
    with pytest.raises(UsageError, match="cannot start"):
        train_part("finder", tmp_path / "finder", other, device="cpu")


@pytest.mark.usefixtures("little")
def test_a_network_of_other_layers_is_no_start(tmp_path: Path) -> None:
    small = to_onnx(build(line_layers((4, 8, 8, 8, 8)))).SerializeToString()
    much = Much(samples=20, start=parse(small, "small"))
    with pytest.raises(ModelError, match="other layers"):
        train_part("lines", tmp_path, much, device="cpu")


@pytest.mark.usefixtures("little")
def test_the_glyph_model_is_trained_to_a_calibrated_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    much = Much(samples=66, settings={"epochs": "1", "hidden": "4,8", "batch_size": "10"})
    built = train_part("glyph", tmp_path, much, device="cpu", seed=3)
    assert built.path == tmp_path / "reader.onnx"
    model = load_model(built.path)
    assert model.metadata.name == "reader"
    assert model.metadata.recipe["name"] == "glyph"
    assert model.metadata.recipe["seed"] == 3
    assert len(model.metadata.labels) == 11
    assert len(model.metadata.risk_coverage) > 0
    assert model.sha256 != load_model(tmp_path / "glyph").sha256
    assert run_folder.is_finished(tmp_path / "glyph")
    monkeypatch.setattr(reader, "load_dataset", no_more)
    assert train_part("glyph", tmp_path, much, device="cpu").samples == built.samples
