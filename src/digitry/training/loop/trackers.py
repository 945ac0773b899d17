"""Logs a training to TensorBoard or MLflow, through Keras' callbacks.

TensorBoard's files are written into the run folder, or that of a sweep's training, with the layout
of Keras' own callback (which needs TensorFlow): `tensorboard --logdir runs`. MLflow's run goes to
MLFLOW_TRACKING_URI, by default to a file `mlflow.db` in the working folder: `mlflow ui`.
"""

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitry import __version__, files
from digitry.errors import UnavailableError, UsageError
from digitry.training import run_folder
from digitry.training.network.build import keras
from digitry.training.recipes import Recipe
from digitry.training.run_folder import Run

if TYPE_CHECKING:
    from rich.console import Console

TRACKERS = ("tensorboard", "mlflow")
EVENTS = "tensorboard"
MLFLOW = "mlflow.json"
"""Names in a run folder: TensorBoard's events; the id of the MLflow run that a resumed run continues."""


def check(names: Sequence[str]) -> None:
    """Check that these trackers are known and installed.

    Raises:
        UsageError: one is not among `TRACKERS`.
        UnavailableError: its package is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise UsageError(
                f"{name!r} is not a tracker",
                where="--log",
                remedy=f"choose from: {', '.join(TRACKERS)}",
            )
        if find_spec(name) is None:
            raise UnavailableError(
                f"needs the package {name}", where="--log", remedy=f"pip install 'digitry[{name}]'"
            )


@contextlib.contextmanager
def follow(
    names: Sequence[str],
    recipe: Recipe,
    folder: Path,
    *,
    console: "Console | None" = None,
    scored: bool = True,
) -> Iterator[list[Any]]:
    """Yield the callbacks that log a training, and log its scores when the block ends.

    Args:
        names: among `TRACKERS`; none = no callbacks.
        recipe: what is trained.
        folder: of the run; the scores are read from it when the block ends without an error.
        console: shows a message when a tracker no longer answers; None = nothing.
        scored: whether the folder is a run folder with scores; a training of a sweep has none.

    Raises:
        UsageError: a tracker is not known.
        UnavailableError: its package is not installed, or its server does not answer.
    """
    check(names)
    made: dict[str, Any] = {"tensorboard": TensorBoardLog, "mlflow": MlflowLog}
    trackers: list[Any] = [made[name](recipe, folder, console) for name in dict.fromkeys(names)]
    try:
        yield trackers
    except BaseException:
        for tracker in trackers:
            tracker.fail()
        raise
    run = run_folder.load_run(folder) if trackers and scored else None
    for tracker in trackers:
        if run is not None:
            tracker.log_scores(run)
        tracker.finish(killed=run is not None and run.metrics["interrupted"])


class TensorBoardLog(keras.callbacks.Callback):  # type: ignore[misc]
    """Writes TensorBoard's event files: `train`, `validation` and `test` as separate curves."""

    def __init__(self, recipe: Recipe, folder: Path, console: "Console | None" = None) -> None:
        super().__init__()
        self.recipe, self.folder = recipe, folder / EVENTS
        self._writers: dict[str, Any] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        """Write the recipe as a table."""
        rows = [f"| {name} | {value} |" for name, value in self.recipe.to_dict().items()]
        text = "\n".join(["| field | value |", "| --- | --- |", *rows])
        self._writer("train").add_text("recipe", text)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write an epoch's losses and accuracies."""
        for name, value in (logs or {}).items():
            part = "validation" if name.startswith("val_") else "train"
            self._writer(part).add_scalar(f"epoch_{name.removeprefix('val_')}", value, epoch)
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self, logs: Any = None) -> None:
        """Release the files."""
        self._close()

    def log_scores(self, run: Run) -> None:
        """Write the test scores, at the last epoch."""
        test, last = run.test, max(len(run.history) - 1, 0)
        for name in ("loss", "accuracy", "ece"):
            self._writer("test").add_scalar(f"epoch_{name}", getattr(test, name), last)

    def finish(self, *, killed: bool) -> None:
        """Release the files."""
        self._close()

    def fail(self) -> None:
        """Release the files."""
        self._close()

    def _writer(self, part: str) -> Any:
        # Created late: the run folder must be empty when the training starts.
        from torch.utils.tensorboard import SummaryWriter

        if part not in self._writers:
            self._writers[part] = SummaryWriter(str(self.folder / part))
        return self._writers[part]

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()


