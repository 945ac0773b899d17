"""What a user sees while work goes on: a bar on a terminal, plain lines elsewhere, nothing if not asked."""

import io
import re

import pytest
from rich.console import Console

from digitry import progress
from digitry.progress import Display, track


def consoles(terminal: bool) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, force_terminal=terminal, width=80), stream


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between two looks."""
    monkeypatch.setattr(progress, "PLAIN_INTERVAL", 0.0)
    monkeypatch.setattr(progress, "LIVE_INTERVAL", 0.0)


@pytest.mark.usefixtures("eager")
def test_without_a_terminal_plain_lines_say_how_far_it_is_and_when_it_ends() -> None:
    console, stream = consoles(terminal=False)
    assert list(track("abc", 3, "reading", console)) == ["a", "b", "c"]
    first, second, third = stream.getvalue().splitlines()
    # One look tells no speed yet.
    assert first == "reading, 1 of 3"
    assert re.fullmatch(r"reading, 2 of 3, \d\d:\d\d left", second)
    assert third == "reading, 3 of 3, 00:00 left"


def test_plain_lines_come_only_now_and_then() -> None:
    console, stream = consoles(terminal=False)
    with Display(console, 1000, every=3600) as display:
        for done in range(1000):
            assert not display.due()
            display.at(done, "reading")
        display.line("what was found")
    assert stream.getvalue() == "what was found\n"


@pytest.mark.usefixtures("eager")
def test_nowhere_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track("abc", 3, "reading", None)) == ["a", "b", "c"]
    with Display(None, 3) as display:
        assert not display.due()
        display.at(1, "reading")
        display.line("what was found")
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("eager")
def test_on_a_terminal_one_line_moves_and_is_gone_in_the_end() -> None:
    console, stream = consoles(terminal=True)
    assert list(track("abc", 3, "reading [bold]", console)) == ["a", "b", "c"]
    written = stream.getvalue()
    assert "reading [bold], 3 of 3" in written
    # The last thing that is done is to clear the line.
    assert written.endswith("\x1b[2K")


def test_a_bar_that_stays_is_there_in_the_end() -> None:
    console, stream = consoles(terminal=True)
    with Display(console, 4, text="preparing", unit="images", stays=True) as display:
        display.at(4, "epoch 1/1")
    assert "epoch 1/1" in stream.getvalue().splitlines()[-2]


def test_what_the_program_prints_into_a_file_does_not_land_on_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console, stream = consoles(terminal=True)
    with Display(console, 1):
        print("a row")
    assert capsys.readouterr().out == "a row\n"
    assert "a row" not in stream.getvalue()


def test_work_may_begin_in_the_middle_and_learn_its_size_later() -> None:
    console, stream = consoles(terminal=False)
    with Display(console, every=0.0, unit="images") as display:
        display.at(500, "reading")
        display.at(600, "reading")
        display.at(700, "reading", total=1000)
        display.at(800, "reading")
        display.at(900, "reading")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "reading"
    assert re.fullmatch(r"reading  [\d,]+ images/s", lines[1])
    assert re.fullmatch(r"reading  [\d,]+ images/s, \d\d:\d\d left", lines[-1])


@pytest.mark.parametrize("widgets", [True, False])
def test_a_notebook_with_widgets_shows_a_bar(
    widgets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "find_spec", lambda name: object() if widgets else None)
    notebook = Console(file=io.StringIO(), force_jupyter=True, force_terminal=False)
    assert Display(notebook, 3).live is widgets
