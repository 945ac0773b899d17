"""Scores with their uncertainty. Expected values are computed by hand in each test."""

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from digitry.errors import DataError, ModelError
from digitry.model import artifact
from digitry.model.artifact import NOT_A_DIGIT, Artifact, Metadata
from digitry.training.data.dataset import Split
from digitry.training.evaluation import scores
from digitry.training.evaluation.scores import Evaluation, Predictions, compare, score, wilson

DIGITS = tuple(str(digit) for digit in range(10))


def logits_for(said: list[int], classes: int = 10, height: float = 4.0) -> np.ndarray:
    """Return logits of `height` for each predicted label, 0 for the others."""
    return np.eye(classes, dtype=np.float32)[said] * np.float32(height)


def by_first_pixels(path: Path, temperature: float = 1.0, classes: int = 10) -> Artifact:
    """A model file whose logit k is 4 times pixel k of the first row."""
    weights = np.zeros((784, classes), np.float32)
    weights[np.arange(classes), np.arange(classes)] = 4
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["glyphs"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "by first pixels",
        [helper.make_tensor_value_info("glyphs", TensorProto.FLOAT, ["n", 28, 28])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", classes])
            for name in ("logits", "probabilities")
        ],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    labels = DIGITS if classes == 10 else (*DIGITS, NOT_A_DIGIT)
    metadata = Metadata(name="by-first-pixels", labels=labels, temperature=temperature)
    return artifact.save(path, model.SerializeToString(), metadata)


def images_of(said: list[int]) -> np.ndarray:
    """Return images that `by_first_pixels` reads as these labels."""
    images = np.zeros((len(said), 28, 28), np.uint8)
    images[np.arange(len(said)), 0, said] = 255
    return images


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17: 857-872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(
    right: int, count: int, low: float, high: float
) -> None:
    assert wilson(right, count) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    mirrored = wilson(count - right, count)
    assert mirrored == (pytest.approx(1 - high, abs=5e-5), pytest.approx(1 - low, abs=5e-5))


def test_a_perfect_score_has_an_interval_up_to_exactly_one() -> None:
    low, high = wilson(10_000, 10_000)
    assert high == 1.0
    assert 0.9996 < low < 0.9997


def test_scores_equal_those_computed_by_hand() -> None:
    # Ten labels, logit 4 for the answer. If it is right, the loss is ln(1 + 9 e^-4); if wrong, it is
    # 4 more.
    result = score(logits_for([0, 1, 1, 9]), np.array([0, 1, 2, 9]))
    one = math.log(1 + 9 * math.exp(-4))
    assert result.count == 4
    assert result.accuracy == 0.75
    assert result.loss == pytest.approx(one + 1)
    assert result.interval == (pytest.approx(0.3006, abs=5e-5), pytest.approx(0.9544, abs=5e-5))
    # All confidences are e^4 / (e^4 + 9) = 0.8585, and 0.75 of them are right.
    assert result.ece == pytest.approx(math.exp(4) / (math.exp(4) + 9) - 0.75)
    assert result.temperature == 1
    assert result.calibrated_loss == result.loss
    assert result.calibrated_ece == result.ece


def test_scores_of_each_digit_by_hand() -> None:
    # 1 is said of a 1 and of a 2: precision 1/2, recall 1, F1 2/3. The 2 is never said.
    result = score(logits_for([0, 1, 1, 9]), np.array([0, 1, 2, 9]))
    one, two, three = result.classes[1], result.classes[2], result.classes[3]
    assert (one.label, one.precision, one.recall, one.support) == ("1", 0.5, 1.0, 1)
    assert one.f1 == pytest.approx(2 / 3)
    assert (two.precision, two.recall, two.f1, two.support) == (0, 0, 0, 1)
    assert (three.precision, three.recall, three.f1, three.support) == (0, 0, 0, 0)
    assert result.confusion[2][1] == 1
    assert sum(map(sum, result.confusion)) == 4


def test_a_temperature_changes_confidence_and_not_the_answers() -> None:
    # At T = 2 the confidence is e^2 / (e^2 + 9) = 0.4509.
    result = score(logits_for([0, 1, 1, 9]), np.array([0, 1, 2, 9]), temperature=2)
    assert result.accuracy == 0.75
    assert result.calibrated_loss == pytest.approx(math.log(1 + 9 * math.exp(-2)) + 2 / 4)
    assert result.calibrated_ece == pytest.approx(0.75 - math.exp(2) / (math.exp(2) + 9))
    assert result.ece == pytest.approx(math.exp(4) / (math.exp(4) + 9) - 0.75)


def test_not_a_digit_is_a_wrong_answer_with_its_own_column() -> None:
    result = score(logits_for([0, 10, 2], classes=11), np.array([0, 1, 2]))
    assert result.accuracy == pytest.approx(2 / 3)
    assert [len(row) for row in result.confusion] == [11] * 10
    assert result.confusion[1][10] == 1
    assert len(result.classes) == 10
    assert result.classes[1].recall == 0


def test_scores_equal_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(1)
    labels = random.integers(0, 10, 3000)
    logits = random.normal(size=(3000, 10))
    logits[np.arange(3000), labels] += 2
    result = score(logits, labels)
    said = logits.argmax(axis=1)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert result.loss == pytest.approx(metrics.log_loss(labels, shares))
    assert np.array_equal(result.confusion, metrics.confusion_matrix(labels, said))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, said)
    for one, row in zip(
        result.classes, zip(precision, recall, f1, support, strict=True), strict=True
    ):
        assert (one.precision, one.recall, one.f1, one.support) == pytest.approx(row)


