"""Logging to TensorBoard and MLflow: what they receive, and what happens if a server is missing."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("torch")

from digitry.errors import DigitryError, UnavailableError, UsageError
from digitry.training import run
from digitry.training.data.dataset import Dataset
from digitry.training.datasets import load_dataset
from digitry.training.loop import trackers
from digitry.training.recipes import RECIPES

RECIPE = replace(RECIPES["dense-128"], hidden=(8,), epochs=3, data="uci")


@pytest.fixture(scope="module")
def data() -> Dataset:
    whole = load_dataset("uci")
    return replace(whole, train=whole.train.take(np.arange(300)))


def train(folder: Path, data: Dataset, *names: str, **options: Any) -> run.Run:
    console = options.pop("console", None)
    with trackers.follow(names, RECIPE, folder, console=console) as callbacks:
        if options.pop("resume", False):
            return run.resume_run(folder, data, callbacks=callbacks)
        return run.train_run(
            RECIPE, data, folder, device="cpu", callbacks=callbacks, only=frozenset(), **options
        )


def test_an_unknown_or_missing_tracker_is_a_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UsageError, match="choose from: tensorboard, mlflow"):
        trackers.check(["wandb"])
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    for name in trackers.TRACKERS:
        with pytest.raises(UnavailableError) as caught:
            trackers.check([name])
        assert f"pip install 'digitry[{name}]'" in str(caught.value)
        assert caught.value.exit_code == 4


def test_without_a_tracker_there_are_no_callbacks(tmp_path: Path) -> None:
    with trackers.follow([], RECIPE, tmp_path / "never made") as callbacks:
        assert callbacks == []


# --- tensorboard ----------------------------------------------------------------------------------


def scalars(folder: Path, part: str) -> dict[str, list[tuple[int, float]]]:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = events.EventAccumulator(str(folder / trackers.EVENTS / part)).Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def test_tensorboard_gets_the_curves_of_the_history(data: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    done = train(tmp_path / "run", data, "tensorboard", "tensorboard")
    trained, held = (scalars(done.folder, part) for part in ("train", "validation"))
    assert set(trained) == set(held) == {"epoch_loss", "epoch_accuracy"}
    for curves, field in ((trained, "{}"), (held, "val_{}")):
        for name in ("loss", "accuracy"):
            values = [getattr(epoch, field.format(name)) for epoch in done.history]
            assert [step for step, _ in curves[f"epoch_{name}"]] == [0, 1, 2]
            np.testing.assert_allclose([v for _, v in curves[f"epoch_{name}"]], values, rtol=1e-6)
    (last,) = scalars(done.folder, "test")["epoch_accuracy"]
    assert last == (2, pytest.approx(done.test.accuracy))


def test_a_resumed_training_goes_on_in_the_same_curves(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    real = trackers.TensorBoardLog.on_epoch_end

    def stop(self: Any, epoch: int, logs: Any = None) -> None:
        if epoch == 2:
            raise DigitryError("stopped")
        real(self, epoch, logs)

    monkeypatch.setattr(trackers.TensorBoardLog, "on_epoch_end", stop)
    with pytest.raises(DigitryError, match="stopped"):
        train(tmp_path / "run", data, "tensorboard")
    monkeypatch.setattr(trackers.TensorBoardLog, "on_epoch_end", real)
    train(tmp_path / "run", data, "tensorboard", resume=True)
    curve = scalars(tmp_path / "run", "train")["epoch_loss"]
    assert [step for step, _ in curve] == [0, 1, 2]


# --- mlflow ---------------------------------------------------------------------------------------


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """MLflow with a store of its own, in files, which it makes faster than tables."""
    pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'digitry[mlflow]'")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return MlflowClient()


def test_mlflow_gets_recipe_epochs_and_scores(client: Any, data: Dataset, tmp_path: Path) -> None:
    done = train(tmp_path / "run", data, "mlflow")
    kept = json.loads((done.folder / trackers.MLFLOW).read_text())
    told = client.get_run(kept["run_id"])
    assert told.info.status == "FINISHED"
    assert told.info.run_name == "run"
    assert told.data.params["hidden"] == "[8]"
    assert told.data.params["optimizer"] == "adam"
    assert told.data.metrics["test_accuracy"] == pytest.approx(done.test.accuracy)
    curve = client.get_metric_history(kept["run_id"], "val_loss")
    assert [one.step for one in curve] == [0, 1, 2]
    assert [one.value for one in curve] == pytest.approx([e.val_loss for e in done.history])
    experiment = client.get_experiment(told.info.experiment_id)
    assert experiment.name == "digitry"


def test_a_resumed_training_goes_on_in_the_same_mlflow_run(
    client: Any, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run._finish
    monkeypatch.setattr(run, "_finish", lambda *_: (_ for _ in ()).throw(DigitryError("full")))
    with pytest.raises(DigitryError, match="full"):
        train(tmp_path / "run", data, "mlflow")
    kept = json.loads((tmp_path / "run" / trackers.MLFLOW).read_text())["run_id"]
    assert client.get_run(kept).info.status == "FAILED"
    monkeypatch.setattr(run, "_finish", real)
    train(tmp_path / "run", data, "mlflow", resume=True)
    assert client.get_run(kept).info.status == "FINISHED"
    experiment = client.get_experiment_by_name("digitry").experiment_id
    assert len(client.search_runs([experiment])) == 1


def test_a_server_that_stops_answering_does_not_end_a_training(
    client: Any, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    def silent(*_: Any, **__: Any) -> None:
        raise MlflowException("connection refused\nand much more")

    monkeypatch.setattr(MlflowClient, "log_metric", silent)
    text = io.StringIO()
    done = train(tmp_path / "run", data, "mlflow", console=Console(file=text, width=200))
    assert len(done.history) == 3
    assert text.getvalue().count("MLflow no longer answers (connection refused)") == 1


def test_a_missing_server_is_an_error_before_the_training(
    client: Any, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UnavailableError, match="MLflow does not answer"):
        train(tmp_path / "run", data, "mlflow")
    assert not (tmp_path / "run").exists()


def test_a_store_without_its_package_names_the_install_command(
    client: Any, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import tracking as theirs

    def lacking() -> None:
        raise ModuleNotFoundError("No module named 'alembic'")

    monkeypatch.setattr(theirs, "MlflowClient", lacking)
    with pytest.raises(UnavailableError, match=r"alembic.*pip install 'digitry\[mlflow\]'"):
        train(tmp_path / "run", data, "mlflow")


def test_mlflow_is_only_loaded_on_request() -> None:
    import subprocess

    code = (
        "import sys\n"
        "from digitry.training.loop import trackers as tracking\n"
        "assert not {'mlflow', 'tensorboard', 'torch.utils.tensorboard'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
