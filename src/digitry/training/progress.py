"""Shows the epochs of a training on a `digitry.progress.Display`."""

from typing import TYPE_CHECKING

from digitry.progress import Display

if TYPE_CHECKING:
    from rich.console import Console

    from digitry.training.epochs import Epoch

PLAIN_INTERVAL = 30.0
"""Seconds between progress lines within an epoch, if the output is not a terminal."""


class EpochDisplay(Display):
    """Shows the progress of a training run; a context manager.

    Args:
        console: where it is shown; None = nowhere.
        epochs: number of epochs of the run.
        images: number of images per epoch.
    """

    def __init__(self, console: "Console | None", epochs: int, images: int) -> None:
        self.epochs, self.images = epochs, images
        super().__init__(
            console,
            epochs * images,
            text="preparing",
            unit="images",
            every=PLAIN_INTERVAL,
            stays=True,
        )

    def show(self, number: int, seen: int, loss: float, accuracy: float) -> None:
        """Show the progress within an epoch.

        Args:
            number: of the epoch, counted from 1.
            seen: images seen in this epoch.
            loss: mean so far in this epoch.
            accuracy: mean so far in this epoch, in [0, 1].
        """
        text = f"epoch {number}/{self.epochs}"
        if not self.live:
            text += f", {100 * seen // self.images}%"
        self.at(
            (number - 1) * self.images + seen,
            f"{text}  loss {loss:.4f}  accuracy {accuracy:.4f}",
        )

    def epoch(self, epoch: "Epoch") -> None:
        """Show a complete epoch: as the text of the progress bar, or as a line without a bar."""
        if self.console is None:
            return
        if self.live:
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
        self.line("  ".join(parts))
