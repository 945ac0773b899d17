"""A killed and resumed run ends with the same bytes as an uninterrupted one; a bad one is refused."""

import dataclasses
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from digitry.errors import DataError, ModelError, UsageError
from digitry.training.data.dataset import Split
from digitry.training.loop import checkpoint
from digitry.training.loop.train import train
from digitry.training.network.build import keras
from digitry.training.recipes import Recipe

from ..waiting import PATIENCE_S

TINY = Recipe(name="tiny", hidden=(8,), batch_size=16, epochs=2)


def noise(seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    return Split(
        rng.integers(0, 256, (40, 28, 28)).astype(np.uint8),
        rng.integers(0, 10, 40).astype(np.uint8),
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.npz"
    train(TINY, noise(), device="cpu", checkpoint=path)
    return path


def test_wherever_a_run_is_killed_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed_runs.py")), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    deaths = [line[1:] for line in lines if line[0] == "died"]
    # Killed in the third epoch, in the fourth, in writing the second, before moving the third.
    whole = [["killed", "2"], ["killed", "3"], ["killed", "1"], ["killed", "2"]]
    assert deaths == [*whole, *whole, ["killed", "2"]]
    results = {line[0]: line[1:] for line in lines if line[0] != "died"}
    for name in ("full", "dense"):
        unbroken = results.pop(f"{name}-unbroken")
        points = ["step", "late-step", "write", "move", "again"]
        points += ["longer"] if name == "dense" else []
        for point in points:
            assert results.pop(f"{name}-{point}") == unbroken, f"{name}-{point}"
    # Early stopping ended it before its eighth epoch, as in the uninterrupted run.
    assert int(results["patient-unbroken"][0]) < 8
    assert results.pop("patient-step") == results.pop("patient-unbroken")
    assert not results


def test_the_checkpoint_is_plain_arrays_and_json(saved: Path) -> None:
    with np.load(saved, allow_pickle=False) as archive:
        assert all(archive[name].dtype != object for name in archive.files)
    found = checkpoint.load(saved)
    assert found.recipe == TINY
    assert [epoch["number"] for epoch in found.facts["history"]] == [1, 2]


def test_a_missing_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint to resume from"):
        train(TINY, noise(), device="cpu", checkpoint=tmp_path / "none.npz", resume=True)


def test_another_recipe_is_refused_by_field(saved: Path) -> None:
    other = dataclasses.replace(TINY, hidden=(9,), seed=3)
    with pytest.raises(UsageError, match=r"hidden \[8\] -> \[9\], seed 0 -> 3"):
        train(other, noise(), device="cpu", checkpoint=saved, resume=True)


def test_more_epochs_are_accepted(saved: Path) -> None:
    longer = dataclasses.replace(TINY, epochs=3)
    trained = train(longer, noise(), device="cpu", checkpoint=saved, resume=True)
    assert [epoch.number for epoch in trained.history] == [1, 2, 3]


def test_other_data_are_refused(saved: Path) -> None:
    with pytest.raises(DataError, match="differs from that of the interrupted run"):
        train(TINY, noise(1), device="cpu", checkpoint=saved, resume=True)


@pytest.mark.parametrize("part", [0, 1, 100, 0.5, 0.99])
def test_a_cut_checkpoint_is_refused(saved: Path, part: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(part * len(content)) if part < 1 else int(part)])
    with pytest.raises(ModelError, match="damaged or not a checkpoint"):
        train(TINY, noise(), device="cpu", checkpoint=saved, resume=True)


def test_a_flipped_bit_is_refused(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    with zipfile.ZipFile(saved) as archive:
        entry = archive.getinfo("array_weights.npy")
    content[entry.header_offset + 1000] ^= 1
    saved.write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        checkpoint.load(saved)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    np.savez(path, facts=np.array({"format": 1}, dtype=object))
    with pytest.raises(ModelError, match="not a checkpoint"):
        checkpoint.load(path)


def test_a_missing_or_misshapen_array_is_refused(saved: Path) -> None:
    found = checkpoint.load(saved)
    for arrays in (
        {name: found.arrays[name] for name in found.arrays if name != "weights"},
        {**found.arrays, "weights": np.zeros(3, np.float32)},
    ):
        checkpoint.save(saved, dataclasses.replace(found, arrays=arrays))
        with pytest.raises(ModelError, match="damaged"):
            train(TINY, noise(), device="cpu", checkpoint=saved, resume=True)


def test_a_later_format_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = checkpoint.load(saved)
    monkeypatch.setattr(checkpoint, "FORMAT_VERSION", 3)
    checkpoint.save(saved, found)
    monkeypatch.undo()
    with pytest.raises(ModelError, match="format 3; this digitry reads format 2"):
        checkpoint.load(saved)


def test_a_learning_rate_that_a_callback_set_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"

    class Lower(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 0.0005

    train(TINY, noise(), device="cpu", checkpoint=path, callbacks=[Lower()])
    longer = dataclasses.replace(TINY, epochs=3)
    trained = train(longer, noise(), device="cpu", checkpoint=path, resume=True)
    assert trained.history[-1].learning_rate == pytest.approx(0.0005)
