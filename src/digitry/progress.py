"""Progress: a live bar on a terminal, else a plain line every few seconds."""

import sys
import time
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

T = TypeVar("T")

LIVE_INTERVAL = 0.2
"""Seconds between updates on a terminal."""
PLAIN_INTERVAL = 5.0
"""Seconds between plain lines without a terminal."""
SPEED_SECONDS = 600.0
"""Seconds over which speed is averaged for the time left: some steps take minutes."""


class Display:
    """A context manager that shows the progress of work.

    Attributes:
        live: whether it is a bar; else it is plain lines.

    Args:
        console: where to show it; None = nowhere.
        total: total units of work; None = not known yet.
        text: what a terminal shows before the first `at`.
        unit: what is counted; if given, the speed is shown, too.
        every: seconds between plain lines; None = `PLAIN_INTERVAL`.
        stays: whether the bar stays on the terminal at the end.
    """

    def __init__(
        self,
        console: "Console | None",
        total: float | None = None,
        *,
        text: str = "",
        unit: str = "",
        every: float | None = None,
        stays: bool = False,
    ) -> None:
        self.console, self._total, self._text = console, total, text
        self._unit, self._stays = unit, stays
        self._every = PLAIN_INTERVAL if every is None else every
        self.live = console is not None and _is_live(console)
        self._progress: Progress | None = None
        self._shown = 0.0

    def __enter__(self) -> Self:
        self._shown = time.monotonic()
        if self.console is None:
            return self
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._left: TimeRemainingColumn = TimeRemainingColumn(compact=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            self._left,
            console=self.console,
            expand=True,
            transient=not self._stays,
            speed_estimate_period=SPEED_SECONDS,
            # If stdout is a file, its text must not be redirected to the terminal.
            redirect_stdout=sys.stdout.isatty(),
            disable=not self.live,
        )
        self._task = self._progress.add_task(self._text, total=self._total)
        if self.live:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Without a terminal, `stop` would print an empty line.
        if self._progress is not None and self.live:
            self._progress.stop()

    def due(self) -> bool:
        """Return whether it is time for the next update, so that callers can skip costly ones."""
        interval = LIVE_INTERVAL if self.live else self._every
        return self.console is not None and time.monotonic() - self._shown >= interval

    def at(self, done: float, text: str, *, total: float | None = None) -> None:
        """Show the progress: at once on a terminal, else if the next plain line is due.

        Args:
            done: units of work done; may start above 0, as in a resumed run.
            text: what is being done.
            total: total units, if now known.
        """
        if self._progress is None:
            return
        due = self.due()
        self._progress.update(self._task, completed=done, total=total)
        task = self._progress.tasks[0]
        if self._unit and task.speed:
            text = f"{text}  {task.speed:,.0f} {self._unit}/s"
        if self.live:
            self._progress.update(self._task, description=text)
            self._shown = time.monotonic()
        elif due:
            left = self._left.render(task).plain if task.time_remaining is not None else ""
            self.line(f"{text}, {left} left" if left else text)

    def line(self, text: str) -> None:
        """Print a permanent line; on a terminal above the bar."""
        if self.console is not None:
            self._shown = time.monotonic()
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _is_live(console: "Console") -> bool:
    """Return whether a bar can be drawn again and again: on a terminal, or in a notebook with widgets."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


def track(items: Iterable[T], total: int, what: str, console: "Console | None") -> Iterator[T]:
    """Yield the items, and show how many are done.

    Args:
        items: an iterable that may be slow.
        total: number of items.
        what: what is done with them, e.g. `reading`.
        console: where to show it; None = nowhere.
    """
    with Display(console, total) as display:
        for count, item in enumerate(items, 1):
            yield item
            if display.due():
                display.at(count, f"{what}, {count:,} of {total:,}")
