"""A pool of worker processes that read images, so that no image can harm the calling process.

Image decoders are C code, and their input is untrusted. So each worker is a new interpreter with one
reader. Once the model is loaded, it limits itself: its address space, its processor time for each
request, and files (it cannot write any). The supervisor limits the wall-clock time and replaces lost
workers. The image that caused a loss gets its own error. A worker gets bytes and answers with JSON: it
never gets a path, and the parent never unpickles its answers.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from digitry.errors import DigitryError, ImageError, UnavailableError, UsageError
from digitry.model.line_network import load_lines
from digitry.model.load import load_model
from digitry.reading.confined import AS_IMAGES
from digitry.reading.documents import HEAD_BYTES, kind_of
from digitry.reading.result import Reading
from digitry.reading.rows import failed_row
from digitry.reading.template import Template
from digitry.workers.answer import answered, counted
from digitry.workers.supervisor import Cause, Health, Loss, LostError, Supervisor, Worker
from digitry.workers.worker import Item, as_line, packed, placed

if TYPE_CHECKING:
    from digitry.reading.recognise import Layout

WALL_S, CPU_S = 2.0, 2.0
DRAWING = 0.4
"""Share of its processor time that a request may draw a page of a PDF for, in user mode only: the system
takes half as long to find the memory for a hostile drawing. The rest is for reading the page."""
MEMORY_BYTES = 1 << 30
"""Address space that one request may use in addition to the loaded reader."""

BATCH = 64
SMALL_BYTES = 32 << 10
"""Images up to this size are read in batches; a batch does not make larger ones faster."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of some images, each one line of JSON in UTF-8.

    Attributes:
        lines: one for each image and each page of a document, in order: a Reading with offset, status
            and reason, without `ms`.
        rejected: number of images that were read, but rejected.
        failed: (index of its line, reason) of each image that could not be read.
        counts: how many of the lines belong to each item; empty = one to each.
    """

    lines: tuple[bytes, ...]
    rejected: int
    failed: tuple[tuple[int, str], ...]
    counts: tuple[int, ...] = ()


class WorkerPool:
    """Worker processes that read images; thread-safe.

    Args:
        model: the name of a shipped model, a .onnx file, or a run folder.
        layout: the default layout.
        workers: number of processes.
        max_error: see `Reader`.
        template: what stands where on the forms that are read; None = the images are no forms.
        region: the part of each image that is read; None = all of it.
        max_pixels: larger images are refused.
        wall_s: wall-clock seconds that one request may take.
        cpu_s: seconds of processor time that one request may take; drawing a page of a PDF, `DRAWING`
            of that.
        memory_bytes: address space that one request may use in addition to the loaded reader.
        lines: the line network; see `Reader`.

    Raises:
        ModelError: the model is missing, damaged, or not a digitry model.
        UsageError: a number is not positive.
        UnavailableError: this system is not POSIX, or no worker can be started.
    """

    def __init__(
        self,
        model: str | Path = "reader",
        layout: "Layout" = "auto",
        workers: int = 2,
        *,
        max_error: float | None = None,
        template: Template | None = None,
        region: str | None = None,
        max_pixels: int | None = None,
        wall_s: float = WALL_S,
        cpu_s: float = CPU_S,
        memory_bytes: int = MEMORY_BYTES,
        lines: str | Path = "lines",
    ) -> None:
        if os.name != "posix":
            raise UnavailableError(
                "worker processes need Linux or macOS",
                remedy="use WSL, or `digitry read` in one process",
            )
        if workers < 1 or wall_s <= 0 or cpu_s <= 0 or memory_bytes < 1:
            raise UsageError(
                f"{workers} workers with {wall_s:g} s, {cpu_s:g} s of processor time and "
                f"{memory_bytes} bytes are not valid",
                remedy="give positive numbers",
            )
        self.artifact = load_model(model)
        """The model of the workers."""
        line_network = load_lines(lines)
        self.size = workers
        self.template = template
        self._layout = layout
        config = {
            # With its version: a worker that is started later must not use another version if one is
            # promoted in between.
            "model": str(model) if self.artifact.version is None else self.artifact.reference,
            "sha256": self.artifact.fingerprint,
            "lines": line_network.reference,
            "lines_sha256": line_network.fingerprint,
            "layout": layout,
            "max_error": max_error,
            "template": None if template is None else template.packed(),
            "region": region,
            "max_pixels": max_pixels,
            "wall_s": wall_s,
            "cpu_s": cpu_s,
            "memory_bytes": memory_bytes,
            "draw_s": DRAWING * cpu_s,
        }
        self._supervisor = Supervisor(config, workers)
        # Wait for the first worker, to learn here and not in a request that the model cannot be run.
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
        """Return the reading of one image, or the error; errors are returned, not raised.

        Args:
            content: the bytes of an image file.
            name: the name of the image in the reading.
            layout: the layout; None = the pool's.
            wait_s: seconds to wait for a free worker; None = without limit.

        Returns:
            The reading; an ImageError if the image cannot be read, crashed its worker or took too long;
            an UnavailableError if no worker became free in time.
        """
        try:
            options = {"layout": layout or self._layout}
            _, row = self._ask([Item(name, content)], options, wait_s)
        except LostError as lost:
            return blamed(name, lost.loss)
        except DigitryError as error:
            return error
        found = answered(json.loads(row), name)
        return found if isinstance(found, DigitryError) else found.reading

    def rows(self, items: Sequence[Item]) -> Rows:
        """Return the rows of some images; the same images always give the same bytes.

        A document with several pages gets one row for each, and each page has its own limits. Small
        images are read in batches. If a batch crashes its worker, its images are read again one by one,
        and only the image that causes the crash fails.

        Raises:
            ModelError, UnavailableError: no worker runs, and none can be started.
        """
        lines: list[bytes] = []
        failed: list[tuple[int, str]] = []
        rejected = 0
        pages = [self._pages(item) for item in items]
        for group in groups([page for item in pages for page in item]):
            for answer in self._answers(group):
                notes = json.loads(answer[0])
                failed += [(len(lines) + index, reason) for index, reason in notes["failed"]]
                rejected += notes["rejected"]
                lines += answer[1:]
        return Rows(tuple(lines), rejected, tuple(failed), tuple(map(len, pages)))

    def lend(self) -> Worker | None:
        """Return a READY worker, to be given back with `give_back`; None if there is none now."""
        return self._supervisor.take(0.0)

    def give_back(self, worker: Worker) -> None:
        """Take back a worker of `lend`."""
        self._supervisor.give_back(worker)

    def health(self) -> Health:
        """Return the state of the workers now."""
        return self._supervisor.health()

    def pids(self) -> list[int]:
        """Return the process ids of the current workers."""
        return [worker.process.pid for worker in self._supervisor.workers()]

    def close(self) -> None:
        """Stop the workers; pending requests fail."""
        self._supervisor.close()

    def _pages(self, item: Item) -> list[Item]:
        """Return one item for each page of a document; the item itself if it is none."""
        if not has_pages(item.content):
            return [item]
        try:
            _, row = self._ask([item], {"count": True}, None)
        except LostError:
            # Reading it says why.
            return [item]
        count = counted(json.loads(row), item.name)
        if isinstance(count, DigitryError) or count == 1:
            return [item]
        return [replace(item, page=number) for number in range(1, count + 1)]

    def _taken(self, wait_s: float | None) -> Worker:
        worker = self._supervisor.take(wait_s)
        if worker is None:
            raise UnavailableError("all workers are busy", remedy="try again later")
        return worker

    def _answers(self, group: list[Item]) -> Iterator[list[bytes]]:
        try:
            yield self._ask(group, None, None)
            return
        except LostError as lost:
            if len(group) == 1:
                yield self._failed(group[0], str(lost))
                return
        for item in group:
            yield from self._answers([item])

    def _ask(
        self, items: list[Item], options: dict[str, Any] | None, wait_s: float | None
    ) -> list[bytes]:
        """Return the next free worker's answer: a line of notes, then one line for each item."""
        request = packed(items, options)
        worker = self._taken(wait_s)
        try:
            lines = worker.ask(request).split(b"\n")
            if len(lines) != len(items) + 1:
                worker.kill(Cause.CRASHED)
                raise LostError(Loss(Cause.CRASHED, "crashed its worker process"))
            if is_grown(lines[0]):
                worker.kill(Cause.GROWN)
        except LostError:
            self._supervisor.check_open()
            raise
        finally:
            self.give_back(worker)
        return lines

    def failed_line(self, name: str, offset: int | None, reason: str) -> bytes:
        """Return the row of an image that was not sent to a worker."""
        row = failed_row(name, reason, self.artifact.metadata.name, self.template)
        return as_line(placed(row, offset))

    def _failed(self, item: Item, reason: str) -> list[bytes]:
        line = self.failed_line(item.source, item.offset, reason)
        return [as_line({"rejected": 0, "failed": [[0, reason]]}), line]


def has_pages(content: bytes) -> bool:
    """Return whether an image file may have several pages, by its first bytes."""
    return kind_of(content[:HEAD_BYTES]) in ("pdf", "tiff")


def is_grown(notes: bytes) -> bool:
    """Return whether the notes of an answer say that its worker must be replaced."""
    return notes.startswith(b'{"grown": true')


def blamed(name: str, loss: Loss) -> ImageError:
    """Return the error for the image that a worker was reading when it was lost."""
    remedies = {
        Cause.LATE: "crop it to the digits, or reduce it",
        Cause.COMPUTED: "crop it to the digits, or reduce it",
        Cause.DREW: AS_IMAGES,
        Cause.MEMORY: "reduce it",
        Cause.STOPPED: "send it again",
    }
    remedy = remedies.get(loss.cause, "save the image again with another program")
    return ImageError(loss.text, where=name, remedy=remedy)


def groups(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Yield the batches of items: runs of small images together, each larger image alone."""
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
