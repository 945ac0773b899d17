"""The whole loop, from a correction over HTTP to a new version of the reader."""

import io
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from starlette.testclient import TestClient

from digitry.cli.main import main
from digitry.corrections.store import Corrections
from digitry.improve import gate as promotion
from digitry.improve import retrain
from digitry.improve import teach as teaching
from digitry.improve.verdict import fewest
from digitry.model import versions
from digitry.model.load import load_model
from digitry.reading.reader import Reader
from digitry.serving.app import create_app
from digitry.training import datasets
from digitry.training.data import dataset

from ..serving.local import LocalReaders
from .crossed import STYLES, page
from .test_retrain import drawn_digits, rehearse_little


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIGITRY_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "models"


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "corrections.db")


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def client(db: str) -> Iterator[TestClient]:
    app = create_app(LocalReaders(Reader("reader")), Corrections(db))
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def correct(client: TestClient, pixels: np.ndarray, label: str) -> dict[str, Any]:
    """Read a picture and say what it is, as a person does on the page."""
    content = png(pixels)
    options = {"layout": "single"}
    answer = client.post("/v1/read", files={"file": content}, params=options).json()
    (digit,) = answer["readings"][0]["digits"]
    said = {"box": ",".join(map(str, digit["box"])), "label": label, **options}
    kept = client.post("/v1/corrections", files={"file": content}, data=said)
    assert kept.status_code == 201, kept.text
    found: dict[str, Any] = kept.json()
    return found


