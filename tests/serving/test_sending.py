"""Images may be sent as forms, as bodies and in JSON, by pages of allowed sites; documents by page."""

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from digitry.corrections.store import Corrections
from digitry.errors import ImageError, UsageError
from digitry.model.artifact import Artifact
from digitry.reading.reader import Reader
from digitry.serving.app import create_app
from digitry.serving.dispatch import PoolReaders
from digitry.serving.guard import Limits
from digitry.serving.origins import Origins
from digitry.workers.pool import WorkerPool, blamed
from digitry.workers.supervisor import Cause, Loss

from .. import documents
from ..waiting import PATIENCE_S
from .conftest import MODEL, drawn, png
from .local import LocalReaders


def problem(response: Any) -> str:
    return str(response.json()["type"]).rpartition(":")[2]


def texts(response: Any) -> list[str]:
    assert response.status_code == 200, response.text
    # Whether two digits are one word is the reader's to say, not of these tests.
    return [reading["text"].replace(" ", "") for reading in response.json()["readings"]]


# --- forms and JSON --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["file", "image", "upload", "files[]", "x"])
def test_a_single_file_may_have_any_name(name: str, client: TestClient) -> None:
    assert texts(client.post("/v1/read", files={name: ("a.png", png(drawn("3")))})) == ["3"]


def test_several_files_are_named_file(client: TestClient) -> None:
    files = [("a", ("a.png", png(drawn("1")))), ("b", ("b.png", png(drawn("2"))))]
    response = client.post("/v1/read", files=files)
    assert (response.status_code, problem(response)) == (400, "malformed-request")


