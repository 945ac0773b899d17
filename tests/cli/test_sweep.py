"""`sweep`, as a user types it."""

import json
from dataclasses import replace
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from .conftest import Say

pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("optuna")


SMALL = ("sweep", "dense-128", "--data", "uci", "--epochs", 1, "--set", "hidden=4|8,4")


def test_a_sweep_prints_its_settings_best_first_and_how_to_train_the_best(
    say: Say, tmp_path: Path
) -> None:
    answer = say(*SMALL, "--set", "lr=1e-5,1e-2", "--seeds", 2, "--seed", 3, "--out", "found")
    assert answer.code == 0, answer.err
    assert "4 of 4 settings tried; accuracy on 300 held-out training images" in answer.out
    table = [line.split() for line in answer.out.splitlines() if "1e-" in line and "%" in line]
    means = [float(row[2].rstrip("%")) for row in table]
    assert len(means) == 4
    assert means == sorted(means, reverse=True)
    assert table[0][1] == "1e-2"
    line = (
        f"digitry train dense-128 --set hidden={table[0][0]} --set learning_rate=1e-2 "
        "--epochs 1 --seed 3 --data uci"
    )
    assert f"to train the best setting: {line}\n" in answer.out
    # Progress: one line for each setting.
    assert answer.err.count("learning_rate=") == 4
    names = {path.name for path in (tmp_path / "found").iterdir() if path.name[0] != "."}
    assert names == {"trials.journal", "sweep.png"}


def test_resuming_prints_the_same_and_a_second_sweep_is_refused(say: Say) -> None:
    first = say(*SMALL, "--out", "found", "--format", "json", "--quiet")
    assert (first.code, first.err) == (0, "")
    again = say("sweep", "--resume", "found", "--format", "json", "--quiet")
    found = json.loads(first.out)
    assert found == json.loads(again.out)
    assert (found["trials"], found["finished"], found["held_out"]) == (2, 2, 300)
    assert found["ranking"][0]["mean"] >= found["ranking"][1]["mean"]
    assert found["train"].startswith("digitry train dense-128 --set hidden=")
    other = say(*SMALL, "--out", "found")
    assert other.code == 2
    assert "digitry sweep --resume found" in other.err


def test_a_search_can_be_continued_with_more_trials(say: Say) -> None:
    words = ("--data", "uci", "--epochs", 1, "--set", "dropout=0..0.5", "--out", "found")
    assert say("sweep", "dense-128", *words, "--trials", 1, "--quiet").code == 0
    more = say("sweep", "--resume", "found", "--trials", 2, "--quiet")
    assert "2 of 2 settings tried" in more.out


def test_an_interrupted_sweep_says_how_to_continue(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    from digitry.training.loop import train

    real = train.train

    def stopped(*given: Any, **named: Any) -> Any:
        return replace(real(*given, **named), interrupted=True)

    monkeypatch.setattr(train, "train", stopped)
    answer = say(*SMALL, "--out", "found", "--quiet")
    assert answer.code == 130
    assert answer.err == "digitry: interrupted; continue: digitry sweep --resume found\n"
    monkeypatch.setattr(train, "train", real)
    assert "2 of 2 settings" in say("sweep", "--resume", "found", "--quiet").out


def test_the_default_folder_is_among_the_runs(say: Say, tmp_path: Path) -> None:
    assert say(*SMALL, "--trials", 1, "--quiet").code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("sweep-dense-128-")


def test_a_missing_extra_is_one_line_with_its_remedy(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = util.find_spec
    monkeypatch.setattr(
        "digitry.extras.find_spec", lambda name: None if name == "optuna" else real(name)
    )
    answer = say(*SMALL)
    assert answer.code == 4
    assert answer.err == (
        "digitry: this needs the extra `sweep`; not installed: optuna; pip install 'digitry[sweep]'\n"
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "no recipe"),
        (["dense-129", "--set", "lr=1"], 2, "dense-129"),
        (["dense-128"], 2, "no field to vary"),
        (["dense-128", "--set", "depth=1,2"], 2, "no field 'depth'"),
        (["dense-128", "--set", "seed=1,2"], 2, "--seeds"),
        (["dense-128", "--set", "dropout=0..0.5"], 2, "add --trials"),
        (["dense-128", "--set", "dropout=0,0.1", "--trials", 0], 2, "--trials"),
        (["dense-128", "--set", "dropout=0", "--seeds", 0], 2, "--seeds"),
        (["dense-128", "--set", "dropout=0", "--device", "tpu"], 2, "tpu"),
        (["dense-128", "--set", "dropout=0", "--format", "xml"], 2, "xml"),
        (["dense-128", "--set", "dropout=0", "--data", "nowhere"], 3, "nowhere"),
        (["--resume", "nowhere"], 2, "holds no sweep"),
        (["dense-128", "--resume", "nowhere"], 2, "keeps its settings"),
    ],
)
def test_invalid_options_are_refused_before_training(
    say: Say, tmp_path: Path, words: list[Any], code: int, said: str
) -> None:
    answer = say("sweep", *words)
    assert answer.code == code
    assert len(answer.err.strip().splitlines()) == 1
    assert said in answer.err
    assert list(tmp_path.iterdir()) == []
