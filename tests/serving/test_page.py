"""The web page in a real browser: draw, upload, inspect, correct, download; mouse, touch, keyboard."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from digitry.corrections.store import Corrections
from digitry.model.artifact import Artifact
from digitry.reading.reader import Reader
from digitry.reading.result import Box, Digit, Line, Mark, Reading, Word
from digitry.reading.rows import CSV_HEADER, csv_rows, to_csv
from digitry.serving.app import create_app
from digitry.workers.answer import PicturedReading
from digitry.workers.supervisor import Health, State

from .. import documents
from .conftest import DESKTOP, PHONE, SAMPLES, Running, Visit, drawn, png
from .local import LocalReaders

pytestmark = pytest.mark.browser


# --- writing -------------------------------------------------------------------------------------------


# The next test has the other two.
@pytest.mark.parametrize(
    ("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop-light", "phone-dark"]
)
def test_a_drawing_is_read_explained_corrected_and_undone(
    size: tuple[int, int], scheme: str, visit: Callable[..., Visit], store: Corrections
) -> None:
    touch = size == PHONE
    window = visit(size, scheme, has_touch=touch)
    page = window.page
    name = f"{size[0]}-{scheme}"
    window.look(f"{name}-1-empty")
    window.write("274", touch=touch)
    window.wait_for("274")
    window.look(f"{name}-2-written")
    assert page.locator("#pad-marks .box").count() == 3

    page.locator(".digit").nth(1).click()
    page.locator("#why").check()
    page.locator("#weights").wait_for()
    window.look(f"{name}-3-digit")
    assert page.locator("#verdict").inner_text().startswith("Read as 7")
    assert page.locator("#alternatives li").count() == 3

    page.locator("#keys").get_by_text("1", exact=True).click()
    page.locator("#kept li").wait_for()
    assert window.text() == "214"
    assert "Correction saved: 1" in page.locator("#toast").inner_text()
    window.look(f"{name}-4-corrected")
    (kept,) = store.list()
    assert (kept.label, kept.read_value, kept.model) == ("1", 7, kept.model)

    page.locator("#toast button").click()
    page.locator("#kept-empty").wait_for()
    assert window.text() == "274"
    assert store.list() == []


@pytest.mark.parametrize(
    ("size", "scheme"), [(DESKTOP, "dark"), (PHONE, "light")], ids=["desktop-dark", "phone-light"]
)
def test_a_line_is_typed_as_a_whole_and_undone(
    size: tuple[int, int], scheme: str, visit: Callable[..., Visit], store: Corrections
) -> None:
    window = visit(size, scheme)
    page = window.page
    window.send({"name": "a.png", "mimeType": "image/png", "buffer": png(drawn("305"))})
    window.wait_for("305")
    page.locator("#answer .digit").first.click()
    assert page.locator("#line-text").input_value() == "305"
    # What is no line is not sent.
    page.locator("#line-text").fill("3o5")
    page.locator("#line-form button").click()
    assert page.evaluate("() => document.getElementById('line-text').validity.patternMismatch")
    page.locator("#line-text").fill("3.05")
    page.locator("#line-form button").click()
    page.locator("#kept li").wait_for()
    assert "Line saved: 3.05" in page.locator("#toast").inner_text()
    assert page.locator("#line-text").input_value() == "3.05"
    assert page.locator("#line-help").inner_text().startswith("Saved as 3.05.")
    assert page.locator("#kept li p").first.inner_text() == "3.05 – read as 305"
    window.look(f"{size[0]}-{scheme}-13-line")
    (kept,) = store.lines()
    assert (kept.text, kept.read_text) == ("3.05", "305")

    page.locator("#toast button").click()
    page.locator("#kept-empty").wait_for()
    assert page.locator("#line-text").input_value() == "305"
    assert store.lines() == []


def test_undo_and_clear_remove_ink_and_update_the_reading(
    visit: Callable[..., Visit],
) -> None:
    window = visit()
    window.write("20")
    window.wait_for("20")
    window.page.keyboard.press("Control+z")
    window.wait_for("2")
    window.page.locator("#undo").click()
    window.page.locator(".empty").first.wait_for()
    assert window.page.locator("#undo").is_disabled()
    window.write("0")
    window.wait_for("0")
    window.page.locator("#clear").click()
    window.page.locator(".empty").first.wait_for()
    assert window.page.locator("#pad-hint").is_visible()


def test_the_reading_appears_while_writing(visit: Callable[..., Visit]) -> None:
    window = visit()
    window.write("3")
    window.wait_for("3")
    # Time from the end of a stroke to the reading, measured by the web page itself.
    window.page.evaluate("""() => {
        window.times = [];
        let end = 0;
        document.getElementById("pad").addEventListener("pointerup", () => { end = performance.now(); });
        new MutationObserver(() => { if (end) { times.push(performance.now() - end); end = 0; } })
            .observe(document.getElementById("answer"), { childList: true });
    }""")
    for number, x in enumerate((140, 260, 380, 500), 1):
        window.write("1", x=x)
        # Without a click: the end of the stroke is all that is told.
        window.page.wait_for_function("count => times.length === count", arg=number)
    times = sorted(window.page.evaluate("times"))
    print(f"stroke end to answer: {[round(t) for t in times]} ms")


def test_everything_works_with_the_keyboard_alone(
    visit: Callable[..., Visit], store: Corrections
) -> None:
    window = visit()
    page = window.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "pad":
            break
    page.keyboard.press("Space")
    for _ in range(4):
        page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Space")
    window.wait_for("1")
    for _ in range(12):
        page.keyboard.press("Tab")
        if "digit" in page.evaluate("document.activeElement.className").split():
            break
    page.keyboard.press("Enter")
    page.locator("#inspector").wait_for()
    page.keyboard.press("7")
    page.locator("#kept li").wait_for()
    assert [row.label for row in store.list()] == ["7"]
    assert window.text() == "7"
    page.keyboard.press("Escape")
    assert page.locator("#inspector").is_hidden()
    page.wait_for_function("() => document.getElementById('spoken').textContent.includes('Read 1')")


# --- images --------------------------------------------------------------------------------------------


def test_an_image_is_shown_with_its_reading_and_can_be_downloaded(
    visit: Callable[..., Visit], reader: Reader
) -> None:
    window = visit()
    page = window.page
    path = SAMPLES / "phone-number.jpg"
    expected = reader.read(path.read_bytes(), name=path.name)
    window.send(path)
    window.wait_for(expected.text)
    page.wait_for_function("() => document.getElementById('image').complete")
    window.look("1280-light-5-photo")
    frame = page.locator("#frame").bounding_box()
    for digit, box in zip(expected.digits, page.locator("#image-marks .box").all(), strict=True):
        seen = box.bounding_box()
        assert seen["x"] - frame["x"] == pytest.approx(
            digit.box.x * frame["width"] / expected.width, abs=2
        )
        assert seen["height"] == pytest.approx(
            digit.box.h * frame["height"] / expected.height, abs=2
        )

    (saved,) = json.loads(window.taken("#save-json"))["readings"]
    assert Reading.from_dict({**saved, "ms": 0}) == Reading.from_dict(
        {**expected.to_dict(), "ms": 0}
    )
    rows = list(csv.reader(io.StringIO(window.taken("#save-csv").decode())))
    wanted = list(csv.reader(io.StringIO(to_csv(csv_rows(expected)))))
    assert rows[0] == list(CSV_HEADER)
    assert [row[:4] + row[5:] for row in rows[1:]] == [row[:4] + row[5:] for row in wanted]
    picture = Image.open(io.BytesIO(window.taken("#save-png")))
    assert picture.width >= expected.width

    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == expected.text


class Answers:
    """Readers that answer every image with the same reading."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    def health(self) -> Health:
        return Health({**dict.fromkeys(State, 0), State.READY: 1}, {}, None)

    async def read(self, content: bytes, **options: Any) -> PicturedReading:
        blank = png(np.zeros((28, 28), np.uint8))
        return PicturedReading(self.reading, (blank,) * len(self.reading.digits))

    def close(self) -> None:
        pass


