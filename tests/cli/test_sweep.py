"""`sweep`, as a user types it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from .conftest import Say

pytest.importorskip("torch")
pytest.importorskip("sklearn")


SMALL = ("sweep", "dense-128", "--data", "uci", "--epochs", 1, "--set", "hidden=4|8,4")


def test_a_sweep_prints_its_settings_best_first_and_how_to_train_the_best(
    say: Say, tmp_path: Path
) -> None:
    answer = say(*SMALL, "--set", "lr=1e-5,1e-2", "--seeds", 2, "--out", "found")
    assert answer.code == 0, answer.err
    assert "8 of 8 trainings, judged on 300 held-out training images" in answer.out
    table = [line.split() for line in answer.out.splitlines() if "% to " in line]
    means = [float(row[2].rstrip("%")) for row in table]
    assert len(means) == 4
    assert means == sorted(means, reverse=True)
    assert table[0][1] == "0.01"
    assert (
        f"digitry train dense-128 --set hidden={table[0][0]} --set learning_rate=0.01 "
        "--epochs 1 --data uci"
    ) in answer.out
    # Progress, a training a line.
    assert answer.err.count("learning_rate=") == 8
    names = {path.name for path in (tmp_path / "found").iterdir()}
    assert names == {"sweep.json", "runs.csv", "sweep.png"}


def test_started_again_it_prints_the_same_and_refuses_another(say: Say) -> None:
    first = say(*SMALL, "--out", "found", "--format", "json", "--quiet")
    again = say(*SMALL, "--out", "found", "--format", "json", "--quiet")
    assert (first.code, first.err) == (0, "")
    assert json.loads(first.out) == json.loads(again.out)
    found = json.loads(first.out)
    assert (found["trainings"], found["finished"], found["held_out"]) == (2, 2, 300)
    assert found["ranking"][0]["mean"] >= found["ranking"][1]["mean"]
    assert found["ranking"][0]["interval"] is None
    other = say(*SMALL, "--seeds", 2, "--out", "found")
    assert other.code == 2
    assert "another sweep: its seeds differ" in other.err


def test_interrupted_it_says_how_to_go_on(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    from digitry.training.loop import train

    real = train.train

    def stopped(*given: Any, **named: Any) -> Any:
        return replace(real(*given, **named), interrupted=True)

    monkeypatch.setattr(train, "train", stopped)
    answer = say(*SMALL, "--out", "found", "--quiet")
    assert answer.code == 130
    assert answer.err == ("digitry: interrupted; the same command with --out found goes on\n")
    monkeypatch.setattr(train, "train", real)
    assert "2 of 2 trainings" in say(*SMALL, "--out", "found", "--quiet").out


def test_without_a_folder_it_makes_one_among_the_runs(say: Say, tmp_path: Path) -> None:
    assert say(*SMALL, "--random", 1, "--quiet").code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("sweep-dense-128-")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["dense-129", "--set", "lr=1"], 2, "dense-129"),
        (["dense-128"], 2, "nothing to vary"),
        (["dense-128", "--set", "depth=1,2"], 2, "no field 'depth'"),
        (["dense-128", "--set", "seed=1,2"], 2, "--seeds"),
        (["dense-128", "--set", "dropout=0..0.5"], 2, "add --random"),
        (["dense-128", "--set", "dropout=0", "--device", "tpu"], 2, "tpu"),
        (["dense-128", "--set", "dropout=0", "--format", "xml"], 2, "xml"),
        (["dense-128", "--set", "dropout=0", "--data", "nowhere"], 3, "nowhere"),
    ],
)
def test_what_makes_no_sense_is_one_line_before_anything_is_trained(
    say: Say, tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    answer = say("sweep", *words)
    assert answer.code == code
    assert len(answer.err.strip().splitlines()) == 1
    assert said in answer.err
    assert list(tmp_path.iterdir()) == []
