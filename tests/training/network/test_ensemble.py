"""Several models in one file give the mean of their probabilities, with scores only if measured."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")

from digitry import files
from digitry.errors import DataError, ModelError, UsageError
from digitry.model import artifact, onnx_check
from digitry.model.artifact import NOT_A_DIGIT, Artifact, Metadata
from digitry.model.load import load_model
from digitry.reading.classifier import Classifier
from digitry.reading.reader import Reader
from digitry.training.data.dataset import Dataset, Split, hold_out
from digitry.training.network import ensemble, to_onnx
from digitry.training.network.build import build
from digitry.training.network.onnx_graph import OnnxGraph
from digitry.training.recipes import Recipe

DIGITS = tuple(str(digit) for digit in range(10))
DENSE = Recipe(name="dense", hidden=(6,), validation=0.2)
CONV = Recipe(name="conv", architecture="conv", hidden=(4, 6), validation=0.1)

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write an untrained model, confident enough to matter, and give its path."""

    def made(name: str, recipe: Recipe = DENSE, seed: int = 0, classes: int = 10, **facts) -> Path:
        model = build(dataclasses.replace(recipe, seed=seed), classes)
        model.layers[-1].kernel.assign(model.layers[-1].kernel.value * 8)
        labels = (*DIGITS, NOT_A_DIGIT)[:classes]
        facts = {"data": {"mnist": "a" * 64}, "recipe": recipe.to_dict(), **facts}
        path = tmp_path / name / "model.onnx"
        artifact.save(path, to_onnx.to_onnx(model), Metadata(name=name, labels=labels, **facts))
        return path

    return made


def glyphs(count: int = 40) -> np.ndarray:
    return np.random.default_rng(3).random((count, 28, 28), np.float32)


def mean(*models: Path | Artifact) -> np.ndarray:
    loaded = [one if isinstance(one, Artifact) else load_model(one) for one in models]
    return np.mean([Classifier(one).probabilities(glyphs()) for one in loaded], axis=0)


def test_it_gives_the_mean_of_its_members_calibrated_probabilities(
    make: Make, tmp_path: Path
) -> None:
    members = [
        make("one", temperature=1.7),
        make("two", CONV, seed=1, temperature=0.6),
        make("three", seed=2),
    ]
    written = ensemble.join([str(path) for path in members], tmp_path / "all.onnx")
    joined = load_model(written.path)
    found = Classifier(joined).probabilities(glyphs())
    np.testing.assert_allclose(found, mean(*members), atol=1e-5)
    assert joined.metadata.temperature == 1
    assert not np.allclose(found, mean(members[0]), atol=1e-2)


def test_its_logits_are_the_logarithm_of_its_probabilities(make: Make, tmp_path: Path) -> None:
    import onnxruntime

    paths = [str(make("one")), str(make("two", seed=1))]
    content = ensemble.join(paths, tmp_path / "all.onnx").path.read_bytes()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    logits, probabilities = session.run(["logits", "probabilities"], {"glyphs": glyphs()})
    np.testing.assert_allclose(np.exp(logits), probabilities, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)


def test_a_class_with_tiny_probability_in_all_members_stays_finite(make: Make) -> None:
    members = [
        load_model(make("one", temperature=0.01)),
        load_model(make("two", seed=1, temperature=0.01)),
    ]
    model = onnx.load_model_from_string(ensemble.merged(members))
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString())
    (logits,) = session.run(["logits"], {"glyphs": glyphs()})
    assert np.isfinite(logits).all()
    assert logits.min() < -120  # below the logarithm of what float32 holds


def test_a_reader_reads_with_it(make: Make, tmp_path: Path) -> None:
    paths = [str(make("one", classes=11)), str(make("two", CONV, seed=1, classes=11))]
    written = ensemble.join(paths, tmp_path / "both.onnx")
    page = np.full((60, 60), 255, np.uint8)
    page[15:45, 28:32] = 0
    reading = Reader(model=written.path).read(page)
    assert reading.model == "both"
    assert len(reading.digits) == 1


def test_it_uses_only_operators_that_a_model_file_may_hold(make: Make, tmp_path: Path) -> None:
    paths = [str(make("one", CONV)), str(make("two", CONV, seed=1))]
    graph = onnx.load_model(ensemble.join(paths, tmp_path / "all.onnx").path).graph
    assert {node.op_type for node in graph.node} <= onnx_check.OPERATORS
    assert [one.name for one in graph.input] == ["glyphs"]
    assert [one.name for one in graph.output] == ["logits", "probabilities"]
    # The members' own probabilities are not outputs.
    assert [node.op_type for node in graph.node].count("Softmax") == 1


def test_an_ensemble_can_be_a_member(make: Make, tmp_path: Path) -> None:
    pair = ensemble.join([str(make("one")), str(make("two", seed=1))], tmp_path / "pair.onnx").path
    third = make("three", CONV, seed=2)
    joined = ensemble.join([str(pair), str(third)], tmp_path / "all.onnx").path
    np.testing.assert_allclose(mean(joined), mean(pair, third), atol=1e-5)


def test_it_names_its_members(make: Make, tmp_path: Path) -> None:
    one = make("one", temperature=1.5)
    two = make("two", seed=1, data={"mnist": "b" * 64, "uci": "c" * 64})
    facts = ensemble.join([str(one), str(two)], tmp_path / "both.onnx").metadata
    assert facts.name == "both"
    assert facts.data == {"mnist": "a" * 64, "mnist (bbbbbbbb)": "b" * 64, "uci": "c" * 64}
    members = facts.recipe["members"]
    assert [member["name"] for member in members] == ["one", "two"]
    assert members[0]["sha256"] == load_model(one).sha256
    assert members[0]["temperature"] == 1.5
    assert Recipe.from_dict(members[1]["recipe"]) == DENSE


