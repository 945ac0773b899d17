"""The command line in this process, as a user types it."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from digitry.cli.main import main


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


Say = Callable[..., Answer]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Say:
    """Run `digitry …` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["digitry", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        seen = capfd.readouterr()
        return Answer(int(end.value.code or 0), seen.out, seen.err)

    return run
