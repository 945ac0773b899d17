"""The hostile files that benchmarks/attack.py tries: pictures, models, archives. All drawn by our own code.

Most makers are those of the tests, so that what is attacked here is what is tested there.
"""

import gzip
import importlib
import io
import random
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from _floods import FLOODS, flood

ROOT = Path(__file__).parents[1]

Maker = Callable[[], bytes]


def makers(name: str) -> Any:
    """Load a module of the tests."""
    # The tests import each other as a package.
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return importlib.import_module(f"tests.{name}")


def pictures(mutants: int) -> Iterator[tuple[str, Maker]]:
    """Name every hostile picture, with what makes it."""
    hostile, header = makers("workers.test_hostile"), makers("reading.test_header")
    for name in FLOODS:
        yield name, lambda name=name: flood(name)
    yield from hostile.BOMBS.items()
    yield "EXIF in 300 segments", lambda: header.MANY_EXIF
    yield (
        "EXIF tags that share a block",
        lambda: header.with_segments(header.EXIF + header.SHARED_BLOCK[:65_000]),
    )
    yield "TIFF tags", lambda: header.TIFF_TAGS
    ground = header.GIF_GROUND
    yield "GIF comment", lambda: header.GIF[:ground] + header.COMMENT + header.GIF[ground:]
    yield "JPEG of a million empty comments", lambda: _with_comments(header.encoded("JPEG"))
    yield "PNG of 800,000 empty chunks", lambda: _with_chunks(header.encoded("PNG"))
    for side in (30_000, 46_336):
        yield f"TIFF tile of {side:,}", lambda side=side: header.tiled(side, side)
    seeds = hostile.seeds()
    for name, content in seeds.items():
        yield name, lambda content=content: content
        yield f"{name}, cut", lambda content=content: content[: 2 * len(content) // 3]
    chance, contents = random.Random(5), list(seeds.values())
    for number in range(mutants):
        content = hostile.mutated(contents[number % len(contents)], contents, chance)
        yield f"mutant {number}", lambda content=content: content


def _with_comments(jpeg: bytes) -> bytes:
    return jpeg[:2] + b"\xff\xfe\0\2" * 1_000_000 + jpeg[2:]


def _with_chunks(png: bytes) -> bytes:
    return png[:33] + b"\0\0\0\0abCd\0\0\0\0" * 800_000 + png[33:]


def models() -> Iterator[tuple[str, bytes]]:
    """Name every hostile model file."""
    made = makers("model.test_artifact")
    for number, (change, why) in enumerate(made.HOSTILE):
        model = made.tiny()
        change(model)
        yield f"model {number}: {why}", made.with_facts(model)
    yield "no model", b"hello" * 1000
    yield "nested 100,000 deep", b"\x3a\x80\x80\x01" * 100_000
    yield "cut", made.with_facts(made.tiny())[:-500]
    yield "1,500 convolutions", _costly("convolutions")
    yield "a picture padded to 2,028 x 2,028", _costly("padding")


def _costly(how: str) -> bytes:
    """Return a model that is well formed, and that costs far too much for one digit."""
    from onnx import TensorProto, helper, numpy_helper

    made = makers("model.test_artifact")
    node, weights = helper.make_node, {"axis": np.array([1], np.int64)}
    nodes, last = [node("Unsqueeze", ["glyphs", "axis"], ["image"])], "image"
    if how == "padding":
        weights["pads"] = np.array([0, 0, 1000, 1000] * 2, np.int64)
        nodes.append(node("Pad", ["image", "pads"], ["large"]))
        last, channels = "large", 1
    else:
        channels = 64
        weights["first"] = np.zeros((64, 1, 3, 3), np.float32)
        weights["more"] = np.zeros((64, 64, 3, 3), np.float32)
        for place in range(1500):
            inputs = [last, "first" if place == 0 else "more"]
            last = f"x{place}"
            nodes.append(node("Conv", inputs, [last], pads=[1] * 4))
    weights["ends"] = np.zeros((channels, 10), np.float32)
    nodes += [
        node("ReduceMean", [last], ["means"], axes=[2, 3], keepdims=0),
        node("Gemm", ["means", "ends"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "costly",
        [value("glyphs", TensorProto.FLOAT, ["n", 28, 28])],
        [value(name, TensorProto.FLOAT, ["n", 10]) for name in ("logits", "probabilities")],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    content: bytes = made.with_facts(helper.make_model(graph, opset_imports=opset, ir_version=8))
    return content


def archives() -> Iterator[tuple[str, bytes]]:
    """Name every hostile archive by its file name, without folders; the suffix says its kind."""
    made = makers("bulk.test_archives")
    for kind in ("TARS", "ZIPS"):
        suffix = kind.lower()[:-1]
        for name, (content, _) in getattr(made, f"HOSTILE_{kind}").items():
            yield f"{name}.{suffix}", content
    for name, size in (("8 GiB", b"77777777777\0"), ("huge", b"\x80\0\0\0" + b"\xff" * 8)):
        yield f"a size of {name}.tar", made.resized(size)
    yield "bomb.zip", made.packed(("a.png", bytes(256 << 20)))
    small = bytearray(made.packed(("a.png", bytes(64 << 20))))
    struct.pack_into("<I", small, made.directory_of(small) + 24, 1000)
    yield "larger than it says.zip", bytes(small)
    yield "shared bytes.zip", _shared(made)
    yield (
        "bomb.tar.gz",
        gzip.compress(made.tar(*[(f"{index}.png", bytes(8 << 20)) for index in range(64)])),
    )


def _shared(made: Any) -> bytes:
    """Return a zip with fifty entries for one member."""
    content: bytes = made.packed(("a.png", made.PNG * 5000))
    begin, end = made.directory_of(content), content.rindex(b"PK\5\6")
    directory = content[begin:end] * 50
    last = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 50, 50, len(directory), begin, 0)
    return content[:begin] + directory + last


def honest_zip(picture: bytes) -> bytes:
    """Return a zip of three copies of a picture."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for index in range(3):
            made.writestr(f"{index}.jpg", picture)
    return stream.getvalue()
