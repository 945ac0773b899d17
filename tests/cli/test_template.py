"""Forms on the command line: `template check`, and `read` and `bulk` with `--template`."""

import csv
import io
import json
from pathlib import Path

from PIL import Image

from .conftest import Say

FORMS = Path(__file__).parents[2] / "samples" / "forms"
SLIP, FILLED = FORMS / "slip.toml", FORMS / "slip-filled.jpg"


def test_check_draws_the_fields_on_a_picture_and_says_what_is_read(say: Say) -> None:
    done = say("template", "check", SLIP, FILLED)
    assert (done.code, done.err) == (0, "")
    assert "40728153" in done.out
    with Image.open("slip.check.png") as picture:
        assert picture.width > 800


def test_one_form_is_printed_field_by_field_and_many_as_rows(say: Say) -> None:
    lines = say("read", FILLED, "--template", SLIP).out.splitlines()
    assert [line.split("\t")[:2] for line in lines][:2] == [
        ["account", "40728153"],
        ["date", "26.11.2026"],
    ]
    done = say("read", FILLED, FORMS / "exam-filled.jpg", "--template", SLIP, "--format", "csv")
    good, bad = csv.DictReader(io.StringIO(done.out))
    assert (good["status"], good["account"], good["copies"]) == ("ok", "40728153", "")
    assert (bad["status"], bad["rejected"], bad["account"]) == ("failed", "true", "")
    assert "does not look like the form" in bad["reason"]
    assert done.code == 1


def test_bulk_gives_one_row_a_form(say: Say) -> None:
    done = say("bulk", FILLED, FORMS / "exam.png", "--template", SLIP, "--out", "rows",
               "--format", "jsonl", "--workers", 1, "--quiet")  # fmt: skip
    assert done.code == 1
    parts = sorted(Path("rows/rows").glob("*.jsonl"))
    good, bad = (json.loads(line) for part in parts for line in part.read_text().splitlines())
    assert {one["name"]: one["text"] for one in good["fields"]}["account"] == "40728153"
    assert (bad["status"], bad["fields"], set(bad)) == ("failed", [], set(good))


def test_a_wrong_template_is_one_line(say: Say) -> None:
    Path("a.toml").write_text('[[fields]]\nname = "a"\nboxes = [0, 0, 1, 1]')
    done = say("read", FILLED, "--template", "a.toml")
    assert done.code == 2
    assert done.err.strip() == "digitry: a.toml: field 'a': the key 'boxes' is not known; write box"
