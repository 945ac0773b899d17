"""PDFs, HEICs and TIFFs of several pages, made by our own code, good ones and hostile ones."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

PLAIN = b"BT /F1 100 Tf 40 40 Td (7) Tj ET"


def pdf(
    contents: Sequence[bytes],
    *,
    box: str = "0 0 200 150",
    count: int | None = None,
    kids: str | None = None,
    resources: str = "<< /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>",
    more: Sequence[bytes] = (),
) -> bytes:
    """Return a PDF with one page for each content stream.

    Args:
        contents: the drawing commands of each page, or a whole stream object (`<< … stream …`).
        box: the pages' MediaBox.
        count, kids: what the page tree says, in place of the truth.
        resources: of each page.
        more: further objects, with the numbers from 3 + 2 * len(contents) on.
    """
    pages = [3 + 2 * index for index in range(len(contents))]
    said = kids or " ".join(f"{number} 0 R" for number in pages)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{said}] /Count {len(pages) if count is None else count} >>".encode(),
    ]
    for number, content in zip(pages, contents, strict=True):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [{box}] /Contents {number + 1} 0 R "
            f"/Resources {resources} >>".encode()
        )
        objects.append(content if content.startswith(b"<<") else stream(content))
    objects += more
    out = b"%PDF-1.7\n"
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = b"".join(f"{place:010d} 00000 n \n".encode() for place in places)
    head = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    foot = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    return out + head + table + foot.encode()


def stream(content: bytes, facts: str = "", *, packed: bool = False) -> bytes:
    """Return a stream object."""
    body = zlib.compress(content, 9) if packed else content
    packing = "/Filter /FlateDecode " if packed else ""
    head = f"<< {packing}{facts} /Length {len(body)} >>\nstream\n".encode()
    return head + body + b"\nendstream"


def scanned(pictures: Sequence[Image.Image], dots_per_inch: int = 100) -> bytes:
    """Return a PDF of scanned pages, as Pillow writes it."""
    out = io.BytesIO()
    # Pillow leaves the settings of one encoder on a picture, where they disturb the next.
    first, *rest = (picture.copy() for picture in pictures)
    first.save(out, "PDF", save_all=True, append_images=rest, resolution=dots_per_inch)
    return out.getvalue()


def tiff(pictures: Sequence[Image.Image], **options: object) -> bytes:
    """Return a TIFF of several pages."""
    out = io.BytesIO()
    # Pillow leaves the settings of one encoder on a picture, where they disturb the next.
    first, *rest = (picture.copy() for picture in pictures)
    first.save(out, "TIFF", save_all=True, append_images=rest, **options)
    return out.getvalue()


def heic(picture: Image.Image, **options: object) -> bytes:
    """Return a HEIC image."""
    import pillow_heif

    out = io.BytesIO()
    pillow_heif.from_pillow(picture).save(out, quality=90, **options)
    return out.getvalue()


def avif(picture: Image.Image) -> bytes:
    """Return an AVIF image."""
    out = io.BytesIO()
    picture.save(out, "AVIF", speed=10, max_threads=1)
    return out.getvalue()


def of_size(content: bytes, width: int, height: int) -> bytes:
    """Return a HEIC or AVIF whose header (the boxes `ispe`) claims another size."""
    out = bytearray(content)
    at = out.find(b"ispe")
    while at >= 0:
        out[at + 8 : at + 16] = struct.pack(">II", width, height)
        at = out.find(b"ispe", at + 4)
    return bytes(out)


def laughs(depth: int) -> bytes:
    """Return a PDF whose form draws a form ten times, and so on: 10 to the power of `depth` squares."""
    first = 5
    forms = []
    for level in range(depth):
        inner = f"/Resources << /XObject << /X {first + level + 1} 0 R >> >>"
        form = f"/Type /XObject /Subtype /Form /BBox [0 0 200 150] {inner}"
        forms.append(stream(b"/X Do " * 10, form))
    forms.append(stream(b"1 1 50 50 re f", "/Type /XObject /Subtype /Form /BBox [0 0 200 150]"))
    return pdf([b"/X Do"], resources=f"<< /XObject << /X {first} 0 R >> >>", more=forms)


def with_image(width: int, height: int, packed: bytes, facts: str = "/BitsPerComponent 8") -> bytes:
    """Return a PDF whose page shows an image of this size; `packed` is its compressed data."""
    head = (
        f"<< /Type /XObject /Subtype /Image /Width {width} /Height {height} "
        f"/ColorSpace /DeviceGray {facts} /Filter /FlateDecode /Length {len(packed)} >>\nstream\n"
    )
    return pdf(
        [b"q 200 0 0 150 0 0 cm /I Do Q"],
        resources="<< /XObject << /I 5 0 R >> >>",
        more=[head.encode() + packed + b"\nendstream"],
    )


def zeros(size: int) -> bytes:
    """Return `size` zero bytes, compressed, without holding them all."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*parts, packer.flush()])


def drawn(values: Sequence[int] = (7,), *, height: int = 120) -> Image.Image:
    """Return dark upright strokes on light paper, one for each value; enough ink for a reading."""
    page = np.full((height, 60 + 60 * len(values)), 235, np.uint8)
    for index, value in enumerate(values):
        left = 40 + 60 * index
        page[height // 4 : 3 * height // 4, left : left + 6 + value] = 25
    return Image.fromarray(page)
