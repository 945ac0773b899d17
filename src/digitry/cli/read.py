"""The verb on images: `read`."""

import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digitry.cli.app import app
from digitry.cli.options import Layout, MaxError, ReadLayout, ReadModel
from digitry.cli.text import console_for
from digitry.errors import ImageError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from digitry.reading.result import Reading

MANY = 100
"""Progress is shown from this number of images on."""


class ReadingFormat(StrEnum):
    """How `read` prints readings."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    HOCR = "hocr"


@app.command()
def read(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Images, folders, globs; - for stdin.")
    ],
    layout: ReadLayout = Layout.AUTO,
    format: Annotated[ReadingFormat, typer.Option(help="Output format.")] = ReadingFormat.TEXT,
    model: ReadModel = "reader",
    max_error: MaxError = None,
    pattern: Annotated[
        str | None,
        typer.Option(help=r"Pattern of each line: \d{4}, \d\d/\d\d, \d{5}|\d{9}."),
    ] = None,
    annotate: Annotated[
        Path | None, typer.Option(help="Folder for pictures with boxes, values and confidences.")
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(help="Folder for pictures that show which ink decided each digit."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no summary.")] = False,
) -> None:
    """Read the digits in images.

    For one image only its text is printed; for several, a folder or a glob, one row each: path, text,
    confidence. A digit that the model refuses is printed as ?. An image that cannot be read is named on
    stderr, all others are printed, and the exit code is 1.
    """
    from digitry.progress import track
    from digitry.reading.reader import Reader

    for folder in (annotate, explain):
        if folder is not None and folder.exists() and not folder.is_dir():
            raise UsageError(
                "is not a folder", where=folder, remedy="name a new or existing folder"
            )
    sources = list(_sources(paths))
    reader = Reader(model, layout.value, max_error=max_error, pattern=pattern)
    # Standard input can be read only once, and --annotate and --explain need the image again.
    stdin = sys.stdin.buffer.read() if "-" in sources else b""
    contents = [stdin if source == "-" else source for source in sources]
    # A folder or a glob prints a list, even for a single image.
    printer = _Printer(format, many=sources != paths or len(sources) > 1)
    from digitry.reading.explain import explain as explained
    from digitry.reading.render import annotate as annotated

    pictures = []
    if annotate is not None:
        pictures.append(_Pictures(annotate, "annotated", annotated))
    if explain is not None:
        why = _Pictures(explain, "explained", lambda image, _: explained(reader, image)[1])
        pictures.append(why)
    failed = 0
    # A few images take no time worth a progress bar.
    console = None if quiet or len(sources) < MANY else console_for(stderr=True)
    with _decoders_silenced():
        results = track(reader.read_many(contents), len(sources), "reading", console)
        for source, content, result in zip(sources, contents, results, strict=True):
            if isinstance(result, ImageError):
                failed += 1
                if source == "-":
                    result = ImageError(result.what, where="-", remedy=result.remedy)
                print(f"digitry: {result}", file=sys.stderr)
                continue
            printer.add(result if source != "-" else _named(result, "-"))
            for kind in pictures:
                path = kind.save(source, content, result)
                if not quiet:
                    print(f"{kind.name}: {path}", file=sys.stderr)
    printer.finish()
    if failed:
        if not quiet and len(sources) > 1:
            print(f"digitry: {failed} of {len(sources)} images could not be read", file=sys.stderr)
        raise typer.Exit(1)


@contextmanager
def _decoders_silenced() -> Iterator[None]:
    """Drop what C libraries write to file descriptor 2, e.g. libtiff's warnings; keep our own text."""
    ours, descriptor = sys.stderr, -1
    with suppress(OSError, ValueError):
        descriptor = ours.fileno()
    if descriptor != 2:
        # stderr is closed, or Python writes to another descriptor already.
        yield
        return
    ours.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)
    stream = open(kept, "w", encoding=ours.encoding, errors=ours.errors, buffering=1)  # noqa: PTH123, SIM115
    sys.stderr = stream
    try:
        yield
    finally:
        stream.flush()
        sys.stderr = ours
        os.dup2(kept, 2)
        stream.close()


