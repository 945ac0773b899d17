"""The verb on images: `read`."""

import glob
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digitry.cli.app import READ, app
from digitry.cli.options import Layout, MaxError, ReadLayout, ReadModel, ReadRegion, ReadTemplate
from digitry.cli.text import console_for
from digitry.errors import ImageError, UsageError
from digitry.reading import rows
from digitry.reading.result import FormReading

if TYPE_CHECKING:
    from PIL.Image import Image

    from digitry.reading.image import PageOf
    from digitry.reading.reader import Reader
    from digitry.reading.result import Reading

MANY = 100
"""Progress is shown from this number of images on."""


class ReadingFormat(StrEnum):
    """How `read` prints readings."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    CSV_EXCEL = "csv-excel"
    HOCR = "hocr"


TABLES = (ReadingFormat.CSV, ReadingFormat.CSV_EXCEL)


@app.command(rich_help_panel=READ)
def read(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Images, folders, globs; - for stdin.")
    ],
    layout: ReadLayout = Layout.AUTO,
    format: Annotated[
        ReadingFormat,
        typer.Option(
            help="Output format; csv-excel keeps leading zeros when a spreadsheet opens it."
        ),
    ] = ReadingFormat.TEXT,
    model: ReadModel = "reader",
    max_error: MaxError = None,
    pattern: Annotated[
        str | None,
        typer.Option(help=r"Pattern of each line: \d{4}, \d\d/\d\d, \d{5}|\d{9}."),
    ] = None,
    template: ReadTemplate = None,
    region: ReadRegion = None,
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
    confidence. A document (PDF, TIFF) has one reading for each page. A digit that the model refuses is
    printed as ?. With --template each image is a form, and has one row with a column for each field. An
    image that cannot be read is named on stderr, and in JSON and CSV it has a row with its reason; all
    others are printed, and the exit code is 1.
    """
    from digitry.progress import track
    from digitry.reading.decoding import shortened
    from digitry.reading.endings import not_read
    from digitry.reading.image import pages_of
    from digitry.reading.reader import Reader

    for folder in (annotate, explain):
        if folder is not None and folder.exists() and not folder.is_dir():
            raise UsageError(
                "is not a folder", where=folder, remedy="name a new or existing folder"
            )
    skipped: Counter[str] = Counter()
    named = list(_sources(paths, skipped))
    if skipped and not quiet:
        print(f"digitry: {not_read(skipped)}", file=sys.stderr)
    reader = Reader(
        model,
        layout.value,
        max_error=max_error,
        pattern=pattern,
        template=template,
        region=region,
    )
    # Standard input can be read only once, and --annotate and --explain need the image again.
    stdin = sys.stdin.buffer.read() if "-" in named else b""
    contents = list(pages_of(stdin if source == "-" else source for source in named))
    # A folder, a glob or a document prints a list, even for a single image.
    printer = _Printer(format, reader, many=named != paths or len(contents) > 1)
    pictures = []
    if annotate is not None:
        from digitry.reading.render import annotate as annotated

        pictures.append(_Pictures(annotate, "annotated", annotated))
    if explain is not None:
        from digitry.reading.explain import explain as explained

        why = _Pictures(explain, "explained", lambda image, _: explained(reader, image)[1])
        pictures.append(why)
    failed = 0
    # A few images take no time worth a progress bar.
    console = None if quiet or len(contents) < MANY else console_for(stderr=True)
    with _decoders_silenced():
        results = track(reader.read_many(contents), len(contents), "reading", console)
        for content, result in zip(contents, results, strict=True):
            name = _name_of(content)
            if isinstance(result, ImageError):
                failed += 1
                result = ImageError(result.what, where=shortened(name), remedy=result.remedy)
                print(f"digitry: {result}", file=sys.stderr)
                printer.fail(name, result)
                continue
            printer.add(replace(result, source=name))
            for kind in pictures:
                path = kind.save(name, content, result)
                if not quiet:
                    print(f"{kind.name}: {path}", file=sys.stderr)
    printer.finish()
    if failed:
        if not quiet and len(contents) > 1:
            print(f"digitry: {failed} of {len(contents)} images could not be read", file=sys.stderr)
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
    """Prints each result at once, or all at the end if the format needs that.

    Args:
        format: the output format.
        reader: names the model and the template in the rows of images that cannot be read.
        many: whether there may be several results.
    """

    def __init__(self, format: ReadingFormat, reader: "Reader", *, many: bool) -> None:
        self.format = format
        self.model = reader.name
        self.template = reader.template
        self.many = many
        self.kept: list[Reading] = []
        self.rows: list[str] = []
        if format is ReadingFormat.CSV_EXCEL and "utf" in (sys.stdout.encoding or "").lower():
            print(rows.BYTE_ORDER_MARK, end="")
        if format in TABLES:
            header = rows.form_header(self.template) if self.template else rows.CSV_HEADER
            print(rows.to_csv([header]), end="")

    def add(self, reading: "Reading") -> None:
        if self.format is ReadingFormat.TEXT:
            if isinstance(reading, FormReading):
                self._print_form(reading)
            else:
                self._print_text(reading)
        elif self.format in TABLES:
            self._print_table(
                [rows.form_row(reading)]
                if isinstance(reading, FormReading)
                else rows.csv_rows(reading)
            )
        elif self.format is ReadingFormat.HOCR:
            self.kept.append(reading)
        else:
            self._take_row(rows.row_of(reading))

    def fail(self, source: str, error: ImageError) -> None:
        """Print the row of an image that cannot be read, in the formats with rows."""
        if self.format in TABLES:
            self._print_table(
                [
                    rows.failed_form_row(source, error.what, self.template)
                    if self.template
                    else rows.failed_csv_row(source, error.what)
                ]
            )
        elif self.format in (ReadingFormat.JSON, ReadingFormat.JSONL):
            self._take_row(rows.failed_row(source, error.what, self.model, self.template))

    def finish(self) -> None:
        if self.format is ReadingFormat.HOCR:
            from digitry.reading.render import to_hocr

            print(to_hocr(self.kept), end="")
        elif self.format is ReadingFormat.JSON:
            print("[\n" + ",\n".join(self.rows) + "\n]")

    def _print_text(self, reading: "Reading") -> None:
        if self.many:
            text = reading.text.replace("\n", " ") or f"({reading.reason})"
            print(f"{_plain(reading.source)}\t{text}\t{reading.confidence:.4f}")
        elif reading.digits:
            print(reading.text)
            if reading.rejected:
                # On stderr: programs that read standard output get only the text.
                why = str(reading.reason)
                said = why if why.startswith("does not") else f"is {why}"
                print(f"digitry: {reading.source}: ? {said}", file=sys.stderr)
        else:
            print(f"digitry: {reading.source}: nothing read ({reading.reason})", file=sys.stderr)

    def _print_form(self, form: FormReading) -> None:
        if self.many:
            texts = [f"({one.reason})" if one.rejected else one.text for one in form.fields]
            print("\t".join(map(_plain, [form.source, *texts, f"{form.confidence:.4f}"])))
            return
        for field in form.fields:
            note = f"({field.reason})" if field.reason else f"{field.confidence:.4f}"
            print(f"{field.name}\t{_plain(field.text)}\t{note}")

    def _print_table(self, table: list[tuple[object, ...]]) -> None:
        print(rows.to_csv(table, excel=self.format is ReadingFormat.CSV_EXCEL), end="")

    def _take_row(self, row: dict[str, Any]) -> None:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False)
        if self.format is ReadingFormat.JSONL:
            print(line)
        else:
            self.rows.append(line)