def test_json_holds_base64_or_data_urls(client: TestClient) -> None:
    content = [base64.b64encode(png(drawn(text))).decode() for text in ("3", "12")]
    url = "data:image/png;base64," + content[0]
    assert texts(client.post("/v1/read", json={"image": content[0]})) == ["3"]
    assert texts(client.post("/v1/read", json={"image": url})) == ["3"]
    assert texts(client.post("/v1/read", json={"images": [url, content[1]]})) == ["3", "12"]
    wrapped = base64.encodebytes(png(drawn("3"))).decode()
    assert texts(client.post("/v1/read?layout=single", json={"image": wrapped})) == ["3"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"images": []}',
        b'{"image": 3}',
        b'{"image": "%%%"}',
        b'{"image": "https://example.org/a.png"}',
        b'{"url": "https://example.org/a.png"}',
        b'{"image": "AAAA", "images": ["AAAA"]}',
        b"[" * 100_000,
    ],
    ids=range(11),
)
def test_wrong_json_is_refused(body: bytes, client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    response = client.post("/v1/read", content=body, headers=headers)
    assert (response.status_code, problem(response)) == (400, "malformed-request")
    assert len(response.text) < 400


def test_too_many_images_in_json_are_refused(client: TestClient) -> None:
    response = client.post("/v1/read", json={"images": ["AAAA"] * (Limits().files + 1)})
    assert (response.status_code, problem(response)) == (413, "too-many-parts")


# --- documents -------------------------------------------------------------------------------------


def scan() -> bytes:
    return documents.scanned([Image.fromarray(drawn(text)) for text in ("12", "7", "305")], 200)


@pytest.fixture(params=["threads", "workers"])
def any_client(
    request: pytest.FixtureRequest, reader: Reader, model: Artifact, store: Corrections
) -> Iterator[TestClient]:
    """A service that reads in its own threads, and one that reads in worker processes."""
    if request.param == "threads":
        readers: Any = LocalReaders(reader)
    else:
        readers = PoolReaders(WorkerPool(MODEL, workers=1, wall_s=PATIENCE_S), wait_s=PATIENCE_S)
    app = create_app(readers, store, model=model)
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def test_a_document_has_a_reading_for_each_page(any_client: TestClient) -> None:
    files = [
        ("file", ("a.png", png(drawn("4")))),
        ("file", ("scan.pdf", scan())),
        ("file", ("b.tif", documents.tiff([Image.fromarray(drawn("8"))]))),
    ]
    readings = any_client.post("/v1/read", files=files).json()["readings"]
    assert [(one["source"], one["text"].replace(" ", "")) for one in readings] == [
        ("a.png", "4"),
        ("scan.pdf#page=1", "12"),
        ("scan.pdf#page=2", "7"),
        ("scan.pdf#page=3", "305"),
        ("b.tif", "8"),
    ]
    alone = any_client.post("/v1/read", content=scan(), headers={"content-type": "application/pdf"})
    assert texts(alone) == ["12", "7", "305"]


def test_a_damaged_page_is_listed_and_the_others_are_read(any_client: TestClient) -> None:
    torn = documents.pdf([documents.PLAIN] * 2, kids="3 0 R 99 0 R 5 0 R", count=3)
    answer = any_client.post("/v1/read", files={"file": ("torn.pdf", torn)}).json()
    assert [reading["source"] for reading in answer["readings"]] == [
        "torn.pdf#page=1",
        "torn.pdf#page=3",
    ]
    (failed,) = answer["failed"]
    assert (failed["index"], failed["source"]) == (0, "torn.pdf#page=2")
    broken = any_client.post("/v1/read", files={"file": ("a.pdf", scan()[:200])})
    assert (broken.status_code, problem(broken)) == (422, "unreadable-image")
    assert "is damaged" in broken.json()["detail"]


def test_the_pages_of_a_request_are_limited(
    reader: Reader, model: Artifact, store: Corrections
) -> None:
    app = create_app(LocalReaders(reader), store, model=model, limits=Limits(pages=2))
    with TestClient(app, base_url="http://localhost") as client:
        response = client.post("/v1/read", files={"file": ("scan.pdf", scan())})
        assert (response.status_code, problem(response)) == (413, "too-many-parts")


def test_a_digit_on_a_page_can_be_corrected(any_client: TestClient) -> None:
    files = {"file": ("scan.pdf", scan())}
    reading = any_client.post("/v1/read", files=files).json()["readings"][1]
    box = ",".join(map(str, reading["digits"][0]["box"]))
    fields = {"box": box, "label": "1", "page": "2"}
    response = any_client.post("/v1/corrections", data=fields, files=files)
    assert response.status_code == 201, response.text
    assert response.json()["read_value"] == 7
    other = any_client.post("/v1/corrections", data={**fields, "page": "1"}, files=files)
    assert (other.status_code, problem(other)) == (422, "no-such-digit")


# --- what takes too long ---------------------------------------------------------------------------


@pytest.mark.parametrize("cause", [Cause.LATE, Cause.COMPUTED])
def test_what_takes_too_long_says_so_and_how_to_mend_it(cause: Cause) -> None:
    error = blamed("a.png", Loss(cause, "took too long: more than 2 s"))
    assert str(error) == "a.png: took too long: more than 2 s; crop it to the digits, or reduce it"


def test_a_picture_that_takes_too_long_is_422_and_says_so(
    model: Artifact, store: Corrections
) -> None:
    slow = documents.laughs(9)
    pool = WorkerPool(MODEL, workers=1, wall_s=PATIENCE_S, cpu_s=2)
    limits = Limits(read_seconds=2 * PATIENCE_S)
    app = create_app(PoolReaders(pool, wait_s=PATIENCE_S), store, model=model, limits=limits)
    with TestClient(app, base_url="http://localhost") as client:
        response = client.post("/v1/read", files={"file": ("slow.pdf", slow)})
        assert (response.status_code, problem(response)) == (422, "unreadable-image")
        detail = (
            "took too long to draw: more than 0.8 s of processor time; save its pages as images"
        )
        assert response.json()["detail"] == detail
        assert texts(client.post("/v1/read", files={"file": png(drawn("3"))})) == ["3"]


def test_a_document_that_cannot_be_opened_is_tried_once(
    reader: Reader, model: Artifact, store: Corrections
) -> None:
    class Unopened(LocalReaders):
        async def count_pages(self, content: bytes, *, name: str | None) -> int:
            raise ImageError("took too long to draw", remedy="save its pages as images")

        async def read(self, content: bytes, **options: Any) -> Any:
            assert not content.startswith(b"%PDF"), "opening it again takes as long"
            return await super().read(content, **options)

    app = create_app(Unopened(reader), store, model=model)
    with TestClient(app, base_url="http://localhost") as client:
        files = [("file", ("a.pdf", documents.pdf([documents.PLAIN]))), ("file", png(drawn("3")))]
        answer = client.post("/v1/read", files=files).json()
        detail = "took too long to draw; save its pages as images"
        assert answer["failed"] == [{"index": 0, "source": "a.pdf", "detail": detail}]
        assert [one["text"] for one in answer["readings"]] == ["3"]
        assert 'digitry_images_total{result="failed"} 1.0' in client.get("/metrics").text


def test_a_picture_that_waits_too_long_says_so(
    reader: Reader, model: Artifact, store: Corrections
) -> None:
    class Slow(LocalReaders):
        async def read(self, content: bytes, **options: Any) -> Any:
            await asyncio.sleep(PATIENCE_S)
            raise ImageError("was not awaited")

    app = create_app(Slow(reader), store, model=model, limits=Limits(read_seconds=0.1))
    with TestClient(app, base_url="http://localhost") as client:
        response = client.post("/v1/read", files={"file": png(drawn("3"))})
        assert response.status_code == 422
        assert "took too long: more than 0.1 s; crop it" in response.json()["detail"]


# --- pages of other sites --------------------------------------------------------------------------

SITE = "https://canvas.example.org"
QUESTION = {
    "origin": SITE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type",
}


@pytest.fixture
def allowing(reader: Reader, model: Artifact, store: Corrections) -> Iterator[TestClient]:
    app = create_app(
        LocalReaders(reader), store, model=model, origins=Origins([SITE]), token="let me in"
    )
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def test_a_page_of_an_allowed_site_may_read(allowing: TestClient) -> None:
    asked = allowing.options("/v1/read", headers=QUESTION)
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == SITE
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "Authorization" in asked.headers["access-control-allow-headers"]
    headers = {"origin": SITE, "sec-fetch-site": "cross-site", "authorization": "Bearer let me in"}
    image = base64.b64encode(png(drawn("3"))).decode()
    answer = allowing.post("/v1/read", json={"image": image}, headers=headers)
    assert texts(answer) == ["3"]
    assert answer.headers["access-control-allow-origin"] == SITE
    assert answer.headers["vary"] == "Origin"


def test_a_page_of_an_allowed_site_sees_why_it_is_refused(allowing: TestClient) -> None:
    response = allowing.post("/v1/read", content=b"x", headers={"origin": SITE})
    assert (response.status_code, problem(response)) == (401, "token-needed")
    assert response.headers["access-control-allow-origin"] == SITE


@pytest.mark.parametrize(
    "origin", ["https://evil.org", SITE + ".evil.org", SITE + ":444", "null", "http://" + SITE[8:]]
)
def test_a_page_of_another_site_may_not(origin: str, allowing: TestClient) -> None:
    asked = allowing.options("/v1/read", headers={**QUESTION, "origin": origin})
    assert "access-control-allow-origin" not in asked.headers
    headers = {"origin": origin, "authorization": "Bearer let me in"}
    response = allowing.post("/v1/read", content=b"x", headers=headers)
    assert (response.status_code, problem(response)) == (403, "foreign-origin")
    assert "access-control-allow-origin" not in response.headers


def test_an_allowed_site_does_not_allow_another_host_name(allowing: TestClient) -> None:
    response = allowing.options("/v1/read", headers={**QUESTION, "host": "evil.com"})
    assert (response.status_code, problem(response)) == (421, "foreign-host")


def test_no_site_is_allowed_by_default(app: FastAPI) -> None:
    with TestClient(app, base_url="http://localhost") as client:
        asked = client.options("/v1/read", headers=QUESTION)
        assert "access-control-allow-origin" not in asked.headers


@pytest.mark.parametrize("name", ["example.org", "https://a/b", "ftp://a", "https://*.a", ""])
def test_what_is_not_an_origin_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not an origin"):
        Origins([name])


def test_every_site_may_only_come_with_a_token(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from digitry.cli.main import app

    done = CliRunner().invoke(app, ["serve", "--allow-origin", "*", "--port", "0"])
    assert isinstance(done.exception, UsageError)
    assert "a token is required" in str(done.exception)
