"""Corrections over HTTP: stored once, without private data, listed, shown and undone."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from starlette.testclient import TestClient

from digitry.corrections.database import StoreError, StoreFullError
from digitry.corrections.store import Corrections
from digitry.reading.reader import Reader

from .conftest import drawn, png

MISSING = "0" * 24


def boxes(client: TestClient, content: bytes, **options: Any) -> list[str]:
    answer = client.post("/v1/read", files={"file": content}, params=options).json()
    return [",".join(map(str, digit["box"])) for digit in answer["readings"][0]["digits"]]


def correct(client: TestClient, content: bytes, box: str, label: str, **fields: Any) -> Any:
    return client.post(
        "/v1/corrections",
        files={"file": ("holiday in Rome.png", content)},
        data={"box": box, "label": label, **fields},
    )


def test_a_correction_is_stored_with_the_reading(
    client: TestClient, store: Corrections, reader: Reader
) -> None:
    content = png(drawn("41"))
    response = correct(client, content, boxes(client, content)[1], "7", author="Ada")
    assert response.status_code == 201
    kept = response.json()
    assert (kept["label"], kept["read_value"], kept["best_guess"]) == ("7", 1, 1)
    assert (kept["author"], kept["model"], kept["undone"]) == ("Ada", reader.name, None)
    (row,) = store.list()
    assert row.to_dict() == kept
    _, glyphs = reader.examine(content)
    seen = np.asarray(Image.open(io.BytesIO(row.glyph)))
    assert np.array_equal(seen, np.rint(glyphs[1] * 255).astype(np.uint8))
    assert client.get(response.headers["location"]).json() == kept


def test_a_stored_correction_contains_nothing_private(
    client: TestClient, store: Corrections
) -> None:
    info = PngInfo()
    info.add_text("Author", "somebody private")
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    stream = io.BytesIO()
    Image.fromarray(drawn("41")).save(stream, "PNG", pnginfo=info, exif=exif)
    content = stream.getvalue() + b"<script>alert(1)</script>"
    kept = correct(client, content, boxes(client, content)[0], "4").json()
    assert "Rome" not in str(kept)
    for name in ("glyph.png", "crop.png"):
        response = client.get(f"/v1/corrections/{kept['id']}/{name}")
        assert response.headers["content-type"] == "image/png"
        assert response.headers["x-content-type-options"] == "nosniff"
        for secret in (b"private", b"home", b"script", b"tEXt", b"eXIf", b"Rome"):
            assert secret not in response.content
        assert Image.open(io.BytesIO(response.content)).info == {}
    crop = Image.open(io.BytesIO(store.list()[0].crop))
    assert crop.width < drawn("41").shape[1] / 1.5


def test_the_same_label_is_stored_once_and_a_new_label_replaces_it(client: TestClient) -> None:
    content = png(drawn("41"))
    box = boxes(client, content)[0]
    first = correct(client, content, box, "9")
    again = correct(client, content, box, "9")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    other = correct(client, content, box, "not a digit")
    assert other.status_code == 201
    (row,) = client.get("/v1/corrections").json()["corrections"]
    assert row == other.json()


def test_undoing_twice_changes_nothing(client: TestClient) -> None:
    content = png(drawn("41"))
    kept = correct(client, content, boxes(client, content)[0], "9").json()
    undone = client.delete(f"/v1/corrections/{kept['id']}")
    assert undone.status_code == 200 and undone.json()["undone"]
    assert client.delete(f"/v1/corrections/{kept['id']}").json() == undone.json()
    assert client.get("/v1/corrections").json() == {"corrections": []}
    (row,) = client.get("/v1/corrections", params={"undone": True}).json()["corrections"]
    assert row == undone.json()


def test_a_correction_uses_the_options_of_the_reading(client: TestClient) -> None:
    content = png(drawn("4"))
    (box,) = boxes(client, content, layout="single")
    assert correct(client, content, box, "9", layout="single").status_code == 201


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"label": "10"}, 422), ({"label": ""}, 422), ({"box": "1,2,3"}, 422),
        ({"box": "1,2,3,4"}, 422), ({"box": "a"}, 422), ({"author": "x" * 201}, 422),
        ({"layout": "x"}, 422), ({"other": "x"}, 422), ({"model": "../x"}, 422),
        ({"box": "1" * 5000}, 400),
    ],
)  # fmt: skip
def test_invalid_corrections_are_refused(
    fields: dict[str, str], status: int, client: TestClient, store: Corrections
) -> None:
    content = png(drawn("41"))
    box = boxes(client, content)[0]
    data = {"box": box, "label": "9", **fields}
    response = client.post("/v1/corrections", files={"file": content}, data=data)
    assert response.status_code == status, response.text
    assert store.stats().count == 0


def test_a_correction_needs_exactly_one_image(client: TestClient) -> None:
    content = png(drawn("41"))
    data = {"box": boxes(client, content)[0], "label": "9"}
    two = [("file", ("a", content)), ("file", ("b", content))]
    assert client.post("/v1/corrections", files=two, data=data).status_code == 400
    assert client.post("/v1/corrections", data=data).status_code == 415
    files = {"image": content}
    assert client.post("/v1/corrections", files=files, data=data).status_code == 400


@pytest.mark.parametrize("path", [MISSING, f"{MISSING}/glyph.png"])
def test_unknown_corrections_are_not_found(path: str, client: TestClient) -> None:
    assert client.get(f"/v1/corrections/{path}").status_code == 404
    assert client.delete(f"/v1/corrections/{MISSING}").status_code == 404
    assert client.get("/v1/corrections/../../etc/passwd").status_code == 404
    assert client.get("/v1/corrections/1").status_code == 404


@pytest.mark.parametrize(("error", "status"), [(StoreError, 503), (StoreFullError, 507)])
def test_a_failing_store_is_reported_and_reading_still_works(
    error: type[StoreError],
    status: int,
    client: TestClient,
    store: Corrections,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        raise error("cannot be used", where="secret place")

    content = png(drawn("41"))
    box = boxes(client, content)[0]
    monkeypatch.setattr(store, "add", fail)
    response = correct(client, content, box, "9")
    assert response.status_code == status
    assert "secret" not in response.text
    assert boxes(client, content)[0] == box


def line_of(client: TestClient, content: bytes) -> dict[str, Any]:
    response = client.post("/v1/read", files={"file": ("a.png", content)})
    return response.json()["readings"][0]["lines"][0]


def test_a_line_is_typed_and_kept_with_its_strip(client: TestClient, store: Corrections) -> None:
    content = png(drawn("41"))
    line = line_of(client, content)
    box = ",".join(map(str, line["box"]))
    sent = {"box": box, "text": " 4,1 "}
    response = client.post("/v1/corrections", data=sent, files={"file": ("a.png", content)})
    assert response.status_code == 201
    kept = response.json()
    assert (kept["text"], kept["read_text"], kept["box"]) == ("4,1", line["text"], line["box"])
    assert kept["model"] == "lines@shipped"
    assert (
        client.post("/v1/corrections", data=sent, files={"file": ("a.png", content)}).status_code
        == 200
    )
    assert client.get("/v1/corrections").json() == {"corrections": []}
    assert client.get("/v1/corrections", params={"lines": True}).json() == {"corrections": [kept]}
    assert client.get(f"/v1/corrections/{kept['id']}").json() == kept
    strip = client.get(f"/v1/corrections/{kept['id']}/strip.png")
    assert Image.open(io.BytesIO(strip.content)).height == 64
    assert client.get(f"/v1/corrections/{kept['id']}/glyph.png").status_code == 404
    assert [row.text for row in store.each_line()] == ["4,1"]
    assert client.delete(f"/v1/corrections/{kept['id']}").json()["undone"]
    assert [*store.each_line()] == []


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"text": "4a"}, "has 'a'"),
        ({"text": ""}, "no digit"),
        ({"text": "4", "label": "4"}, "send label, of a digit, or text, of a line"),
        ({}, "send label, of a digit, or text, of a line"),
        ({"text": "41", "box": "1,2,3,4"}, "of a line from"),
    ],
)
def test_what_is_no_line_is_refused(
    fields: dict[str, str], says: str, client: TestClient, store: Corrections
) -> None:
    content = png(drawn("41"))
    box = ",".join(map(str, line_of(client, content)["box"]))
    response = client.post(
        "/v1/corrections", data={"box": box, **fields}, files={"file": ("a.png", content)}
    )
    assert response.status_code == 422
    assert says in response.json()["detail"]
    assert [*store.each_line()] == []
