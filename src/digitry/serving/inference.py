"""Glyph tensors in, probabilities out: the Open Inference Protocol v2, as KServe and Triton speak it.

Source: kserve/open-inference-protocol, specification/protocol/inference_rest.md, and the extension for
binary tensors, docs/protocol/extension_binary_data.md of triton-inference-server/server.
"""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from digitry import __version__
from digitry.artifact import Artifact
from digitry.reading.classifier import Classifier, softmax
from digitry.reading.explain import occlusion
from digitry.serving.problems import Problem

HEADER = "inference-header-content-length"
OUTPUTS = ("probabilities", "logits")
MOST_GLYPHS = 3000
LEAST_FALL = 0.02
"""A fall of the probability that is shown in full colour only if it is at least this large."""


class GlyphModel:
    """A model that is asked for tensors. Glyphs are plain numbers, so this process may run it.

    Args:
        loaded: the model file.
    """

    def __init__(self, loaded: Artifact) -> None:
        self._classifier = Classifier(loaded)
        # Clients know it by its plain name, whichever version of it is read with.
        named = loaded.metadata.name
        self.name = named if loaded.version is None else named.partition("@")[0]
        self.labels = loaded.metadata.labels
        self.temperature = loaded.metadata.temperature

    def metadata(self) -> dict[str, Any]:
        """Give the model's tensors, as the protocol describes them."""
        shape = [-1, len(self.labels)]
        return {
            "name": self.name,
            "versions": ["1"],
            "platform": "onnx_onnxv1",
            "inputs": [{"name": "glyphs", "datatype": "FP32", "shape": [-1, 28, 28]}],
            "outputs": [{"name": name, "datatype": "FP32", "shape": shape} for name in OUTPUTS],
        }

    def run(self, glyphs: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        """Give calibrated probabilities and logits.

        Args:
            glyphs: (n, 28, 28) float32 in [0, 1], ink = 1.
        """
        logits = self._classifier.logits(glyphs)
        probabilities = softmax(logits, self.temperature).astype(np.float32)
        return {"probabilities": probabilities, "logits": logits}

    def weights(self, pixels: list[int], value: int) -> list[list[float]]:
        """Tell which parts of a glyph decided; see `digitry.reading.explain.occlusion`.

        Args:
            pixels: 784 of them, 0 to 255, ink = 255.
            value: the digit that is asked about, 0 to 9.

        Returns:
            28 rows of 28 numbers in [0, 1], scaled so that the most important part has 1, unless
            nothing matters much.
        """
        glyph = (np.array(pixels, np.float32) / np.float32(255)).reshape(28, 28)
        heat = occlusion(self._classifier.probabilities, glyph, value)
        heat /= max(float(heat.max()), LEAST_FALL)
        return [[round(float(weight), 3) for weight in row] for row in heat]


def add_routes(app: FastAPI, model: GlyphModel, *, ready: Callable[[], bool]) -> None:
    """Add the protocol's routes."""

    def known(name: str, version: str = "1") -> None:
        if name != model.name or version != "1":
            raise Problem("not-found", f"no such model is served here; there is {model.name}")

    @app.get("/v2", include_in_schema=False)
    async def server() -> Any:
        return {"name": "digitry", "version": __version__, "extensions": ["binary_tensor_data"]}

    @app.get("/v2/health/live", include_in_schema=False)
    async def live() -> Any:
        return {"live": True}

    @app.get("/v2/health/ready", include_in_schema=False)
    async def health_ready() -> Response:
        return JSONResponse({"ready": ready()}, 200 if ready() else 503)

    for prefix in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):

        @app.get(prefix, include_in_schema=False)
        async def metadata(name: str, version: str = "1") -> Any:
            known(name, version)
            return model.metadata()

        @app.get(prefix + "/ready", include_in_schema=False)
        async def model_ready(name: str, version: str = "1") -> Any:
            known(name, version)
            return {"name": name, "ready": True}

        @app.post(prefix + "/infer", include_in_schema=False)
        async def infer(request: Request, name: str, version: str = "1") -> Response:
            known(name, version)
            body = await request.body()
            return await run_in_threadpool(_infer, model, body, request.headers.get(HEADER))