def amounts(turned: int) -> Reading:
    """A page of 200 x 120 pixels, or 120 x 200 on its side, that says `7-2 40,5`."""
    digits = tuple(
        Digit(value, 0.97, Box(x, 30, 14, 24), 0, ((value, 0.97),))
        for value, x in ((7, 10), (2, 40), (4, 80), (0, 98), (5, 122))
    )
    width, height = (120, 200) if turned % 180 else (200, 120)
    return Reading(
        source="amounts.png",
        text="7-2 40,5",
        confidence=0.8,
        rejected=False,
        reason=None,
        width=width,
        height=height,
        inverted=False,
        turned=turned,
        lines=(Line("7-2 40,5", 0.8, Box(10, 30, 126, 30)),),
        words=(Word("7-2", 0.9, Box(10, 30, 44, 24), 0), Word("40,5", 0.9, Box(80, 30, 56, 30), 0)),
        digits=digits,
        marks=(Mark("-", 0.96, Box(27, 41, 9, 3), 0), Mark(",", 0.8, Box(115, 50, 4, 10), 0)),
        model="reader",
        ms=3.0,
    )


@contextmanager
def showing(browser: Any, reading: Reading, model: Artifact, store: Corrections) -> Iterator[Visit]:
    running = Running(create_app(Answers(reading), store, model=model))
    context = browser.new_context(viewport={"width": DESKTOP[0], "height": DESKTOP[1]})
    window = Visit(context.new_page(), running)
    # As the image was sent: what the reader turned lies on its side here. Its upper left is black.
    upright = np.full((reading.height, reading.width), 255, np.uint8)
    upright[:20, :20] = 0
    sent = np.ascontiguousarray(np.rot90(upright, -reading.turned // 90))
    window.send({"name": "amounts.png", "mimeType": "image/png", "buffer": png(sent)})
    yield window
    context.close()
    running.stop()
    assert window.faults == []


@pytest.mark.parametrize("turned", [0, 90, 180, 270])
def test_words_and_marks_are_shown_on_the_picture_as_it_was_turned(
    turned: int, browser: Any, model: Artifact, store: Corrections
) -> None:
    reading = amounts(turned)
    with showing(browser, reading, model, store) as window:
        page = window.page
        window.wait_for("7-2 40,5")
        page.wait_for_function("() => document.getElementById('image').complete")
        window.look(f"1280-light-10-turned-{turned}")
        assert page.locator("#image-marks .word-frame").count() == 2
        assert page.locator("#image-marks .mark-frame").count() == 2
        assert page.locator("#answer .mark").all_inner_texts() == ["-", ","]
        frame = page.locator("#frame").bounding_box()
        assert frame["width"] / frame["height"] == pytest.approx(
            reading.width / reading.height, abs=0.02
        )
        box = page.locator("#image-marks .box").first.bounding_box()
        scale = frame["width"] / reading.width
        assert box["x"] - frame["x"] == pytest.approx(10 * scale, abs=2)
        assert box["y"] - frame["y"] == pytest.approx(30 * scale, abs=2)
        image = page.locator("#image").bounding_box()
        assert [image[side] for side in ("x", "y", "width", "height")] == pytest.approx(
            [frame[side] for side in ("x", "y", "width", "height")], abs=1.5
        )
        said = f"turned by {turned}°" in page.locator("#facts").inner_text()
        assert said == (turned != 0)

        page.keyboard.press("Tab")
        page.locator(".digit").nth(3).click()
        page.locator("#inspector").wait_for()
        assert page.locator("#inspector-title").inner_text() == "Digit 4 of 5"
        (saved,) = json.loads(window.taken("#save-json"))["readings"]
        assert Reading.from_dict(saved) == reading
        rows = list(csv.reader(io.StringIO(window.taken("#save-csv").decode())))
        assert (rows[1][3], rows[1][-1]) == ("7-2 40,5", str(turned))
        picture = np.asarray(Image.open(io.BytesIO(window.taken("#save-png"))).convert("L"))
        # The black corner is in the upper left of the picture that was read.
        assert picture[8, 8] < 60
        assert picture[8, picture.shape[1] - 8] > 200


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "dark"), (PHONE, "light")])
def test_a_batch_shows_its_progress_and_its_results(
    size: tuple[int, int], scheme: str, visit: Callable[..., Visit]
) -> None:
    window = visit(size, scheme)
    page = window.page
    names = ["digit-2.png", "digit-3.png", "form.png", "digit-5.png"]
    bad = {"name": "notes.png", "mimeType": "image/png", "buffer": b"no image at all"}
    good = [
        {"name": name, "mimeType": "image/png", "buffer": (SAMPLES / name).read_bytes()}
        for name in names
    ]
    window.send(*good, bad)
    page.wait_for_function(
        "() => document.getElementById('batch-summary').textContent.startsWith('5 of 5')"
    )
    assert "1 failed" in page.locator("#batch-summary").inner_text()
    rows = page.locator("#rows tr").all()
    assert [row.locator("button").inner_text() for row in rows] == [*names, "notes.png"]
    assert rows[1].locator("td").nth(1).inner_text() == "3"
    window.look(f"{size[0]}-{scheme}-6-batch")
    rows[4].locator("button").click()
    assert "is not an image" in page.locator("#notice").inner_text()
    window.look(f"{size[0]}-{scheme}-7-error")
    rows[1].locator("button").click()
    window.wait_for("3")
    assert len(json.loads(window.taken("#save-json"))["readings"]) == 4


