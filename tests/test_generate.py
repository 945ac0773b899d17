"""docs/generate.py: records are checked, and the generated documents follow code and records."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

README = """\
# One
<!-- compared:start -->
old
<!-- compared:end -->
All of <!-- one -->nothing<!-- / --> of them.
"""
OTHERS = {
    "docs/train.md": "<!-- recipes:start -->\n<!-- recipes:end -->\n",
    "docs/keras.md": "<!-- scripts:start -->\n<!-- scripts:end -->\n",
}
SCRIPT = Path(__file__).parents[1] / "docs" / "generate.py"


@pytest.fixture
def generate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script in a checkout of its own, with one record and a README that has the marks."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("generate", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    for folder in ("docs", "records"):
        (tmp_path / folder).mkdir()
    (tmp_path / "README.md").write_text(README)
    architecture = SCRIPT.with_name("architecture.md").read_text(encoding="utf-8")
    (tmp_path / "docs" / "architecture.md").write_text(architecture)
    for name, text in OTHERS.items():
        (tmp_path / name).write_text(text)
    write(tmp_path)
    return module


def write(root: Path, text: str | None = None, **changes: Any) -> None:
    record = {
        "name": "one", "table": "Reading", "what": "drawings",
        "metric": "accuracy; half of them twice", "unit": "%",
        "command": "make bench", "commit": "0" * 40, "date": "2026-01-02T03:04:05+00:00",
        "hardware": "2 cores", "versions": {}, "data": {}, "n": 2, "mean": 0.95, "std": 0.05 / 2**0.5,
        "values": [0.925, 0.975], "extra": {},
    }  # fmt: skip
    content = json.dumps({**record, **changes}) if text is None else text
    (root / "records" / "one.json").write_text(content)


def run(generate: Any, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """Run the script and return its exit message: one line, or nothing on success."""
    monkeypatch.setattr(sys, "argv", ["generate.py", *words])
    try:
        generate.main()
    except SystemExit as left:
        return str(left.code)
    return ""


def test_generated_files_are_up_to_date_until_something_changes(
    generate: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert (
        run(generate, monkeypatch, "--check") == "docs: docs/cli.md is out of date; run `make docs`"
    )
    assert not (tmp_path / "docs" / "cli.md").exists()
    assert run(generate, monkeypatch) == ""
    assert run(generate, monkeypatch, "--check") == ""
    readme = (tmp_path / "README.md").read_text()
    row = "| drawings | accuracy | 95.00 ± 3.54% (2) | half of them twice | [2026-01-02]"
    assert f"{row}(../records/one.json) |" in (tmp_path / "docs" / "measured.md").read_text()
    recipes = (tmp_path / "docs" / "train.md").read_text()
    assert "| `dense-512` | one wide layer of 512, trained by RMSprop |  |" in recipes
    assert "old" not in readme
    assert readme.startswith("# One\n")
    assert readme.endswith(
        "<!-- compared:end -->\nAll of <!-- one -->95.00 ± 3.54% (2)<!-- / --> of them.\n"
    )
    write(tmp_path, n=1, values=[0.5], mean=0.5, std=0.0)
    assert (
        run(generate, monkeypatch, "--check")
        == "docs: docs/measured.md is out of date; run `make docs`"
    )
    assert (tmp_path / "README.md").read_text() == readme
    assert run(generate, monkeypatch) == ""
    page = tmp_path / "docs" / "cli.md"
    page.write_text(page.read_text() + "by hand\n")
    assert "docs/cli.md is out of date" in run(generate, monkeypatch, "--check")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"n": 3}, "name, n or mean"),
        ({"name": "two"}, "name, n or mean"),
        ({"mean": 0.96}, "name, n or mean"),
        ({"mean": float("nan")}, "name, n or mean"),
        ({"n": 0, "values": []}, "name, n or mean"),
        ({"std": 0.0}, "`std`"),
        ({"std": float("nan")}, "`std`"),
        ({"values": ["a", 1]}, "`values`"),
        ({"unknown": 1}, "['unknown']"),
        ({"command": None}, "`command` has the wrong type"),
        ({"text": "{"}, "is not JSON"),
        ({"text": "[{}]"}, "is not a JSON object"),
        ({"text": "{}"}, "missing fields"),
    ],
)
def test_a_wrong_record_is_refused_in_one_line_and_nothing_is_written(
    generate: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    changes: dict[str, Any],
    told: str,
) -> None:
    write(tmp_path, **changes)
    for words in ([], ["--check"]):
        line = run(generate, monkeypatch, *words)
        assert line.startswith("docs: one.json: ")
        assert told in line
        assert "\n" not in line
    assert not (tmp_path / "docs" / "cli.md").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "needs one <!-- compared:start --> before one <!-- compared:end -->"),
        (README.replace("compared:end", "compared"), "needs one <!-- compared:start --> "),
        (README.replace("-- one --", "-- two --"), "there is no record two"),
        (README.replace("<!-- / -->", ""), "has 1 `<!-- NAME -->` and 0 `<!-- / -->`"),
    ],
)
def test_a_readme_without_its_marks_is_refused(
    generate: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "README.md").write_text(text)
    assert run(generate, monkeypatch).startswith(f"docs: README.md: {told}")


def test_a_record_of_an_earlier_model_is_marked(
    generate: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(tmp_path, data={"model reader": generate.CURRENT["model reader"], "model other": "1"})
    assert run(generate, monkeypatch) == ""
    page = tmp_path / "docs" / "measured.md"
    assert "earlier" not in page.read_text()
    write(tmp_path, data={"model reader": "0" * 64})
    assert run(generate, monkeypatch) == ""
    assert "records/one.json), with an earlier reader |" in page.read_text()


def record(root: Path, name: str, **extra: Any) -> None:
    """Write a record with these facts."""
    write(root)
    path = root / "records" / "one.json"
    content = json.loads(path.read_text())
    content |= {"name": name, "n": 1, "values": [0.5], "mean": 0.5, "std": 0.0, "extra": extra}
    (root / "records" / f"{name}.json").write_text(json.dumps(content))


def test_others_are_compared_on_the_same_images(
    generate: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    group, readme = "photo, one digit", tmp_path / "README.md"
    record(tmp_path, "reading-photo-one-digit", images=4, digits_right=4)
    record(tmp_path, "reading-photo-several-digits", images=2, digits_right=1)
    record(tmp_path, "baseline-0", **{group: [4, 1, 2, 3]})
    assert run(generate, monkeypatch) == ""
    row = f"[100.0%]({generate.HOME}/records/reading-photo-one-digit.json)"
    assert f"| Photos of one digit: 4 | {row} | 25.0% |\n" in readme.read_text()
    found = {"images": 4, "digits_right": 3}
    record(tmp_path, "rival-tesseract", program="Tesseract 5", groups={group: found})
    assert run(generate, monkeypatch) == ""
    assert f"| [Tesseract 5]({generate.HOME}/records/rival-tesseract.json) |" in readme.read_text()
    assert f"| Photos of one digit: 4 | {row} | 25.0% | 75.0% |" in readme.read_text()
    assert "reading-photo-several-digits.json) | – | – |" in readme.read_text()
    record(tmp_path, "baseline-0", **{group: [5, 1, 2, 3]})
    assert "were given other images" in run(generate, monkeypatch, "--check")


def test_what_a_script_becomes_is_measured(
    generate: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record(tmp_path, "training-dense-512", medians={"tensorflow": {"fit_s": 8.0}})
    assert run(generate, monkeypatch) == ""
    row = "| Dense 512, Dense 10 | RMSprop, 128, categorical | `dense-512` |"
    page = (tmp_path / "docs" / "keras.md").read_text()
    assert f"{row}  | [0.5, 8](../records/training-dense-512.json) |" in page


def test_the_page_shows_the_values_of_a_choice_and_names_without_underscores(generate: Any) -> None:
    page = generate.cli_page()
    assert "- `--layout auto|single|line|page`: " in page
    assert "- `--format text|json|jsonl|csv|csv-excel|hocr`: " in page
    assert "FORMAT_" not in page
    assert "SET_`" not in page
    for code in ("0 done", "a broken pipe", "2 usage", "130 interrupted"):
        assert code in page


def test_angle_brackets_are_text_and_not_html(generate: Any) -> None:
    assert generate.prose("runs/<recipe> or `<b>`, x>=1") == r"runs/\<recipe\> or `<b>`, x\>=1"