# --- risk-coverage curve and scores ------------------------------------------------------------------


def squares(count: int, seed: int) -> Split:
    random = np.random.default_rng(seed)
    images = random.integers(0, 255, (count, 28, 28)).astype(np.uint8)
    return Split(images, (np.arange(count) % 10).astype(np.uint8))


DATA = Dataset("mnist", squares(200, 1), squares(50, 2), "a" * 64, "free", "drawn here")


@pytest.fixture
def run(make: Make, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Write a model with what its run folder says of the data it began with."""
    monkeypatch.setattr(ensemble.datasets, "load_dataset", lambda *_, **__: DATA)

    def made(name: str, recipe: Recipe = DENSE, seed: int = 0, sha256: str = "a" * 64) -> Path:
        folder = make(name, recipe, seed, data={"mnist": sha256}).parent
        files.write_json(folder / "recipe.json", recipe.to_dict())
        start = {"data": "mnist", "data_dir": None, "data_sha256": sha256, "device": "cpu"}
        files.write_json(folder / "run.json", {**start, "only": None})
        return folder

    return made


def test_runs_with_validation_are_scored_on_images_that_all_held_out(
    run: Make, tmp_path: Path
) -> None:
    folders = [str(run("one")), str(run("two", CONV, seed=1))]
    written = ensemble.join(folders, tmp_path / "both.onnx")
    assert (written.held_out, written.why) == (20, "")  # a tenth of 200: the smaller share
    held = hold_out(DATA.train, 0.1)[1]
    said = Classifier(load_model(written.path)).probabilities(held.images / np.float32(255))
    wrong = (said.argmax(-1) != held.labels).mean()
    threshold, error, coverage = written.metadata.risk_coverage[0]
    assert coverage == 1
    assert threshold <= said.max(-1).min()
    assert error == pytest.approx(wrong)
    loaded = load_model(written.path).metadata
    assert loaded == written.metadata
    assert set(loaded.scores) == {f"mnist/test/{name}" for name in ("accuracy", "loss", "ece")}


@pytest.mark.parametrize("case", ["file", "data", "nothing held out", "changed", "gone"])
def test_without_common_validation_images_it_has_no_curve_and_says_why(
    run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    one = run("one")
    two = run("two", seed=1, sha256=("b" if case == "data" else "a") * 64)
    names, why = [str(one), str(two)], {
        "file": "two/model.onnx is not a run folder",
        "data": "the members were trained on different data",
        "nothing held out": "a member has no validation images",
        "changed": "mnist has changed since the training",
        "gone": "mnist: is not here",
    }[case]  # fmt: skip
    if case == "file":
        names[1] += "/model.onnx"
    elif case == "nothing held out":
        files.write_json(two / "recipe.json", {**DENSE.to_dict(), "validation": 0.0})
    elif case == "changed":
        other = dataclasses.replace(DATA, sha256="d" * 64)
        monkeypatch.setattr(ensemble.datasets, "load_dataset", lambda *_, **__: other)
    elif case == "gone":

        def gone(*_: object, **__: object) -> Dataset:
            raise DataError("is not here", where="mnist")

        monkeypatch.setattr(ensemble.datasets, "load_dataset", gone)
    written = ensemble.join(names, tmp_path / "both.onnx")
    assert written.why.endswith(why)
    assert written.held_out == 0
    facts = load_model(written.path).metadata
    assert (facts.risk_coverage, facts.scores) == ((), {})


# --- errors ------------------------------------------------------------------------------------------


def test_models_that_cannot_be_joined_are_refused_and_nothing_is_written(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "all.onnx"
    one, two, eleven = make("one"), make("two", seed=1), make("eleven", classes=11)
    with pytest.raises(UsageError, match="at least two models; name two"):
        ensemble.join([str(one)], out)
    with pytest.raises(UsageError, match=r"all\.pb: does not end in \.onnx; name it all\.onnx"):
        ensemble.join([str(one), str(two)], tmp_path / "all.pb")
    with pytest.raises(UsageError, match=r"one/model.onnx: is the same model as .*one"):
        ensemble.join([str(one.parent), str(one)], out)
    with pytest.raises(
        ModelError, match=r"eleven/model.onnx: has 11 labels, but .*one/model.onnx has 10"
    ):
        ensemble.join([str(one), str(eleven)], out)
    with pytest.raises(ModelError, match="no such model"):
        ensemble.join([str(one), str(tmp_path / "none.onnx")], out)
    monkeypatch.setattr(ensemble, "MAX_BYTES", 1000)
    with pytest.raises(ModelError, match="2 models have 0 MiB together; a model file may have"):
        ensemble.join([str(one), str(two)], out)
    assert not out.exists()


def test_models_for_other_versions_of_onnx_are_refused(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make("one")
    monkeypatch.setitem(OnnxGraph.digit_model.__kwdefaults__, "opset", 16)
    two = make("two", seed=1)
    with pytest.raises(ModelError, match=r"opsets \[16, 17\], .*; export all of them again"):
        ensemble.join([str(one), str(two)], tmp_path / "all.onnx")


def test_a_file_that_is_not_the_mean_leaves_the_old_one(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = make("one"), make("two", seed=1)
    out = ensemble.join([str(one), str(two)], tmp_path / "all.onnx").path
    before = out.read_bytes()
    merged = ensemble.merged
    monkeypatch.setattr(ensemble, "merged", lambda members: merged([members[0], members[0]]))
    with pytest.raises(ModelError, match=r"all\.onnx: gives probabilities that differ"):
        ensemble.join([str(one), str(two)], out)
    assert out.read_bytes() == before