class _Printer:
    """Prints each reading at once, or all at the end if the format needs that."""

    def __init__(self, format: ReadingFormat, *, many: bool) -> None:
        self.format = format
        self.many = many
        self.kept: list[Reading] = []
        if format is ReadingFormat.CSV:
            from digitry.reading.render import CSV_HEADER, to_csv

            print(to_csv([CSV_HEADER]), end="")

    def add(self, reading: "Reading") -> None:
        from digitry.reading import render

        if self.format is ReadingFormat.TEXT:
            if self.many:
                text = reading.text.replace("\n", " ") or f"({reading.reason})"
                # A tab or a line break in a file name must not break our rows.
                name = reading.source.translate({9: "\\t", 10: "\\n", 13: "\\r"})
                print(f"{name}\t{text}\t{reading.confidence:.4f}")
            elif reading.digits:
                print(reading.text)
                if reading.rejected:
                    # On stderr: programs that read standard output get only the text.
                    print(f"digitry: {reading.source}: ? is {reading.reason}", file=sys.stderr)
            else:
                print(
                    f"digitry: {reading.source}: nothing read ({reading.reason})", file=sys.stderr
                )
        elif self.format is ReadingFormat.JSONL:
            print(render.to_json(reading))
        elif self.format is ReadingFormat.CSV:
            print(render.to_csv(render.to_csv_rows(reading)), end="")
        else:
            self.kept.append(reading)

    def finish(self) -> None:
        from digitry.reading import render

        if self.format is ReadingFormat.HOCR:
            print(render.to_hocr(self.kept), end="")
        elif self.format is ReadingFormat.JSON and self.many:
            print("[\n" + ",\n".join(render.to_json(reading) for reading in self.kept) + "\n]")
        elif self.format is ReadingFormat.JSON:
            for reading in self.kept:
                print(render.to_json(reading, indent=2))


def _sources(paths: Iterable[str]) -> Iterator[str]:
    """Yield the path of every image that the arguments name, with folders and globs expanded."""
    from digitry.reading.image import SUFFIXES

    for path in paths:
        if path == "-" or not Path(path).is_dir():
            if path != "-" and not Path(path).exists() and glob.has_magic(path):
                found = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 (absolute patterns)
                if not found:
                    raise UsageError("no file matches", where=path, remedy="check the pattern")
                yield from (name for name in found if Path(name).is_file())
            else:
                yield path
            continue
        inside = sorted(
            str(file)
            for file in Path(path).rglob("*")
            if file.suffix.lower() in SUFFIXES and file.is_file()
        )
        if not inside:
            raise UsageError(
                "no image in this folder",
                where=path,
                remedy=f"searched: {' '.join(sorted(SUFFIXES))}",
            )
        yield from inside


def _named(reading: "Reading", name: str) -> "Reading":
    from dataclasses import replace

    return replace(reading, source=name)


class _Pictures:
    """Saves pictures of one kind, each under a different name."""

    def __init__(
        self, folder: Path, name: str, draw: "Callable[[str | bytes, Reading], Image]"
    ) -> None:
        self.folder = folder
        self.name = name
        self.draw = draw
        self.taken: set[Path] = set()

    def save(self, source: str, content: str | bytes, reading: "Reading") -> Path:
        from digitry import files

        stem = "stdin" if source == "-" else Path(source).stem
        path = self.folder / f"{stem}.{self.name}.png"
        number = 2
        while path in self.taken:
            path = self.folder / f"{stem}-{number}.{self.name}.png"
            number += 1
        self.taken.add(path)
        with files.replacing(path) as temporary:
            self.draw(content, reading).save(temporary)
        return path
