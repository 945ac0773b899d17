"""Forms: fields are read at their places, without print; what is not sure is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import digitry
from digitry.errors import ImageError, UsageError
from digitry.reading import form, image, rows
from digitry.reading.reader import Reader
from digitry.reading.result import FormReading, reading_from
from digitry.reading.template import Field, Template, load

FORMS = Path(__file__).parents[2] / "samples" / "forms"


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(template=FORMS / "slip.toml")


@pytest.fixture(scope="module")
def reading(reader: Reader) -> FormReading:
    found = reader.read(FORMS / "slip-filled.jpg")
    assert isinstance(found, FormReading)
    return found


def truth(name: str) -> dict[str, str]:
    with (FORMS / "truth.csv").open(encoding="utf-8", newline="") as lines:
        return {row["field"]: row["text"] for row in csv.DictReader(lines) if row["file"] == name}


def test_a_photo_of_a_slip_is_read_field_by_field(reading: FormReading) -> None:
    assert reading.values == truth("slip-filled.jpg")
    assert not reading.rejected
    assert (reading.template, reading.source) == ("slip", str(FORMS / "slip-filled.jpg"))
    assert reading.aligned is not None
    assert reading.aligned > 0.9


def test_a_photo_of_an_exam_sheet_is_read_field_by_field() -> None:
    found = digitry.read(FORMS / "exam-filled.jpg", template=FORMS / "exam.toml")
    assert found.values == truth("exam-filled.jpg")


def test_the_digits_of_a_field_lie_in_its_corners(reading: FormReading) -> None:
    account = reading.fields[0]
    xs, ys = zip(*account.corners, strict=True)
    digits = [digit for digit in reading.digits if digit.line in account.lines]
    assert len(digits) == 8
    assert all(min(xs) <= digit.box.x + digit.box.w / 2 <= max(xs) for digit in digits)
    assert all(min(ys) <= digit.box.y + digit.box.h / 2 <= max(ys) for digit in digits)


def test_the_reading_of_a_form_is_a_reading_and_survives_json(reading: FormReading) -> None:
    assert reading_from(json.loads(json.dumps(reading.to_dict()))) == reading
    assert len(list(reading.characters())) == len(reading.digits) + len(reading.marks)


def test_a_form_is_one_row_with_a_column_for_each_field(
    reader: Reader, reading: FormReading
) -> None:
    assert reader.template is not None
    header = rows.form_header(reader.template)
    row = dict(zip(header, rows.form_row(reading), strict=True))
    assert (row["status"], row["account"], row["copies"]) == ("ok", "40728153", "")
    failed = rows.failed_form_row("a.jpg", "is empty", reader.template)
    assert len(failed) == len(header)
    assert set(rows.failed_row("a", "b", "reader", reader.template)) == set(rows.row_of(reading))


def test_the_blank_form_is_empty_and_print_is_no_digit(reader: Reader) -> None:
    found = reader.read(FORMS / "slip.png")
    assert isinstance(found, FormReading)
    assert {one.reason for one in found.fields} == {"empty"}
    # Only `copies` may be empty.
    assert [one.name for one in found.fields if not one.rejected] == ["copies"]
    assert found.reason is not None
    assert "account: empty" in found.reason
    assert found.values["account"] is None


def test_another_form_is_refused_as_a_whole(reader: Reader) -> None:
    with pytest.raises(ImageError, match=r"exam-filled\.jpg: does not look like the form"):
        reader.read(FORMS / "exam-filled.jpg")
    first, second = reader.read_many([FORMS / "exam-filled.jpg", FORMS / "slip-filled.jpg"])
    assert isinstance(first, ImageError)
    assert isinstance(second, FormReading)


def test_writing_that_runs_out_of_its_box_is_never_cut_short(reader: Reader) -> None:
    page = image.load(FORMS / "slip.png").gray.copy()
    ink = (page < 200).astype(np.uint8)
    # A digit's worth of ink just below the box of `copies`, where no field is.
    page[795:832, 360:372] = 30
    found = reader.read(page)
    assert isinstance(found, FormReading)
    assert ink.any()
    assert found.fields[4].rejected
    assert found.fields[4].reason == "written beside its box"


def test_without_a_reference_boxes_are_shares_of_the_picture(sheet: "object") -> None:
    page = sheet(300, 600, ("4711", 40, 40), ("25", 330, 200))  # type: ignore[operator]
    made = Template(
        (
            Field("a", (0.0, 0.05, 0.6, 0.35), r"\d{4}"),
            Field("b", (0.5, 0.6, 0.4, 0.35), r"\d\d"),
            Field("c", (0.0, 0.6, 0.4, 0.35), empty=True),
        )
    )
    found = digitry.read(page, template=made)
    assert found.values == {"a": "4711", "b": "25", "c": ""}
    assert found.aligned is None


def test_a_template_stands_alone() -> None:
    for arguments in ({"pattern": r"\d"}, {"layout": "line"}):
        with pytest.raises(UsageError, match="into the template"):
            Reader(template=FORMS / "slip.toml", **arguments)  # type: ignore[arg-type]


def test_a_reference_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(load(FORMS / "slip.toml").to_toml("a.png"))
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"a\.toml: its reference picture"):
        Reader(template=tmp_path / "a.toml")


def test_the_text_of_a_field_has_gaps_only_where_its_pattern_has() -> None:
    assert form._text("47 11", r"\d{4}") == "4711"
    assert form._text("47 11", r"\d\d \d\d") == "47 11"
    assert form._text("47 11", None) == "47 11"
