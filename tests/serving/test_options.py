"""Options in the query, in forms and in JSON; patterns; forms by templates, of the service or sent."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from digitry.corrections.store import Corrections
from digitry.model.artifact import Artifact
from digitry.reading.reader import Reader
from digitry.reading.template import Template, parse
from digitry.serving.app import create_app
from digitry.serving.dispatch import PoolReaders
from digitry.workers.pool import WorkerPool

from .conftest import MODEL, drawn, png
from .local import LocalReaders

SLIP = """
name = "slip"
[[fields]]
name = "year"
box = [0, 0, 0.5, 1]
pattern = '\\d{3}'
[[fields]]
name = "note"
box = [0.5, 0, 0.5, 1]
empty = true
"""


def slip() -> bytes:
    """Return a filled slip: 305 on its left half, nothing on its right."""
    left = drawn("305")
    return png(np.hstack([left, np.full_like(left, 235)]))


def problem(response: Any) -> tuple[int, str]:
    return response.status_code, str(response.json()["type"]).rpartition(":")[2]


def the(response: Any) -> dict[str, Any]:
    """Return the only reading."""
    assert response.status_code == 200, response.text
    (reading,) = response.json()["readings"]
    found: dict[str, Any] = reading
    return found


@pytest.fixture(scope="module", params=["threads", "workers"])
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, model: Artifact,
    reader: Reader,
) -> Iterator[TestClient]:  # fmt: skip
    """A service with the template `slip`: it reads in its own threads, or in worker processes."""
    readers: Any = LocalReaders(reader)
    if request.param == "workers":
        # Only limits on time that a busy machine keeps, too.
        readers = PoolReaders(WorkerPool(MODEL, workers=1, wall_s=60, cpu_s=10), wait_s=60)
    store = Corrections(str(tmp_path_factory.mktemp("options") / "corrections.db"))
    app = create_app(readers, store, model=model, templates={"slip": parse(SLIP)})
    with TestClient(app, base_url="http://localhost") as client:
        yield client


# --- where options stand ---------------------------------------------------------------------------


def test_an_option_may_be_in_the_query_the_form_or_the_json(client: TestClient) -> None:
    image = png(drawn("305"))
    files = {"file": ("a.png", image)}
    text = base64.b64encode(image).decode()
    answers = [
        client.post("/v1/read", params={"pattern": r"\d{4}"}, files=files),
        client.post("/v1/read", data={"pattern": r"\d{4}"}, files=files),
        client.post("/v1/read", json={"pattern": r"\d{4}", "image": text}),
    ]
    for answer in answers:
        reading = the(answer)
        assert reading["rejected"]
        assert reading["reason"] == r"does not fit \d{4}"


def test_an_option_is_given_once(client: TestClient) -> None:
    files = {"file": ("a.png", png(drawn("3")))}
    both = client.post("/v1/read?layout=line", data={"layout": "single"}, files=files)
    assert problem(both) == (422, "invalid-option")
    assert both.json()["detail"] == "layout: is in the query and in the body"
    twice = client.post("/v1/read", data={"layout": ["line", "line"]}, files=files)
    assert problem(twice) == (400, "malformed-request")


@pytest.mark.parametrize(
    "fields", [{"colour": "red"}, {"layout": "wide"}, {"max_error": "2"}, {"glyphs": "maybe"}]
)
def test_an_option_that_is_not_valid_is_refused(fields: dict[str, str], client: TestClient) -> None:
    files = {"file": ("a.png", png(drawn("3")))}
    response = client.post("/v1/read", data=fields, files=files)
    assert problem(response) == (422, "invalid-option")
    assert response.json()["detail"].startswith(next(iter(fields)) + ":")


# --- patterns --------------------------------------------------------------------------------------


def test_a_line_that_fits_its_pattern_is_read(client: TestClient) -> None:
    files = {"file": ("a.png", png(drawn("305")))}
    reading = the(client.post("/v1/read", data={"pattern": r"\d{3}"}, files=files))
    assert (reading["text"], reading["rejected"]) == ("305", False)


@pytest.mark.parametrize("pattern", [r"\d{", "[", "", "x", "(" * 99, r"((\d?){90}){90}"])
def test_a_pattern_is_checked_as_on_the_command_line(pattern: str, client: TestClient) -> None:
    from digitry.errors import UsageError

    with pytest.raises(UsageError) as error:
        Reader(MODEL, pattern=pattern)
    files = {"file": ("a.png", png(drawn("3")))}
    response = client.post("/v1/read", data={"pattern": pattern}, files=files)
    assert problem(response) == (422, "invalid-option")
    assert response.json()["detail"] == str(error.value)
    assert response.headers["content-type"] == "application/problem+json"


def test_a_pattern_is_of_its_own_request(client: TestClient) -> None:
    files = {"file": ("a.png", png(drawn("305")))}
    client.post("/v1/read", data={"pattern": r"\d{4}"}, files=files)
    assert not the(client.post("/v1/read", files=files))["rejected"]


def test_a_digit_read_with_a_pattern_can_be_corrected(client: TestClient) -> None:
    files = {"file": ("a.png", png(drawn("305")))}
    reading = the(client.post("/v1/read", data={"pattern": r"\d{3}"}, files=files))
    box = ",".join(map(str, reading["digits"][0]["box"]))
    fields = {"box": box, "label": "8", "pattern": r"\d{3}"}
    response = client.post("/v1/corrections", data=fields, files=files)
    assert response.status_code in (200, 201), response.text
    assert response.json()["read_value"] == 3


# --- forms -----------------------------------------------------------------------------------------


def test_the_templates_of_the_service_are_listed(client: TestClient) -> None:
    (found,) = client.get("/v1/templates").json()["templates"]
    assert (found["name"], found["reference"]) == ("slip", False)
    assert found["fields"][0] == {
        "name": "year", "box": [0, 0, 0.5, 1], "pattern": r"\d{3}", "layout": "line", "empty": False,
    }  # fmt: skip


def test_a_form_has_a_text_a_confidence_and_a_reason_for_each_field(client: TestClient) -> None:
    files = {"file": ("a.png", slip())}
    sent = {**files, "template": ("slip.toml", SLIP.encode())}
    text = base64.b64encode(slip()).decode()
    readings = [
        the(client.post("/v1/read?template=slip", files=files)),
        the(client.post("/v1/read", data={"template": "slip"}, files=files)),
        the(client.post("/v1/read", files=sent)),
        the(client.post("/v1/read", json={"template": "slip", "image": text})),
        the(client.post("/v1/read", json={"template": {"toml": SLIP}, "image": text})),
    ]
    for reading in readings:
        year, note = reading["fields"]
        assert (reading["template"], reading["aligned"]) == ("slip", None)
        assert (year["name"], year["text"], year["rejected"]) == ("year", "305", False)
        assert 0.5 < year["confidence"] <= 1
        assert (note["text"], note["rejected"], note["reason"]) == ("", False, "empty")
        assert not reading["rejected"]


def test_a_field_that_does_not_fit_is_refused_with_its_reason(client: TestClient) -> None:
    toml = SLIP.replace(r"\d{3}", r"\d{4}").encode()
    files = {"file": ("a.png", slip()), "template": ("slip.toml", toml)}
    reading = the(client.post("/v1/read", files=files))
    assert reading["rejected"]
    assert reading["reason"] == r"year: does not fit \d{4}"
    assert reading["fields"][0]["reason"] == r"does not fit \d{4}"


def test_a_picture_that_does_not_show_the_form_is_refused(client: TestClient) -> None:
    rng = np.random.default_rng(0)
    blank = np.full((600, 800), 240, np.uint8)
    for x, y, w, h in rng.integers(20, 500, (60, 4)):
        blank[y : y + 2, x : x + w // 4] = 20
        blank[y : y + h // 4, x : x + 2] = 20
    files = {
        "file": ("a.png", slip()),
        "template": ("slip.toml", b'reference = "blank.png"\n' + SLIP.encode()),
        "reference": ("blank.png", png(blank)),
    }
    response = client.post("/v1/read", files=files)
    assert problem(response) == (422, "unreadable-image")
    assert response.json()["detail"].startswith("does not look like the form")


def test_a_digit_on_a_form_can_be_corrected(client: TestClient) -> None:
    files = {"file": ("a.png", slip())}
    reading = the(client.post("/v1/read?template=slip", files=files))
    box = ",".join(map(str, reading["digits"][1]["box"]))
    fields = {"box": box, "label": "6", "template": "slip"}
    response = client.post("/v1/corrections", data=fields, files=files)
    assert response.status_code in (200, 201), response.text
    assert response.json()["read_value"] == 0


HOSTILE = {
    "not TOML": (b"\x00", "is not TOML"),
    "no fields": (b'name = "a"', "has no fields"),
    "a name of a file": (SLIP.encode() + b'reference = "/etc/passwd"', "the key 'reference'"),
    "a reference that is not sent": (b'reference = "/etc/passwd"\n' + SLIP.encode(), "not given"),
    "nested": (b"a = " + b"[" * 60_000, "is not TOML"),
    "too large": (b"#" * 200_000, "larger than 128 kB"),
    "not text": (b"\xff\xfe", "is not UTF-8"),
    "many fields": (SLIP.encode() * 99, "is not TOML"),
    "a pattern that explodes": (SLIP.replace(r"\d{3}", r"((\d?){90}){90}").encode(), "too much"),
    "a box outside": (SLIP.replace("0.5, 1]", "0.9, 9]").encode(), "field 'year'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_refused_in_one_line(name: str, client: TestClient) -> None:
    toml, words = HOSTILE[name]
    files = {"file": ("a.png", slip()), "template": ("slip.toml", toml)}
    response = client.post("/v1/read", files=files)
    assert problem(response) == (422, "invalid-option")
    detail = response.json()["detail"]
    assert words in detail
    assert "\n" not in detail
    assert len(detail) < 400
    assert the(client.post("/v1/read?template=slip", files={"file": ("a.png", slip())}))["fields"]


def test_a_reference_that_is_no_picture_is_refused(client: TestClient) -> None:
    files = {
        "file": ("a.png", slip()),
        "template": ("slip.toml", b'reference = "blank.png"\n' + SLIP.encode()),
        "reference": ("blank.png", b"no picture"),
    }
    response = client.post("/v1/read", files=files)
    assert problem(response) == (422, "invalid-option")
    assert response.json()["detail"].startswith("reference: ")


@pytest.mark.parametrize("name", ["slop", "../slip", "slip.toml", ""])
def test_only_a_template_of_the_service_has_a_name(name: str, client: TestClient) -> None:
    files = {"file": ("a.png", slip())}
    response = client.post("/v1/read", data={"template": name}, files=files)
    assert problem(response) == (422, "invalid-option")


def test_a_template_is_not_given_with_what_it_says_itself(client: TestClient) -> None:
    files = {"file": ("a.png", slip())}
    for option in ({"pattern": r"\d"}, {"layout": "line"}):
        response = client.post("/v1/read?template=slip", data=option, files=files)
        assert problem(response) == (422, "invalid-option")
        assert "write the" in response.json()["detail"]


def test_a_reading_without_a_template_has_no_fields(client: TestClient) -> None:
    reading = the(client.post("/v1/read", files={"file": ("a.png", slip())}))
    assert "fields" not in reading


def test_templates_are_named_when_the_service_is_started(tmp_path: Any) -> None:
    from typer.testing import CliRunner

    from digitry.cli.main import app

    (tmp_path / "slip.toml").write_text(SLIP)
    (tmp_path / "other.toml").write_text(SLIP)
    (tmp_path / "bad.toml").write_text("name = 3")
    one = ["--template", str(tmp_path / "slip.toml")]
    for wrong, words in (
        ("other.toml", "another template is called"),
        ("bad.toml", "has no fields"),
    ):
        arguments = ["serve", "--port", "0", *one, "--template", str(tmp_path / wrong)]
        done = CliRunner().invoke(app, arguments)
        assert words in str(done.exception)


def test_a_template_is_what_it_was_when_it_was_packed() -> None:
    from digitry.reading.template import unpacked

    assert unpacked(json.loads(json.dumps(parse(SLIP).packed()))) == parse(SLIP)
    assert isinstance(parse(SLIP), Template)
