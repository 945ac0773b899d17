"""What a user sees while work goes on: one moving line on a terminal, else a plain line now and then."""

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

T = TypeVar("T")

LIVE_INTERVAL = 0.2
"""Seconds between two looks at the work, on a terminal."""
PLAIN_INTERVAL = 5.0
"""Seconds without a word after which a plain line says how far the work is, where there is none."""
SPEED_SECONDS = 600.0
"""The time left goes by the speed of so many last seconds: some steps take minutes."""


class Display:
    """Shows how far work is; a context manager.

    Args:
        console: where to; None = nowhere.
        total: units of work in all; None = not known yet.
        text: what a terminal shows before the first `at`.
        unit: what is counted; where it is named, the speed is shown, too.
        every: seconds between two plain lines; None = `PLAIN_INTERVAL`.
        stays: whether the bar is left on the terminal when the work has ended.
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
        self._live = console is not None and console.is_terminal
        self._progress: Progress | None = None
        self._shown = 0.0

    def __enter__(self) -> "Display":
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
            # What the program prints into a file must not land on the terminal, above the bar.
            redirect_stdout=sys.stdout.isatty(),
            disable=not self._live,
        )
        self._task = self._progress.add_task(self._text, total=self._total)
        if self._live:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Elsewhere than on a terminal a stop leaves an empty line.
        if self._progress is not None and self._live:
            self._progress.stop()

    def due(self) -> bool:
        """Return whether it is time to look at the work again: a look may cost."""
        interval = LIVE_INTERVAL if self._live else self._every
        return self.console is not None and time.monotonic() - self._shown >= interval

    def at(self, done: float, text: str, *, total: float | None = None) -> None:
        """Show how far the work is: at once on a terminal, else if it is time for a plain line.

        Args:
            done: units of work; may begin at any number, as a resumed run's do.
            text: what is at hand.
            total: units in all, if that has become known.
        """
        if self._progress is None:
            return
        due = self.due()
        self._progress.update(self._task, completed=done, total=total)
        task = self._progress.tasks[0]
        if self._unit and task.speed:
            text = f"{text}  {task.speed:,.0f} {self._unit}/s"
        if self._live:
            self._progress.update(self._task, description=text)
            self._shown = time.monotonic()
        elif due:
            left = self._left.render(task).plain if task.time_remaining is not None else ""
            self.line(f"{text}, {left} left" if left else text)

    def line(self, text: str) -> None:
        """Print a line that stays; on a terminal above the bar."""
        if self.console is not None:
            self._shown = time.monotonic()
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def track(items: Iterable[T], total: int, what: str, console: "Console | None") -> Iterator[T]:
    """Pass items on, and show how many have been.

    Args:
        items: each may take long to come.
        total: how many there are.
        what: is done with them: `reading`.
        console: where to; None = nowhere.
    """
    with Display(console, total) as display:
        for count, item in enumerate(items, 1):
            yield item
            if display.due():
                display.at(count, f"{what}, {count:,} of {total:,}")
