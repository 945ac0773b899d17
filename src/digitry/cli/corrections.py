"""The verbs on what people corrected: `corrections list|show|export|import|delete|stats`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digitry.cli.app import app
from digitry.cli.options import AsFormat, Format
from digitry.cli.text import console_for, print_json, table_of
from digitry.corrections.store import open_store
from digitry.errors import DataError, UsageError

if TYPE_CHECKING:
    from digitry.corrections.store import Correction

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


@group.command("list")
def list_(
    db: Db = None,
    label: Annotated[
        str | None, typer.Option(help="Only those that say this: 0 to 9, or 'not a digit'.")
    ] = None,
    undone: Annotated[bool, typer.Option("--undone", help="Also those that were undone.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Rows.")] = 100,
    format_: AsFormat = Format.TEXT,
) -> None:
    """List corrections, the newest first."""
    with open_store(db) as store:
        rows = store.list(label=label, undone=undone, limit=limit)
    if format_ is Format.JSON:
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

    with open_store(db) as store:
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
    from digitry.corrections import transfer

    with open_store(db) as store:
        moved = transfer.export(store, folder)
    print(f"{folder}: {moved.count} corrections")


@group.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="An exported folder or its corrections.jsonl.")],
    db: Db = None,
) -> None:
    """Add what was exported elsewhere; what is there already stays as it is."""
    from digitry.corrections import transfer

    with open_store(db, create=True) as store:
        moved = transfer.load(store, source)
    print(f"{moved.count} added, {moved.known} known before")


@group.command()
def delete(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="As the list gives them.")],
    db: Db = None,
) -> None:
    """Remove corrections for good, pictures and all."""
    with open_store(db) as store:
        count = store.delete(ids)
    print(f"{count} removed")
    if missing := len(set(ids)) - count:
        raise DataError(
            f"{missing} of these corrections {'is' if missing == 1 else 'are'} not there",
            where=" ".join(ids)[:80],
            remedy="see corrections list",
        )


@group.command()
def stats(db: Db = None, format_: AsFormat = Format.TEXT) -> None:
    """Count them, and show what is taken for what."""
    with open_store(db) as store:
        found = store.stats()
    if format_ is Format.JSON:
        print_json(found.to_dict())
        return
    print(f"{found.count} corrections hold, {found.undone} were undone")
    print(f"{found.agreeing} confirm the best guess")
    for label, count in found.labels.items():
        print(f"  {label:<12} {count}")
    for guess, label, count in found.confusions[:20]:
        print(f"  {guess} was {label}: {count}")


def _read_as(row: "Correction") -> str:
    return f"refused ({row.reason})" if row.read_value is None else str(row.read_value)


def _check(format_: str) -> None:
    if format_ not in ("text", "json"):
        raise UsageError(
            f"{format_!r} is no format", where="--format", remedy="choose text or json"
        )
