"""Measure the peak memory of `digitry read` on the largest image of each kind, one process each.

    python benchmarks/memory.py [--only png,tiff] [--pixels 50] [--record]

Each kind is made at the largest size that is accepted: first at the given number of pixels, and if that
is refused, at the size that the refusal allows. Some kinds are noise, which compresses badly and gives
the reader the most work. The peak is VmHWM of a process that reads one file, with all its imports.
Goal: less than 300 MB.
"""

import argparse
import io
import json
import re
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

import _record
from digitry.model.load import load_model

BAR_MB = 300
MAX_BYTES = 128 << 20
TOO_MUCH_MEMORY = re.compile(r"needs (\d+) MB .*?(\d+) MB")
"""The refusal of a decoder: the memory that it needs, and the limit."""
READ = (
    "import sys\nfrom digitry.cli.main import main\n"
    "try:\n    main()\n"
    "finally:\n    print(open('/proc/self/status').read(), file=sys.stderr)"
)
Bytes = npt.NDArray[np.uint8]
Kind = Callable[[int, int], bytes]


def flat(width: int, height: int, bands: int = 1) -> Bytes:
    """Return paper with one stroke, (height, width, bands)."""
    page = np.full((height, width, bands), 225, np.uint8)
    page[height // 3 : height // 2, width // 2 : width // 2 + width // 40] = 40
    return page


def noise(width: int, height: int, bands: int = 1) -> Bytes:
    """Return noise, which compresses worst, (height, width, bands)."""
    return np.random.default_rng(0).integers(0, 256, (height, width, bands), np.uint8)


def saved(
    pixels: Callable[[int, int, int], Bytes],
    mode: str,
    form: str,
    **options: object,
) -> Kind:
    """Return a maker of files that Pillow writes."""

    def make(width: int, height: int) -> bytes:
        stream = io.BytesIO()
        _picture(pixels, mode, width, height).save(stream, form, **options)
        return stream.getvalue()

    return make


def _picture(
    pixels: Callable[[int, int, int], Bytes], mode: str, width: int, height: int
) -> Image.Image:
    bands = {"RGB": 3, "RGBA": 4, "CMYK": 4, "LA": 2}.get(mode, 1)
    page = pixels(width, height, bands)
    if mode == "I;16":
        return Image.fromarray(page[..., 0].astype(np.uint16) * 257)
    if mode in ("I", "F"):
        return Image.fromarray(page[..., 0].astype({"I": np.int32, "F": np.float32}[mode]))
    if mode == "P":
        picture = Image.fromarray(page[..., 0])
        picture.putpalette(bytes(range(256)) * 3)
        return picture
    if mode == "1":
        return Image.fromarray(page[..., 0] > 127)
    return Image.fromarray(page.squeeze() if bands == 1 else page, mode)


def interlaced(bands: int, pixels: Callable[[int, int, int], Bytes]) -> Kind:
    """Return a maker of PNG files in seven passes (Adam7), which Pillow does not write."""
    passes = [
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
        (0, 1, 1, 2),
    ]  # fmt: skip

    def make(width: int, height: int) -> bytes:
        page = pixels(width, height, bands)
        packer, parts = zlib.compressobj(1), []
        for x, y, across, down in passes:
            part = page[y::down, x::across]
            rows = part.reshape(part.shape[0], -1)
            lines = np.concatenate([np.zeros((len(rows), 1), np.uint8), rows], axis=1)
            parts.append(packer.compress(lines.tobytes()))
        return png(width, height, bands, b"".join([*parts, packer.flush()]), interlace=1)

    return make


def png(
    width: int, height: int, bands: int, data: bytes, *, depth: int = 8, interlace: int = 0
) -> bytes:
    """Return a PNG file with the given compressed rows."""
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[bands]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def deep(bands: int, pixels: Callable[[int, int, int], Bytes]) -> Kind:
    """Return a maker of PNG files with 16 bits a colour, which Pillow does not write."""

    def make(width: int, height: int) -> bytes:
        page = pixels(width, height, 2 * bands).reshape(height, -1)
        packer = zlib.compressobj(1)
        parts = [packer.compress(b"\0" + row.tobytes()) for row in page]
        return png(width, height, bands, b"".join([*parts, packer.flush()]), depth=16)

    return make


def tiled(bands: int, packed: bool, pixels: Callable[[int, int, int], Bytes]) -> Kind:
    """Return a maker of TIFF files with tiles of 512 x 512, which Pillow does not write."""

    def make(width: int, height: int) -> bytes:
        page = pixels(width, height, bands)
        parts = []
        for y in range(0, height, 512):
            for x in range(0, width, 512):
                tile = np.zeros((512, 512, bands), np.uint8)
                part = page[y : y + 512, x : x + 512]
                tile[: part.shape[0], : part.shape[1]] = part
                parts.append(zlib.compress(tile.tobytes(), 1) if packed else tile.tobytes())
        count, begin = len(parts), 8
        offsets = begin + np.cumsum([0, *(len(part) for part in parts)])
        after = int(offsets[-1])
        bits = after + 8 * count
        entries = [
            (256, 4, 1, width), (257, 4, 1, height),
            (258, 3, bands, bits if bands > 2 else 8), (259, 3, 1, 8 if packed else 1),
            (262, 3, 1, 2 if bands > 2 else 1), (277, 3, 1, bands), (322, 4, 1, 512), (323, 4, 1, 512),
            (324, 4, count, after), (325, 4, count, after + 4 * count),
            *([(338, 3, 1, 2)] if bands == 4 else []),
        ]  # fmt: skip
        directory = struct.pack("<H", len(entries))
        directory += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
        return (
            b"II*\0" + struct.pack("<I", bits + 2 * bands) + b"".join(parts)
            + offsets[:-1].astype("<u4").tobytes()
            + np.array([len(part) for part in parts], "<u4").tobytes()
            + np.full(bands, 8, "<u2").tobytes() + directory
        )  # fmt: skip

    return make


def scans(mode: str) -> Kind:
    """Return a maker of baseline JPEG files with one scan a colour: the decoder holds the whole image."""

    def make(width: int, height: int) -> bytes:
        content = saved(flat, mode, "JPEG", subsampling=0, quality=90)(width, height)
        # The one scan of all colours becomes a scan of the first only; the others stay grey.
        at = content.index(b"\xff\xda")
        scan = b"\xff\xda\0\x08\x01" + content[at + 5 : at + 7] + b"\0\x3f\0"
        return content[:at] + scan + content[at + 14 :]

    return make


def moving(form: str, **options: object) -> Kind:
    """Return a maker of files with two frames, of which the first is read."""

    def make(width: int, height: int) -> bytes:
        stream = io.BytesIO()
        first, second = (Image.fromarray(flat(width, height, 3) - shade) for shade in (0, 9))
        first.save(stream, form, save_all=True, append_images=[second], **options)
        return stream.getvalue()

    return make


KINDS: dict[str, Kind] = {
    "png grey": saved(flat, "L", "PNG", compress_level=1),
    "png grey noise": saved(noise, "L", "PNG", compress_level=1),
    "png rgb": saved(flat, "RGB", "PNG", compress_level=1),
    "png rgb noise": saved(noise, "RGB", "PNG", compress_level=1),
    "png rgba": saved(flat, "RGBA", "PNG", compress_level=1),
    "png rgba noise": saved(noise, "RGBA", "PNG", compress_level=1),
    "png grey and alpha": saved(flat, "LA", "PNG", compress_level=1),
    "png palette": saved(flat, "P", "PNG", compress_level=1),
    "png palette clear": saved(flat, "P", "PNG", compress_level=1, transparency=7),
    "png 1 bit": saved(flat, "1", "PNG", compress_level=1),
    "png 16 bit": saved(flat, "I;16", "PNG", compress_level=1),
    "png 16 bit rgb": deep(3, flat),
    "png 16 bit rgba": deep(4, flat),
    "png interlaced grey": interlaced(1, flat),
    "png interlaced rgb": interlaced(3, noise),
    "png interlaced rgba": interlaced(4, flat),
    "jpeg grey": saved(flat, "L", "JPEG"),
    "jpeg rgb": saved(flat, "RGB", "JPEG"),
    "jpeg rgb noise": saved(noise, "RGB", "JPEG", quality=90, subsampling=0),
    "jpeg cmyk": saved(flat, "CMYK", "JPEG"),
    "jpeg progressive": saved(flat, "RGB", "JPEG", progressive=True),
    "jpeg progressive full colour": saved(flat, "RGB", "JPEG", progressive=True, subsampling=0),
    "jpeg progressive cmyk": saved(flat, "CMYK", "JPEG", progressive=True),
    "jpeg one colour a scan": scans("RGB"),
    "webp": saved(flat, "RGB", "WEBP", method=0),
    "webp noise": saved(noise, "RGB", "WEBP", method=0),
    "webp alpha": saved(flat, "RGBA", "WEBP", method=0),
    "webp lossless": saved(flat, "RGB", "WEBP", lossless=True, method=0, quality=0),
    "webp lossless alpha": saved(noise, "RGBA", "WEBP", lossless=True, method=0, quality=0),
    "webp moving": moving("WEBP", method=0),
    "tiff strips": saved(flat, "RGB", "TIFF"),
    "tiff lzw": saved(flat, "RGB", "TIFF", compression="tiff_lzw"),
    "tiff lzw grey noise": saved(noise, "L", "TIFF", compression="tiff_lzw"),
    "tiff deflate": saved(noise, "RGB", "TIFF", compression="tiff_adobe_deflate"),
    "tiff deflate rgba": saved(flat, "RGBA", "TIFF", compression="tiff_adobe_deflate"),
    "tiff jpeg": saved(flat, "RGB", "TIFF", compression="jpeg"),
    "tiff cmyk": saved(flat, "CMYK", "TIFF", compression="tiff_lzw"),
    "tiff group 4": saved(flat, "1", "TIFF", compression="group4"),
    "tiff 16 bit": saved(flat, "I;16", "TIFF"),
    "tiff 32 bit": saved(flat, "I", "TIFF", compression="tiff_lzw"),
    "tiff float": saved(flat, "F", "TIFF", compression="tiff_lzw"),
    "tiff tiled raw": tiled(1, False, noise),
    "tiff tiled": tiled(3, True, flat),
    "tiff tiled rgba": tiled(4, True, flat),
    "gif": saved(flat, "P", "GIF"),
    "gif noise": saved(noise, "P", "GIF"),
    "gif moving": moving("GIF"),
    "gif clear": saved(flat, "P", "GIF", transparency=7),
    "bmp grey": saved(flat, "L", "BMP"),
    "bmp rgb": saved(flat, "RGB", "BMP"),
    "bmp rgba": saved(flat, "RGBA", "BMP"),
}  # fmt: skip


def peak(path: Path, *, piped: bool) -> tuple[float, str]:
    """Read one file in a process of its own; return its peak in MB and its first line on stderr."""
    given = "-" if piped else str(path)
    command = [sys.executable, "-c", READ, "read", "--quiet", given]
    with path.open("rb") as stream:
        done = subprocess.run(
            command, stdin=stream if piped else subprocess.DEVNULL, capture_output=True, text=True
        )
    found = re.search(r"VmHWM:\s+(\d+) kB", done.stderr)
    if found is None:
        raise RuntimeError(done.stderr[-2000:])
    return int(found[1]) / 1000, done.stderr.splitlines()[0]


def measured(
    name: str, kind: Kind, pixels: float, folder: Path, *, piped: bool
) -> dict[str, object]:
    """Make a kind at the largest size that is accepted, read it, and return the results."""
    for _ in range(8):
        width = min(int((pixels * 1e6 * 1.28) ** 0.5), 16_000)
        height = int(pixels * 1e6 / width)
        path = folder / "picture"
        path.write_bytes(kind(width, height))
        mb, said = peak(path, piped=piped)
        if "is larger than" in said:
            pixels *= 0.99 * MAX_BYTES / path.stat().st_size
        elif refused := TOO_MUCH_MEMORY.search(said):
            pixels *= 0.998 * float(refused[2]) / float(refused[1])
        else:
            break
    return {
        "kind": name,
        "megapixels": round(width * height / 1e6, 1),
        "file_mb": round(path.stat().st_size / 1e6, 1),
        "peak_mb": round(mb, 1),
        "accepted": not TOO_MUCH_MEMORY.search(said) and "is larger than" not in said,
    }


def main() -> None:
    """Measure every kind and print one JSON object each; with --record, write a record."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--only", default="", help="kinds that contain one of these words")
    options.add_argument("--pixels", type=float, default=50, help="million pixels to start with")
    options.add_argument("--stdin", action="store_true", help="send the files through a pipe")
    options.add_argument("--record", action="store_true", help="save a record")
    given = options.parse_args()
    wanted = [word for word in given.only.split(",") if word]
    rows = []
    with tempfile.TemporaryDirectory(prefix="digitry-memory-") as folder:
        for name, kind in KINDS.items():
            if wanted and not any(word in name for word in wanted):
                continue
            row = measured(name, kind, given.pixels, Path(folder), piped=given.stdin)
            rows.append(row)
            print(json.dumps(row), flush=True)
    worst = max(float(str(row["peak_mb"])) for row in rows)
    print(f"worst: {worst} MB; the goal is less than {BAR_MB} MB")
    if given.record:
        _record.write(
            "memory-read",
            table="Memory",
            what="peak of `digitry read` on the largest accepted picture, over all formats",
            metric="VmHWM, worst of the kinds",
            unit="MB",
            values=[worst],
            data={"model reader": load_model("reader").sha256},
            versions=("digitry", "numpy", "pillow", "opencv-python-headless", "onnxruntime"),
            extra={"kinds": rows},
        )


if __name__ == "__main__":
    main()
