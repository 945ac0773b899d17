"""A Keras file is loaded if its run folder records it, or if the user trusts it; in safe mode, always."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from digitry.errors import ModelError
from digitry.training import run, run_folder
from digitry.training.data.dataset import Dataset, Split
from digitry.training.loop.start_from import parent_of
from digitry.training.network import convert, ensemble, keras_files
from digitry.training.network.build import keras
from digitry.training.network.keras_files import load_keras, probabilities
from digitry.training.recipes import Recipe

RECIPE = Recipe(name="tiny", hidden=(4,), batch_size=20, epochs=2, data="noise")
GLYPHS = np.random.default_rng(0).random((8, 28, 28), np.float32)
NAMES = ("model.keras", "model.h5")


def noise(count: int) -> Split:
    images = np.random.default_rng(count).integers(0, 256, (count, 28, 28)).astype(np.uint8)
    return Split(images, (np.arange(count) % 10).astype(np.uint8))


DATA = Dataset("noise", noise(40), noise(20), "7" * 64, "free", "drawn here")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run.train_run(RECIPE, DATA, tmp_path_factory.mktemp("made") / "run").folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A run folder of its own for each test, moved from where it was made."""
    return Path(shutil.copytree(made, tmp_path / "moved"))


@pytest.fixture
def stranger(made: Path, tmp_path: Path) -> Path:
    """A sound Keras file that lies in no run folder."""
    return Path(shutil.copy(made / "model.keras", tmp_path / "mine.keras"))


def never(*_: object, **__: object) -> None:
    raise AssertionError("the file was opened")


def refused(load: Callable[[], object], path: Path, what: str) -> str:
    """The load is refused in one line that says where, what, and what to do."""
    with pytest.raises(ModelError) as raised:
        load()
    line = str(raised.value)
    assert line.startswith(f"{path}: ")
    assert what in line
    assert "\n" not in line
    assert raised.value.remedy
    return line


