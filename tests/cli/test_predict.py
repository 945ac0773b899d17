"""`digitry predict`: a table for Kaggle from images without labels."""

import csv
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from digitry.cli.main import app
from digitry.model.load import load_model
from digitry.training.evaluation.scores import infer

from ..training.data.test_unlabelled import digits


def test_a_submission_has_the_likeliest_digit_of_each_image(tmp_path: Path) -> None:
    np.save(tmp_path / "test.npy", digits())
    out = tmp_path / "deep" / "submission.csv"
    done = CliRunner().invoke(
        app, ["predict", "reader", str(tmp_path / "test.npy"), "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    assert "3 images, predicted by reader" in done.stdout
    header, *rows = csv.reader(out.read_text().splitlines())
    assert header == ["ImageId", "Label"]
    wanted = infer(load_model("reader"), digits())[:, :10].argmax(axis=1)
    assert rows == [[str(number), str(label)] for number, label in enumerate(wanted, 1)]
    printed = CliRunner().invoke(
        app, ["predict", "reader", str(tmp_path / "test.npy"), "--out", "-"]
    )
    assert printed.stdout == out.read_text()


def test_the_test_images_of_a_named_set_are_predicted(tmp_path: Path) -> None:
    out = tmp_path / "submission.csv"
    done = CliRunner().invoke(app, ["predict", "reader", "uci", "--out", str(out), "--quiet"])
    assert (done.exit_code, done.output) == (0, "")
    assert len(out.read_text().splitlines()) > 100
