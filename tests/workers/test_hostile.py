"""No image can crash or hang the calling process, or use its memory without limit."""

import io
import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digitry.errors import ImageError
from digitry.reading import image
from digitry.reading.result import Reading
from digitry.workers.pool import WorkerPool, has_pages
from digitry.workers.worker import Item

from .. import documents
from ..waiting import PATIENCE_S


def resident() -> int:
    """Memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


# --- seeds: every format that is decoded, with several encodings ----------------------------------


def saved(picture: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def seeds() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    gray = np.full((64, 96), 230, np.uint8)
    gray[12:52, 30:38] = 20
    gray += rng.integers(0, 20, gray.shape, np.uint8)
    page = Image.fromarray(gray)
    colour = page.convert("RGB")
    frames = [page.rotate(angle) for angle in (90, 180)]
    exif = Image.Exif()
    exif[0x0112] = 6
    made = {
        "png": saved(page, "PNG"),
        "png rgba": saved(page.convert("RGBA"), "PNG"),
        "png palette": saved(page.quantize(16), "PNG", transparency=3),
        "png 16": saved(Image.fromarray(gray.astype(np.uint16) * 200), "PNG"),
        "png 1": saved(page.convert("1"), "PNG"),
        "png interlaced": interlaced(gray),
        "apng": saved(page, "PNG", save_all=True, append_images=frames),
        "jpeg": saved(page, "JPEG", exif=exif.tobytes()),
        "jpeg progressive": saved(colour, "JPEG", progressive=True),
        "jpeg cmyk": saved(colour.convert("CMYK"), "JPEG"),
        "mpo": saved(colour, "MPO", save_all=True, append_images=[colour]),
        "webp": saved(colour, "WEBP"),
        "webp lossless": saved(colour.convert("RGBA"), "WEBP", lossless=True),
        "webp moving": saved(colour, "WEBP", save_all=True, append_images=frames),
        "bmp": saved(page, "BMP"),
        "bmp rgb": saved(colour, "BMP"),
        "gif": saved(page, "GIF", transparency=1),
        "gif moving": saved(page, "GIF", save_all=True, append_images=frames),
    }
    for method in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        made[f"tiff {method}"] = saved(page, "TIFF", compression=method, exif=exif.tobytes())
    made["tiff group4"] = saved(page.convert("1"), "TIFF", compression="group4")
    made["tiff 16"] = saved(Image.fromarray(gray.astype(np.uint16) * 200), "TIFF")
    made["tiff pages"] = saved(page, "TIFF", save_all=True, append_images=frames)
    made["jp2"] = saved(page, "JPEG2000")
    made["jp2 colour"] = saved(colour.convert("RGBA"), "JPEG2000", tile_size=(32, 32))
    made["j2k"] = saved(colour, "JPEG2000", no_jp2=True, irreversible=True)
    made["pgm"] = saved(page, "PPM")
    made["ppm"] = saved(colour, "PPM")
    made["pbm"] = saved(page.convert("1"), "PPM")
    made["pgm 16"] = saved(Image.fromarray(gray.astype(np.uint16) * 200), "PPM")
    made["pgm as text"] = b"P2\n96 64\n255\n" + " ".join(map(str, gray.ravel().tolist())).encode()
    made["pdf"] = documents.pdf([documents.PLAIN])
    made["pdf pages"] = documents.scanned([page, *frames])
    made["heic"] = documents.heic(colour)
    made["heic grey"] = documents.heic(page)
    made["heic transparent"] = documents.heic(page.convert("RGBA"))
    made["avif"] = documents.avif(colour)
    made["avif transparent"] = documents.avif(colour.convert("RGBA"))
    return made


def interlaced(gray: np.ndarray) -> bytes:
    """An interlaced PNG with its seven passes (Adam7)."""
    passes = [
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ]
    rows = b"".join(b"\0" + row.tobytes() for x, y, dx, dy in passes for row in gray[y::dy, x::dx])
    return png(gray.shape[1], gray.shape[0], rows, interlace=1)


def chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(width: int, height: int, rows: bytes, *, interlace: int = 0, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlace)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra
        + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    )  # fmt: skip


def mutated(content: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """One of: bits flipped, bytes set, cut, a part doubled, removed or moved, two files spliced."""
    work = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        if not work:
            break
        at = chance.randrange(len(work))
        length = chance.randint(1, max(1, len(work) // 8))
        how = chance.randrange(8)
        if how == 0:
            work[at] ^= 1 << chance.randrange(8)
        elif how == 1:
            work[at] = chance.choice([0, 1, 0x7F, 0x80, 0xFF])
        elif how == 2:
            del work[at:]
        elif how == 3:
            work[at:at] = work[at : at + length]
        elif how == 4:
            del work[at : at + length]
        elif how == 5:
            # Numbers in headers: sizes, counts, offsets.
            place = chance.randrange(min(len(work), 200))
            number = chance.choice([0, 1, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 65_500])
            work[place : place + 4] = struct.pack(chance.choice([">I", "<I"]), number)
        elif how == 6:
            other = chance.choice(others)
            work[at:] = other[chance.randrange(len(other)) :]
        else:
            work[at : at + length] = chance.randbytes(length)
    return bytes(work)


@pytest.fixture(scope="module")
def pool(model: Path) -> Iterator[WorkerPool]:
    # The default of processor time; a busy machine takes longer.
    with WorkerPool(model, workers=2, wall_s=PATIENCE_S) as made:
        yield made


def answered(pool: WorkerPool, content: bytes, name: str) -> str:
    """Return the answer for an image: "read", or why it was not."""
    if has_pages(content):
        lines = pool.rows([Item(name, content)]).lines
        reasons = [row["reason"] for row in map(json.loads, lines) if row["status"] == "failed"]
        assert not any("cannot be read (" in reason for reason in reasons), (name, reasons)
        return reasons[0] if reasons else "read"
    answer = pool.read(content, name)
    assert isinstance(answer, (Reading, ImageError)), name
    assert "\n" not in str(answer) or isinstance(answer, Reading)
    what = "read" if isinstance(answer, Reading) else answer.what
    assert "please report" not in str(answer), (name, what)
    assert "took too long: more than" not in what or "of processor time" in what, (name, what)
    return what


def attack(pool: WorkerPool, count: int, seed: int) -> dict[str, int]:
    chance = random.Random(seed)
    files = seeds()
    names, contents = list(files), list(files.values())
    outcomes: dict[str, int] = {}
    for number in range(count):
        index = number % len(names)
        content = mutated(contents[index], contents, chance)
        what = answered(pool, content, f"{names[index]} {number}")
        kind = what.split(" (")[0]
        outcomes[kind] = outcomes.get(kind, 0) + 1
    return outcomes


def test_every_seed_is_read(pool: WorkerPool) -> None:
    for name, content in seeds().items():
        assert answered(pool, content, name) == "read", name


def test_mutated_images_give_a_reading_or_a_typed_error(pool: WorkerPool) -> None:
    before = resident()
    outcomes = attack(pool, 400, seed=1)
    assert outcomes.keys() >= {"read", "is damaged"}
    assert resident() - before < 50 << 20


@pytest.mark.slow
def test_ten_thousand_mutated_images_give_a_reading_or_a_typed_error(pool: WorkerPool) -> None:
    before = resident()
    outcomes = attack(pool, 10_000, seed=2)
    print(outcomes, f"grown by {(resident() - before) >> 10} KiB")
    assert sum(outcomes.values()) == 10_000
    assert resident() - before < 50 << 20


# --- bombs -----------------------------------------------------------------------------------------


def tiff(
    entries: list[tuple[int, int, int, int]], *, following: int = 0, tail: bytes = b""
) -> bytes:
    """A little-endian TIFF of one directory: (tag, type, count, value) each."""
    body = struct.pack("<H", len(entries))
    for tag, kind, count, value in entries:
        body += struct.pack("<HHII", tag, kind, count, value)
    return b"II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", following) + tail


def many_directories(count: int) -> bytes:
    """A TIFF whose directories, each with one tag, follow each other."""
    size = 2 + 12 + 4
    entry = struct.pack("<HHHII", 1, 256, 4, 1, 8)
    links = (8 + size * (index + 1) if index + 1 < count else 0 for index in range(count))
    return b"II*\0" + struct.pack("<I", 8) + b"".join(entry + struct.pack("<I", at) for at in links)


def overlapping_directories() -> bytes:
    """A TIFF of 500 directories of 50,000 tags each, in the space of one."""
    body = bytearray(struct.pack("<H", 50_000) * 400_000)
    body[:8] = b"II*\0" + struct.pack("<I", 8)
    for index in range(500):
        at = 8 + 2 * index
        struct.pack_into("<I", body, at + 2 + 12 * 50_000, at + 2)
    return bytes(body)


PLAIN = [
    (256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
    (273, 4, 1, 0), (277, 3, 1, 1), (278, 4, 1, 8), (279, 4, 1, 64),
]  # fmt: skip


def frames(form: str, count: int) -> bytes:
    first = Image.new("L", (64, 64), 255)
    rest = [Image.new("L", (64, 64), 250 - index % 200) for index in range(count)]
    return saved(first, form, save_all=True, append_images=rest)


def scans_of_progressive(count: int) -> bytes:
    """A progressive JPEG with one scan repeated; for each the decoder processes all pixels."""
    content = saved(Image.new("L", (6000, 6000), 200), "JPEG", progressive=True)
    scan = content.rindex(b"\xff\xda")
    tables = content.rindex(b"\xff\xc4", 0, scan)
    return content[:scan] + content[tables:-2] * count + content[-2:]


def exif_loop() -> bytes:
    """EXIF data whose sub-directory points to itself."""
    block = tiff([(0x0112, 3, 1, 6), (0x8769, 4, 1, 8), (0x8825, 4, 1, 8)], following=8)
    page = saved(Image.new("L", (64, 64), 200), "JPEG")
    body = b"Exif\0\0" + block
    return page[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + page[2:]


def jpeg2000_of_size(width: int, height: int) -> bytes:
    """A small JPEG 2000 whose header claims another size."""
    content = bytearray(saved(Image.new("L", (64, 64), 200), "JPEG2000", tile_size=(32, 32)))
    for marker, at in ((b"ihdr", 4), (b"\xff\x51", 6)):
        place = content.index(marker) + at
        sides = (height, width) if marker == b"ihdr" else (width, height)
        content[place : place + 8] = struct.pack(">II", *sides)
    return bytes(content)


BOMBS: dict[str, Callable[[], bytes]] = {
    "png of 50,000 a side": lambda: png(50_000, 50_000, bytes(1000)),
    "png of 2^31 a row": lambda: png((1 << 31) - 1, 1, bytes(1000)),
    "png whose data go on": lambda: png(100, 100, bytes(200 << 20)),
    "png of text": lambda: png(
        8, 8, bytes(72), extra=chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(100 << 20), 9))
    ),
    "png of international text": lambda: png(
        8, 8, bytes(72), extra=chunk(b"iTXt", b"x\0\1\0\0\0" + zlib.compress(bytes(100 << 20), 9))
    ),
    "png of a profile": lambda: png(
        8, 8, bytes(72), extra=chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(100 << 20), 9))
    ),
    "apng of 20,000 frames": lambda: png(
        8, 8, bytes(72), extra=chunk(b"acTL", struct.pack(">II", 1 << 30, 0))
    ),
    "gif of 400 frames": lambda: frames("GIF", 400),
    "gif of 65,535 a side": lambda: b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0;",
    "gif with a large frame": lambda: (
        b"GIF89a" + struct.pack("<HH", 10, 10) + b"\0\0\0"
        + b"," + struct.pack("<HHHH", 0, 0, 65535, 65535) + b"\0\x08\0;"
    ),
    "jpeg of 65,500 a side": lambda: saved(Image.new("L", (8, 8)), "JPEG").replace(
        b"\x08\x00\x08\x00\x08", b"\x08\xff\xdc\xff\xdc"
    ),
    "jpeg progressive of 36 million pixels": lambda: scans_of_progressive(0),
    "jpeg progressive with 500 scans": lambda: scans_of_progressive(500),
    "jpeg whose exif is a loop": exif_loop,
    "webp of 16,383 a side": lambda: saved(Image.new("L", (16383, 3000)), "WEBP"),
    "bmp of 2^31 a side": lambda: (
        b"BM" + struct.pack("<IHHI", 70, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, (1 << 31) - 1, (1 << 31) - 1, 1, 24, 0, 0, 0, 0, 0, 0)
    ),
    "bmp of runs": lambda: (
        b"BM" + struct.pack("<IHHI", 70, 0, 0, 1078)
        + struct.pack("<IiiHHIIiiII", 40, 7000, 7000, 1, 8, 1, 0, 0, 0, 256, 0) + bytes(1024)
        + b"\xff\x01" * 1000
    ),
    "tiff whose directories are a loop": lambda: tiff(PLAIN, following=8),
    "tiff of a million strips": lambda: tiff(
        [(256, 4, 1, 7000), (257, 4, 1, 7000), *PLAIN[2:5], (273, 4, 1 << 30, 8), *PLAIN[6:]]
    ),
    "tiff of 2^31 a side": lambda: tiff([(256, 4, 1, 1 << 31), (257, 4, 1, 1 << 31), *PLAIN[2:]]),
    "tiff of odd samples": lambda: tiff([*PLAIN[:6], (277, 3, 1, 65535), *PLAIN[7:]]),
    "tiff of a tag of 4 GiB": lambda: tiff([*PLAIN, (700, 1, 0xFFFFFFFF, 8)]),
    "tiff of an empty deflate": lambda: tiff([*PLAIN[:3], (259, 3, 1, 8), *PLAIN[4:]]),
    "tiff of 100,000 pages": lambda: many_directories(100_000),
    "tiff of pages with overlapping tags": lambda: overlapping_directories(),
    "jp2 of 60,000 a side": lambda: jpeg2000_of_size(60_000, 60_000),
    "jp2 of 49 million pixels in tiny tiles": lambda: jpeg2000_of_size(7_000, 7_000),
    "pgm of 2^31 a side": lambda: b"P5\n2147483648 2147483648\n255\n" + bytes(100),
    "pgm of 7,000 a side as text": lambda: b"P2\n7000 7000\n255\n" + b"1 " * 10_000,
    "pgm of a number without end": lambda: b"P2\n9 9\n255\n" + b"1" * (1 << 20),
    "pdf of a million pages": lambda: documents.pdf([documents.PLAIN], count=1_000_000),
    "pdf whose pages are a loop": lambda: documents.pdf(
        [documents.PLAIN], kids="2 0 R 3 0 R", count=2
    ),
    "pdf with pages that are not there": lambda: documents.pdf([documents.PLAIN], count=9),
    "pdf of 10^9 points a side": lambda: documents.pdf(
        [documents.PLAIN], box="0 0 1000000000 1000000000"
    ),
    "pdf of 200 inches": lambda: documents.pdf([documents.PLAIN], box="0 0 14400 14400"),
    "pdf of a line": lambda: documents.pdf([documents.PLAIN], box="0 0 14400 1"),
    "pdf without a box": lambda: documents.pdf([documents.PLAIN], box="0 0 0 0"),
    "pdf whose drawing unpacks to 300 MB": lambda: documents.pdf(
        [b"<< /Filter /FlateDecode /Length 9 >>\nstream\n" + documents.zeros(300 << 20)
         + b"\nendstream"]
    ),
    "pdf of a billion squares": lambda: documents.laughs(9),
    "pdf with an image of 60,000 across": lambda: documents.with_image(
        60_000, 60_000, documents.zeros(400 << 20), "/BitsPerComponent 1"
    ),
    "pdf with an image of 2^31 across": lambda: documents.with_image(
        (1 << 31) - 1, (1 << 31) - 1, documents.zeros(1 << 20)
    ),
    "pdf of two million squares": lambda: documents.pdf([b"0 0 200 150 re f " * 2_000_000]),
    "heic of 60,000 a side": lambda: documents.of_size(
        documents.heic(documents.drawn()), 60_000, 60_000
    ),
    "heic of 7,000 a side": lambda: documents.of_size(
        documents.heic(documents.drawn()), 7_000, 7_000
    ),
    "heic without pixels": lambda: documents.of_size(documents.heic(documents.drawn()), 0, 5),
    "avif of 30,000 a side": lambda: documents.of_size(
        documents.avif(documents.drawn()), 30_000, 30_000
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_answered_within_the_limit_of_processor_time(pool: WorkerPool, name: str) -> None:
    assert answered(pool, BOMBS[name](), name)


@pytest.mark.parametrize(
    "name", [name for name in BOMBS if "a side" in name and "webp" not in name]
)
@pytest.mark.usefixtures("undecoded")
def test_images_that_are_too_large_are_refused_by_their_header(name: str) -> None:
    with pytest.raises(
        ImageError,
        match=r"too large|MB to decode|not an image|in a slow form|more than 2,000 tiles|14,400",
    ):
        image.load(BOMBS[name]())


@pytest.mark.usefixtures("undecoded")
def test_a_jpeg_2000_of_too_many_tiles_is_refused_by_its_header() -> None:
    with pytest.raises(ImageError, match=r"is cut into more than 2,000 tiles; save it again"):
        image.load(BOMBS["jp2 of 49 million pixels in tiny tiles"]())


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16", "P", "1", "CMYK"])
def test_the_largest_images_do_not_crash_a_worker(pool: WorkerPool, mode: str) -> None:
    form = "TIFF" if mode == "CMYK" else "PNG"
    packing = {"compression": "tiff_lzw"} if mode == "CMYK" else {"compress_level": 1}
    content = saved(Image.new(mode, (8000, 6250)), form, **packing)
    answer = pool.read(content, mode)
    # The image is read, or refused because of its memory; the worker never crashes.
    refused = "takes", "needs"
    assert isinstance(answer, Reading) or any(w in answer.what for w in refused), str(answer)
