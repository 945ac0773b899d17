"""The line network is taught corrected lines; nothing passes the gate that does not read more of them."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("sqlalchemy", reason="the extra `serve` is not installed")

import torch

from digitry.corrections.correction import LineCorrection
from digitry.corrections.store import Corrections
from digitry.errors import DataError
from digitry.improve import line_gate, retrain_lines
from digitry.improve.retrain_lines import CorrectedLines, chosen_step, drawn_sources
from digitry.improve.teach import teach_lines
from digitry.model import versions
from digitry.model.line_network import load_lines
from digitry.reading.reader import Reader
from digitry.training.evaluation.held_lines import HeldLine, composed
from digitry.training.network.lines import columns
from digitry.training.network.lines_onnx import bare, between, from_onnx, to_onnx
from digitry.training.writing.strips import Composer, Mix

SHIPPED = load_lines("lines@shipped")


@pytest.fixture(scope="module")
def lines() -> list[HeldLine]:
    composer = Composer(drawn_sources(3), 5, Mix(single=0.0, real=0.0, nothing=0.0))
    found = composed("composed", 0, composer, 60)
    return [line for line in found if any(c.isdigit() for c in line.text)][:40]


def network() -> torch.nn.Sequential:
    return bare(from_onnx(onnx.load_model_from_string(SHIPPED.onnx))[1])


def test_the_network_of_a_file_comes_back_without_normalisations_and_says_the_same() -> None:
    made = network()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in made)
    strips = torch.rand(2, 1, 32, 64, generator=torch.Generator().manual_seed(0))
    session = line_gate.session(SHIPPED.onnx)
    known = session.run(None, {"strips": strips.numpy()})[0]
    # In training, too: nothing in it measures the batch.
    with torch.no_grad():
        assert np.allclose(columns(made.train()(strips)).log_softmax(-1).numpy(), known, atol=1e-3)


def test_halfway_between_two_networks_are_their_mean_weights() -> None:
    old, new = network(), network()
    with torch.no_grad():
        for weight in new.parameters():
            weight.add_(2.0)
    pairs = zip(old.parameters(), between(old, new, 0.5).parameters(), strict=True)
    assert all(torch.allclose(a + 1, b) for a, b in pairs)


def test_a_step_that_forgets_is_not_taken(lines: list[HeldLine]) -> None:
    old, ruined = network(), network()
    # A quarter of the way the last layer says the same, half as loudly; farther on nothing, or the reverse.
    with torch.no_grad():
        for weight in ruined[-1].parameters():
            weight.mul_(-1)
    read = []
    for step in (0.0, *retrain_lines.STEPS):
        greedy = line_gate.Greedy.of(to_onnx(between(old, ruined, step)).SerializeToString())
        read.append(sum(greedy.right(lines)))
    assert read[0] == read[1] > max(read[2:])
    assert chosen_step(old, ruined, lines[:10], lines) == min(retrain_lines.STEPS)


def test_the_gate_refuses_what_reads_no_more_and_what_forgets(lines: list[HeldLine]) -> None:
    same = line_gate.judge(lines, lines, (SHIPPED, SHIPPED, SHIPPED))
    assert not same.passed
    assert (same.gained, same.lost) == (0, 0)
    assert same.right_before == same.right_after
    ruined = network()
    with torch.no_grad():
        for weight in ruined.parameters():
            weight.mul_(-1)
    bad = retrain_lines.exported(ruined, SHIPPED)
    worse = line_gate.judge(lines, lines, (SHIPPED, bad, SHIPPED))
    assert not worse.passed
    assert any("frozen lines are newly wrong" in reason for reason in worse.reasons)
    # The other way round it reads more, and forgets nothing: it passes unless the shipped one knew more.
    assert line_gate.judge(lines, lines, (bad, SHIPPED, SHIPPED)).passed
    assert not line_gate.judge(lines, lines[:3], (bad, SHIPPED, SHIPPED)).passed


def test_corrected_lines_are_held_out_by_their_hash(lines: list[HeldLine]) -> None:
    digests = tuple(f"{index:064x}" for index in range(len(lines)))
    given = CorrectedLines(
        tuple(line.cut.ink for line in lines), tuple(line.text for line in lines), digests
    )
    learnt, held = given.split()
    assert len(learnt) + len(held) == len(lines)
    assert held
    again = replace(given, texts=tuple("1" for _ in lines)).split()[1]
    assert [line.cut.ink.tobytes() for line in again] == [line.cut.ink.tobytes() for line in held]


def test_teaching_adds_a_version_that_readers_can_use(
    lines: list[HeldLine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITRY_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(retrain_lines, "FALLBACK", 40)
    with Corrections(str(tmp_path / "corrections.db")) as store:
        for line in lines:
            stream = io.BytesIO()
            Image.fromarray(line.cut.ink).save(stream, "PNG")
            store.add_line(
                LineCorrection(
                    text=line.text, strip=stream.getvalue(), read_text="", confidence=0.5,
                    box=(0, 0, 9, 9), model="lines@shipped",
                )
            )  # fmt: skip
    done = teach_lines(
        str(tmp_path / "corrections.db"),
        data_dir=tmp_path / "no data",
        out=tmp_path / "run",
        samples=64,
    )
    assert done.version.reference == "lines@1"
    # It already reads what it was taught: nothing is gained, so it stays a candidate.
    assert not done.promoted
    assert load_lines().version == "shipped"
    assert {path.name for path in done.folder.iterdir()} >= {"lines.onnx", "lines.pt", "gate.json"}
    made = load_lines("lines@1")
    assert made.calibration == SHIPPED.calibration
    assert len(made.onnx) < 1.1 * len(SHIPPED.onnx)
    versions.promote("lines", 1, reason="by hand")
    assert Reader().lines.reference == "lines@1"


def test_a_store_without_lines_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such corrections store"):
        teach_lines(str(tmp_path / "none.db"), data_dir=None, out=None)
    Corrections(str(tmp_path / "empty.db")).close()
    with pytest.raises(DataError, match="holds no corrected lines"):
        teach_lines(str(tmp_path / "empty.db"), data_dir=None, out=None)
