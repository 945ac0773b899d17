"""The verbs on stored corrections: `corrections list|show|export|import|delete|stats`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digitry.cli.app import TEACH, app
from digitry.cli.options import AsFormat, Db, Format
from digitry.cli.text import console_for, print_json, table_of
from digitry.errors import DataError

if TYPE_CHECKING:
    from digitry.corrections.correction import Correction
    from digitry.corrections.store import Corrections

group = typer.Typer(
    name="corrections", help="List, export, import and delete corrections.", no_args_is_help=True
)
app.add_typer(group, rich_help_panel=TEACH)


def _store(db: str | None, *, create: bool = False) -> "Corrections":
    from digitry.corrections.store import open_store

    return open_store(db, create=create)


@group.command("list")
def list_(
    db: Db = None,
    label: Annotated[
        str | None, typer.Option(help="Only corrections to this label: 0 to 9, or 'not a digit'.")
    ] = None,
    undone: Annotated[bool, typer.Option("--undone", help="Also undone corrections.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Number of rows, at most.")] = 100,
    format_: AsFormat = Format.TEXT,
) -> None:
    """List corrections, newest first."""
    with _store(db) as store:
        rows = store.list(label=label, undone=undone, limit=limit)
    if format_ is Format.JSON:
        print_json([row.to_dict() for row in rows])
        return
    table = table_of("id", "label", "read as", "confidence>", "model", "created", "author")
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
    id: Annotated[str, typer.Argument(help="Id, as `corrections list` shows it.")],
    db: Db = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for glyph.png and crop.png, or strip.png.")
    ] = None,
) -> None:
    """Show one correction as JSON."""
    from digitry import files

    with _store(db) as store:
        row = store.get(id)
    if row is None:
        raise DataError("no such correction", where=id, remedy="see digitry corrections list")
    if pictures is not None:
        for name in ("glyph", "crop", "strip"):
            if hasattr(row, name):
                files.write_bytes(pictures / f"{name}.png", getattr(row, name))
    print_json(row.to_dict())


@group.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder to write, new or empty.")],
    db: Db = None,
) -> None:
    """Write all corrections as a folder that train --data and evaluate --data accept."""
    from digitry.corrections import transfer

    with _store(db) as store:
        moved = transfer.export(store, folder)
    print(f"{folder}: {moved.count} corrections")


@group.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="An exported folder or its corrections.jsonl.")],
    db: Db = None,
) -> None:
    """Add exported corrections; those already in the store do not change."""
    from digitry.corrections import transfer

    with _store(db, create=True) as store:
        moved = transfer.load(store, source)
    print(f"{moved.count} added, {moved.known} already there")


@group.command()
def delete(
    ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Ids, as `corrections list` shows them.")
    ],
    db: Db = None,
) -> None:
    """Delete corrections and their pictures; this cannot be undone."""
    with _store(db) as store:
        count = store.delete(ids)
    print(f"{count} deleted")
    if missing := len(set(ids)) - count:
        raise DataError(
            f"{missing} of these ids not found",
            where=" ".join(ids)[:80],
            remedy="see digitry corrections list",
        )


@group.command()
def stats(db: Db = None, format_: AsFormat = Format.TEXT) -> None:
    """Count corrections by label, and show which digits are misread as which."""
    with _store(db) as store:
        found = store.stats()
    if format_ is Format.JSON:
        print_json(found.to_dict())
        return
    print(f"{found.count} correction{'' if found.count == 1 else 's'}, {found.undone} undone")
    print(f"{found.agreeing} confirm the best guess")
    if found.lines:
        print(f"{found.lines} lines")
    for label, count in found.labels.items():
        print(f"  {label:<12} {count}")
    for guess, label, count in found.confusions[:20]:
        print(f"  {guess} corrected to {label}: {count}")


def _read_as(row: "Correction") -> str:
    return f"refused ({row.reason})" if row.read_value is None else str(row.read_value)
