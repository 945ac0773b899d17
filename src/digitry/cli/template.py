"""The verb on templates of forms: `template check`."""

from pathlib import Path
from typing import Annotated

import typer

from digitry.cli.app import READ, app
from digitry.cli.options import ReadModel
from digitry.cli.text import console_for, table_of
from digitry.errors import UsageError

group = typer.Typer(
    name="template", help="Check the template of a form on a picture.", no_args_is_help=True
)
app.add_typer(group, rich_help_panel=READ)


@group.callback()
def _group() -> None:
    # With a callback the group keeps its one verb apart.
    pass


@group.command()
def check(
    template: Annotated[Path, typer.Argument(metavar="FILE", help="The template, a TOML file.")],
    image: Annotated[
        str | None,
        typer.Argument(
            metavar="[IMAGE]", help="A picture of the form. Default: the template's reference."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The picture with the fields on it. Default: `<FILE>.check.png`."),
    ] = None,
    model: ReadModel = "reader",
) -> None:
    """Show the fields of a template on a picture, and what is read in each of them."""
    from digitry import files
    from digitry.reading.image import load as load_image
    from digitry.reading.reader import Reader
    from digitry.reading.render import annotate
    from digitry.reading.result import FormReading
    from digitry.reading.template import load

    form = load(template)
    if image is None and form.reference is None:
        raise UsageError(
            "the template has no reference picture",
            where=template,
            remedy="name a picture of the form: digitry template check FILE IMAGE",
        )
    reader = Reader(model, template=form)
    # The blank form itself is found at its own place.
    source = form.reference if image is None else image
    page = load_image(source, name=image or "reference")
    reading = reader.read(page)
    if not isinstance(reading, FormReading):
        raise TypeError("a reader with a template returned no form")
    table = table_of("field", "looks like", "may be empty", "read", "note")
    for field, read in zip(form.fields, reading.fields, strict=True):
        note = read.reason or f"{read.confidence:.4f}"
        table.add_row(
            field.name,
            field.pattern or field.layout,
            "yes" if field.empty else "no",
            read.text,
            note,
        )
    console_for().print(table)
    if reading.aligned is not None:
        print(f"{reading.aligned:.0%} of the blank form's print is at its place")
    path = out or Path(f"{template.stem}.check.png")
    with files.replacing(path) as temporary:
        annotate(page, reading).save(temporary, "PNG")
    print(f"fields: {path}")
