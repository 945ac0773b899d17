"""The verbs on what people corrected: `corrections list|show|export|import|delete|stats`; its teaching."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digitry.cli import app
from digitry.cli.model_text import console_for, print_json, table_of
from digitry.errors import DataError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from digitry.serving.corrections import Correction, Corrections
    from digitry.training.finetune import Corrected
    from digitry.training.run_folder import Run

group = typer.Typer(
    name="corrections", help="What people corrected, and how to train on it.", no_args_is_help=True
)
app.add_typer(group)

Db = Annotated[
    str | None,
    typer.Option(
        "--db", help="A file, or postgresql+psycopg://user@host/name. Default: as for serve."
    ),
]
Format = Annotated[str, typer.Option("--format", help="text or json.")]


@group.command("list")
def list_(
    db: Db = None,
    label: Annotated[
        str | None, typer.Option(help="Only those that say this: 0 to 9, or 'not a digit'.")
    ] = None,
    undone: Annotated[bool, typer.Option("--undone", help="Also those that were undone.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Rows.")] = 100,
    format_: Format = "text",
) -> None:
    """List corrections, the newest first."""
    _check(format_)
    with _Open(db) as store:
        rows = store.list(label=label, undone=undone, limit=limit)
    if format_ == "json":
        print_json([row.to_dict() for row in rows])
        return
    table = table_of("id", "it is", "read as", "sure>", "model", "when", "by")
    for row in rows:
        table.add_row(
            row.id,
            row.label + (" (undone)" if row.undone else ""),
            _read_as(row),
            f"{100 * row.confidence:.0f}%",
            row.model,
            row.created[:16].replace("T", " "),
            row.author or "–",
        )
    console_for().print(table)


@group.command()
def show(
    id: Annotated[str, typer.Argument(help="As the list gives it.")],
    db: Db = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder to write glyph.png and crop.png to.")
    ] = None,
) -> None:
    """Show one correction as JSON."""
    from digitry import files

    with _Open(db) as store:
        row = store.get(id)
    if row is None:
        raise DataError("there is no such correction", where=id, remedy="see corrections list")
    if pictures is not None:
        files.write_bytes(pictures / "glyph.png", row.glyph)
        files.write_bytes(pictures / "crop.png", row.crop)
    print_json(row.to_dict())


@group.command()
def export(
    folder: Annotated[Path, typer.Argument(help="New or empty.")],
    db: Db = None,
) -> None:
    """Write them as a folder that train --data and evaluate --data accept."""
    from digitry.serving import exchange

    with _Open(db) as store:
        moved = exchange.export(store, folder)
    print(f"{folder}: {moved.count} corrections")


@group.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="An exported folder or its corrections.jsonl.")],
    db: Db = None,
) -> None:
    """Add what was exported elsewhere; what is there already stays as it is."""
    from digitry.serving import exchange

    with _Open(db, create=True) as store:
        moved = exchange.load(store, source)
    print(f"{moved.count} added, {moved.known} known before")


@group.command()
def delete(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="As the list gives them.")],
    db: Db = None,
) -> None:
    """Remove corrections for good, pictures and all."""
    with _Open(db) as store:
        count = store.delete(ids)
    print(f"{count} removed")
    if missing := len(set(ids)) - count:
        raise DataError(
            f"{missing} of these corrections {'is' if missing == 1 else 'are'} not there",
            where=" ".join(ids)[:80],
            remedy="see corrections list",
        )


@group.command()
def stats(db: Db = None, format_: Format = "text") -> None:
    """Count them, and show what is taken for what."""
    _check(format_)
    with _Open(db) as store:
        found = store.stats()
    if format_ == "json":
        print_json(found.to_dict())
        return
    print(f"{found.count} corrections hold, {found.undone} were undone")
    print(f"{found.agreeing} confirm the best guess")
    for label, count in found.labels.items():
        print(f"  {label:<12} {count}")
    for guess, label, count in found.confusions[:20]:
        print(f"  {guess} was {label}: {count}")


# --- training on them ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What `train --corrections` came to.

    Attributes:
        run: the run folder.
        text: what became of the model, in lines.
    """

    run: "Run"
    text: str


