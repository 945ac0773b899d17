"""`digitry demo`: the samples that come along are read, drawn and small."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from digitry.cli import demo
from digitry.cli.main import app
from digitry.errors import UnavailableError, UsageError

ROOT = Path(__file__).parents[2]


def test_the_samples_are_read_and_drawn(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = CliRunner().invoke(app, ["demo", "--out", str(out), "--no-train"])
    assert done.exit_code == 0, done.output
    assert "030901820" in done.stdout
    assert f"Look at: {out / 'readings'}" in done.stdout
    pictures = sorted((out / "readings").iterdir())
    assert "digit-7.png" in [path.name for path in pictures]
    Image.open(pictures[0]).verify()


@pytest.mark.slow
def test_a_model_is_trained_without_the_network(tmp_path: Path) -> None:
    # A test may not reach the network, so the training takes the small data set.
    command = [sys.executable, "-m", "digitry", "demo", "--out", str(tmp_path / "demo")]
    code = "import socket, sys; socket.socket.connect = None; sys.argv[1:] = {!r}; "
    code += "from digitry.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code.format(command[3:])], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "training on the small data set uci" in done.stderr
    assert (tmp_path / "demo" / "run" / "report.html").is_file()
    assert done.stdout.splitlines()[-1].startswith("Look at: ")


def test_a_folder_with_files_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_wheel_holds_samples_of_less_than_300_kilobytes() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    held = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert {Path(target).parent.as_posix() for target in held.values()} == {"digitry/samples"}
    sizes = [(ROOT / source).stat().st_size for source in held]
    assert sum(sizes) < 300_000
    assert "samples/truth.csv" in held
    assert len(held) >= 13


def test_missing_samples_are_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import digitry

    monkeypatch.setattr(digitry, "__file__", str(tmp_path / "a" / "b" / "__init__.py"))
    with pytest.raises(UnavailableError, match="the samples are missing"):
        demo._samples()
