"""`digitry read`: one row per image, errors on stderr, exit codes."""

import base64
import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .. import documents
from ..waiting import PATIENCE_S
from .in_process import digitry

SAMPLES = Path(__file__).parents[2] / "samples"
SEVEN = SAMPLES / "digit-7.jpg"
THREE = SAMPLES / "digit-3.png"


def test_one_image_prints_only_its_text() -> None:
    words = [sys.executable, "-m", "digitry", "read", str(SEVEN)]
    done = subprocess.run(words, capture_output=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"7\n", b"")


def test_several_images_print_one_row_each_in_order() -> None:
    done = digitry("read", SEVEN, THREE)
    rows = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert [row[:2] for row in rows] == [[str(SEVEN), "7"], [str(THREE), "3"]]
    assert all(0 <= float(row[2]) <= 1 for row in rows)


def test_standard_input_is_read_as_bytes(tmp_path: Path) -> None:
    done = digitry(
        "read", "-", "--format", "json", "--annotate", tmp_path, stdin=SEVEN.read_bytes()
    )
    (reading,) = json.loads(done.stdout)
    assert (reading["source"], reading["text"]) == ("-", "7")
    assert (tmp_path / "stdin.annotated.png").is_file()


def test_folders_and_globs_are_expanded(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for place in ("a.jpg", "deep/b.JPG"):
        (tmp_path / place).write_bytes(SEVEN.read_bytes())
    (tmp_path / "notes.txt").write_text("no image")
    for argument in (tmp_path, f"{tmp_path}/**/*.[jJ]*"):
        done = digitry("read", argument, "--format", "jsonl")
        names = [Path(json.loads(line)["source"]).name for line in done.stdout.splitlines()]
        assert sorted(names) == ["a.jpg", "b.JPG"]


def test_a_bad_file_among_many_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    done = digitry("read", SEVEN, bad, tmp_path / "absent.png", THREE)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    errors = done.stderr.decode()
    assert "bad.png: is empty" in errors
    assert "absent.png" in errors
    assert "2 of 4 images could not be read" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["read"], 2),
        (["read", SEVEN, "--layout", "diagonal"], 2),
        (["read", SEVEN, "--max-error", "7"], 2),
        (["read", "no-such-folder/*.png"], 2),
        (["read", SEVEN, "--model", "no-such-model"], 3),
        (["read", SEVEN, "--model", SEVEN], 3),
        (["read", "absent.png"], 1),
        (["nonsense"], 2),
    ],
)
def test_exit_codes(arguments: list[object], code: int) -> None:
    done = digitry(*arguments)
    assert done.returncode == code
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""


def test_all_formats_give_the_same_text(tmp_path: Path) -> None:
    text = digitry("read", SEVEN).stdout.decode().strip()
    (only,) = json.loads(digitry("read", SEVEN, "--format", "json").stdout)
    assert only["text"] == text
    assert json.loads(digitry("read", SEVEN, "--format", "jsonl").stdout)["text"] == text
    (row,) = csv.DictReader(io.StringIO(digitry("read", SEVEN, "--format", "csv").stdout.decode()))
    assert row["text"] == text
    assert f">{text}</span>" in digitry("read", SEVEN, "--format", "hocr").stdout.decode()
    many = json.loads(digitry("read", SEVEN, THREE, "--format", "json").stdout)
    assert [reading["text"] for reading in many] == ["7", "3"]


def table(*arguments: object) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(digitry("read", *arguments).stdout.decode())))


