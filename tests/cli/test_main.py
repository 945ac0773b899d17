"""The command line as a whole: one line for every error, and the documented exit codes."""

import os
import subprocess
import sys

import pytest
import typer

from digitry.cli import main
from digitry.errors import DataError

from ..waiting import PATIENCE_S


def run(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    """Run the command line in this process; give its exit code, stdout and stderr."""
    arguments, sys.argv = sys.argv, ["digitry", *words]
    try:
        with pytest.raises(SystemExit) as left:
            main.main()
    finally:
        sys.argv = arguments
    printed = capsys.readouterr()
    return left.value.code, printed.out, printed.err


@pytest.mark.parametrize(
    ("words", "told", "verb"),
    [
        (["train", "--epochs", "abc"], "'--epochs'", "digitry train"),
        (["read", "--format", "xml", "a.png"], "'xml' is not one of", "digitry read"),
        (["read", "--layout", "grid", "a.png"], "'single', 'line', 'page'", "digitry read"),
        (["read"], "missing argument 'PATH...'", "digitry read"),
        (["data", "fetch"], "missing argument 'NAME'", "digitry data fetch"),
        (["data", "nope"], "no such command 'nope'", "digitry data"),
        (["bulk", "scans"], "missing option '--out'", "digitry bulk"),
        (["export"], "missing argument 'MODEL...'", "digitry export"),
        (["train", "--epohcs", "3"], "--epohcs", "digitry train"),
        (["recipes", "twice", "over"], "twice over", "digitry recipes"),
        (["raed", "a.png"], "no such command 'raed'", "digitry"),
        (["--nope"], "--nope", "digitry"),
        (["recipes", "--format"], "requires an argument", "digitry"),
        (["raed\nb"], "no such command", "digitry"),
    ],
)
def test_a_wrong_call_is_one_line_that_names_the_help(
    capsys: pytest.CaptureFixture[str], words: list[str], told: str, verb: str
) -> None:
    code, out, err = run(*words, capsys=capsys)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("digitry: ")
    assert told in err
    assert err.endswith(f"; see {verb} --help\n")


def test_help_and_version_go_to_stdout_with_code_0(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (["--help"], ["-h"], ["--version"], ["read", "--help"], ["data", "--help"]):
        code, out, err = run(*words, capsys=capsys)
        assert (code, err) == (0, "")
        assert "digitry" in out


def test_without_arguments_the_help_is_shown_and_the_code_is_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in ([], ["data"]):
        code, out, err = run(*words, capsys=capsys)
        assert (code, err) == (2, "")
        assert "Usage:" in out


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "digitry: interrupted; finished work is kept\n"),
        (typer.Exit(130), 130, ""),
        (typer.Exit(1), 1, ""),
        (typer.Abort(), 1, "digitry: stopped\n"),
        (DataError("is odd", where="x"), 3, "digitry: x: is odd\n"),
    ],
)
def test_how_a_verb_ends_decides_the_exit_code(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    code: int,
    line: str,
) -> None:
    def end(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("digitry.cli.doctor._installation", end)
    assert run("doctor", capsys=capsys) == (code, "", line)


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def end() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("digitry.cli.doctor._installation", end)
    monkeypatch.setattr(sys, "argv", ["digitry", "doctor"])
    with pytest.raises(ZeroDivisionError):
        main.main()


@pytest.mark.skipif(sys.platform == "win32", reason="has no such pipes")
def test_a_closed_pipe_is_code_1_and_prints_nothing() -> None:
    program = [sys.executable, "-m", "digitry", "recipes", "--format", "json"]
    running = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    running.stdout.close()
    _, err = running.communicate(timeout=PATIENCE_S)
    assert (running.returncode, err) == (1, b"")


def test_completion_is_offered_for_every_shell() -> None:
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    for shell in ("bash", "zsh", "fish"):
        done = subprocess.run(
            [sys.executable, "-m", "digitry", "--show-completion", shell],
            capture_output=True, text=True, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "_DIGITRY_COMPLETE" in done.stdout, shell


def test_the_shell_is_told_the_verbs_and_the_values_of_options() -> None:
    def told(words: str) -> list[str]:
        environment = {
            **os.environ,
            "_DIGITRY_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        done = subprocess.run(
            [sys.executable, "-m", "digitry"], capture_output=True, text=True, env=environment
        )
        assert done.stderr == ""
        return done.stdout.split()

    assert {"read", "report", "recipes"} <= set(told("digitry re"))
    assert set(told("digitry read --format js")) == {"json", "jsonl"}
