"""PDF, HEIC and the pages of a TIFF: how many pages there are, and one of them as pixels.

PDF needs pypdfium2 and HEIC needs pillow-heif, which the extra `files` installs. A page of a PDF is drawn
as a scanner would see it, with its annotations (the ink of a tablet) and without form fields.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from typing import Any, BinaryIO, Literal, cast

import numpy as np
import numpy.typing as npt

from digitry.errors import ImageError
from digitry.reading.confined import Document, Drawer
from digitry.reading.header import MAX_ENTRIES, MAX_METADATA, tiff_directories
from digitry.reading.pdf import Pdf

Kind = Literal["pdf", "heif", "tiff", "other"]

MAX_PAGES = 1000
"""Pages of one document. A longer one is refused: split it."""
PAGES_METADATA = 4 * MAX_METADATA
HEAD_BYTES = 64

_HEIF_BRANDS = {
    b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1",
}  # fmt: skip
_AVIF_BRANDS = {b"avif", b"avis"}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_REDUCED, _MASK = 1, 4
"""Bits of TIFF's NewSubfileType: a preview of another page, and a transparency mask."""


def kind_of(head: bytes) -> Kind:
    """Return what a file is by its first `HEAD_BYTES` bytes."""
    if head.lstrip(b"\xef\xbb\xbf\r\n\t ").startswith(b"%PDF-"):
        return "pdf"
    if head[:4] in _TIFF:
        return "tiff"
    if head[4:8] == b"ftyp":
        size = min(max(int.from_bytes(head[:4]), 16), len(head))
        brands = {head[8:12], *(head[at : at + 4] for at in range(16, size, 4))}
        if brands & _HEIF_BRANDS and not brands & _AVIF_BRANDS:
            return "heif"
    return "other"


def page_count(stream: BinaryIO, kind: Kind, name: str, document: Document | None = None) -> int:
    """Return the number of pages; 1 for a file that is no document.

    Args:
        stream: of the file, at its start; its position is kept.
        kind: of `kind_of`.
        name: what errors call it.
        document: see `opened_pdf`.

    Raises:
        ImageError: the document is damaged, has no page, or has more than `MAX_PAGES`.
    """
    if kind == "tiff":
        # A damaged chain of directories ends early; the decoder reports a damaged page.
        return max(1, len(tiff_pages(stream, name)))
    if kind != "pdf":
        return 1
    with opened_pdf(stream, name, document) as opened:
        return opened.pages


def _counted(count: int, name: str) -> int:
    if count > MAX_PAGES:
        raise ImageError(
            f"has {count:,} pages, more than {MAX_PAGES:,}",
            where=name,
            remedy="split the document",
        )
    if count < 1:
        raise ImageError("has no pages", where=name, remedy="save the document again")
    return count


# --- TIFF ------------------------------------------------------------------------------------------


def tiff_pages(stream: BinaryIO, name: str) -> list[int]:
    """Return the indices of the directories of a TIFF that are pages, without previews and masks.

    Raises:
        ImageError: it has more than `MAX_PAGES`, or too much metadata.
    """
    directories = tiff_directories(stream, MAX_PAGES + 1)
    _counted(max(1, len(directories)), name)
    # Pillow reads the tags of every directory on its way to a page.
    metadata = sum(one.metadata for one in directories)
    entries = sum(one.entries for one in directories)
    if metadata > PAGES_METADATA or (entries > MAX_ENTRIES and len(directories) > 1):
        raise ImageError(
            f"holds more than {PAGES_METADATA >> 20} MiB of metadata",
            where=name,
            remedy="save it again without its metadata",
        )
    pages = [index for index, one in enumerate(directories) if not one.subfile & (_REDUCED | _MASK)]
    return pages or [0]


# --- PDF -------------------------------------------------------------------------------------------

_worker_draws_s: float | None = None
"""Processor time for drawing a page in this process; None = this process is no worker, so another draws."""


@contextmanager
def opened_pdf(
    stream: BinaryIO, name: str, document: Document | None = None
) -> Iterator[Pdf | Document]:
    """Open a PDF for the block: in this process if it is a worker, otherwise in one that may be killed.

    Args:
        stream: of the file.
        name: what errors call it.
        document: the same PDF as it was opened before; None = it was not.

    Raises:
        ImageError: it is damaged, has a password, no page or more than `MAX_PAGES`, or exceeds a limit; or
            pypdfium2 is not installed. The same for an error of the block that names no place.
    """
    if find_spec("pypdfium2") is None:
        raise _needs_extra("a PDF", "pypdfium2", name)
    try:
        if _worker_draws_s is not None:
            with Pdf(stream, _worker_draws_s) as pdf:
                _counted(pdf.pages, name)
                yield pdf
            return
        if document is not None:
            with document.opened(stream):
                _counted(document.pages, name)
                yield document
            return
        with closing(Drawer()) as drawer, Document(drawer).opened(stream) as alone:
            _counted(alone.pages, name)
            yield alone
    except ImageError as error:
        if error.where is not None:
            raise
        raise ImageError(error.what, where=name, remedy=error.remedy) from error


def _needs_extra(what: str, package: str, name: str) -> ImageError:
    return ImageError(
        f"is {what}, which needs the package {package}",
        where=name,
        remedy="pip install 'digitry[files]'",
    )


# --- HEIC ------------------------------------------------------------------------------------------


def open_heif(stream: BinaryIO, name: str) -> Any:
    """Return the main image of a HEIC file, with `size` and `mode`; its pixels are not decoded yet.

    Raises:
        ImageError: pillow-heif is not installed.
    """
    if find_spec("pillow_heif") is None:
        raise _needs_extra("a HEIC image", "pillow-heif", name)
    import pillow_heif

    stream.seek(0)
    # Without its plugin for Pillow, which would change what every caller of Pillow opens.
    return pillow_heif.open_heif(stream, convert_hdr_to_8bit=True)


def heif_pixels(opened: Any) -> npt.NDArray[np.uint8]:
    """Return the decoded pixels of `open_heif`: (h, w), (h, w, 3) RGB or (h, w, 4) RGBA, uint8.

    The image is upright: HEIC stores its rotation apart from EXIF, and the decoder applies it.
    """
    pixels = np.asarray(opened)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise ValueError(f"has pixels of {pixels.dtype}")
    return cast(npt.NDArray[np.uint8], pixels)


def prepare_worker(draw_s: float) -> None:
    """Load the decoders now, let them use one thread, and draw PDFs in this process: it may be killed.

    A decoder with a thread for each processor of a large machine would use up the worker's memory.

    Args:
        draw_s: seconds of processor time for opening a PDF, and for drawing a page; then this process
            ends by SIGVTALRM.
    """
    global _worker_draws_s
    _worker_draws_s = draw_s
    from PIL import AvifImagePlugin

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    if find_spec("pillow_heif") is not None:
        import pillow_heif

        pillow_heif.options.DECODE_THREADS = 1
    if find_spec("pypdfium2") is not None:
        import pypdfium2  # noqa: F401 (loads the library)
