"""A worker process: one reader that answers requests over a socket until the socket is closed.

It gets bytes and answers with JSON, one line for each image. `digitry.workers.supervisor` starts and
replaces workers.
"""

import json
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digitry.errors import DigitryError, ImageError, ModelError
from digitry.limits import OUT_OF_MEMORY, Size, confine
from digitry.model.line_network import load_lines
from digitry.model.load import load_model
from digitry.reading.decoding import NO_MEMORY
from digitry.reading.image import PageOf
from digitry.reading.result import Reading
from digitry.reading.rows import failed_row, row_of
from digitry.reading.template import unpacked
from digitry.workers import messages
from digitry.workers.answer import answer, fault

if TYPE_CHECKING:
    from digitry.reading.reader import Reader

MAX_REQUEST = 1 << 32

KEPT_PART = 4
"""A worker that still holds more than `memory_bytes / KEPT_PART` after its answer is replaced.

This part is added to the memory limit, so every request may use all of `memory_bytes`. Ordinary images
leave up to 150 MB of address space behind, free but fragmented.
"""


@dataclass(frozen=True, slots=True)
class Item:
    """One image to be read by a worker.

    Attributes:
        name: the name of the image in its reading.
        content: the bytes of an image file.
        offset: its offset in an archive, in bytes, or its row in a table; None for a file.
        page: number of the page to read, of a document with several, from 1; None for other images.
    """

    name: str
    content: bytes
    offset: int | None = None
    page: int | None = None

    @property
    def source(self) -> str:
        """Its name in its reading."""
        return self.name if self.page is None else f"{self.name}#page={self.page}"


def serve(descriptor: int) -> None:
    """Run a worker on the socket with file descriptor `descriptor` until the other end closes it."""
    connection = socket.socket(fileno=descriptor)
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
        kept_bytes = config["memory_bytes"] // KEPT_PART
        usual = Size.now()
        confine(usual, config["memory_bytes"] + kept_bytes)
        say(as_line({}))
        while True:
            request = messages.receive(connection, received, MAX_REQUEST)
            # Processor time of the whole process; when it is used up, the system kills the process.
            signal.setitimer(signal.ITIMER_PROF, config["cpu_s"])
            notes, rows = _answer(reader, request)
            signal.setitimer(signal.ITIMER_PROF, 0)
            del request
            # The memory of the next request must not depend on this one.
            if Size.now().beyond(usual) > kept_bytes:
                notes = {"grown": True, **notes}
            say(b"\n".join([as_line(notes), *rows]))
            del rows
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)
    except (EOFError, OSError):
        # The socket is closed: exit quietly.
        return


def _loaded(config: Mapping[str, Any]) -> "Reader":
    """Return a reader with all code loaded that a request may need; later it opens no file."""
    import io

    import cv2
    import numpy as np
    from PIL import Image

    from digitry.reading import decoding, documents, image
    from digitry.reading.reader import Reader

    cv2.setNumThreads(1)
    found, lines = load_model(config["model"]), load_lines(config["lines"])
    used = (found.fingerprint, lines.fingerprint)
    if used != (config["sha256"], config["lines_sha256"]):
        raise ModelError("was changed while it was in use", remedy="restart with the new file")
    reader = Reader(
        found,
        config["layout"],
        max_error=config["max_error"],
        max_pixels=config["max_pixels"] or image.MAX_PIXELS,
        lines=lines,
    )
    # Before the limits of a request hold, and before its usual size is measured.
    reader.prepare()
    Image.init()
    documents.prepare_worker(config["draw_s"])
    sample = np.full((64, 64, 3), 255, np.uint8)
    sample[20:40, 30:34] = 0
    # Encoding a sample of AVIF would take longer than all others together; its decoder is loaded.
    for form in [form for form in decoding.FORMATS if form != "AVIF"]:
        stream = io.BytesIO()
        Image.fromarray(sample).save(stream, form)
        reader.read(stream.getvalue())
    if config["region"] is not None:
        return reader.at(config["region"])
    if config["template"] is None:
        return reader
    reader = reader.on_form(unpacked(config["template"]))
    with suppress(ImageError):
        # So that all code of forms is loaded, too.
        reader.read(sample)
    return reader


def _answer(reader: "Reader", request: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Return the notes for one request, and one line for each of its items."""
    (names, options), contents = messages.unpack(request)
    images = [
        content if page is None else PageOf(content, page)
        for content, (_, _, page) in zip(contents, names, strict=True)
    ]
    if options is not None:
        ((name, _, _),) = names
        return {}, [as_line(answer(reader, images[0], name=name, **options))]
    rows: list[bytes] = []
    failed: list[tuple[int, str]] = []
    rejected = 0
    for (name, offset, _), result in zip(names, _results(reader, images), strict=True):
        if isinstance(result, DigitryError):
            failed.append((len(rows), result.what))
            row = failed_row(name, result.what, reader.name, reader.template)
        else:
            rejected += result.rejected
            row = {**row_of(result), "source": name}
        rows.append(as_line(placed(row, offset)))
    return {"rejected": rejected, "failed": failed}, rows


def _results(
    reader: "Reader", contents: "Sequence[bytes | PageOf]"
) -> list[Reading | DigitryError]:
    """Return the results of images, read together; if that fails, read one by one."""
    if len(contents) > 1:
        try:
            results = list(reader.read_many(contents))
            if not any(isinstance(one, DigitryError) and one.what == NO_MEMORY for one in results):
                return [*results]
        except Exception:  # noqa: BLE001 (reading one by one shows which image it was)
            pass
        return [result for content in contents for result in _results(reader, [content])]
    try:
        return [reader.read(contents[0])]
    except Exception as error:  # noqa: BLE001 (the error is the answer)
        return [fault(error)]


def placed(row: dict[str, Any], offset: int | None) -> dict[str, Any]:
    """Return a row with its offset, and without the time that its reading took."""
    del row["ms"]
    return {"source": row.pop("source"), "offset": offset, **row}


def packed(items: Sequence[Item], options: Mapping[str, Any] | None) -> bytes:
    """Return the request for some images.

    Args:
        items: the images.
        options: options of `digitry.workers.answer.answer`, for exactly one image; None = answer with
            rows.
    """
    names = [[item.source, item.offset, item.page] for item in items]
    return messages.pack([names, options], [item.content for item in items])


def as_line(value: object) -> bytes:
    """Return a value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace")
