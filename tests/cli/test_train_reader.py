"""`digitry train reader`: what is trained, in which order, and what is refused in one line."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from digitry.training import reader
from digitry.training.reader import Built, Much

from .conftest import Answer, Say

Calls = list[tuple[str, Path, Much, dict[str, Any]]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Trainings that were asked for; none is done."""
    made: Calls = []

    def train_part(part: reader.Part, out: Path, much: Much, **how: Any) -> Built:
        made.append((part, out, much, how))
        return Built(out / reader.FILES[part], 1000, 2.0)

    monkeypatch.setattr(reader, "train_part", train_part)
    return made


def refused(answer: Answer, *words: str) -> None:
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    for word in words:
        assert word in answer.err


def test_the_whole_reader_is_made_in_one_command(calls: Calls, say: Say) -> None:
    answer = say("train", "reader", "--seed", 5, "--device", "cpu")
    assert answer.code == 0
    assert [part for part, *_ in calls] == ["finder", "lines", "glyph"]
    assert answer.out.splitlines() == [
        f"{Path('runs/reader') / file}: 1,000 samples in 2 s"
        for file in ("finder.onnx", "lines.onnx", "reader.onnx")
    ]
    assert all(how["seed"] == 5 and how["device"] == "cpu" for *_, how in calls)


def test_parts_are_made_alone_and_told_how_much(calls: Calls, say: Say) -> None:
    words = ["--part", "lines", "--part", "glyph", "--out", "made"]
    sets = ["--set", "lines.seconds=60", "--set", "glyph.samples=5000", "--set", "glyph.epochs=2"]
    assert say("train", "reader", *words, *sets).code == 0
    (lines, out, much, _), (glyph, _, glyphs, _) = calls
    assert (lines, glyph, out) == ("lines", "glyph", Path("made"))
    assert (much.seconds, much.samples) == (60, None)
    assert (glyphs.samples, glyphs.settings) == (5000, {"epochs": "2"})
    assert say("train", "reader", "--part", "finder", "--set", "samples=10").code == 0
    assert calls[-1][2].samples == 10


def test_the_glyph_model_may_start_from_another(calls: Calls, say: Say) -> None:
    assert say("train", "reader", "--part", "glyph", "--from", "reader").code == 0
    parent = calls[-1][2].parent
    assert parent is not None and parent.place == "reader@shipped"


def test_the_line_network_may_start_from_another(calls: Calls, say: Say) -> None:
    words = ["--part", "lines", "--from", "lines", "--set", "rate=5e-4", "--set", "moved=0.6"]
    assert say("train", "reader", *words).code == 0
    much = calls[-1][2]
    assert much.start is not None and much.start.reference == "lines@shipped"
    assert (much.rate, much.moved) == (5e-4, 0.6)
    other = say("train", "reader", "--part", "lines", "--from", "reader")
    assert other.code == 3 and "'reader' is not a line network" in other.err


def test_it_goes_on_where_it_was_stopped(calls: Calls, say: Say, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    assert say("train", "reader", "--resume", "made").code == 0
    assert {out for _, out, *_ in calls} == {Path("made")}
    refused(say("train", "reader", "--resume", "none"), "is no folder")
    refused(say("train", "reader", "--resume", "made", "--out", "other"), "two folders")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--part", "ink"], "finder, lines, glyph"),
        (["--set", "seconds=60"], "finder.seconds=60"),
        (["--set", "ink.seconds=60"], "'ink'"),
        (["--part", "lines", "--set", "hidden=8"], "samples, seconds, rate, moved alone"),
        (["--part", "finder", "--set", "rate=0.1"], "samples, seconds alone"),
        (["--part", "finder", "--from", "finder"], "the finder cannot start"),
        (["--part", "finder", "--part", "lines", "--from", "lines"], "which part"),
        (["--part", "lines", "--set", "moved=0.5"], "lines alone, with --from"),
        (["--part", "lines", "--from", "lines", "--set", "moved=2"], "at most 1"),
        (["--part", "lines", "--set", "seconds=soon"], "above 0"),
        (["--part", "glyph", "--set", "seconds=60"], "by epochs"),
        (["--part", "glyph", "--set", "depth=60"], "depth"),
        (["--data", "uci"], "--data"),
        (["--epochs", "3"], "glyph"),
    ],
)
def test_what_does_not_fit_is_refused(words: list[str], said: str, calls: Calls, say: Say) -> None:
    refused(say("train", "reader", *words), said)
    assert calls == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lines"], "train reader --part lines"),
        (["finder"], "train reader --part finder"),
        (["dense-128", "--part", "lines"], "--part"),
    ],
)
def test_recipes_and_parts_are_not_mixed_up(words: list[str], said: str, say: Say) -> None:
    refused(say("train", *words), said)
