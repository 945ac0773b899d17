"""The verb for very many images: `bulk`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digitry.cli.app import MANY, app
from digitry.cli.options import Layout, MaxError, ReadLayout, ReadModel, ReadRegion, ReadTemplate
from digitry.cli.text import console_for
from digitry.errors import DataError

if TYPE_CHECKING:
    from digitry.bulk.job import Progress


class Rows(StrEnum):
    """The format of the rows."""

    PARQUET = "parquet"
    JSONL = "jsonl"


class Engine(StrEnum):
    """Where the readers run."""

    LOCAL = "local"
    RAY = "ray"


@app.command(rich_help_panel=MANY)
def bulk(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Folders, globs, .tar, .zip, .parquet, lists of paths (.txt), or their URLs.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the rows, summary.json and failed.jsonl.")],
    format: Annotated[Rows, typer.Option(help="Format of the rows.")] = Rows.PARQUET,
    engine: Annotated[
        Engine, typer.Option(help="Processes on this machine, or a Ray cluster.")
    ] = Engine.LOCAL,
    address: Annotated[
        str | None,
        typer.Option(help="Address of the Ray cluster, e.g. host:6379. Default: start one here."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of processes. Default: one per processor.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue the run in the folder --out, or start one if there is none."
        ),
    ] = False,
    layout: ReadLayout = Layout.AUTO,
    model: ReadModel = "reader",
    max_error: MaxError = None,
    template: ReadTemplate = None,
    region: ReadRegion = None,
    column: Annotated[
        str | None, typer.Option(help="In tables: the column with the images' bytes.")
    ] = None,
    shard_rows: Annotated[
        int,
        typer.Option(help="Images per output file; --resume repeats at most one unfinished file."),
    ] = 2048,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no summary.")] = False,
) -> None:
    """Read very many images and write tables, one row per image.

    Worker processes read the images; if one crashes, the run goes on. Images that cannot be read are
    listed in failed.jsonl, all others are written, and the exit code is 1. The same input gives the same
    rows, for any number of workers and after any number of kills and resumes.
    """
    from digitry.bulk.job import BulkJob
    from digitry.bulk.run import run
    from digitry.progress import Display
    from digitry.reading.endings import not_read
    from digitry.reading.template import load

    job = BulkJob(
        inputs=inputs,
        out=out,
        format=format.value,
        engine=engine.value,
        address=address,
        workers=workers,
        resume=resume,
        model=model,
        layout=layout.value,
        max_error=max_error,
        template=None if template is None else load(template),
        region=region,
        column=column,
        shard_rows=shard_rows,
    )
    with Display(None if quiet else console_for(stderr=True)) as display:

        def show(now: "Progress") -> None:
            display.at(now.done or 0, _line(now), total=None if now.done is None else 1.0)

        report = run(job, progress=show)
    if not quiet:
        if report.not_read:
            print(f"digitry: {not_read(report.not_read)}", file=sys.stderr)
        if resume and report.images and not report.images_now:
            print(f"digitry: {out}: the run was finished already; nothing is left", file=sys.stderr)
        print(
            f"{report.images} images, {report.rejected} rejected, {report.failed} failed, "
            f"{_pace(report.images_per_second)}: {report.out}"
        )
    if report.images == 0:
        raise DataError(
            "no image found",
            where=", ".join(inputs)[:80],
            remedy="name images, or folders or archives that hold images",
        )
    if report.failed:
        if not quiet:
            print(f"digitry: failed images are listed in {out / 'failed.jsonl'}", file=sys.stderr)
        raise typer.Exit(1)


def _pace(rate: float) -> str:
    return f"{rate:.0f}/s" if rate >= 10 else f"{rate:.1f}/s"


def _line(progress: "Progress") -> str:
    return f"{progress.images} images, {progress.failed} failed, {_pace(progress.rate)}"
