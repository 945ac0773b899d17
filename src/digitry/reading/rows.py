"""A row for every image: its reading, or why it could not be read."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from digitry.reading.result import FORM_COLUMNS, FormReading, Reading

if TYPE_CHECKING:
    from digitry.reading.template import Template

VERSION = 1
"""Version of the rows. It changes if a field is renamed or removed, or its meaning changes."""

CSV_HEADER = (
    "source", "status", "line", "text", "confidence", "rejected", "reason", "x", "y", "w", "h",
    "turned",
)  # fmt: skip

BYTE_ORDER_MARK = "\ufeff"
"""In front of a file for Excel, which otherwise takes UTF-8 for another encoding."""


def row_of(reading: Reading) -> dict[str, Any]:
    """Return the row of a reading: all its fields, with `version` and `status`."""
    fields = reading.to_dict()
    return {"version": VERSION, "source": fields.pop("source"), "status": "ok", **fields}


def failed_row(
    source: str, reason: str, model: str, template: "Template | None" = None
) -> dict[str, Any]:
    """Return the row of an image that could not be read, with the same fields."""
    of_form = {} if template is None else {"template": template.name, "aligned": None, "fields": ()}
    kind: Any = Reading if template is None else FormReading
    empty = kind(
        source=source,
        text="",
        confidence=0.0,
        rejected=True,
        reason=reason,
        width=0,
        height=0,
        inverted=False,
        turned=0,
        lines=(),
        words=(),
        digits=(),
        marks=(),
        model=model,
        ms=0.0,
        **of_form,
    )
    return {**row_of(empty), "status": "failed"}


def csv_rows(reading: Reading) -> list[tuple[object, ...]]:
    """Return one row for each line of digits, with the columns of `CSV_HEADER`; one row without lines."""
    if not reading.lines:
        return [
            (
                reading.source,
                "ok",
                "",
                "",
                0.0,
                True,
                reading.reason,
                "",
                "",
                "",
                "",
                reading.turned,
            )
        ]
    rows: list[tuple[object, ...]] = []
    for index, line in enumerate(reading.lines):
        reasons = [d.reason for d in reading.digits if d.line == index and d.reason]
        rows.append(
            (
                reading.source, "ok", index, line.text, line.confidence, bool(reasons),
                reasons[0] if reasons else "", *line.box.to_list(), reading.turned,
            )
        )  # fmt: skip
    return rows


def failed_csv_row(source: str, reason: str) -> tuple[object, ...]:
    """Return the row of an image that could not be read, with the columns of `CSV_HEADER`."""
    return (source, "failed", "", "", 0.0, True, reason, "", "", "", "", "")


def form_header(template: "Template") -> tuple[str, ...]:
    """Return the columns of a table of forms: one for each field after those that every table has."""
    return (*FORM_COLUMNS, *(field.name for field in template.fields))


def form_row(reading: FormReading) -> tuple[object, ...]:
    """Return the row of a form, with the columns of `form_header`.

    A refused character of a field is `?`; which fields are refused, and why, is in the column `reason`.
    """
    return (
        reading.source, "ok", reading.rejected, reading.reason or "", reading.confidence,
        *(field.text for field in reading.fields),
    )  # fmt: skip


def failed_form_row(source: str, reason: str, template: "Template") -> tuple[object, ...]:
    """Return the row of an image that is not this form or could not be read."""
    return (source, "failed", True, reason, 0.0, *("" for _ in template.fields))


def to_csv(rows: Iterable[Sequence[object]], *, excel: bool = False) -> str:
    """Return rows as CSV text (RFC 4180, but with plain newlines); `true` and `false` in lower case.

    Args:
        rows: values of the columns.
        excel: whether texts are written as formulas, `="007"`: a spreadsheet that opens the file then
            keeps leading zeros, and runs no formula that a file name may hold.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([_cell(value, excel) for value in row] for row in rows)
    return stream.getvalue()


def _cell(value: object, excel: bool) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if excel and isinstance(value, str) and value:
        return '="' + value.replace('"', '""') + '"'
    return value