def test_an_image_that_cannot_be_read_has_a_row_with_its_reason(tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    reason = "is not an image of a supported format"
    done = digitry("read", SEVEN, bad, "--format", "json")
    good, failed = json.loads(done.stdout)
    assert done.returncode == 1
    assert (good["version"], good["status"], good["text"]) == (1, "ok", "7")
    assert (failed["source"], failed["status"], failed["reason"]) == (str(bad), "failed", reason)
    assert good.keys() == failed.keys()
    lines = digitry("read", SEVEN, bad, "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["ok", "failed"]
    rows = table(SEVEN, bad, "--format", "csv")
    assert [(row["status"], row["reason"]) for row in rows] == [("ok", ""), ("failed", reason)]


def test_json_is_an_array_and_jsonl_one_object_a_line() -> None:
    for paths in ([SEVEN], [SEVEN, THREE]):
        assert len(json.loads(digitry("read", *paths, "--format", "json").stdout)) == len(paths)
        lines = digitry("read", *paths, "--format", "jsonl").stdout.splitlines()
        assert [json.loads(line)["status"] for line in lines] == ["ok"] * len(paths)


def test_a_blank_image_alone_says_so(tmp_path: Path) -> None:
    blank = tmp_path / "blank.png"
    Image.new("L", (90, 90), 255).save(blank)
    done = digitry("read", blank)
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.decode() == f"digitry: {blank}: nothing read (blank)\n"
    (row,) = table(blank, "--format", "csv")
    assert (row["status"], row["text"], row["rejected"], row["reason"]) == (
        "ok",
        "",
        "true",
        "blank",
    )


def test_a_folder_passes_over_nothing_in_silence(tmp_path: Path) -> None:
    for name in ("IMG_0001.JPG", "photo.jfif", "._photo.jpg", ".DS_Store"):
        (tmp_path / name).write_bytes(SEVEN.read_bytes())
    documents.drawn((3,)).save(tmp_path / "b.avif")
    (tmp_path / "c.heic").write_bytes(documents.heic(documents.drawn((3,))))
    (tmp_path / "d.pdf").write_bytes(documents.scanned([documents.drawn((3,))] * 2))
    for name in ("notes.txt", "more.TXT", "film.mov", "Makefile"):
        (tmp_path / name).write_text("no image")
    done = digitry("read", tmp_path, "--format", "jsonl")
    assert done.returncode == 0
    assert done.stderr.decode() == "digitry: not read: 2 .txt, 1 .mov, 1 without an ending\n"
    names = [Path(json.loads(line)["source"]).name for line in done.stdout.splitlines()]
    assert names == [
        "IMG_0001.JPG",
        "b.avif",
        "c.heic",
        "d.pdf#page=1",
        "d.pdf#page=2",
        "photo.jfif",
    ]
    only = tmp_path / "only"
    only.mkdir()
    (only / "a.docx").write_text("no image")
    done = digitry("read", only)
    assert done.returncode == 2
    assert "no image in this folder; not read: 1 .docx" in done.stderr.decode()


def test_every_page_of_a_document_is_read_and_drawn(tmp_path: Path) -> None:
    scan = tmp_path / "scan.pdf"
    scan.write_bytes(documents.scanned([documents.drawn((3,)), documents.drawn((3, 3))]))
    done = digitry("read", scan, "--annotate", tmp_path / "out")
    rows = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert [row[0] for row in rows] == [f"{scan}#page=1", f"{scan}#page=2"]
    assert [len(row[1].replace(" ", "")) for row in rows] == [1, 2]
    pictures = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert pictures == ["scan-page-1.annotated.png", "scan-page-2.annotated.png"]
    one = digitry("read", f"{scan}#page=2")
    assert one.stdout.decode().strip() == rows[1][1]
    done = digitry("read", "-", "--format", "jsonl", stdin=scan.read_bytes())
    names = [json.loads(line)["source"] for line in done.stdout.splitlines()]
    assert names == ["-#page=1", "-#page=2"]


def test_a_data_url_is_a_path_and_a_wrong_one_is_not_repeated() -> None:
    text = base64.b64encode(SEVEN.read_bytes()).decode()
    assert digitry("read", f"data:image/jpeg;base64,{text}").stdout == b"7\n"
    done = digitry("read", text[:20_000])
    assert done.returncode == 1
    assert len(done.stderr) < 400


def test_annotated_pictures_never_overwrite_each_other_or_the_input(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes(THREE.read_bytes())
    digitry("read", tmp_path / "a", tmp_path / "b", "--annotate", tmp_path / "a")
    pictures = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert pictures == ["x-2.annotated.png", "x.annotated.png", "x.png"]
    assert (tmp_path / "a" / "x.png").read_bytes() == THREE.read_bytes()
    Image.open(tmp_path / "a" / "x.annotated.png").verify()


def test_explanations_are_saved_beside_annotations(tmp_path: Path) -> None:
    done = digitry("read", SEVEN, "--annotate", tmp_path, "--explain", tmp_path)
    assert done.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "digit-7.annotated.png",
        "digit-7.explained.png",
    ]


def test_a_reading_follows_the_pattern() -> None:
    number = SAMPLES / "phone-number.jpg"
    assert digitry("read", number, "--pattern", r"\d{3} \d{6}").stdout == b"030 901820\n"
    assert digitry("read", number, "--pattern", "abc").returncode == 2


def test_only_a_region_is_read_and_drawn_on_the_whole_picture(tmp_path: Path) -> None:
    sheet = SAMPLES / "sheet.jpg"
    region = ["--region", "80,450,640,130"]
    assert digitry("read", sheet, *region).stdout == b"5318\n"
    done = digitry("read", sheet, "--region", "6.7%,50%,53.3%,14.5%", "--annotate", tmp_path)
    assert done.stdout == b"5318\n"
    with Image.open(tmp_path / "sheet.annotated.png") as picture:
        assert picture.width >= 1200
    done = digitry("read", sheet, *region, "--explain", tmp_path, "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(done.stdout.decode()))
    assert row["text"] == "5318"
    assert 450 <= int(row["y"]) <= int(row["y"]) + int(row["h"]) <= 580


@pytest.mark.parametrize("region", ["1,2,3", "1,2,0,4", "a,b,c,d"])
def test_what_is_no_region_is_refused_before_anything_is_read(region: str) -> None:
    done = digitry("read", SEVEN, "--region", region)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == 1
    form = SAMPLES / "forms" / "slip.toml"
    both = digitry("read", SEVEN, "--region", "1,2,3,4", "--template", form)
    assert both.returncode == 2
    assert b"a template and a region are given" in both.stderr


def test_a_picture_that_does_not_hold_the_region_is_named() -> None:
    done = digitry("read", SAMPLES / "sheet.jpg", SEVEN, "--region", "80,450,640,130")
    assert done.returncode == 1
    assert b"5318" in done.stdout
    assert done.stderr.startswith(f"digitry: {SEVEN}: the region 80,450,640,130 reaches".encode())


def test_a_folder_with_one_image_gives_a_list_of_one(tmp_path: Path) -> None:
    (tmp_path / "odd\nname.jpg").write_bytes(SEVEN.read_bytes())
    (reading,) = json.loads(digitry("read", tmp_path, "--format", "json").stdout)
    assert reading["text"] == "7"
    (row,) = digitry("read", tmp_path).stdout.decode().splitlines()
    assert row.split("\t")[1] == "7"


def test_an_empty_standard_input_is_named_by_a_dash() -> None:
    done = digitry("read", "-")
    assert (done.returncode, done.stderr.decode().split(":")[1].strip()) == (1, "-")


def test_a_file_instead_of_a_folder_is_an_error_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = digitry("read", SEVEN, "--annotate", tmp_path / "file")
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.mark.parametrize(
    ("size", "mode", "format", "options"),
    [
        ((6060, 6060), "RGB", "PNG", {"compress_level": 1}),
        ((6000, 6000), "RGBA", "PNG", {"compress_level": 1}),
        ((7000, 7000), "I;16", "PNG", {"compress_level": 1}),
        ((7000, 7000), "RGB", "JPEG", {"progressive": True}),
        ((4900, 4900), "RGB", "WEBP", {"method": 0}),
        ((7000, 7000), "P", "GIF", {}),
        ((29_000, 1_250), "RGB", "PNG", {"compress_level": 1}),
    ],
)
def test_the_largest_accepted_image_takes_less_than_300_megabytes(
    size: tuple[int, int], mode: str, format: str, options: dict[str, object], tmp_path: Path
) -> None:
    # benchmarks/memory.py measures every kind of file; these need the most memory in their format.
    path = tmp_path / "large"
    if mode == "RGBA":
        rows = np.random.default_rng(0).integers(0, 256, (size[1] // 4, size[0], 4), np.uint8)
        Image.fromarray(np.repeat(rows, 4, axis=0)).save(path, format, **options)
    else:
        Image.new(mode, size, 230 if mode in ("P", "I;16") else (230, 225, 210)).save(
            path, format, **options
        )
    # Not ru_maxrss: a child inherits its parent's value at the fork.
    code = (
        "import sys\nfrom digitry.cli.main import app\n"
        "try:\n    app(['read', sys.argv[1]])\n"
        "finally:\n    print(open('/proc/self/status').read(), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, timeout=PATIENCE_S
    )
    assert b"to decode" not in done.stderr
    assert b"too large" not in done.stderr
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", done.stderr.decode())
    assert int(peak) < 300_000


def test_a_closed_pipe_gives_no_traceback() -> None:
    command = f"{sys.executable} -m digitry read {SEVEN} {THREE} --format jsonl | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=PATIENCE_S)
    assert b"Traceback" not in done.stderr
