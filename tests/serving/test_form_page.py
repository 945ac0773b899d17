"""The web page on forms: draw a template, try it, take it home; patterns; templates of the service."""

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from PIL import Image

from digitry.corrections.store import Corrections
from digitry.model.artifact import Artifact
from digitry.reading.reader import Reader
from digitry.reading.rows import form_header
from digitry.reading.template import load, parse
from digitry.serving.app import create_app
from digitry.serving.guard import Limits

from .conftest import DESKTOP, PHONE, SAMPLES, Visit, drawn, png
from .local import LocalReaders

pytestmark = pytest.mark.browser

FORMS = SAMPLES / "forms"
READ = "() => document.querySelector('#answer .in-field') !== null"


def truth(picture: str) -> dict[str, str]:
    """Return what stands in the fields of a sample."""
    rows = csv.DictReader((FORMS / "truth.csv").read_text().splitlines())
    return {row["field"]: row["text"] for row in rows if row["file"] == picture}


@pytest.fixture
def app(reader: Reader, model: Artifact, store: Corrections) -> FastAPI:
    """A service with the template `slip`, and with time for a busy machine."""
    templates = {"slip": load(FORMS / "slip.toml")}
    limits = Limits(read_seconds=120)
    return create_app(LocalReaders(reader), store, model=model, limits=limits, templates=templates)


def drag(window: Visit, box: tuple[float, float, float, float]) -> None:
    """Draw a field over the picture of the form."""
    area = window.page.locator("#form-fields").bounding_box()
    x, y, w, h = box
    mouse = window.page.mouse
    mouse.move(area["x"] + x * area["width"], area["y"] + y * area["height"])
    mouse.down()
    for share in (0.5, 1.0):
        mouse.move(
            area["x"] + (x + share * w) * area["width"],
            area["y"] + (y + share * h) * area["height"],
        )
    mouse.up()


def shown(window: Visit) -> dict[str, str]:
    """Return the texts of the fields that the web page shows."""
    return {
        row.locator(".field-title").inner_text(): "".join(row.locator(".word").all_text_contents())
        for row in window.page.locator("#answer .in-field").all()
    }


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_a_template_is_drawn_tried_and_taken_home(
    size: tuple[int, int], scheme: str, visit: Callable[..., Visit]
) -> None:
    window = visit(size, scheme)
    page = window.page
    name = f"{size[0]}-{scheme}"
    page.locator("#tab-form").click()
    window.look(f"{name}-10-forms")
    page.locator("#form-file").set_input_files(FORMS / "slip.png")
    page.locator("#designer").wait_for()
    for field in load(FORMS / "slip.toml").fields[:3]:
        drag(window, field.box)
        # The name of a new field is ready to be typed over.
        page.keyboard.type(field.name)
        page.keyboard.press("Tab")
        page.keyboard.type(field.pattern or "")
    window.look(f"{name}-11-drawn")

    toml = window.taken("#form-toml").decode()
    picture = window.taken("#form-picture")
    made, wanted = parse(toml, picture), load(FORMS / "slip.toml")
    assert [(one.name, one.pattern) for one in made.fields] == [
        (one.name, one.pattern) for one in wanted.fields[:3]
    ]
    for one, other in zip(made.fields, wanted.fields, strict=False):
        assert one.box == pytest.approx(other.box, abs=0.01)
    with Image.open(io.BytesIO(picture)) as image:
        assert max(image.size) <= 1600

    page.locator("#form-files").set_input_files(FORMS / "slip-filled.jpg")
    page.wait_for_function(READ, timeout=120_000)
    right = truth("slip-filled.jpg")
    assert shown(window) == {key: right[key] for key in ("account", "date", "amount")}
    assert page.locator(".outlines polygon").count() == 3
    page.wait_for_function("() => document.getElementById('image').complete")
    window.look(f"{name}-12-tried")
    (header, row) = csv.reader(io.StringIO(window.taken("#save-csv").decode()))
    assert tuple(header) == form_header(made)
    assert row[-3:] == [right[key] for key in ("account", "date", "amount")]