def _plain(text: str) -> str:
    """Return a text without the tabs and line breaks that would break our rows."""
    return text.translate({9: "\\t", 10: "\\n", 13: "\\r"})


def _sources(paths: Iterable[str], skipped: Counter[str]) -> Iterator[str]:
    """Yield the path of every image that the arguments name, with folders and globs expanded.

    Args:
        paths: the arguments.
        skipped: counts the files of folders that are not read, by ending.
    """
    from digitry.reading.endings import SUFFIXES, not_read
    from digitry.reading.image import is_data_url

    for path in paths:
        if is_data_url(path):
            yield path
            continue
        if path == "-" or not _is(Path.is_dir, path):
            if path != "-" and not _is(Path.exists, path) and glob.has_magic(path):
                found = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 (absolute patterns)
                if not found:
                    raise UsageError("no file matches", where=path, remedy="check the pattern")
                yield from (name for name in found if Path(name).is_file())
            else:
                yield path
            continue
        inside = _inside(path, skipped)
        if not inside:
            held = f"; {not_read(skipped)}" if skipped else ""
            raise UsageError(
                f"no image in this folder{held}",
                where=path,
                remedy=f"searched: {' '.join(sorted(SUFFIXES))}",
            )
        yield from inside


def _is(kind: "Callable[[Path], bool]", path: str) -> bool:
    """Return whether a path is of a kind; False for one that cannot be, such as one too long."""
    try:
        return kind(Path(path))
    except (OSError, ValueError):
        return False


def _inside(folder: str, skipped: Counter[str]) -> list[str]:
    """Return the images below a folder, sorted; count the other files by ending."""
    from digitry.reading.endings import ending_of, is_image

    found = []
    for file in sorted(Path(folder).rglob("*")):
        if not file.is_file():
            continue
        if is_image(file.name):
            found.append(str(file))
        elif (ending := ending_of(file.name)) is not None:
            skipped[ending] += 1
    return sorted(found)


def _name_of(content: "str | bytes | PageOf") -> str:
    """Return what rows call a source; `-` is standard input."""
    from digitry.reading.image import PageOf, name_of

    if isinstance(content, PageOf):
        name = _name_of(content.source)
        return name if content.number is None else f"{name}#page={content.number}"
    return name_of(content) if isinstance(content, str) else "-"


class _Pictures:
    """Saves pictures of one kind, each under a different name."""

    def __init__(self, folder: Path, name: str, draw: "Callable[[Any, Reading], Image]") -> None:
        self.folder = folder
        self.name = name
        self.draw = draw
        self.taken: set[Path] = set()

    def save(self, source: str, content: Any, reading: "Reading") -> Path:
        from digitry import files

        file, page, number_of_page = source.partition("#page=")
        stem = "stdin" if file == "-" else Path(file).stem
        stem += f"-page-{number_of_page}" if page else ""
        path = self.folder / f"{stem}.{self.name}.png"
        number = 2
        while path in self.taken:
            path = self.folder / f"{stem}-{number}.{self.name}.png"
            number += 1
        self.taken.add(path)
        with files.replacing(path) as temporary:
            self.draw(content, reading).save(temporary)
        return path
