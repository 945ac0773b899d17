"""The functions that the fuzzer calls: each parses untrusted bytes.

A target may raise a `DigitryError` of one line. Any other error, and any result that contradicts
itself, is a finding.
"""

import io
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from digitry.bulk import archives
from digitry.model import artifact
from digitry.reading import image

MAX_PIXELS = 1_000_000
"""Small, so that the fuzzer spends its time on parsing."""


def read_image(content: bytes) -> None:
    """Load an image as a page."""
    page = image.load(content, max_pixels=MAX_PIXELS)
    if page.gray.dtype != np.uint8 or page.gray.ndim != 2 or page.width * page.height > MAX_PIXELS:
        raise AssertionError("not a grey page within the limit")


def read_artifact(content: bytes) -> None:
    """Check a model file."""
    artifact.parse(content, source="fuzz")


def read_archive(content: bytes) -> None:
    """Walk a tar and a zip."""
    for member in archives.tar_members(io.BytesIO(content)):
        if (member.content is None) != (member.error is not None):
            raise AssertionError("a member needs either content or an error")
    start, refused = archives.zip_start(io.BytesIO(content))
    if refused is None:
        list(archives.zip_members(io.BytesIO(content), start))


def read_data(content: bytes) -> None:
    """Read a data set: IDX, .npz or CSV, by its first bytes."""
    from digitry.training.data import formats, npz

    if content.startswith(b"\0\0"):
        formats.parse_idx(io.BytesIO(content), where="fuzz")
    elif content.startswith(b"PK"):
        npz.parse_npz(io.BytesIO(content), where="fuzz")
    else:
        formats.parse_csv(io.BytesIO(content), where="fuzz")


TARGETS: dict[str, Callable[[bytes], None]] = {
    "image": read_image,
    "artifact": read_artifact,
    "archive": read_archive,
    "data": read_data,
}


# --- valid files to start from -----------------------------------------------------------------------


def seeds(target: str) -> list[bytes]:
    """Return small valid files for a target."""
    made: dict[str, Callable[[], list[bytes]]] = {
        "image": _pictures,
        "artifact": _artifacts,
        "archive": _archives,
        "data": _data,
    }
    return made[target]()


def _pictures() -> list[bytes]:
    rng = np.random.default_rng(0)
    gray = Image.fromarray(rng.integers(0, 256, (12, 9), np.uint8))
    colour = Image.fromarray(rng.integers(0, 256, (12, 9, 3), np.uint8))
    clear = Image.fromarray(rng.integers(0, 256, (12, 9, 4), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    ways: list[tuple[Image.Image, str, dict[str, object]]] = [
        (gray, "PNG", {}), (clear, "PNG", {}), (gray.quantize(8), "PNG", {"transparency": 3}),
        (gray.convert("1"), "PNG", {}), (gray.convert("I;16"), "PNG", {}),
        (colour, "PNG", {"exif": exif}), (gray, "PNG", {"save_all": True, "append_images": [gray]}),
        (colour, "JPEG", {"exif": exif}), (gray, "JPEG", {"progressive": True}),
        (colour.convert("CMYK"), "JPEG", {}),
        (colour, "MPO", {"save_all": True, "append_images": [colour]}),
        (colour, "WEBP", {}), (clear, "WEBP", {"lossless": True}),
        (gray, "BMP", {}), (colour, "BMP", {}), (gray.convert("1"), "BMP", {}),
        (gray, "GIF", {}), (gray, "GIF", {"save_all": True, "append_images": [gray]}),
        (gray, "TIFF", {}), (clear, "TIFF", {"compression": "tiff_lzw"}),
        (colour, "TIFF", {"compression": "jpeg"}), (gray.convert("1"), "TIFF", {"compression": "group4"}),
        (gray.convert("F"), "TIFF", {}), (colour, "TIFF", {"exif": exif}),
    ]  # fmt: skip
    found = []
    for picture, form, options in ways:
        stream = io.BytesIO()
        picture.save(stream, form, **options)
        found.append(stream.getvalue())
    return found


def _artifacts() -> list[bytes]:
    from onnx import TensorProto, helper, numpy_helper

    weights = np.zeros((28, 10), np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["glyphs"], ["rows"], axes=[2], keepdims=0),
            helper.make_node("Gemm", ["rows", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("glyphs", TensorProto.FLOAT, ["n", 28, 28])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 10]),
        ],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.arange(3), "shape"),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        labels = tuple(map(str, range(10)))
        artifact.save(path, made.SerializeToString(), artifact.Metadata(name="tiny", labels=labels))
        return [path.read_bytes()]


def _archives() -> list[bytes]:
    tar, packed = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as made, zipfile.ZipFile(packed, "w") as other:
        for index, content in enumerate(_pictures()[:4]):
            header = tarfile.TarInfo(f"{index}.png")
            header.size = len(content)
            made.addfile(header, io.BytesIO(content))
            other.writestr(f"{index}.png", content, compress_type=8 * (index % 2))
    return [tar.getvalue(), packed.getvalue()]


def _data() -> list[bytes]:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (2, 28, 28), np.uint8), np.array([3, 7], np.uint8)
    found = [
        b"\0\0\x08\3" + np.array([2, 28, 28], ">u4").tobytes() + images.tobytes(),
        b"\0\0\x08\1" + np.array([2], ">u4").tobytes() + labels.tobytes(),
        b"".join(
            b",".join(b"%d" % value for value in (label, *image.ravel())) + b"\n"
            for label, image in zip(labels, images // 200, strict=True)
        ),
    ]
    for save in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        save(stream, images=images // 128, labels=labels)
        found.append(stream.getvalue())
    return found