def test_a_template_is_drawn_with_the_keyboard_alone(visit: Callable[..., Visit]) -> None:
    window = visit()
    page = window.page
    page.locator("#tab-write").focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.id") == "tab-form"
    page.locator("#form-file").set_input_files(FORMS / "slip.png")
    page.locator("#designer").wait_for()
    page.locator("#form-add").focus()
    page.keyboard.press("Enter")
    page.keyboard.type("account")
    page.keyboard.press("Tab")
    page.keyboard.type(r"\d{8}")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    # Back over the name and the button to the box.
    for _ in range(4):
        page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == (
        "Field account: 30% from the left, 30% from the top, 40% wide, 6% high"
    )
    for key in ["ArrowRight"] * 4 + ["Shift+ArrowDown"] * 2 + ["ArrowUp"] * 6:
        page.keyboard.press(key)
    (field,) = parse(window.taken("#form-toml").decode(), b"").fields
    assert (field.name, field.pattern, field.empty) == ("account", r"\d{8}", True)
    assert field.box == pytest.approx((0.32, 0.27, 0.4, 0.07))
    page.locator(".field-box").focus()
    page.keyboard.press("Delete")
    assert page.locator("#form-list li").count() == 0
    assert page.locator("#form-toml").is_disabled()


def test_a_box_is_moved_and_resized_by_dragging(visit: Callable[..., Visit]) -> None:
    window = visit()
    page = window.page
    page.locator("#tab-form").click()
    page.locator("#form-file").set_input_files(FORMS / "slip.png")
    page.locator("#designer").wait_for()
    drag(window, (0.1, 0.1, 0.3, 0.2))
    drag(window, (0.2, 0.2, 0.1, 0.1))
    drag(window, (0.5, 0.4, 0.1, 0.1))
    # The second began within the first and moved it; the third began at its corner and resized it.
    assert page.locator(".field-box").count() == 1
    (field,) = parse(window.taken("#form-toml").decode(), b"").fields
    assert field.box == pytest.approx((0.2, 0.2, 0.4, 0.3), abs=0.01)


def test_a_template_of_the_service_is_chosen(visit: Callable[..., Visit]) -> None:
    window = visit(PHONE)
    page = window.page
    page.locator("#tab-image").click()
    page.locator("#form").select_option("slip")
    assert page.locator("#pattern").is_disabled()
    window.send(FORMS / "slip-filled.jpg")
    page.wait_for_function(READ, timeout=120_000)
    right = truth("slip-filled.jpg")
    assert {key: value for key, value in shown(window).items() if value} == {
        key: value for key, value in right.items() if value
    }
    window.look("390-light-13-template")
    # A digit on a form can be corrected.
    page.locator("#answer .digit").first.click()
    page.locator("#keys button", has_text="0").first.click()
    page.locator("#kept li").wait_for()


def test_a_picture_of_something_else_says_so(visit: Callable[..., Visit]) -> None:
    window = visit()
    window.page.locator("#tab-image").click()
    window.page.locator("#form").select_option("slip")
    window.send(SAMPLES / "phone-number.jpg")
    window.page.locator("#notice").wait_for()
    assert "does not look like the form" in window.page.locator("#notice").inner_text()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_what_does_not_fit_its_pattern_is_shown(
    size: tuple[int, int], visit: Callable[..., Visit]
) -> None:
    window = visit(size)
    page = window.page
    image: dict[str, Any] = {
        "name": "a.png", "mimeType": "image/png", "buffer": png(drawn("305")),
    }  # fmt: skip
    window.send(image)
    window.wait_for("305")
    page.locator("#pattern").fill(r"\d{4}")
    page.locator("#pattern").press("Enter")
    notice = page.locator("#notice")
    notice.wait_for()
    assert r"does not fit \d{4}" in notice.inner_text()
    window.look(f"{size[0]}-light-14-pattern")

    page.locator("#pattern").fill(r"\d{")
    page.locator("#pattern").press("Enter")
    page.wait_for_function(
        "() => document.getElementById('notice').textContent.startsWith('Pattern')"
    )
    assert "invalid repetition" in notice.inner_text()
    assert page.locator("#pattern").get_attribute("aria-invalid") == "true"
    page.locator("#pattern").fill(r"\d{3}")
    page.locator("#pattern").press("Enter")
    window.wait_for("305")
    assert page.locator("#pattern").get_attribute("aria-invalid") == "false"
