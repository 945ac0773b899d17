"""Rows hold a reading or its failure, in JSON and CSV, as the documents promise."""

import csv
import io

from digitry.reading import rows
from digitry.reading.result import Reading

from .test_render import EMPTY, reading


def parsed(found: list[tuple[object, ...]], *, excel: bool = False) -> list[dict[str, str]]:
    text = rows.to_csv([rows.CSV_HEADER]) + rows.to_csv(found, excel=excel)
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_has_the_promised_keys_in_order() -> None:
    row = rows.row_of(reading())
    fields = [
        "text", "confidence", "rejected", "reason", "width", "height", "inverted", "turned",
        "lines", "words", "digits", "marks", "model", "ms",
    ]  # fmt: skip
    assert [key for key in row if key in fields] == fields
    assert list(row)[:3] == ["version", "source", "status"]
    assert (row["version"], row["status"]) == (1, "ok")
    assert row["digits"][1] == {
        "value": None,
        "confidence": 0.42,
        "box": [40, 12, 18, 30],
        "line": 0,
        "alternatives": [[7, 0.42], [1, 0.4]],
        "reason": "ambiguous 7/1",
    }
    assert row["words"][2] == {
        "text": "5,0",
        "confidence": 0.684,
        "box": [40, 60, 40, 34],
        "line": 1,
    }
    assert row["marks"] == [{"text": ",", "confidence": 0.95, "box": [58, 84, 4, 10], "line": 1}]


def test_a_failed_row_has_the_same_keys_and_is_a_reading() -> None:
    row = rows.failed_row("a.png", "is empty", "reader")
    assert list(row) == list(rows.row_of(reading()))
    assert (row["status"], row["rejected"], row["reason"]) == ("failed", True, "is empty")
    assert Reading.from_dict(row).source == "a.png"


def test_csv_has_a_row_for_each_line_also_with_odd_names() -> None:
    found = parsed(rows.csv_rows(reading()))
    assert [row["text"] for row in found] == ["4?", "1 5,0"]
    assert [row["rejected"] for row in found] == ["true", "false"]
    assert found[0]["source"] == 'a "b" <c>.png'
    assert [found[1][key] for key in "xywh"] == ["12", "60", "68", "34"]
    assert found[0]["turned"] == "0"


def test_csv_has_a_row_for_an_empty_reading_and_for_a_failure() -> None:
    empty, failed = parsed([*rows.csv_rows(EMPTY), rows.failed_csv_row("a.png", "is empty")])
    assert (empty["status"], empty["text"], empty["reason"]) == ("ok", "", "blank")
    assert (failed["status"], failed["source"], failed["reason"]) == ("failed", "a.png", "is empty")


def test_a_spreadsheet_keeps_leading_zeros_and_runs_no_formula() -> None:
    line = reading(source='=HYPERLINK("x")').lines[0]
    zeros = reading(source='=HYPERLINK("x")', lines=(type(line)("007", 0.9, line.box),))
    (plain,) = parsed(rows.csv_rows(zeros))
    assert plain["text"] == "007"
    (row,) = parsed(rows.csv_rows(zeros), excel=True)
    assert row["text"] == '="007"'
    assert row["source"] == '="=HYPERLINK(""x"")"'
    assert (row["confidence"], row["x"]) == ("0.9", "10")
