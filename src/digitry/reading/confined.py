"""PDFs in a process of their own, which is killed if it takes too long, and which limits its memory.

One process opens one PDF after the other. It gets the bytes of a file, never a path. Its answers are
numbers, a short text, and pixels of the size that was asked for: a hostile PDF that takes over this
process can spoil the pages that it draws, and no more.
"""

import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Self

from digitry.errors import ImageError
from digitry.limits import BUSY, OUT_OF_MEMORY, OUT_OF_TIME
from digitry.reading.pdf import ANSWER, DRAW, DRAWN, OPEN, OPENED, READY, REFUSED, REQUEST, Drawn

DRAW_S = 2.0
"""Processor time for opening a PDF, and for drawing each page: a scan in colour at 600 dpi takes half."""
MEMORY_BYTES = 1 << 30
"""Address space that a process may use for a PDF in addition to its code; the same as a worker's."""
START_S = 60.0
"""Time limit for the start of a process; generous, for busy machines."""
AS_IMAGES = "save its pages as images"
"""What to do with a PDF that cannot be drawn within the limits."""

_GRACE_S = 1.0
"""Time for a process to exit after it has closed its output: a kill would hide its exit status."""
_PART = 1 << 20
_LONGEST = 300
"""Characters of a refusal, at most."""
_START = (
    "import sys; from digitry.reading.pdf import main; main(float(sys.argv[1]), int(sys.argv[2]))"
)

_Process = subprocess.Popen[bytes]


class Drawer:
    """A process that draws the PDFs of one run, one after the other.

    It is started when it is needed, and again when it was lost. It ends with this object.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        """Held while a document uses the process."""
        self._process: _Process | None = None
        self._stop: Callable[[], object] | None = None
        self._opened: object = None
        """The key of the PDF that is open in the process."""
        self._is_grown = False

    def __reduce__(self) -> tuple[object, ...]:
        # A copy in another process has a process of its own.
        return (Drawer, ())

    def close(self) -> None:
        """End the process."""
        if self._stop is not None:
            self._stop()
        self._process = self._stop = self._opened = None

    def holds(self, key: object) -> bool:
        """Return whether a PDF is open in the process."""
        running = self._process is not None and self._process.poll() is None
        return running and self._opened is key

    def open(self, stream: BinaryIO, key: object) -> int:
        """Send a PDF to the process, and return the number of its pages.

        Args:
            stream: of the file.
            key: what `holds` knows it by.

        Raises:
            ImageError: it has a password, is damaged, or exceeds a limit. The error names no place.
        """
        if self._is_grown or (self._process is not None and self._process.poll() is not None):
            self.close()
        self._opened = None
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        process = self._process or self._started()
        with self._watched(process, BUSY * DRAW_S):
            _send(process, REQUEST.pack(OPEN, size, 0, 0))
            for part in _parts(stream, size):
                _send(process, part)
            pages, _ = self._heard(process, OPENED)
        self._opened = key
        return pages

    def draw(self, number: int, *, most_pixels: int, longest_side: int) -> Drawn:
        """Return a page of the PDF that is open; see `digitry.reading.pdf.Pdf.draw`."""
        process = self._process
        if process is None:
            raise RuntimeError("no PDF is open")
        with self._watched(process, BUSY * DRAW_S):
            _send(process, REQUEST.pack(DRAW, number, most_pixels, longest_side))
            width, height = self._heard(process, DRAWN)
            # Each side was rounded up.
            if (
                min(width, height) < 1
                or max(width, height) > longest_side + 1
                or (width - 1) * (height - 1) > most_pixels
            ):
                raise ValueError("is not of the size that was asked for")
            pixels = bytearray(_received(process, width * height))
        if self._is_grown:
            self.close()
        return Drawn(pixels, width, height)

    def _started(self) -> _Process:
        process = _start()
        self._process = process
        self._stop = weakref.finalize(self, _end, process, os.getpid())
        with self._watched(process, START_S):
            self._heard(process, READY)
        return process

    @contextmanager
    def _watched(self, process: _Process, wait_s: float) -> Iterator[None]:
        """Kill the process if the block takes longer than `wait_s`.

        Raises:
            ImageError: the process was lost.
        """
        late = threading.Event()
        # Without this object in its arguments, which must not live until the thread has ended.
        watch = threading.Timer(wait_s, _kill_late, [process, late])
        watch.daemon = True
        watch.start()
        try:
            yield
        except _RefusedError as refused:
            # The process is well.
            raise ImageError(refused.what, remedy=refused.remedy) from None
        except (EOFError, OSError, ValueError) as error:
            raise self._lost(process, is_late=late.is_set()) from error
        except BaseException:
            # For example Ctrl-C: half of an answer is still to come.
            self.close()
            raise
        finally:
            watch.cancel()

    def _heard(self, process: _Process, wanted: bytes) -> tuple[int, int]:
        """Return the two numbers of the next answer.

        Raises:
            _RefusedError: it is a refusal.
            EOFError: the process has ended.
            ValueError: it is not the answer that is wanted.
        """
        head = _received(process, ANSWER.size)
        kind, self._is_grown, *numbers, length = ANSWER.unpack(head)
        text = _received(process, length)
        if kind == REFUSED:
            raise _RefusedError(*_checked(text))
        if kind != wanted:
            raise ValueError("is not the answer that was wanted")
        return numbers[0], numbers[1]

    def _lost(self, process: _Process, *, is_late: bool) -> ImageError:
        """Return the error for a PDF that the process was lost with."""
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
        status = process.poll()
        self.close()
        if is_late or status == OUT_OF_TIME:
            return ImageError(
                f"took too long to draw: more than {BUSY * DRAW_S:g} s", remedy=AS_IMAGES
            )
        if status is not None and -status == getattr(signal, "SIGPROF", None):
            return ImageError(too_long(DRAW_S), remedy=AS_IMAGES)
        if status == OUT_OF_MEMORY:
            return ImageError(
                f"takes more than {MEMORY_BYTES / (1 << 30):g} GiB of memory to draw",
                remedy=AS_IMAGES,
            )
        name = "its answer makes no sense" if status is None else f"exit status {status}"
        if status is not None and status < 0:
            with suppress(ValueError):
                name = signal.Signals(-status).name
        return ImageError(
            f"crashed the process that draws it ({name}): it is damaged, or needs more than "
            f"{MEMORY_BYTES / (1 << 30):g} GiB of memory",
            remedy=f"save it again with another program, or {AS_IMAGES}",
        )


class Document:
    """A PDF that is opened in a process when it is needed, and stays open from page to page.

    Args:
        drawer: the process, which several documents share in turn.

    Attributes:
        pages: the number of its pages, as it says, while it is open.
    """

    def __init__(self, drawer: Drawer) -> None:
        self._drawer = drawer
        # Not the document itself: the process would not end before the next collection of garbage.
        self._key = object()
        self.pages = 0
        self.is_tried = False
        """Whether it was tried to open it."""
        self._refusal: ImageError | None = None

    @contextmanager
    def opened(self, stream: BinaryIO) -> Iterator[Self]:
        """Open it for the block, if it is not open; other threads wait.

        Args:
            stream: of the file.

        Raises:
            ImageError: it has a password, is damaged, or exceeds a limit. The error names no place.
        """
        with self._drawer.lock:
            if self._refusal is not None:
                # Trying again would take as long.
                raise ImageError(self._refusal.what, remedy=self._refusal.remedy)
            if not self._drawer.holds(self._key):
                self.is_tried = True
                try:
                    self.pages = self._drawer.open(stream, self._key)
                except ImageError as error:
                    self._refusal = error
                    raise
            yield self

    def draw(self, number: int, *, most_pixels: int, longest_side: int) -> Drawn:
        """Return a page, within `opened`; see `digitry.reading.pdf.Pdf.draw`."""
        return self._drawer.draw(number, most_pixels=most_pixels, longest_side=longest_side)


class _RefusedError(Exception):
    """The process refused a PDF or a page."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy


def too_long(seconds: float) -> str:
    """Return what is wrong with a PDF that takes more than `seconds` of processor time."""
    return f"took too long to draw: more than {seconds:g} s of processor time"


def _start() -> _Process:
    if not sys.executable or getattr(sys, "frozen", False):
        # In a bundled program this would start that program again.
        raise ImageError(
            "is a PDF, which this program has no Python to draw with", remedy=AS_IMAGES
        )
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _START, str(DRAW_S), str(MEMORY_BYTES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Ctrl-C reaches only us; on Windows, no window opens.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except OSError as error:
        raise ImageError(
            f"cannot be drawn: no process can be started ({error.strerror})",
            remedy="check that there is free memory",
        ) from error


def _kill_late(process: _Process, late: threading.Event) -> None:
    late.set()
    process.kill()


def _end(process: _Process, owner: int) -> None:
    """End a process and close its pipes; a forked copy of its owner must not."""
    if os.getpid() != owner:
        return
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        # Closing sends what is still in the buffer.
        with suppress(OSError):
            if pipe is not None:
                pipe.close()


def _parts(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield `size` bytes of a file, part by part.

    Raises:
        ImageError: the file cannot be read, or has fewer bytes.
    """
    while size:
        try:
            part = stream.read(min(size, _PART))
        except OSError as error:
            raise ImageError(
                f"cannot be read ({error.strerror})", remedy="open the file again"
            ) from error
        if not part:
            raise ImageError("became shorter while it was read", remedy="read it again")
        size -= len(part)
        yield part


def _send(process: _Process, content: bytes) -> None:
    if process.stdin is not None:
        process.stdin.write(content)
        process.stdin.flush()


def _received(process: _Process, size: int) -> bytes:
    """Return the next `size` bytes of the answers.

    Raises:
        EOFError: the process has ended.
    """
    found = b"" if process.stdout is None else process.stdout.read(size)
    if len(found) < size:
        raise EOFError
    return found


def _checked(text: bytes) -> tuple[str, str]:
    """Return what is wrong, and what to do, from the text of a refusal.

    Raises:
        ValueError: the process did not write it as digitry does.
    """
    what, remedy = text.decode().split("\n")
    if len(text) > _LONGEST or not (what + remedy).isprintable():
        raise ValueError("is not the text of a refusal")
    return what, remedy