def test_every_page_of_a_document_is_shown_and_can_be_corrected(
    visit: Callable[..., Visit], store: Corrections
) -> None:
    window = visit(PHONE)
    page = window.page
    pages = [Image.fromarray(drawn(text)) for text in ("12", "7")]
    scan = {
        "name": "scan.pdf",
        "mimeType": "application/pdf",
        "buffer": documents.scanned(pages, 200),
    }
    phone = {"name": "a.heic", "mimeType": "image/heic", "buffer": documents.heic(pages[0])}
    window.send(scan, phone)
    page.wait_for_function(
        "() => document.getElementById('batch-summary').textContent.startsWith('3 of 3')"
    )
    rows = page.locator("#rows tr").all()
    names = [row.locator("button").inner_text() for row in rows]
    assert names == ["scan.pdf, page 1", "scan.pdf, page 2", "a.heic"]
    for row, text in zip(rows, ["12", "7", "12"], strict=True):
        row.locator("button").click()
        window.wait_for(text)
        # The picture comes from the service, because the browser cannot show the file.
        page.wait_for_function("() => document.getElementById('image').naturalWidth > 50")
    rows[1].locator("button").click()
    page.locator("#answer .digit").click()
    page.locator("#keys button", has_text="1").first.click()
    page.locator("#kept li").wait_for()
    (kept,) = store.list()
    assert (kept.read_value, kept.label) == (7, "1")
    window.look(f"{PHONE[0]}-light-8-document")