class MlflowLog(keras.callbacks.Callback):  # type: ignore[misc]
    """Logs the recipe, each epoch and the scores to MLflow.

    It uses its own client and changes neither the active run nor the tracking address of the process.
    If the server stops answering during a training, one message says so and the training continues.
    """

    def __init__(self, recipe: Recipe, folder: Path, console: "Console | None" = None) -> None:
        super().__init__()
        # Users have not agreed to send MLflow's usage data.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self.recipe, self.folder, self.console = recipe, folder, console
        self._errors: tuple[type[Exception], ...] = (MlflowException, OSError)
        self._run = ""
        self._answers = True
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "digitry")
        # MLflow logs many lines when it creates its tables.
        logger = logging.getLogger("mlflow")
        level = logger.level
        logger.setLevel(logging.WARNING)
        try:
            self.client = MlflowClient()
            found = self.client.get_experiment_by_name(name)
            self._experiment = (
                self.client.create_experiment(name) if found is None else found.experiment_id
            )
        except ImportError as error:
            raise UnavailableError(
                f"MLflow cannot open its store ({error})",
                where="--log",
                remedy="pip install 'digitry[mlflow]', or set MLFLOW_TRACKING_URI to a server",
            ) from error
        except self._errors as error:
            raise UnavailableError(
                f"MLflow does not answer ({_first_line(error)})",
                where="--log",
                remedy="check MLFLOW_TRACKING_URI, or train without --log mlflow",
            ) from error
        finally:
            logger.setLevel(level)

    def on_train_begin(self, logs: Any = None) -> None:
        """Start a run with the recipe as its parameters, or continue the run of this folder."""
        self._send(self._begin)

    def _begin(self) -> None:
        kept = self.folder / MLFLOW
        if kept.exists():
            self._run = json.loads(kept.read_text(encoding="utf-8"))["run_id"]
            self.client.update_run(self._run, status="RUNNING")
            return
        run = self.client.create_run(
            self._experiment,
            run_name=self.folder.resolve().name,
            tags={"digitry": __version__, "folder": str(self.folder.resolve())},
        )
        self._run = run.info.run_id
        files.write_json(kept, {"run_id": self._run})
        for name, value in self.recipe.to_dict().items():
            self.client.log_param(self._run, name, value)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Log an epoch's losses and accuracies."""
        self._send(lambda: self._log(logs or {}, epoch))

    def log_scores(self, run: Run) -> None:
        """Log the test scores."""
        test, last = run.test, max(len(run.history) - 1, 0)
        names = ("loss", "accuracy", "accuracy_undisputed", "ece", "calibrated_ece")
        scores = {f"test_{name}": getattr(test, name) for name in names}
        scores["fit_seconds"] = run.metrics["fit_seconds"]
        self._send(lambda: self._log(scores, last))

    def finish(self, *, killed: bool) -> None:
        """Mark the run as finished or killed."""
        status = "KILLED" if killed else "FINISHED"
        self._send(lambda: self.client.set_terminated(self._run, status=status))

    def fail(self) -> None:
        """Mark the run as failed."""
        if self._run:
            self._send(lambda: self.client.set_terminated(self._run, status="FAILED"))

    def _log(self, values: Mapping[str, float | None], step: int) -> None:
        for name, value in values.items():
            if value is not None:
                self.client.log_metric(self._run, name, float(value), step=step)

    def _send(self, work: Callable[[], object]) -> None:
        if not self._answers:
            return
        try:
            work()
        except self._errors as error:
            self._answers = False
            if self.console is not None:
                self.console.print(
                    f"MLflow no longer answers ({_first_line(error)}); the training continues",
                    highlight=False,
                    markup=False,
                    soft_wrap=True,
                )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