# --- recorded files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_its_run_folder_is_loaded_wherever_the_folder_lies(
    folder: Path, name: str
) -> None:
    expected = probabilities(keras.saving.load_model(folder / name, compile=False), GLYPHS)
    np.testing.assert_allclose(probabilities(load_keras(folder / name), GLYPHS), expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_byte_is_refused_before_keras_sees_it(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    monkeypatch.setattr(keras.saving, "load_model", never)
    line = refused(lambda: load_keras(folder / name), folder / name, "has changed since")
    assert "--trust" in line and "trust=True" in line and ".onnx" in line


def test_a_resumed_run_records_the_files_that_it_ends_with(tmp_path: Path) -> None:
    class CtrlC(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    folder = tmp_path / "run"
    run.train_run(RECIPE, DATA, folder, callbacks=[CtrlC()])
    first = run_folder.recorded_sha256(folder / "model.keras")
    load_keras(folder / "model.keras")
    run.resume_run(folder, DATA)
    assert run_folder.recorded_sha256(folder / "model.keras") != first
    for name in NAMES:
        load_keras(folder / name)


def test_what_is_exported_into_the_run_folder_is_recorded_if_its_source_is(folder: Path) -> None:
    (folder / "model.h5").unlink()
    source = str(folder / "model.keras")
    load_keras(convert.convert(source, "h5"))
    load_keras(convert.convert(source, "h5", folder / "other.h5"))
    copy = convert.convert(source, "h5", folder / "trusted.h5", trust=True)
    refused(lambda: load_keras(copy), copy, "does not record its sha256")
    assert json.loads((folder / "metrics.json").read_text())["recipe"] == "tiny"


# --- files that are not recorded --------------------------------------------------------------------


def test_a_file_from_elsewhere_is_refused_before_keras_sees_it(
    stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras.saving, "load_model", never)
    line = refused(lambda: load_keras(stranger), stranger, "it is not in a run folder")
    assert "--trust" in line and "trust=True" in line and ".onnx" in line


def test_a_trusted_file_is_loaded_in_safe_mode_from_a_copy(
    stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    real = keras.saving.load_model

    def load(path: Path, **options: Any) -> Any:
        seen.update(options, path=path, content=path.read_bytes())
        return real(path, **options)

    monkeypatch.setattr(keras.saving, "load_model", load)
    assert load_keras(stranger, trust=True).output_shape == (None, 10)
    assert (seen["safe_mode"], seen["compile"]) == (True, False)
    assert seen["content"] == stranger.read_bytes()
    assert seen["path"] != stranger and not seen["path"].exists()


@pytest.mark.parametrize("name", NAMES)
def test_files_of_older_runs_need_trust(folder: Path, name: str) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    del metrics["sha256"]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    refused(lambda: load_keras(folder / name), folder / name, "does not record its sha256")
    load_keras(folder / name, trust=True)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"sha256": 3}', '{"sha256": {"model.keras": 3}}', "{" * 9]
)
def test_a_damaged_record_records_nothing(folder: Path, content: str) -> None:
    (folder / "metrics.json").write_text(content)
    path = folder / "model.keras"
    refused(lambda: load_keras(path), path, "does not record its sha256")
    load_keras(path, trust=True)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_every_function_that_takes_a_keras_file_asks_for_trust(
    made: Path, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"mine{ending}"
    shutil.copy(made / f"model{ending}", path)
    out = tmp_path / "out.onnx"
    ways: list[Callable[[bool], object]] = [
        lambda trust: convert.load_artifact(str(path), trust=trust),
        lambda trust: convert.convert(str(path), "onnx", out, trust=trust),
        lambda trust: convert.convert(str(path), ending[1:], tmp_path / f"b{ending}", trust=trust),
        lambda trust: parent_of(str(path), RECIPE, trust=trust).build(),
    ]
    for way in ways:
        refused(lambda way=way: way(False), path, "is not trusted")
        way(True)
    other = shutil.copytree(made, tmp_path / "other")
    run.train_run(Recipe(**{**RECIPE.to_dict(), "seed": 1}), DATA, tmp_path / "second")
    pair = [str(path), str(tmp_path / "second")]
    refused(lambda: ensemble.join(pair, out), path, "is not trusted")
    ensemble.join(pair, out, trust=True)
    assert load_keras(other / f"model{ending}")


# --- trusted files that are refused -----------------------------------------------------------------


def chain(*layers: keras.Layer) -> keras.Model:
    return keras.Sequential(
        [
            keras.layers.Input((28, 28)),
            keras.layers.Flatten(),
            *layers,
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


@pytest.mark.parametrize("name", NAMES)
def test_python_code_in_a_file_is_refused_by_safe_mode_even_if_trusted(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    with keras_files.without_h5_warning():
        chain(keras.layers.Lambda(lambda x: x)).save(path)
    line = refused(lambda: load_keras(path, trust=True), path, "safe mode: ")
    assert "`Lambda` layer" in line


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_too_large_is_refused_before_it_is_read(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
    monkeypatch.setattr(Path, "read_bytes", never)
    refused(lambda: load_keras(path, trust=True), path, "is larger than 187 MiB")


def test_the_largest_model_that_is_built_fits_with_the_state_of_its_optimizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = chain(keras.layers.Dense(1_000))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    size = model.count_params()
    with keras_files.without_h5_warning():
        for name in NAMES:
            model.save(tmp_path / name)
            assert (tmp_path / name).stat().st_size < 3 * 4 * size + (4 << 20)
    monkeypatch.setattr(keras_files, "MAX_PARAMETERS", size - 1)
    path = tmp_path / "model.keras"
    refused(lambda: load_keras(path, trust=True), path, f"has {size:,} parameters")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("keep", [0, 20, 0.5, 0.99])
def test_a_damaged_file_is_refused_in_one_line(
    made: Path, tmp_path: Path, name: str, keep: float
) -> None:
    content = (made / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    line = refused(lambda: load_keras(path, trust=True), path, "")
    assert "digitry-" not in line  # the copy's name is not shown


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none.keras", tmp_path):
        refused(lambda path=path: load_keras(path, trust=True), path, "no such model")
