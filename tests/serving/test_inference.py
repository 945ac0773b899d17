"""The Open Inference Protocol: a stock client gets what the library computes, whatever the encoding."""

import json
import struct
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from digitry.artifact import Artifact
from digitry.reading.classifier import Classifier

from .conftest import Running


@pytest.fixture(scope="module")
def glyphs() -> np.ndarray:
    return np.random.default_rng(5).random((20, 28, 28), np.float32)


@pytest.fixture(scope="module")
def expected(glyphs: np.ndarray, model: Artifact) -> np.ndarray:
    return Classifier(model).probabilities(glyphs)


def ask(client: TestClient, model: Artifact, **changes: Any) -> Any:
    one = {"name": "glyphs", "datatype": "FP32", "shape": [1, 28, 28], "data": [0.0] * 784}
    body = {"inputs": [{**one, **changes}]}
    return client.post(f"/v2/models/{model.metadata.name}/infer", json=body)


@pytest.mark.parametrize("binary", [True, False])
def test_a_stock_client_gets_what_the_library_computes(
    binary: bool, running: Running, model: Artifact, glyphs: np.ndarray, expected: np.ndarray
) -> None:
    http = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    name = model.metadata.name
    client = http.InferenceServerClient(running.url.removeprefix("http://"))
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(name)
    described = client.get_model_metadata(name)
    assert described["inputs"] == [{"name": "glyphs", "datatype": "FP32", "shape": [-1, 28, 28]}]
    asked = http.InferInput("glyphs", list(glyphs.shape), "FP32")
    asked.set_data_from_numpy(glyphs, binary_data=binary)
    wanted = http.InferRequestedOutput("probabilities", binary_data=binary)
    answer = client.infer(name, [asked], outputs=[wanted], request_id="7").as_numpy("probabilities")
    assert np.abs(answer - expected).max() < 1e-6
    with pytest.raises(http.InferenceServerException, match="no such model"):
        client.infer("other", [asked])
    client.close()


def test_versions_and_names_are_known(client: TestClient, model: Artifact) -> None:
    name = model.metadata.name
    assert client.get("/v2").json()["name"] == "digitry"
    assert client.get(f"/v2/models/{name}/versions/1").json()["name"] == name
    for path in (f"/v2/models/{name}/versions/2", "/v2/models/other", "/v2/models/other/ready"):
        response = client.get(path)
        assert response.status_code == 404 and response.json()["error"]


def test_all_outputs_are_given_unless_some_are_asked_for(
    client: TestClient, model: Artifact
) -> None:
    outputs = ask(client, model).json()["outputs"]
    assert [one["name"] for one in outputs] == ["probabilities", "logits"]
    assert [one["shape"] for one in outputs] == [[1, len(model.metadata.labels)]] * 2
    assert sum(outputs[0]["data"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "images"}, {"datatype": "FP64"}, {"shape": [1, 784]}, {"shape": [2, 28, 28]},
        {"shape": [-1, 28, 28]}, {"shape": [10**9, 28, 28]}, {"shape": [True, 28, 28]},
        {"shape": "1"}, {"data": None}, {"data": [0.0]}, {"data": ["x"] * 784},
        {"data": [1.5] * 784}, {"data": [-1] * 784}, {"data": {"a": 1}}, {"data": [1e999] * 784},
        {"data": None, "parameters": {"binary_data_size": 4}},
        {"parameters": {"binary_data_size": "x"}},
    ],
)  # fmt: skip
def test_wrong_tensors_are_refused(
    changes: dict[str, Any], client: TestClient, model: Artifact
) -> None:
    one = {"name": "glyphs", "datatype": "FP32", "shape": [1, 28, 28], "data": [0.0] * 784}
    content = json.dumps({"inputs": [{**one, **changes}]})
    response = client.post(f"/v2/models/{model.metadata.name}/infer", content=content)
    assert response.status_code == 400, response.text
    assert response.json()["error"]


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (b"", None), (b"[]", None), (b"{", None), (b"null", None), (b"[" * 100_000, None),
        (b'{"inputs": []}', None), (b'{"inputs": 3}', None), (b"{}", "9"), (b"{}", "-1"),
        (b"{}", "x"), (b'{"inputs": [null]}', None),
    ],
)  # fmt: skip
def test_broken_requests_are_refused(
    body: bytes, length: str | None, client: TestClient, model: Artifact
) -> None:
    headers = {} if length is None else {"Inference-Header-Content-Length": length}
    path = f"/v2/models/{model.metadata.name}/infer"
    response = client.post(path, content=body, headers=headers)
    assert response.status_code == 400, response.text


def test_binary_tensors_are_read_by_their_length(client: TestClient, model: Artifact) -> None:
    one = {"name": "glyphs", "datatype": "FP32", "shape": [1, 28, 28]}
    for size, status in ((3136, 200), (3132, 400)):
        head = json.dumps({"inputs": [{**one, "parameters": {"binary_data_size": size}}]}).encode()
        response = client.post(
            f"/v2/models/{model.metadata.name}/infer",
            content=head + struct.pack("<784f", *[0.5] * 784),
            headers={"Inference-Header-Content-Length": str(len(head))},
        )
        assert response.status_code == status
