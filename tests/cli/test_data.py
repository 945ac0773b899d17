"""The verbs on data: what they print, where, and their exit codes."""

import gzip
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digitry.cli import main
from digitry.training.writing.strings import Others


def run(*words: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run the command line in this process; give its exit code, stdout and stderr."""
    arguments, sys.argv = sys.argv, ["digitry", *map(str, words)]
    try:
        with pytest.raises(SystemExit) as left:
            main.main()
    finally:
        sys.argv = arguments
    printed = capsys.readouterr()
    code = left.value.code
    return (code if isinstance(code, int) else 0), printed.out, printed.err


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Class folders with one blank picture and one copy of another."""
    folder = tmp_path / "own"
    for label in range(10):
        (folder / str(label)).mkdir(parents=True)
        for copy in range(6):
            pixels = np.zeros((28, 28), np.uint8)
            pixels[4 + label : 9 + label, 4 + copy : 12 + 2 * copy] = 255
            pixels[7:21, 8 + label : 11 + label] = 200 - 20 * copy
            Image.fromarray(pixels).save(folder / str(label) / f"{copy}.png")
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(folder / "2" / "5.png")
    (folder / "3" / "5.png").write_bytes((folder / "4" / "0.png").read_bytes())
    return folder


def test_fetch_prints_the_counts_and_the_licence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = run("data", "fetch", "uci", capsys=capsys)
    assert (code, err) == (0, "")
    assert "1,498 training and 299 test images" in out
    assert "CC BY 4.0" in out


def test_fetch_offline_without_the_files_is_one_line_and_code_4(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = run("data", "fetch", "mnist", "--offline", capsys=capsys)
    assert (code, out) == (4, "")
    assert err.count("\n") == 1
    assert "--data-dir" in err


def test_fetch_takes_only_known_names_and_lists_them(
    capsys: pytest.CaptureFixture[str], own: Path
) -> None:
    for name in ("nope", own):
        code, out, err = run("data", "fetch", name, capsys=capsys)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert "choose mnist, uci or glyphs" in err
        assert "give a folder" not in err


def test_check_exits_with_0_3_or_4(
    capsys: pytest.CaptureFixture[str], own: Path, tmp_path: Path
) -> None:
    code, out, _ = run("data", "check", "mnist", capsys=capsys)
    assert code == 4
    assert out.count("absent") == 4
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"other"))
    code, out, _ = run("data", "check", "mnist", "--data-dir", tmp_path, capsys=capsys)
    assert code == 3
    assert "bad     train-labels-idx1-ubyte   has 5 bytes" in out
    code, out, _ = run("data", "check", own, "--format", "json", capsys=capsys)
    assert code == 0
    assert json.loads(out)[0]["state"] == "ok"
    (own / "3" / "4.png").write_bytes(b"no picture")
    code, out, _ = run("data", "check", own, capsys=capsys)
    assert code == 3
    assert "3/4.png" in out


def test_explore_prints_findings_and_draws_pictures(
    capsys: pytest.CaptureFixture[str],
    own: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run("explore", own, capsys=capsys)
    assert (code, err.strip()) == (0, "")
    assert "2/5.png" in out
    for line in ("blank", "exact duplicates", "conflicting labels"):
        assert re.search(rf"^{line}\s+1 ", out, re.M)
    assert (tmp_path / "explore-own" / "label_histogram.png").is_file()
    assert str(Path("explore-own") / "odd.png") in out


def test_explore_as_json_is_one_document_on_stdout(
    capsys: pytest.CaptureFixture[str], own: Path, tmp_path: Path
) -> None:
    out_dir = tmp_path / "pictures"
    words = ("explore", own, "--out", out_dir, "--format", "json", "--quiet")
    code, out, err = run(*words, capsys=capsys)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["train_counts"] == [5] * 10
    assert found["blank"][0]["name"] == "2/5.png"
    assert found["conflicts"][0]["first"]["label"] != found["conflicts"][0]["second"]["label"]
    assert all(Path(path).is_file() for path in found["pictures"])
    code, out, _ = run("explore", own, "--format", "json", "--no-pictures", capsys=capsys)
    assert json.loads(out)["pictures"] == []


def test_explore_says_when_near_duplicates_were_not_searched_among_all(
    capsys: pytest.CaptureFixture[str], own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run("explore", own, "--no-pictures", capsys=capsys)
    assert (code, "searched among" in out) == (0, False)
    monkeypatch.setattr("digitry.training.data.explore.NEAR_CHECKED", 20)
    code, out, _ = run("explore", own, "--no-pictures", capsys=capsys)
    assert code == 0
    assert "Near-duplicates were searched among 20 of the images." in out


def test_explore_synthetic_draws_what_the_reader_learns_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from digitry.training import datasets
    from digitry.training.data import mnist
    from digitry.training.writing import sources

    digits = datasets.load_dataset("uci")
    made_of = sources.of_digits(digits.train.images, digits.train.labels)
    letters = tuple(digits.train.images[:3])
    made_of = replace(made_of, others=Others(letters, letters, {}))
    monkeypatch.setattr(mnist, "load", lambda *_: digits)
    monkeypatch.setattr(sources, "load", lambda *_: made_of)
    code, out, err = run("explore", "--synthetic", "--out", tmp_path, capsys=capsys)
    assert (code, err) == (0, "")
    assert [Path(line) for line in out.split()] == [
        tmp_path / "pages.png", tmp_path / "strips.png", tmp_path / "glyphs.png",
    ]  # fmt: skip
    for name in ("pages", "strips", "glyphs"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert min(picture.size) > 700
            assert np.ptp(np.asarray(picture)) > 200


def test_explore_needs_a_data_set_or_synthetic(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run("explore", capsys=capsys)
    assert (code, err.count("\n")) == (2, 1)
    code, _, err = run("explore", "uci", "--synthetic", capsys=capsys)
    assert (code, err.count("\n")) == (2, 1)
    assert "--synthetic" in err


def test_explore_of_bad_data_is_one_line_and_3(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = run("explore", tmp_path / "nothing", "--no-pictures", capsys=capsys)
    assert (code, out) == (3, "")
    assert err.startswith("digitry: ")
    assert err.count("\n") == 1


def test_help_imports_no_heavy_package() -> None:
    code = (
        "import sys, digitry.cli\n"
        "heavy = {'torch', 'keras', 'matplotlib', 'sklearn', 'pooch', 'cv2', 'onnxruntime'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
