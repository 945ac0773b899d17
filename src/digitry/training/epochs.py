"""The epochs of a run as CSV and JSON; needs neither Keras nor PyTorch."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from digitry.plain import Plain


@dataclass(frozen=True)
class Epoch(Plain):
    """The result of one pass over the training images.

    Attributes:
        number: counted from 1.
        loss: mean over the training images, each measured when its batch was trained on.
        accuracy: the same for the accuracy, in [0, 1].
        val_loss: mean over the held-out images after the epoch; None if there are none.
        val_accuracy: the same for the accuracy, in [0, 1].
        learning_rate: of the epoch's last step.
        seconds: of training and validation.
    """

    number: int
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    learning_rate: float
    seconds: float


def from_rows(rows: Iterable[dict[str, Any]]) -> tuple[Epoch, ...]:
    """Return epochs from their JSON form.

    Raises:
        TypeError: a row has other fields.
    """
    return tuple(Epoch.from_dict(row) for row in rows)


def to_rows(epochs: Iterable[Epoch]) -> list[dict[str, Any]]:
    """Return the JSON form."""
    return [epoch.to_dict() for epoch in epochs]


def to_csv(epochs: Iterable[Epoch]) -> str:
    """Return the text of history.csv: the field names with `epoch` first, then one line per epoch."""
    names = [field.name for field in fields(Epoch)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", *names[1:]])
    for epoch in epochs:
        row = [getattr(epoch, name) for name in names]
        writer.writerow(["" if value is None else value for value in row])
    return text.getvalue()
