"""What a user sees of a training: its epochs, on a `digitry.progress.Display`."""

from types import TracebackType
from typing import TYPE_CHECKING

from digitry.progress import Display

if TYPE_CHECKING:
    from rich.console import Console

    from digitry.training.epochs import Epoch

PLAIN_INTERVAL = 30.0
"""Seconds without a word after which a long epoch says how far it is, where there is no terminal."""


class EpochDisplay:
    """Shows how far a training run is; a context manager.

    Args:
        console: where to; None = nowhere.
        epochs: of the run.
        images: an epoch.
    """

    def __init__(self, console: "Console | None", epochs: int, images: int) -> None:
        self.console, self.epochs, self.images = console, epochs, images
        self._display = Display(
            console,
            epochs * images,
            text="preparing",
            unit="images",
            every=PLAIN_INTERVAL,
            stays=True,
        )

    def __enter__(self) -> "EpochDisplay":
        self._display.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._display.__exit__(kind, error, trace)

    def due(self) -> bool:
        """Return whether it is time to look at the loss and show it; a look makes a GPU wait."""
        return self._display.due()

    def show(self, number: int, seen: int, loss: float, accuracy: float) -> None:
        """Show a point within an epoch: its number from 1, images seen in it, means so far."""
        text = f"epoch {number}/{self.epochs}"
        if self.console is not None and not self.console.is_terminal:
            text += f", {100 * seen // self.images}%"
        self._display.at(
            (number - 1) * self.images + seen,
            f"{text}  loss {loss:.4f}  accuracy {accuracy:.4f}",
        )

    def epoch(self, epoch: "Epoch") -> None:
        """Show a whole epoch: it is the bar's text, or a plain line."""
        if self.console is None:
            return
        if self.console.is_terminal:
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
        self._display.line("  ".join(parts))