def _infer(model: GlyphModel, body: bytes, header_length: str | None) -> Response:
    """Answer one inference request, with tensors in JSON or behind it."""
    if header_length is not None and (
        not header_length.isdigit() or int(header_length) > len(body)
    ):
        raise Problem("malformed-request", f"{HEADER} is not a length within the body")
    cut = len(body) if header_length is None else int(header_length)
    try:
        asked = json.loads(body[:cut])
    except (ValueError, RecursionError) as error:
        raise Problem("malformed-request", "the body is not JSON") from error
    glyphs = _glyphs(asked, body[cut:])
    outputs = _outputs(asked)
    results = model.run(glyphs)
    described: list[dict[str, Any]] = []
    tail = b""
    for name, binary in outputs:
        tensor = results[name]
        one: dict[str, Any] = {"name": name, "datatype": "FP32", "shape": list(tensor.shape)}
        if binary:
            content = tensor.astype("<f4").tobytes()
            one["parameters"] = {"binary_data_size": len(content)}
            tail += content
        else:
            one["data"] = tensor.ravel().tolist()
        described.append(one)
    answer: dict[str, Any] = {"model_name": model.name, "model_version": "1", "outputs": described}
    if isinstance(asked.get("id"), str):
        answer["id"] = asked["id"]
    head = json.dumps(answer, allow_nan=False).encode()
    if not tail:
        return Response(head, media_type="application/json")
    return Response(
        head + tail,
        media_type="application/octet-stream",
        headers={"Inference-Header-Content-Length": str(len(head))},
    )


def _glyphs(asked: Any, tail: bytes) -> npt.NDArray[np.float32]:
    inputs = asked.get("inputs") if isinstance(asked, dict) else None
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise _wrong("there is one input, called glyphs")
    one = inputs[0]
    if one.get("name") != "glyphs" or one.get("datatype") != "FP32":
        raise _wrong("the input is called glyphs and is FP32")
    shape = one.get("shape")
    if (
        not isinstance(shape, list)
        or not all(type(length) is int for length in shape)
        or len(shape) != 3
        or shape[1:] != [28, 28]
        or not 0 <= shape[0] <= MOST_GLYPHS
    ):
        raise _wrong(f"the shape is [n, 28, 28], n at most {MOST_GLYPHS}")
    parameters = one.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    try:
        if size is not None:
            if type(size) is not int or size != len(tail):
                raise _wrong("binary_data_size is not what stands behind the JSON")
            values = np.frombuffer(tail, "<f4")
        else:
            values = np.array(one.get("data"), np.float32).ravel()
    except (TypeError, ValueError, OverflowError) as error:
        raise _wrong("the data are not numbers") from error
    if values.size != math.prod(shape):
        raise _wrong(f"{math.prod(shape)} numbers belong to that shape, not {values.size}")
    if not (np.isfinite(values).all() and (values >= 0).all() and (values <= 1).all()):
        raise _wrong("glyphs hold numbers from 0 (paper) to 1 (ink)")
    return np.ascontiguousarray(values.reshape(shape), np.float32)


def _outputs(asked: dict[str, Any]) -> list[tuple[str, bool]]:
    parameters = asked.get("parameters")
    every = isinstance(parameters, dict) and parameters.get("binary_data_output") is True
    wanted = asked.get("outputs")
    if wanted is None:
        return [(name, every) for name in OUTPUTS]
    outputs = []
    for one in wanted if isinstance(wanted, list) else [None]:
        if not isinstance(one, dict) or one.get("name") not in OUTPUTS:
            raise _wrong(f"the outputs are {' and '.join(OUTPUTS)}")
        own = one.get("parameters")
        binary = own.get("binary_data", every) if isinstance(own, dict) else every
        outputs.append((one["name"], binary is True))
    return outputs


def _wrong(detail: str) -> Problem:
    return Problem("malformed-request", detail)