def train(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run `digitry teach …` in this process."""
    monkeypatch.setattr(sys, "argv", ["digitry", "teach", *words])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def right(reader: Reader, pages: list[np.ndarray]) -> float:
    """Return the share of zeros that are read as such."""
    values = [reader.read(one, layout="single").digits[0].value for one in pages]
    return sum(value == 0 for value in values) / len(values)


def hardest(rng: np.random.Generator) -> str:
    """Return the style that the shipped model reads worst: another would show nothing."""
    reader = Reader("reader@shipped")
    shares = {style: right(reader, [page(rng, style) for _ in range(30)]) for style in STYLES}
    worst = min(shares, key=lambda style: shares[style])
    assert shares[worst] < 0.5, f"the shipped model reads all of {shares}; draw it something harder"
    return worst


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch, composed: Path) -> None:
    """A set like MNIST, of a few hundred digits of our own, and few pages: it takes seconds."""
    data = dataset.dataset_of("mnist", drawn_digits(240, 1), drawn_digits(100, 2), "ours", "here")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: data)
    rehearse_little(monkeypatch, composed)


def test_the_corrections_are_counted_before_the_training_starts() -> None:
    def counted(count: int) -> str:
        digests = tuple(f"{number:064x}" for number in range(count))
        images = np.zeros((count, 28, 28), np.uint8)
        corrected = retrain.Corrected(images, np.zeros(count, np.uint8), digests)
        return teaching._counted("corrections", *corrected.split())

    held = sum(retrain.is_kept_for_gate(f"{number:064x}") for number in range(10))
    missing = fewest() - held
    assert counted(10) == (
        f"10 corrections: {10 - held} to train on, {held} held out\n"
        f"{missing} more must be held out, about {math.ceil(missing / 0.3)} more corrections in "
        "all: until then a new version stays a candidate"
    )
    assert "\n" not in counted(100)


@pytest.mark.usefixtures("little")
def test_corrections_over_http_are_trained_on_and_a_version_is_added(
    client: TestClient,
    db: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    rng = np.random.default_rng(1)
    for _ in range(12):
        correct(client, page(rng), "0")
    correct(client, page(rng), "not a digit")
    undone = correct(client, page(rng), "7")["id"]
    assert client.delete(f"/v1/corrections/{undone}").status_code == 200

    run = tmp_path / "run"
    words = ["reader", "--db", db, "--epochs", "1", "--only", "loss", "--out", str(run)]
    assert train(monkeypatch, *words) == 0
    printed = capfd.readouterr().out
    gate = json.loads((run / "gate.json").read_text())
    # The deleted correction is neither trained on nor held out; a dozen is too few for the gate.
    assert gate["learnt"] + gate["held"] == 13
    assert not gate["passed"] and "reader@1 stays a candidate" in printed
    assert (run / "model.keras").exists() is False and (run / "loss.png").exists()

    (version,), broken = versions.versions("reader")
    assert not broken and version.state == versions.CANDIDATE
    assert version.parent_sha256 == load_model("reader@shipped").sha256
    assert version.gate["held"] == gate["held"]
    assert load_model(run).sha256 == version.sha256

    # A user may promote it anyway; the service reports the model it uses and the new default.
    assert client.get("/v1/models").json()["models"][0]["superseded_by"] is None
    versions.promote("reader", 1, reason="by hand")
    (served,) = client.get("/v1/models").json()["models"]
    assert (served["name"], served["version"]) == ("reader", "shipped")
    assert served["superseded_by"] == "reader@1"
    app = create_app(LocalReaders(Reader("reader")), Corrections(db))
    with TestClient(app, base_url="http://localhost") as anew:
        (served,) = anew.get("/v1/models").json()["models"]
        assert (served["name"], served["version"]) == ("reader@1", "1")
        assert served["sha256"] == version.sha256 and served["superseded_by"] is None
        for name in ("reader", "reader@1"):
            options = {"model": name}
            answer = anew.post("/v1/read", files={"file": png(page(rng))}, params=options)
            assert answer.json()["readings"][0]["model"] == "reader@1"
        refused = anew.post(
            "/v1/read", files={"file": png(page(rng))}, params={"model": "reader@shipped"}
        )
        assert refused.status_code == 422

    # The next training starts from it.
    again = [*words[:-1], str(tmp_path / "second")]
    assert train(monkeypatch, *again) == 0
    assert versions.find("reader", 2).parent_sha256 == version.sha256


def refused(monkeypatch: pytest.MonkeyPatch, capfd: Any, code: int, *words: str) -> str:
    capfd.readouterr()
    assert train(monkeypatch, *words) == code
    seen = capfd.readouterr()
    (line,) = seen.err.strip().splitlines()
    assert seen.out == "" and line.startswith("digitry: ")
    return line


def test_errors_of_teach_are_one_line_and_write_nothing(
    db: str,
    tmp_path: Path,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def told(code: int, *words: str) -> str:
        return refused(monkeypatch, capfd, code, *words)

    assert "no such corrections store" in told(3, "reader", "--db", db)
    assert not Path(db).exists()
    Corrections(db).close()
    assert "holds no corrections" in told(3, "reader", "--db", db)
    assert "not a shipped model" in told(2, "dense-128", "--db", db)
    assert "--data" in told(2, "reader", "--db", db, "--data", "uci")
    line = told(3, "reader", "--db", "postgresql://a:hunter2@127.0.0.1:1/x")
    assert "hunter2" not in line
    assert not models.exists() and not (tmp_path / "runs").exists()


def test_missing_mnist_is_one_line_and_exit_code_4(
    client: TestClient, db: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from digitry.errors import UnavailableError

    correct(client, page(np.random.default_rng(2)), "0")

    def gone(*_: object, **__: object) -> None:
        raise UnavailableError("MNIST cannot be downloaded", remedy="name a folder by --data-dir")

    monkeypatch.setattr(datasets, "load_dataset", gone)
    line = refused(monkeypatch, capfd, 4, "reader", "--db", db, "--quiet")
    assert "MNIST" in line and "--data-dir" in line


@pytest.mark.slow
@pytest.mark.data
def test_60_corrections_teach_the_reader_a_new_handwriting(
    client: TestClient, db: str, tmp_path: Path, mnist_dir: Path
) -> None:
    rng = np.random.default_rng(3)
    style = hardest(rng)
    unseen = [page(rng, style) for _ in range(100)]
    before = right(Reader("reader"), unseen)
    assert before < 0.5
    for _ in range(60):
        correct(client, page(rng, style), "0")
    command = [sys.executable, "-m", "digitry", "teach", "reader", "--db", db]
    done = subprocess.run(
        [*command, "--data-dir", str(mnist_dir), "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    gate = json.loads((tmp_path / "run" / "gate.json").read_text())
    assert gate["learnt"] + gate["held"] == 60
    after = right(Reader("reader"), unseen)
    print(f"{style}: {before:.2f} of 100 unseen ones before, {after:.2f} now")
    assert gate["held_after"] >= 0.9 * gate["held"] and after >= 0.9
    assert gate["frozen_after"] >= gate["frozen_before"] - promotion.MOST_LOST
    falls = [a - b for a, b in zip(gate["recalls_before"], gate["recalls_after"], strict=True)]
    assert max(falls) <= promotion.MOST_LOST_OF_A_DIGIT
    assert gate["passed"], gate["reasons"]
    assert Reader("reader").name == "reader@1"