def test_images_can_be_dropped_and_pasted(visit: Callable[..., Visit]) -> None:
    window = visit()
    page = window.page
    page.evaluate(
        """async ([drop, paste]) => {
        const file = (bytes, name) => new File([new Uint8Array(bytes)], name, { type: "image/png" });
        window.give = (kind, bytes, name) => {
            const data = new DataTransfer();
            data.items.add(file(bytes, name));
            const event = kind === "paste" ? new ClipboardEvent("paste", { clipboardData: data })
                : new DragEvent("drop", { dataTransfer: data, cancelable: true });
            window.dispatchEvent(event);
        };
        give("drop", drop, "dropped.png");
        window.later = () => give("paste", paste, "pasted.png");
    }""",
        [list(png(drawn("35"))), list(png(drawn("62")))],
    )
    window.wait_for("35")
    page.evaluate("later()")
    window.wait_for("62")
    assert page.locator("#image-name").inner_text() == "pasted.png"


def test_a_refused_digit_says_why(visit: Callable[..., Visit], reader: Reader) -> None:
    rng = np.random.default_rng(2)
    page_of_ink = np.full((200, 200), 255, np.uint8)
    page_of_ink[60:140, 60:140] = rng.integers(0, 2, (20, 20)).repeat(4, 0).repeat(4, 1) * 255
    content = png(page_of_ink)
    expected = reader.read(content, layout="single")
    assert expected.rejected
    window = visit(PHONE, "dark")
    window.page.locator("#layout").select_option("single")
    window.send({"name": "noise.png", "mimeType": "image/png", "buffer": content})
    window.wait_for(expected.text)
    assert str(expected.reason) in window.page.locator("#notice").inner_text()
    window.page.locator(".digit").first.click()
    assert window.page.locator("#verdict").inner_text() == f"Refused: {expected.reason}"
    window.look("390-dark-8-refused")


def test_a_file_name_is_never_html(visit: Callable[..., Visit]) -> None:
    window = visit()
    name = "<img src=x onerror=alert(1)>.png"
    content = png(drawn("3"))
    window.send(
        {"name": name, "mimeType": "image/png", "buffer": content},
        {"name": "=cmd().png", "mimeType": "image/png", "buffer": content},
    )
    window.page.wait_for_function(
        "() => document.getElementById('batch-summary').textContent.startsWith('2 of 2')"
    )
    assert window.page.locator("#image-name").inner_text() == name
    rows = list(csv.reader(io.StringIO(window.taken("#save-csv").decode())))
    assert rows[2][0] == "'=cmd().png"


# --- reference, theme, token ---------------------------------------------------------------------------


def test_the_api_reference_works_without_the_network(visit: Callable[..., Visit]) -> None:
    window = visit()
    window.page.goto(f"{window.url}/docs")
    window.page.get_by_text("/v1/read", exact=True).wait_for()
    window.look("1280-light-9-docs")


def test_the_theme_is_remembered(visit: Callable[..., Visit]) -> None:
    window = visit()
    ground = "getComputedStyle(document.body).backgroundColor"
    light = window.page.evaluate(ground)
    window.page.locator("#theme").click()
    dark = window.page.evaluate(ground)
    assert light != dark
    window.page.reload()
    assert window.page.evaluate(ground) == dark


def test_with_a_token_the_page_asks_for_it_once(
    browser: Any, reader: Reader, model: Artifact, store: Corrections
) -> None:
    app: FastAPI = create_app(LocalReaders(reader), store, model=model, token="let me in")
    running = Running(app)
    context = browser.new_context()
    page = context.new_page()
    page.goto(running.url)
    page.locator("#token").fill("let me in")
    page.locator("#ask button").click()
    page.locator("#kept-empty").wait_for()
    page.reload()
    page.wait_for_load_state("networkidle")
    assert page.locator("#ask").is_hidden()
    assert page.locator("#kept-empty").inner_text().startswith("None yet")
    context.close()
    running.stop()