def test_an_evaluation_goes_through_json() -> None:
    result = score(logits_for([0, 1, 1, 9]), np.array([0, 1, 2, 9]), temperature=1.7)
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert Evaluation.from_dict(json.loads(text)) == result
    assert list(result.to_dict())[:4] == ["loss", "accuracy", "interval", "ece"]


def test_no_images_is_an_error() -> None:
    with pytest.raises(DataError, match="no images"):
        score(np.zeros((0, 10)), np.zeros(0, int))
    with pytest.raises(DataError, match="2 images but 1 labels"):
        score(np.zeros((2, 10)), np.zeros(1, int))


def test_the_saved_file_is_measured(tmp_path: Path) -> None:
    by_first_pixels(tmp_path / "model.onnx", temperature=2.0)
    said = [3, 1, 4, 1, 5]
    split = Split(images_of(said), np.array([3, 1, 4, 1, 6], np.uint8))
    result, probabilities = scores.evaluate(tmp_path, split)
    assert result.accuracy == 0.8
    assert result.temperature == 2.0
    assert probabilities.dtype == np.float32
    # The network's own softmax: temperature 1.
    assert probabilities[0, 3] == pytest.approx(math.exp(4) / (math.exp(4) + 9))
    assert probabilities.argmax(axis=1).tolist() == said


def test_a_model_with_eleven_labels_is_measured(tmp_path: Path) -> None:
    model = by_first_pixels(tmp_path / "eleven.onnx", classes=11)
    split = Split(images_of([0, 10]), np.array([0, 1], np.uint8))
    result, probabilities = scores.evaluate(model, split)
    assert probabilities.shape == (2, 11)
    assert result.accuracy == 0.5


def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError):
        scores.evaluate(tmp_path, Split(images_of([1]), np.array([1], np.uint8)))


def predictions(name: str, said: list[int], labels: list[int], sha256: str = "x") -> Predictions:
    probabilities = np.eye(10, dtype=np.float32)[said]
    return Predictions(name, probabilities, np.array(labels, np.uint8), sha256)


def test_mcnemar_by_hand() -> None:
    # a alone is right once, b alone nine times, both once. Ten coins, one or fewer heads, twice:
    # 2 * (1 + 10) / 2^10.
    labels = [5] * 11
    a = predictions("a", [5] + [0] * 9 + [5], labels)
    b = predictions("b", [0] + [5] * 9 + [5], labels)
    result = compare(a, b)
    assert (result.both_right, result.only_a, result.only_b, result.both_wrong) == (1, 1, 9, 0)
    assert result.p_value == pytest.approx(22 / 1024)
    assert result.difference == pytest.approx(8 / 11)
    assert compare(b, a).p_value == pytest.approx(22 / 1024)


def test_equal_models_do_not_differ() -> None:
    a = predictions("a", [1, 2, 3], [1, 2, 4])
    assert compare(a, a).p_value == 1.0


def test_models_with_different_test_images_are_not_compared() -> None:
    a = predictions("a", [1, 2], [1, 2])
    with pytest.raises(DataError, match="different test images"):
        compare(a, predictions("b", [1, 2], [1, 2], sha256="y"))
    with pytest.raises(DataError, match="different test images"):
        compare(a, predictions("b", [1, 2], [1, 3]))


def test_a_fingerprint_covers_images_and_labels() -> None:
    split = Split(images_of([1, 2]), np.array([1, 2], np.uint8))
    other = Split(images_of([1, 2]), np.array([1, 3], np.uint8))
    third = Split(images_of([1, 3]), np.array([1, 2], np.uint8))
    prints = {scores.fingerprint(one) for one in (split, other, third)}
    assert len(prints) == 3
    assert scores.fingerprint(split) in prints


def test_refusals_are_errors_and_the_likeliest_digit_is_scored_too() -> None:
    labels = np.array([1, 2, 3, 10], np.uint8)
    logits = np.zeros((4, 11), np.float32)
    logits[0, 1] = 5
    # Refused, though it leans to the right digit; refused, leaning to a wrong one.
    logits[1, [2, 10]] = 3, 5
    logits[2, [7, 10]] = 3, 5
    logits[3, 10] = 5
    found = scores.score(logits, labels)
    assert found.accuracy == 0.5
    assert found.refused == pytest.approx(2 / 3)
    assert found.accuracy_forced == pytest.approx(2 / 3)
    assert scores.Evaluation.from_dict(found.to_dict()) == found
    plain = scores.score(logits[:3, :10], labels[:3])
    assert (plain.refused, plain.accuracy_forced) == (0.0, None)
