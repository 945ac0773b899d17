"""PDF, HEIC and the pages of a TIFF: how many pages there are, and one of them as pixels.

PDF needs pypdfium2 and HEIC needs pillow-heif, which the extra `files` installs. A page of a PDF is drawn
as a scanner would see it, with its annotations (the ink of a tablet) and without form fields.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, BinaryIO, Literal, cast

import numpy as np
import numpy.typing as npt

from digitry.errors import ImageError
from digitry.reading.header import MAX_ENTRIES, MAX_METADATA, tiff_directories

Kind = Literal["pdf", "heif", "tiff", "other"]

MAX_PAGES = 1000
"""Pages of one document. A longer one is refused: split it."""
DPI = 200
"""Pixels per inch of a drawn page, where that is not more pixels than the reader works with."""
POINTS = 72
MAX_POINTS = 14_400
"""Width and height of a PDF page in points of 1/72 inch, at most; the limit of the format."""
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


def page_count(stream: BinaryIO, kind: Kind, name: str) -> int:
    """Return the number of pages; 1 for a file that is no document.

    Args:
        stream: of the file, at its start; its position is kept.
        kind: of `kind_of`.
        name: what errors call it.

    Raises:
        ImageError: the document is damaged, has no page, or has more than `MAX_PAGES`.
    """
    if kind == "tiff":
        # A damaged chain of directories ends early; the decoder reports a damaged page.
        return max(1, len(tiff_pages(stream, name)))
    if kind != "pdf":
        return 1
    with _pdf(stream, name) as document:
        return _counted(len(document), name)


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


def pdf_page(
    stream: BinaryIO, number: int, name: str, *, most_pixels: int, longest_side: int
) -> npt.NDArray[np.uint8]:
    """Return one page of a PDF, drawn in grey on white.

    Args:
        stream: of the file.
        number: of the page, from 1.
        name: what errors call it.
        most_pixels, longest_side: a larger page is drawn smaller.

    Returns:
        (h, w) uint8, 0 = black, at `DPI` pixels per inch or fewer.

    Raises:
        ImageError: the page is damaged, missing or too large, or pypdfium2 is not installed.
    """
    with _pdf(stream, name) as document:
        _counted(len(document), name)
        try:
            page = document[number - 1]
        except Exception as error:
            raise _damaged(f"page {number} cannot be opened", name) from error
        try:
            width, height = page.get_size()
            if not (0 < width <= MAX_POINTS and 0 < height <= MAX_POINTS):
                raise ImageError(
                    f"has a page of {width:.0f} x {height:.0f} points, more than "
                    f"{MAX_POINTS:,} (200 inches)",
                    where=name,
                    remedy="save it with a smaller page",
                )
            # A little less, because the size in pixels is rounded up.
            scale = 0.999999 * min(
                DPI / POINTS, (most_pixels / (width * height)) ** 0.5,
                longest_side / max(width, height),
            )  # fmt: skip
            drawn = page.render(scale=scale, grayscale=True, may_draw_forms=False).to_numpy()
            # The bitmap belongs to the page, and rows may be padded.
            return np.ascontiguousarray(drawn.reshape(*drawn.shape[:2])).copy()
        except ImageError:
            raise
        except Exception as error:
            raise _damaged(f"page {number} cannot be drawn", name) from error
        finally:
            page.close()


@contextmanager
def _pdf(stream: BinaryIO, name: str) -> Iterator[Any]:
    if find_spec("pypdfium2") is None:
        raise _needs_extra("a PDF", "pypdfium2", name)
    import pypdfium2

    stream.seek(0)
    try:
        document = pypdfium2.PdfDocument(stream)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise ImageError(
                "is a PDF with a password", where=name, remedy="save it without a password"
            ) from error
        raise _damaged("not a whole PDF", name) from error
    try:
        yield document
    finally:
        document.close()


def _damaged(what: str, name: str) -> ImageError:
    return ImageError(
        f"is damaged ({what})",
        where=name,
        remedy="open it in another program and save it again",
    )


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


def prepare_worker() -> None:
    """Load the decoders now, and let them use one thread: a worker process has little memory to give.

    A decoder with a thread for each processor of a large machine would use up the worker's memory.
    """
    from PIL import AvifImagePlugin

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    if find_spec("pillow_heif") is not None:
        import pillow_heif

        pillow_heif.options.DECODE_THREADS = 1
    if find_spec("pypdfium2") is not None:
        import pypdfium2  # noqa: F401 (loads the library)