def retrain(
    name: str,
    db: str,
    settings: Mapping[str, str],
    *,
    data_dir: Path | None,
    device: str,
    out: Path | None,
    only: frozenset[str] | None,
    console: "Console | None",
) -> Outcome:
    """Let the default of a shipped model learn from a store, and put it on the shelf.

    Args:
        name: of the shipped model.
        db: the store.
        settings: recipe fields, as text.
        data_dir: where MNIST lies.
        device, out, only, console: as for any training.

    Raises:
        DigitryError: something is missing or damaged; the default stays as it is.
    """
    from digitry import artifact, shelf

    if name not in artifact.SHIPPED:
        raise UsageError(
            f"{name!r} is no shipped model",
            where="--corrections",
            remedy=f"choose from: {', '.join(artifact.SHIPPED)}",
        )
    corrected = _corrected(db, console)
    # By its number: what stands in for a damaged default is not what would be followed.
    over = shelf.default_number(name)
    parent = artifact.load_uncalibrated(f"{name}@{over or shelf.SHIPPED}")
    from digitry.training import datasets, engine, finetune, run_folder

    engine.find_device(device)
    recipe = finetune.recipe_for(parent, settings)
    if out is not None:
        run_folder.check_new(out)
    mnist = datasets.load_dataset("mnist", data_dir=data_dir, console=console)
    done = finetune.retrain(
        parent,
        artifact.load_uncalibrated(f"{name}@{shelf.SHIPPED}"),
        corrected,
        mnist,
        out or run_folder.default_folder(recipe),
        settings=settings,
        device=device,
        only=only,
        console=console,
    )
    if done.verdict is None:
        return Outcome(done.run, "")
    verdict = done.verdict
    version = shelf.add(
        name,
        done.model.onnx,
        created=done.model.metadata.created,
        reason=verdict.summary,
        passed=verdict.passed,
        scores=verdict.scores,
        gate=verdict.to_dict(),
        parent_sha256=parent.sha256,
    )
    lines = [
        f"  {'corrections':<14} {done.learnt} learnt, {verdict.held} held out: "
        f"{verdict.held_before} of these read before, {verdict.held_after} now",
        f"  {'frozen MNIST':<14} {100 * verdict.frozen_before:.2f}% before, "
        f"{100 * verdict.frozen_after:.2f}% now",
        f"  {'not a digit':<14} {100 * verdict.refused_before:.2f}% refused before, "
        f"{100 * verdict.refused_after:.2f}% now",
    ]
    if not verdict.passed:
        lines.append(f"{version.reference} stays a candidate: {verdict.summary}")
    elif shelf.succeed(name, version.number, over=over, reason=verdict.summary):
        lines.append(f"{name} now reads with {version.reference}")
    else:
        lines.append(
            f"{version.reference} stays a candidate: another version has become the default since"
        )
    return Outcome(done.run, "\n".join(lines))


def _corrected(db: str, console: "Console | None") -> "Corrected":
    """Read what a store holds, as arrays."""
    import numpy as np

    from digitry.artifact import GLYPH_VERSION
    from digitry.cli.serve import require_serving
    from digitry.reading import image
    from digitry.training.finetune import Corrected

    require_serving()
    from digitry.serving.corrections import LABELS, file_of

    path = file_of(db)
    if path is not None and not path.is_file():
        raise DataError("there is no such store", where=path, remedy="name that of serve --db")
    images, labels, digests, former = [], [], [], 0
    with _Open(db) as store:
        where = store.address
        for row in store.each():
            if row.glyph_version != GLYPH_VERSION:
                former += 1
                continue
            images.append(image.load(row.glyph, name=row.id).gray)
            labels.append(LABELS.index(row.label))
            digests.append(row.sha256)
    if former and console is not None:
        console.print(
            f"{former} corrections were made of glyphs of another version, and are left out",
            highlight=False,
        )
    if not images:
        raise DataError(
            "holds no corrections to learn from", where=where, remedy="correct some first"
        )
    return Corrected(np.stack(images), np.array(labels, np.uint8), tuple(digests))


class _Open:
    """A store that is closed at the end."""

    def __init__(self, db: str | None, *, create: bool = False) -> None:
        from digitry.serving.corrections import Corrections

        # A name that was mistyped must not become a new, empty store; the usual place is never that.
        self.store: Corrections = Corrections(db, create=create or db is None)

    def __enter__(self) -> "Corrections":
        return self.store

    def __exit__(self, *_: object) -> None:
        self.store.close()


def _read_as(row: "Correction") -> str:
    return f"refused ({row.reason})" if row.read_value is None else str(row.read_value)


def _check(format_: str) -> None:
    if format_ not in ("text", "json"):
        raise UsageError(
            f"{format_!r} is no format", where="--format", remedy="choose text or json"
        )
