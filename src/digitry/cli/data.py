"""Verbs on data sets: `data fetch|check|build`, `explore`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digitry import extras
from digitry.cli.app import TRAIN, app
from digitry.cli.options import AsFormat, DataDir, Format, Quiet, require_training
from digitry.cli.text import console_for, print_json
from digitry.errors import UsageError

if TYPE_CHECKING:
    from digitry.training.data.explore import Exploration

data_app = typer.Typer(help="Fetch, check and build data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data", rich_help_panel=TRAIN)


Offline = Annotated[bool, typer.Option("--offline", help="Never use the network.")]


@data_app.command("fetch")
def fetch(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="mnist, uci, or glyphs (composed of handwriting)."),
    ],
    data_dir: DataDir = None,
    offline: Offline = False,
    quiet: Quiet = False,
) -> None:
    """Download a data set, check its sha256, and show where it is stored."""
    from digitry.training.datasets import NAMED, load_dataset

    if name not in NAMED:
        raise UsageError(
            "cannot be fetched",
            where=name,
            remedy=f"choose {', '.join(NAMED[:-1])} or {NAMED[-1]}; your own data needs no fetching",
        )
    console = None if quiet else console_for(stderr=True)
    data = load_dataset(name, data_dir=data_dir, offline=offline, console=console)
    print(f"{data.name}: {len(data.train):,} training and {len(data.test):,} test images")
    print(f"source   {data.source}")
    print(f"licence  {data.licence}")
    print(f"sha256   {data.sha256}")


@data_app.command("check")
def check(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="mnist, uci, or a path to your own data set."),
    ],
    data_dir: DataDir = None,
    format_: AsFormat = Format.TEXT,
) -> None:
    """Check the files of a data set; download and change nothing. Exit 3 if bad, 4 if absent."""
    from dataclasses import asdict

    from digitry.training import datasets

    states = datasets.check(name, data_dir=data_dir)
    if format_ is Format.JSON:
        print_json([asdict(state) for state in states])
    else:
        for state in states:
            detail = f"sha256 {state.detail}" if state.state == "ok" else state.detail
            place = f"  ({state.path})" if state.path else ""
            print(f"{state.state:<6}  {state.file:<24}  {detail}{place}")
    found = {state.state for state in states}
    if found != {"ok"}:
        raise typer.Exit(3 if "bad" in found else 4)


@data_app.command("build")
def build(
    what: Annotated[str, typer.Argument(help="What to build: handwriting.")],
    sources: Annotated[
        Path, typer.Argument(help="Folder of clones of the public repositories, one folder each.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the packs. Default: where training looks for them."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="A pack to build; repeatable. Default: all.")
    ] = None,
    data_dir: DataDir = None,
    quiet: Quiet = False,
) -> None:
    """Build the packs of handwriting that lines and finder learn from, out of clones.

    NOTICE names the repositories; a clone is named as its repository.
    """
    if what != "handwriting":
        raise UsageError(f"{what!r} cannot be built", remedy="only `handwriting` can")
    require_training("PIL")
    from digitry.training.data import handwriting_sources, packs

    folder = packs.home(data_dir) if out is None else out
    say = None if quiet else lambda line: print(line, file=sys.stderr)
    for built in handwriting_sources.build(sources, folder, only, progress=say):
        damaged = f", {built.damaged} damaged ones left out" if built.damaged else ""
        print(f"{built.path}: {built.samples:,} samples{damaged}")


@app.command(rich_help_panel=TRAIN)
def explore(
    data: Annotated[
        str | None, typer.Argument(help="mnist, uci, or a path to your own data set.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the pictures. Default: explore-NAME.", show_default=False),
    ] = None,
    synthetic: Annotated[
        bool,
        typer.Option(
            "--synthetic",
            help="Draw instead what the reader learns from: pages.png, strips.png and glyphs.png.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of what --synthetic draws.")] = 0,
    format_: AsFormat = Format.TEXT,
    pictures: Annotated[bool, typer.Option(help="Draw the pictures.")] = True,
    data_dir: DataDir = None,
    offline: Offline = False,
    quiet: Quiet = False,
) -> None:
    """Inspect a data set: labels, samples, duplicates, conflicts, blank, inverted and odd images."""
    if synthetic:
        if data is not None:
            raise UsageError(
                "is not drawn with --synthetic", where=data, remedy="leave the data set out"
            )
        _draw_synthetic(out or Path("explore-synthetic"), seed, data_dir, offline, quiet)
        return
    if data is None:
        raise UsageError("no data set is named", remedy="name mnist, uci or a path")
    if pictures:
        extras.require("train", "pictures need", "matplotlib", otherwise=", or add --no-pictures")
    from digitry.training.data.explore import explore as inspect
    from digitry.training.datasets import load_dataset

    console = None if quiet else console_for(stderr=True)
    dataset = load_dataset(data, data_dir=data_dir, offline=offline, console=console)
    found = inspect(dataset)
    written: list[Path] = []
    if pictures:
        from digitry.training.report.data_plot import write_pictures

        written = write_pictures(dataset, found, out or Path(f"explore-{dataset.name}"))
    if format_ is Format.JSON:
        print_json({**found.to_dict(), "pictures": [str(path) for path in written]})
    else:
        _print_findings(found)
        for path in written:
            print(path)


def _draw_synthetic(
    out: Path, seed: int, data_dir: Path | None, offline: bool, quiet: bool
) -> None:
    """Write a sample of what the reader learns from, and print the files."""
    extras.require("train", "pictures need", "matplotlib")
    from digitry.training.data import mnist
    from digitry.training.report.synthetic_plot import write_synthetic
    from digitry.training.writing.sources import load

    console = None if quiet else console_for(stderr=True)
    digits = mnist.load(data_dir, offline, console).train
    for path in write_synthetic(load(digits.images, digits.labels, data_dir), out, seed=seed):
        print(path)


def _print_findings(found: "Exploration") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from digitry.training.data.explore import NEAR_CHECKED

    console = Console(highlight=False)
    print(f"{found.name}, {found.source}")
    print(f"licence {found.licence}")
    print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("label", "train", "test"):
        table.add_column(heading, justify="right", no_wrap=True)
    for label in range(10):
        table.add_row(str(label), f"{found.train_counts[label]:,}", f"{found.test_counts[label]:,}")
    table.add_row("all", f"{sum(found.train_counts):,}", f"{sum(found.test_counts):,}")
    console.print(table)

    def names(items: "Any") -> str:
        shown = [item.name or f"{item.part} {item.index}" for item in items[:4]]
        return ", ".join(shown) + (", …" if len(items) > 4 else "")

    print()
    rows = [
        ("blank", len(found.blank), names(found.blank)),
        ("near-empty", len(found.near_empty), names(found.near_empty)),
        ("inverted", len(found.inverted), names(found.inverted)),
        (
            "exact duplicates",
            sum(len(group) - 1 for group in found.duplicates),
            names([group[1] for group in found.duplicates]),
        ),
        ("near-duplicates", len(found.near), names([pair.second for pair in found.near])),
        ("conflicting labels", len(found.conflicts), names([p.second for p in found.conflicts])),
        ("in train and test", len(found.leaks), names([pair.second for pair in found.leaks])),
        (
            "odd, of the 60 shown",
            sum(odd.score > 1 for odd in found.odd),
            names([odd.item for odd in found.odd]),
        ),
    ]
    findings = Table(box=None, pad_edge=False, header_style="bold")
    findings.add_column("finding", no_wrap=True)
    findings.add_column("images", justify="right")
    findings.add_column("where", overflow="fold")
    for name, count, where in rows:
        findings.add_row(name, f"{count:,}", escape(where))
    console.print(findings)
    if found.near_checked == NEAR_CHECKED:
        print(f"\nNear-duplicates were searched among {NEAR_CHECKED:,} of the images.")
