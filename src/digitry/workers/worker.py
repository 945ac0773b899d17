"""A worker: one reader in a process of its own, which answers what comes over a line until it hangs up.

It gets bytes and answers with JSON, one line for each image. What keeps it alive, and within its limits,
is `digitry.workers.pool`.
"""

import json
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digitry.errors import DigitryError, ImageError, ModelError
from digitry.model.load import load_model
from digitry.reading.image import NO_MEMORY
from digitry.reading.result import Reading
from digitry.workers import messages
from digitry.workers.limits import confine

if TYPE_CHECKING:
    from digitry.reading.reader import Layout, Reader

MAX_REQUEST = 1 << 32
OUT_OF_MEMORY = 3
"""Exit status of a worker whose memory has ended."""

Full = bool | dict[str, Any]
"""Whether times and remedies are answered, too; a dict asks for pictures, see `digitry.workers.answer`."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image on its way to a worker.

    Attributes:
        name: what its reading calls the source.
        content: the bytes of an image file.
        offset: where it lies in its archive, in bytes, or its row in a table; None for a file.
    """

    name: str
    content: bytes
    offset: int | None = None


def serve(line: int) -> None:
    """Be a worker on the file descriptor `line` until the other end hangs up."""
    connection = socket.socket(fileno=line)
    received = bytearray()

    def say(answer: bytes) -> None:
        connection.sendall(messages.framed(answer))

    try:
        config = json.loads(messages.receive(connection, received, MAX_REQUEST))
        try:
            reader = _loaded(config)
        except DigitryError as error:
            say(as_line({"error": f"{error.what}; {error.remedy}"}))
            return
        confine(config["memory_bytes"])
        say(as_line({"sha256": config["sha256"]}))
        while True:
            request = messages.receive(connection, received, MAX_REQUEST)
            # Processor time of the whole process; at its end the system ends us, whatever we do.
            signal.setitimer(signal.ITIMER_PROF, config["cpu_s"])
            asked = _unpacked(request)
            del request
            answer = _answer(reader, *asked)
            signal.setitimer(signal.ITIMER_PROF, 0)
            say(answer)
            # What the next request may take must not depend on what this one was.
            del asked, answer
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)
    except (EOFError, OSError):
        # The parent is gone: nothing is left to do.
        return


def _loaded(config: Mapping[str, Any]) -> "Reader":
    """Load the model, and all code that a request may need: afterwards no file is opened."""
    import io

    import cv2
    import numpy as np
    from PIL import Image

    from digitry.reading import image
    from digitry.reading.reader import Reader
    from digitry.workers import answer as examine  # noqa: F401 (afterwards no file is opened)

    cv2.setNumThreads(1)
    found = load_model(config["model"])
    if found.fingerprint != config["sha256"]:
        raise ModelError("was changed while it was in use", remedy="start again")
    reader = Reader(
        found,
        config["layout"],
        max_error=config["max_error"],
        max_pixels=config["max_pixels"] or image.MAX_PIXELS,
    )
    Image.init()
    sample = np.full((64, 64, 3), 255, np.uint8)
    sample[20:40, 30:34] = 0
    for form in image.FORMATS:
        stream = io.BytesIO()
        Image.fromarray(sample).save(stream, form)
        reader.read(stream.getvalue())
    return reader


class _TogetherError(Exception):
    """These images cannot be read together; one by one each may well be."""


def _answer(reader: "Reader", items: list[Item], layout: "Layout | None", full: Full) -> bytes:
    """Answer one request: a line of notes, then one line for each item."""
    if isinstance(full, dict):
        from digitry.workers.answer import answer

        layout = layout or reader.layout
        row = answer(reader, items[0].content, name=items[0].name, layout=layout, **full)
        return b"{}\n" + as_line(row)
    rows: list[dict[str, Any]] = []
    failed: list[tuple[int, str]] = []
    rejected = 0
    try:
        results = _results(reader, items, layout)
    except _TogetherError:
        return b"{}"
    for index, (item, result) in enumerate(zip(items, results, strict=True)):
        if isinstance(result, DigitryError):
            row = failed_row(item.name, item.offset, result.what, reader.name)
            if full:
                row["remedy"] = result.remedy
            failed.append((index, result.what))
        else:
            values = result.to_dict()
            if not full:
                del values["ms"]
            rejected += result.rejected
            row = {"source": item.name, "offset": item.offset, "status": "ok"}
            row.update((key, value) for key, value in values.items() if key != "source")
        rows.append(row)
    notes = {"rejected": rejected, "failed": failed}
    return b"\n".join([as_line(notes), *map(as_line, rows)])


def _results(
    reader: "Reader", items: list[Item], layout: "Layout | None"
) -> list[Reading | ImageError]:
    try:
        if len(items) == 1:
            return [reader.read(items[0].content, layout=layout, name=items[0].name)]
        results = list(reader.read_many([item.content for item in items], layout=layout))
    except ImageError as error:
        return [error]
    except Exception as error:
        # Beyond the decoder nothing should fail; if it does, or memory ends, it is this image's fault.
        if len(items) > 1:
            raise _TogetherError from error
        if isinstance(error, MemoryError) or "memory" in str(error).lower():
            return [ImageError(NO_MEMORY, remedy="shrink it")]
        return [ImageError(f"cannot be read ({type(error).__name__})", remedy="please report it")]
    if any(isinstance(r, ImageError) and r.what == NO_MEMORY for r in results):
        # Together they needed too much; alone each may well be read.
        raise _TogetherError
    return results


def failed_row(name: str, offset: int | None, reason: str, model: str) -> dict[str, Any]:
    """Give the row of an image that could not be read."""
    return {
        "source": name,
        "offset": offset,
        "status": "failed",
        "text": "",
        "confidence": 0.0,
        "rejected": True,
        "reason": reason,
        "width": 0,
        "height": 0,
        "inverted": False,
        "lines": [],
        "digits": [],
        "model": model,
    }


def packed(items: Sequence[Item], layout: "Layout | None", full: Full) -> bytes:
    """Give the request for some images, as it goes over the line."""
    names = [[item.name, item.offset] for item in items]
    return messages.pack([names, layout, full], [item.content for item in items])


def _unpacked(request: bytes) -> tuple[list[Item], "Layout | None", Full]:
    (names, layout, full), contents = messages.unpack(request)
    pairs = zip(names, contents, strict=True)
    return [Item(name, content, offset) for (name, offset), content in pairs], layout, full


def as_line(value: object) -> bytes:
    """Give a value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace")
