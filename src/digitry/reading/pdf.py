"""A PDF and its pages as pixels, drawn by PDFium in this process.

PDFium bounds neither its time nor its memory, and a file of 3 kB can make it work for hours. So this runs
only in processes that may be killed: in a worker, or in the process of `digitry.reading.confined`, for
which `main` is the other end. It loads no NumPy: a process that draws starts in a fraction of a second.
"""

import os
import struct
import sys
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from digitry.errors import ImageError
from digitry.limits import OUT_OF_MEMORY, Size, confine, ending_after

DPI = 200
"""Pixels per inch of a drawn page, where that is not more pixels than the reader works with."""
POINTS = 72
MAX_POINTS = 14_400
"""Width and height of a PDF page in points of 1/72 inch, at most; the limit of the format."""

REQUEST = struct.Struct("<cQII")
"""A request: OPEN with the size of the file, which follows; or DRAW with the number of the page, the most
pixels, and the longest side."""
ANSWER = struct.Struct("<c?IIH")
"""An answer: its kind, whether the process must be replaced, two numbers, and the length of the text."""
OPEN, DRAW = b"o", b"d"
READY, OPENED, DRAWN, REFUSED = b"y", b"o", b"d", b"r"


class Drawn(NamedTuple):
    """A drawn page: a byte for each pixel in rows from the top, 0 = black, and its size in pixels."""

    pixels: bytearray
    width: int
    height: int


class Pdf:
    """An opened PDF.

    Args:
        source: the file.
        draw_s: seconds of processor time for opening it, and for each page; then this process ends.

    Attributes:
        pages: the number of its pages, as it says.

    Raises:
        ImageError: it has a password, or is damaged. The error names no place.
    """

    def __init__(self, source: BinaryIO, draw_s: float) -> None:
        import pypdfium2

        self._draw_s = draw_s
        source.seek(0)
        with ending_after(draw_s):
            try:
                self._document = pypdfium2.PdfDocument(source)
                self.pages = len(self._document)
            except MemoryError:
                raise
            except Exception as error:
                if "password" in str(error).lower():
                    raise ImageError(
                        "is a PDF with a password", remedy="save it without a password"
                    ) from error
                raise _damaged("not a whole PDF") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release its memory."""
        self._document.close()

    def draw(self, number: int, *, most_pixels: int, longest_side: int) -> Drawn:
        """Return a page, drawn in grey on white at `DPI` pixels per inch or fewer.

        Args:
            number: of the page, from 1.
            most_pixels, longest_side: a larger page is drawn smaller.

        Raises:
            ImageError: the page is damaged, missing or too large. The error names no place.
        """
        with ending_after(self._draw_s):
            try:
                page = self._document[number - 1]
            except MemoryError:
                raise
            except Exception as error:
                raise _damaged(f"page {number} cannot be opened") from error
            try:
                width, height = page.get_size()
                _check_size(width, height)
                # A little less, because the size in pixels is rounded up.
                scale = 0.999999 * min(
                    DPI / POINTS, (most_pixels / (width * height)) ** 0.5,
                    longest_side / max(width, height),
                )  # fmt: skip
                drawn = page.render(scale=scale, grayscale=True, may_draw_forms=False)
                # Rows may be padded, and the memory belongs to the bitmap.
                padded, stride = memoryview(drawn.buffer).cast("B"), drawn.stride
                rows = [
                    padded[at : at + drawn.width] for at in range(0, drawn.height * stride, stride)
                ]
                return Drawn(bytearray().join(rows), drawn.width, drawn.height)
            except (ImageError, MemoryError):
                raise
            except Exception as error:
                raise _damaged(f"page {number} cannot be drawn") from error
            finally:
                page.close()


def _check_size(width: float, height: float) -> None:
    if not (0 < width <= MAX_POINTS and 0 < height <= MAX_POINTS):
        raise ImageError(
            f"has a page of {width:.0f} x {height:.0f} points, more than "
            f"{MAX_POINTS:,} (200 inches)",
            remedy="save it with a smaller page",
        )


def _damaged(what: str) -> ImageError:
    return ImageError(f"is damaged ({what})", remedy="open it in another program and save it again")


# --- the process of digitry.reading.confined ---------------------------------------------------------


def main(draw_s: float, memory_bytes: int) -> None:
    """Answer the requests on standard input on standard output until the other end closes them.

    Args:
        draw_s: see `Pdf`.
        memory_bytes: address space that a PDF may use in addition to the code.
    """
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # Whatever a library prints must not stand between the answers.
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 1)
    # A process that holds this much after its answer is replaced, so each PDF may use all of its memory.
    kept_bytes = memory_bytes // 4
    try:
        import pypdfium2  # noqa: F401 (loads the library before the limits)

        usual = Size.now()
        confine(usual, memory_bytes + kept_bytes)
        answers.write(ANSWER.pack(READY, False, 0, 0, 0))
        answers.flush()
        opened: Pdf | None = None
        while request := requests.read(REQUEST.size):
            opened, answer = _answered(opened, request, requests, draw_s)
            is_grown = Size.now().beyond(usual) > kept_bytes
            answers.write(ANSWER.pack(answer.kind, is_grown, *answer.numbers, len(answer.text)))
            answers.write(answer.text + answer.pixels)
            answers.flush()
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)
    except OSError:
        # The other end is closed: exit quietly.
        return


class _Answer(NamedTuple):
    kind: bytes
    numbers: tuple[int, int] = (0, 0)
    text: bytes = b""
    pixels: bytes | bytearray = b""


def _answered(
    opened: Pdf | None, request: bytes, requests: BinaryIO, draw_s: float
) -> tuple[Pdf | None, _Answer]:
    """Return the PDF that is open after a request, and the answer."""
    kind, size_or_number, most_pixels, longest_side = REQUEST.unpack(request)
    try:
        if kind == OPEN:
            if opened is not None:
                opened.close()
            opened = None
            opened = Pdf(BytesIO(requests.read(size_or_number)), draw_s)
            return opened, _Answer(OPENED, (opened.pages, 0))
        if opened is None:
            raise ImageError("no PDF is open")
        drawn = opened.draw(size_or_number, most_pixels=most_pixels, longest_side=longest_side)
        return opened, _Answer(DRAWN, (drawn.width, drawn.height), pixels=drawn.pixels)
    except ImageError as error:
        return opened, _Answer(REFUSED, text=f"{error.what}\n{error.remedy}".encode())
