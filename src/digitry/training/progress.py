"""What a user sees while work goes on: one live line on a terminal, else plain lines."""

import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from digitry.training.epochs import Epoch

INTERVAL = 0.2
"""Seconds between two looks at the loss; a look makes a GPU wait."""

PLAIN_INTERVAL = 30.0
"""Seconds without a word after which a long epoch says how far it is, where there is no terminal."""


class _Bar:
    """A bar on a terminal, which stands still from the end of its context on."""

    _progress: "Progress | None" = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()


class Display(_Bar):
    """Shows how far a training run is; a context manager.

    Args:
        console: where to; None = nowhere.
        epochs: of the run.
        images: an epoch.
    """

    def __init__(self, console: "Console | None", epochs: int, images: int) -> None:
        self.console, self.epochs, self.images = console, epochs, images
        self._last = 0.0
        self._pace: tuple[float, int] | None = None

    def __enter__(self) -> "Display":
        self._last = time.perf_counter()
        if self.console is not None and self.console.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[pace]}"),
                TimeRemainingColumn(compact=True),
                console=self.console,
                expand=True,
            )
            total = self.epochs * self.images
            self._task = self._progress.add_task("preparing", total=total, pace="")
            self._progress.start()
        return self

    def due(self) -> bool:
        """Tell whether it is time to look at the loss and show it."""
        interval = INTERVAL if self._progress is not None else PLAIN_INTERVAL
        return self.console is not None and time.perf_counter() - self._last > interval

    def show(self, number: int, seen: int, loss: float, accuracy: float) -> None:
        """Show a point within an epoch: its number from 1, images seen in it, means so far."""
        if self.console is None:
            return
        now, done = time.perf_counter(), (number - 1) * self.images + seen
        pace = ""
        if self._pace is not None and now > self._pace[0] and done > self._pace[1]:
            pace = f"{(done - self._pace[1]) / (now - self._pace[0]):,.0f} images/s"
        else:
            # A resumed run begins in the middle.
            self._pace = (now, done)
        self._last = now
        text = f"epoch {number}/{self.epochs}  loss {loss:.4f}  accuracy {accuracy:.4f}"
        if self._progress is not None:
            self._progress.update(self._task, completed=done, description=text, pace=pace)
        else:
            text = text.replace("  ", f", {100 * seen // self.images}%  ", 1)
            self.console.print(f"{text}  {pace}".rstrip(), highlight=False, soft_wrap=True)

    def epoch(self, epoch: "Epoch") -> None:
        """Show a whole epoch."""
        if self.console is None:
            return
        if self._progress is not None:
            self.show(epoch.number, self.images, epoch.loss, epoch.accuracy)
            return
        parts = [
            f"epoch {epoch.number}/{self.epochs}",
            f"loss {epoch.loss:.4f}",
            f"accuracy {epoch.accuracy:.4f}",
        ]
        if epoch.val_loss is not None and epoch.val_accuracy is not None:
            parts += [f"val_loss {epoch.val_loss:.4f}", f"val_accuracy {epoch.val_accuracy:.4f}"]
        parts.append(f"{epoch.seconds:.2f} s")
        self._last = time.perf_counter()
        self.console.print("  ".join(parts), highlight=False, soft_wrap=True)


class Steps(_Bar):
    """Shows how much of a list of things is done; a context manager.

    Args:
        console: where to; None = nowhere.
        total: things.
    """

    def __init__(self, console: "Console | None", total: int) -> None:
        self.console, self.total = console, total

    def __enter__(self) -> "Steps":
        if self.console is not None and self.console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
            from rich.progress import TimeRemainingColumn as Remaining

            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                Remaining(compact=True),
                console=self.console,
                expand=True,
                transient=True,
            )
            self._task = self._progress.add_task("", total=self.total)
            self._progress.start()
        return self

    def at(self, done: int, text: str) -> None:
        """Move the bar on a terminal: things done, and what is at hand."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done, description=text)

    def line(self, text: str) -> None:
        """Print a line that stays; on a terminal above the bar."""
        if self.console is not None:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)
