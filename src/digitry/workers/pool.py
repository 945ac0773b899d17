"""Readers in processes of their own, which may be killed: whatever an image does, it does it there.

A decoder is C code fed by strangers. So each worker is a fresh interpreter with one reader, and, once
that is loaded, with limits: on its address space, on the processor time for each request, on files
(none may be written). The supervisor limits the time on the clock, and replaces a worker that went. The
image that did it gets an error of its own. A worker gets bytes and answers with JSON: it never sees a
path, and the parent never unpickles what it says.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from digitry.errors import DigitryError, ImageError, UnavailableError, UsageError
from digitry.model.load import load_model
from digitry.reading.result import Reading
from digitry.workers.answer import answered
from digitry.workers.supervisor import Cause, Health, LostError, Supervisor, Worker
from digitry.workers.worker import Item, as_line, failed_row, packed

if TYPE_CHECKING:
    from digitry.reading.reader import Layout

WALL_S, CPU_S = 2.0, 2.0
MEMORY_BYTES = 1 << 30
"""Address space that one request may take beyond what the loaded reader has."""

BATCH = 64
SMALL_BYTES = 32 << 10
"""Small images are read together, as `read_many` does; a larger one gains nothing by company."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The answers to some items, each one JSON object in one line of UTF-8.

    Attributes:
        lines: one for each item, in order: a Reading with offset, status and reason, without `ms`.
        rejected: how many of them were read, but not accepted.
        failed: (index, reason) of each that could not be read.
    """

    lines: tuple[bytes, ...]
    rejected: int
    failed: tuple[tuple[int, str], ...]


class WorkerPool:
    """Some killable readers; may be used from several threads at once.

    Args:
        model: the name of a shipped model, a .onnx file, or a run folder.
        layout: of images for which no other is given.
        workers: processes.
        max_error: as for `Reader`.
        max_pixels: larger images are refused.
        wall_s: seconds on the clock that one request may take.
        cpu_s: seconds of processor time that one request may take.
        memory_bytes: address space that one request may take beyond what the loaded reader has.

    Raises:
        ModelError: the model is missing, damaged, or not ours.
        UsageError: a number makes no sense.
        UnavailableError: this system has no POSIX processes and limits, or starts no worker.
    """

    def __init__(
        self,
        model: str | Path = "reader",
        layout: "Layout" = "auto",
        workers: int = 2,
        *,
        max_error: float | None = None,
        max_pixels: int | None = None,
        wall_s: float = WALL_S,
        cpu_s: float = CPU_S,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        if os.name != "posix":
            raise UnavailableError(
                "killable workers need Linux or macOS",
                remedy="use WSL, or `digitry read` in one process",
            )
        if workers < 1 or wall_s <= 0 or cpu_s <= 0 or memory_bytes < 1:
            raise UsageError(
                f"{workers} workers with {wall_s:g} s, {cpu_s:g} s of computing and "
                f"{memory_bytes} bytes make no sense",
                remedy="give positive numbers",
            )
        self.artifact = load_model(model)
        """The model that the workers read with."""
        self.size = workers
        self._layout = layout
        config = {
            # A name, as it stands now: a worker that is started later must not read with another
            # version, if one is promoted meanwhile.
            "model": str(model) if self.artifact.version is None else self.artifact.reference,
            "sha256": self.artifact.fingerprint,
            "layout": layout,
            "max_error": max_error,
            "max_pixels": max_pixels,
            "wall_s": wall_s,
            "cpu_s": cpu_s,
            "memory_bytes": memory_bytes,
        }
        self._supervisor = Supervisor(config, workers)
        # The first to be ready tells whether the model can be run at all; better here than in a request.
        try:
            self.give_back(self._taken(None))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(
        self,
        content: bytes,
        name: str = "<bytes>",
        *,
        layout: "Layout | None" = None,
        wait_s: float | None = None,
    ) -> Reading | DigitryError:
        """Read one image; an error is given, not raised, because it is an answer like another.

        Args:
            content: the bytes of an image file.
            name: what the reading calls the source.
            layout: in place of the pool's own.
            wait_s: seconds to wait for a free worker; None = until there is one.

        Returns:
            The reading; ImageError where the image cannot be read, or made its worker crash or take
            too long; UnavailableError where no worker became free in time.
        """
        try:
            options = {"layout": layout or self._layout}
            _, row = self._ask([Item(name, content)], options, wait_s)
        except LostError as death:
            return blamed(name, str(death))
        except DigitryError as error:
            return error
        found = answered(json.loads(row), name)
        return found if isinstance(found, DigitryError) else found.reading

    def rows(self, items: Sequence[Item]) -> Rows:
        """Read some images to the rows of a table; the same images always give the same bytes.

        Small images that come together are read together. Where such a group kills its worker, its
        images are read again one by one, and only the culprit fails.

        Raises:
            ModelError, UnavailableError: no worker runs, and none can be started.
        """
        lines: list[bytes] = []
        failed: list[tuple[int, str]] = []
        rejected = 0
        for group in groups(items):
            for answer in self._answers(group):
                notes = json.loads(answer[0])
                failed += [(len(lines) + index, reason) for index, reason in notes["failed"]]
                rejected += notes["rejected"]
                lines += answer[1:]
        return Rows(tuple(lines), rejected, tuple(failed))

    def lend(self) -> Worker | None:
        """Lend a READY worker to an event loop, to be given back; None if there is none now."""
        return self._supervisor.take(0.0)

    def give_back(self, worker: Worker) -> None:
        """Give back a worker that was lent."""
        self._supervisor.give_back(worker)

    def health(self) -> Health:
        """Return how the workers are now."""
        return self._supervisor.health()

    def pids(self) -> list[int]:
        """Return the process ids of the workers that there are now."""
        return [worker.process.pid for worker in self._supervisor.workers()]

    def close(self) -> None:
        """End the workers; requests under way fail."""
        self._supervisor.close()

    def _taken(self, wait_s: float | None) -> Worker:
        worker = self._supervisor.take(wait_s)
        if worker is None:
            raise UnavailableError("all readers are busy", remedy="try again later")
        return worker

    def _answers(self, group: list[Item]) -> Iterator[list[bytes]]:
        try:
            yield self._ask(group, None, None)
            return
        except LostError as death:
            if len(group) == 1:
                yield self._failed(group[0], str(death))
                return
        for item in group:
            yield from self._answers([item])

    def _ask(
        self, items: list[Item], options: dict[str, Any] | None, wait_s: float | None
    ) -> list[bytes]:
        """Put one request to the next free worker: a line of notes, then one for each item."""
        request = packed(items, options)
        worker = self._taken(wait_s)
        try:
            lines = worker.ask(request).split(b"\n")
            if len(lines) != len(items) + 1:
                worker.kill(Cause.CRASHED)
                raise LostError("crashed its reader")
            if is_grown(lines[0]):
                worker.kill(Cause.GROWN)
        except LostError:
            self._supervisor.check_open()
            raise
        finally:
            self.give_back(worker)
        return lines

    def _failed(self, item: Item, reason: str) -> list[bytes]:
        row = failed_row(item.name, item.offset, reason, self.artifact.metadata.name)
        return [as_line({"rejected": 0, "failed": [[0, reason]]}), as_line(row)]


def is_grown(notes: bytes) -> bool:
    """Return whether the first line of an answer says that its worker is to be replaced."""
    return notes.startswith(b'{"grown": true')


def blamed(name: str, reason: str) -> ImageError:
    """Return the error of the image that a worker was reading when it went."""
    return ImageError(reason, where=name, remedy="open it elsewhere and save it again")


def groups(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Cut items into those that are read together: runs of small ones; each larger one alone."""
    group: list[Item] = []
    for item in items:
        if len(item.content) > SMALL_BYTES:
            if group:
                yield group
            yield [item]
            group = []
            continue
        group.append(item)
        if len(group) == BATCH:
            yield group
            group = []
    if group:
        yield group


def failed_line(name: str, offset: int | None, reason: str, model: str) -> bytes:
    """Return the row of an input that never reached a worker."""
    return as_line(failed_row(name, offset, reason, model))
